"""Conditions of single days: degraded sessions, and sessions re-issued after they were fetched."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING

from market_data.core.capabilities import Condition
from market_data.core.errors import ProviderError, SchemaDrift
from market_data.core.outcome import State

if TYPE_CHECKING:
    from market_data.lake.coverage import Coverage
    from market_data.providers.base import ProviderHook

log = logging.getLogger(__name__)

REACH = timedelta(days=42)
"""Scheduled runs request re-issued sessions again of this time before their own: 30 sessions of stocks."""

SHOWN = 10


@dataclass(frozen=True)
class Conditions:
    """The conditions of the sessions of a run.

    :param reissued: session -> symbols whose rows were fetched before the provider re-issued the session.
    :param words: session of the run -> the provider's word for what is wrong with it.
    """

    reissued: Mapping[date, Sequence[str]]
    words: Mapping[date, str] = field(default_factory=dict)

    def sentences(self, *, requested: bool) -> tuple[str, ...]:
        """Return what the user should know.

        :param requested: the run requests the re-issued sessions again.
        """
        found = [f"the provider calls {session} {words}" for session, words in sorted(self.words.items())[:SHOWN]]
        if len(self.words) > SHOWN:
            found.append(f"and {len(self.words) - SHOWN} more sessions")
        if self.reissued and not requested:
            days, more = ", ".join(map(str, sorted(self.reissued)[:SHOWN])), len(self.reissued) - SHOWN
            days += f" and {more} more" if more > 0 else ""
            found.append(f"re-issued by the provider after they were fetched, and not requested again (force does): {days}")
        return tuple(found)


NO_CONDITIONS = Conditions({})


def read_conditions(
    hook: ProviderHook, dataset: str, coverage: Coverage, symbols: Sequence[str], sessions: Sequence[date], *, scheduled: bool
) -> Conditions:
    """Return what the provider says of ``sessions``; of a scheduled run also of the last ``REACH`` before.

    One free call, or none. A provider that does not tell its conditions now does not stop the run.

    :param sessions: those of the run, ascending; not empty.
    """
    first = min(sessions[0], sessions[-1] - REACH) if scheduled else sessions[0]
    try:
        found = hook.conditions(dataset, first, sessions[-1])
    except (ProviderError, SchemaDrift) as error:
        log.warning("the conditions of %s are not known: %s", dataset, error)
        return Conditions({})
    words = {session: found[session].words for session in sessions if session in found and found[session].words}
    return Conditions(_reissued(coverage, symbols, found), words)


def _reissued(coverage: Coverage, symbols: Sequence[str], found: Mapping[date, Condition]) -> dict[date, list[str]]:
    """Return session -> symbols that have rows fetched on a date before that of the last modification."""
    import pyarrow as pa
    import pyarrow.compute as pc

    modified = {day: condition.modified for day, condition in found.items() if condition.modified}
    table = coverage.table
    mask = pc.and_(
        pc.is_in(table["session"], pa.array(list(modified), pa.date32())),
        pc.and_(
            pc.is_in(table["state"].cast(pa.string()), pa.array([str(State.HAVE), str(State.RELEASED)])),
            pc.is_in(table["symbol"].cast(pa.string()), pa.array(list(symbols), pa.string())),
        ),
    )
    cells: dict[date, list[str]] = defaultdict(list)
    rows = table.filter(mask).select(["symbol", "session", "recorded_at"])
    for symbol, session, recorded in zip(*(column.to_pylist() for column in rows.columns), strict=True):
        if recorded.date() < modified[session]:
            cells[session].append(symbol)
    return dict(cells)
