"""The state of a session of a feed, by the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from market_data.core.messages import some
from market_data.core.outcome import EARLIER_VALUE, State
from market_data.pipeline.open_cells import OwnCells
from market_data.providers.registry import calendar_of_source

if TYPE_CHECKING:
    from market_data.config.universes import Universe
    from market_data.lake.coverage import Coverage

MISSING = "missing"


@dataclass(frozen=True)
class SessionStatus:
    """The cells of a session.

    :param total: number of cells that the universe has in it.
    :param symbols: state, or ``MISSING`` -> symbols, for the states that are not final.
    :param reasons: reason -> number of refused cells.
    :param refusals: run id and reason of each refusal that its cells have.
    :param known: False if objects of the ledger cannot be read: nothing but a complete session follows from the others.
    """

    total: int
    symbols: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)
    refusals: frozenset[tuple[str, str]] = frozenset()
    known: bool = True

    def share(self, state: str) -> float:
        """Return the share of the cells in a state."""
        return len(self.symbols.get(state, ())) / self.total if self.total else 0.0

    @property
    def unknown(self) -> bool:
        """True if no cell has a state."""
        return self.total > 0 and self.share(MISSING) == 1

    def is_complete(self, max_missing: float, max_pending: float) -> bool:
        """Return True if the session is fetched and no cell is refused."""
        return self.is_fetched(max_missing, max_pending) and str(State.REFUSED) not in self.symbols

    def is_fetched(self, max_missing: float, max_pending: float) -> bool:
        """Return True if the shares of missing and pending cells are within limits."""
        return self.share(MISSING) <= max_missing and self.share(str(State.PENDING)) <= max_pending

    def sentences(self) -> list[str]:
        """Return a sentence per state that is not final, with symbols."""
        if self.unknown:
            return [f"the ledger has no record of any of its {self.total:,} cells"]
        lines = [f"{len(names):,} of {self.total:,} cells {state}: {some(names)}" for state, names in self.symbols.items()]
        return lines + [f"refused because: {reason} ({count:,})" for reason, count in self.reasons.items()]


def status_of(coverage: Coverage, universe: Universe, source: str, session: date) -> SessionStatus:
    """Return the state of the cells of ``session``: the members on that date whose calendar has it."""
    import numpy as np

    from market_data.lake.coverage import STATES

    own = OwnCells.on(universe.symbols, [session], calendar_of_source(source), universe.membership)
    if not own.sessions:
        return SessionStatus(0)
    mask = own.is_cell()[:, 0]
    symbols = [symbol for symbol, inside in zip(own.symbols, mask, strict=True) if inside]
    rows = coverage.rows_of(symbols, [session])[:, 0]
    codes = coverage.state_codes(rows)
    found: dict[str, tuple[str, ...]] = {}
    for state, code in ((MISSING, -1), *((str(one), STATES.index(one)) for one in (State.PENDING, State.REFUSED))):
        if hits := np.flatnonzero(codes == code).tolist():
            found[state] = tuple(symbols[hit] for hit in hits)
    refused = rows[(rows >= 0) & (codes == STATES.index(State.REFUSED))]
    counted: dict[str, int] = {}
    refusals = set()
    for row in refused.tolist():
        run_id, reason = (str(coverage.table[name][row].as_py()) for name in ("run_id", "reason"))
        counted[reason] = counted.get(reason, 0) + 1
        refusals.add((run_id, reason.removesuffix(f"; {EARLIER_VALUE}")))
    return SessionStatus(len(symbols), found, counted, frozenset(refusals))
