"""The lives of symbols as the ledger and the universe know them.

A response without rows is judged by them: a symbol that traded until yesterday cannot be gone because one response says nothing of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from market_data.config.universes import Member, Universe
from market_data.core.calendar import LAST, Calendar
from market_data.core.errors import ConfigError, ParamError
from market_data.core.outcome import State
from market_data.pipeline.gaps import OTHERS
from market_data.pipeline.run_context import RunContext
from market_data.pipeline.run_symbols import universe_of

if TYPE_CHECKING:
    from market_data.lake.coverage import Coverage

LIFE_OVER = 20
"""Sessions without a row after the last bar of a symbol that show its delisting."""

CHECKED_AGAIN = timedelta(hours=12)
"""Age from which a record without a row counts as an earlier response: one of another moment, not of the same outage."""

WITH_ROWS = (State.HAVE, State.QUARANTINED, State.REFUSED, State.RELEASED)
WITHOUT_ROWS = (State.EMPTY, State.PENDING)


@dataclass(frozen=True)
class Nearby:
    """Some symbols in the sessions of a request, and in the ``LIFE_OVER`` sessions before and after.

    Masks are numpy arrays, symbols x sessions or one element per symbol.

    :param with_rows: of ``sessions``. ``without``: a record without a row.
    :param before: the symbol has a bar before the request. ``after``: after it.
    :param stored: number of requested cells with rows in the ledger.
    :param regular: the symbol has a bar in nearly every known session around the request.
    :param gone: since its last bar before the request, an earlier response had no row of it in a session that had rows of others.
    :param lacked: one of all these sessions is ``empty``, or ``pending`` although it has rows of others.
    :param checked: an earlier response had no row of a requested cell.
    """

    symbols: tuple[str, ...]
    before: Any
    after: Any
    stored: Any
    regular: Any
    gone: Any
    lacked: Any
    checked: Any

    @property
    def living(self) -> Any:
        """The symbols that traded until just before the request."""
        return self.before & self.regular & ~self.gone

    def those(self, mask: Any) -> list[str]:
        """Return the symbols of a mask."""
        return [symbol for symbol, hit in zip(self.symbols, mask.tolist(), strict=True) if hit]


class KnownLives:
    """Knows symbols from the ledger and the universe, which are read once, when they are first needed."""

    def __init__(self, context: RunContext) -> None:
        self._context = context

    @cached_property
    def coverage(self) -> Coverage:
        """The ledger as it was before this run."""
        from market_data.lake.ledger import read_coverage

        return read_coverage(self._context.lake, self._context.feed.dataset, self._context.source)

    @cached_property
    def removed(self) -> Mapping[str, date]:
        """Symbol -> the first date on which it no longer belongs to the universe, for those that have left it."""
        return removed_dates(self._universe.members if self._universe else ())

    @cached_property
    def exchanges(self) -> Mapping[str, str]:
        """Symbol -> primary exchange of the stock that the universe means.

        None for a run with a list of symbols: these mean what their spelling tells.
        """
        return self._universe.exchanges if self._universe and not self._context.params.symbols else {}

    @cached_property
    def _universe(self) -> Universe | None:
        """The file or universe that the run or its feed names, also if the run has a list of symbols.

        None if it cannot be read.
        """
        context = self._context
        named = replace(context.params, symbols=(), as_of=None)
        try:
            return universe_of(named, context.feed, lambda: context.lake, context.open_s3)
        except (ConfigError, ParamError):
            return None

    def living(self, symbols: Collection[str], day: date) -> tuple[str, ...]:
        """Return the symbols that the universe has not removed by ``day``."""
        return tuple(symbol for symbol in symbols if symbol not in self.removed or day < self.removed[symbol])

    @cached_property
    def _served(self) -> Any:
        """The sessions of which the ledger has rows of any symbol, as a numpy array."""
        import numpy as np
        import pyarrow as pa

        table = self.coverage.table
        codes = self.coverage.state_codes(np.arange(len(table)))
        served = table["session"].filter(pa.array(np.isin(codes, _codes(WITH_ROWS)))).unique()
        return served.to_numpy(zero_copy_only=False).astype("datetime64[D]")

    @cached_property
    def _stamps(self) -> Any:
        """The moment of each record; one element more, long ago, for row -1."""
        import numpy as np

        return np.append(self.coverage.table["recorded_at"].to_numpy().astype("datetime64[us]"), np.datetime64(0, "us"))

    def nearby(self, symbols: Sequence[str], sessions: Sequence[date], calendar: Calendar, now: datetime) -> Nearby:
        """Return what is known of ``symbols`` around ``sessions``.

        :param sessions: those of a request, ascending, at least one.
        :param calendar: that of the symbols.
        """
        import numpy as np

        first, last = sessions[0], sessions[-1]
        earlier = _before(first, calendar)
        end_of_later = min(last + timedelta(days=3 * LIFE_OVER), LAST)
        later = calendar.sessions(last + timedelta(days=1), end_of_later)[:LIFE_OVER] if last < end_of_later else ()
        axis = (*earlier, *sessions, *later)
        start, end = len(earlier), len(earlier) + len(sessions)
        rows = self.coverage.rows_of(symbols, axis)
        codes = self.coverage.state_codes(rows)
        # A row that a person confirmed to be wrong is there all the same.
        rich = np.isin(codes, _codes(WITH_ROWS)) | self.coverage.confirmed[rows]
        bare = np.isin(codes, _codes(WITHOUT_ROWS)) & ~rich
        around = np.r_[0:start, end : len(axis)]
        bars, holes = rich[:, around].sum(axis=1), bare[:, around].sum(axis=1)
        before = rich[:, :start].any(axis=1)
        last_bar = np.where(before, start - 1 - rich[:, :start][:, ::-1].argmax(axis=1), -1) if start else np.full(len(rows), -1)
        others = np.isin(np.array(axis, dtype="datetime64[D]"), self._served)
        since = np.arange(end)[None, :] > last_bar[:, None]
        limit = np.datetime64((now - CHECKED_AGAIN).astimezone(UTC).replace(tzinfo=None), "us")
        checked = bare & (self._stamps[rows] <= limit)
        empty = bare & (codes == _codes([State.EMPTY])[0])
        gone = (checked[:, :end] & others[None, :end] & since).any(axis=1)
        trailing = (bare[:, :start] & since[:, :start]).sum(axis=1)
        return Nearby(
            tuple(symbols),
            before,
            rich[:, end:].any(axis=1),
            rich[:, start:end].sum(axis=1),
            (bars > 0) & (holes - trailing <= OTHERS * (bars + holes - trailing)),
            gone,
            (empty | bare & others[None, :]).any(axis=1),
            checked[:, start:end].any(axis=1),
        )


def removed_dates(rows: Sequence[Member]) -> dict[str, date]:
    """Return symbol -> date of its removal, for symbols that have left a universe."""
    members = {row.symbol for row in rows if row.removed is None}
    removed: dict[str, date] = {}
    for row in rows:
        if row.removed is not None and row.symbol not in members:
            removed[row.symbol] = max(row.removed, removed.get(row.symbol, row.removed))
    return removed


def _codes(states: Sequence[State]) -> list[int]:
    from market_data.lake.coverage import STATES

    return [STATES.index(state) for state in states]


def _before(first: date, calendar: Calendar) -> tuple[date, ...]:
    """Return the ``LIFE_OVER`` sessions before ``first``; fewer where the calendar begins."""
    try:
        return calendar.recent_sessions(calendar.previous_session(first), LIFE_OVER)
    except ParamError:
        return ()
