"""Coverage as a matrix of symbols x sessions: a letter per cell, in runs of equal ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from market_data.config import universes
from market_data.core.calendar import FIRST, LAST, sessions_of_any
from market_data.core.errors import ConfigError
from market_data.core.instruments import by_calendar
from market_data.core.outcome import State
from market_data.maintenance.audit.expected import Known, expected_cells, last_due, universe_of_feed
from market_data.providers.registry import calendar_of_source
from market_data.views.ledgers import LEDGERS
from market_data.views.places import empty_note
from market_data.views.records import EPOCH_DAY, RESET, STATES, Mask, Numbers, Records

if TYPE_CHECKING:
    from market_data.config.universes import Universe
    from market_data.views.places import Place

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Kind:
    """How a cell is shown.

    :param letter: in the matrix and on the page.
    :param final: nothing is left to do.
    """

    letter: str
    name: str
    text: str
    final: bool = False


KINDS = (
    Kind("h", "loaded", "in the lake and in the warehouse", final=True),
    Kind("l", "released", "held back once, then released by a person", final=True),
    Kind("e", "empty", "the provider has no rows, with a reason", final=True),
    Kind("p", "pending", "not available yet, or recent; requested again", final=False),
    Kind("s", "suspected gap", "no rows, but the symbol trades before and after"),
    Kind("q", "quarantined", "rows were rejected by the gate"),
    Kind("r", "refused", "rejected by the checkpoint; in the lake, not in the warehouse"),
    Kind("m", "missing", "never requested, or reset by a person"),
    Kind(".", "not expected", "closed exchange, not a member, or before the history", final=True),
)
"""The kinds of cells; a summary of many shows the last of these that occurs, but for those not expected."""

KEPT = timedelta(minutes=1)
"""Time for which the cells of an unchanged ledger are kept: universe and clock may have changed after it."""

LETTERS = "".join(kind.letter for kind in KINDS)
_OF_STATE = {
    State.HAVE: "h", State.RELEASED: "l", State.EMPTY: "e", State.PENDING: "p", State.QUARANTINED: "q", State.REFUSED: "r"
}  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """The cells of a feed's source.

    :param codes: positions in ``KINDS``, symbols x sessions.
    :param rows: the current records in ``records``, or -1.
    :param universe: of the feed, with the dates of its members.
    :param notes: sentences on what is not known.
    """

    records: Records
    symbols: tuple[str, ...]
    sessions: tuple[date, ...]
    codes: npt.NDArray[np.int8]
    rows: Numbers
    universe: Universe
    notes: tuple[str, ...] = ()

    @cached_property
    def counts(self) -> dict[str, int]:
        """Letter -> number of cells."""
        found = np.bincount(self.codes.ravel(), minlength=len(KINDS))
        return dict(zip(LETTERS, found.tolist(), strict=True))

    def mask(self, letter: str) -> Mask:
        """Return a mask of the cells of one kind."""
        return self.codes == LETTERS.index(letter)

    def to_json(self) -> dict[str, Any]:
        """Return what the page draws: sessions, symbols, and a run-length text per symbol (``h250m1``)."""
        return {
            "version": self.records.version,
            "symbols": list(self.symbols),
            "sessions": [session.isoformat() for session in self.sessions],
            "rows": run_lengths(self.codes),
            "groups": groups(self.symbols),
            "legend": [
                {"letter": k.letter, "name": k.name, "text": k.text, "final": k.final, "count": self.counts[k.letter]}
                for k in KINDS
            ],
            "notes": [*self.notes, *self.records.unreadable],
        }


@dataclass(frozen=True)
class _Kept:
    """A grid, and when it was made."""

    grid: Grid
    made: datetime

    @property
    def nbytes(self) -> int:
        return self.grid.codes.nbytes + self.grid.rows.nbytes


def current_grid(place: Place, now: datetime) -> Grid:
    """Return the cells of a place as ``grid_of`` does.

    If the ledger is still the same, they may be a minute old.
    """
    known = LEDGERS.recall(place.records(), place.feed.dag_id)
    if isinstance(known, _Kept) and timedelta() <= now - known.made < KEPT:
        return known.grid
    found = grid_of(place, now)
    LEDGERS.keep(found.records, place.feed.dag_id, _Kept(found, now))
    return found


def grid_of(place: Place, now: datetime, universe: Universe | None = None) -> Grid:
    """Return the cells of a place: all recorded ones, and those that are expected by ``now``.

    :param universe: with the dates of its members; None: the feed's.
    """
    records = place.records()
    notes: tuple[str, ...] = ()
    if universe is None:
        universe, notes = universe_of_feed(place.lake, place.feed)
    numbers, days = records.cells
    recorded = {records.symbols[number] for number in np.unique(numbers).tolist()}
    notes += empty_note(place.lake)
    symbols = tuple(sorted({*universe.symbols, *recorded} if len(days) else recorded))
    sessions = _sessions(place, symbols, days, now)
    rows = records.rows_of(symbols, sessions)
    codes = _codes(records, rows)
    known = Known(records.rows_of, records.first_days_of)
    at_symbol = {symbol: place for place, symbol in enumerate(symbols)}
    for one in expected_cells(known, place.feed, place.selection, universe, now) if sessions else ():
        columns = np.searchsorted(_ordinals(sessions), _ordinals(one.sessions))
        lines = np.array([at_symbol[symbol] for symbol in one.symbols], dtype=np.int64)
        row, column = np.nonzero(one.wanted & (one.rows < 0))
        codes[lines[row], columns[column]] = LETTERS.index("m")
    return Grid(records, symbols, sessions, codes, rows, universe, notes)


def _sessions(place: Place, symbols: Sequence[str], days: Numbers, now: datetime) -> tuple[date, ...]:
    """Return the sessions from the first recorded to the last recorded or due one.

    Recorded dates that are not sessions are among them.
    """
    if not len(days):
        return ()
    calendars = by_calendar(symbols, calendar_of_source(place.source))
    recorded = np.unique(days)
    first, last = (date.fromordinal(EPOCH_DAY + int(day)) for day in (recorded[0], recorded[-1]))
    last = min(max([last, *(last_due(place.feed, calendar, now) for calendar in calendars)]), LAST)
    regular = sessions_of_any(calendars, max(first, FIRST), last + DAY) if max(first, FIRST) <= last else ()
    return tuple(date.fromordinal(n) for n in sorted({*(day.toordinal() for day in regular), *(recorded + EPOCH_DAY).tolist()}))


def _codes(records: Records, rows: Numbers) -> npt.NDArray[np.int8]:
    """Return the kind of each row, as a position in ``KINDS``; row -1 is not expected."""
    of_state = np.array([LETTERS.index(_OF_STATE[state]) for state in STATES] + [LETTERS.index(".")], dtype=np.int8)
    kinds = of_state[np.append(records.states, np.int8(RESET))]
    kinds[records.suspected] = LETTERS.index("s")
    found: npt.NDArray[np.int8] = kinds[rows]
    return found


def run_lengths(codes: npt.NDArray[np.int8]) -> list[str]:
    """Return a text per row with letter and number of each run of equal cells: ``.12h250``."""
    if not codes.size:
        return [""] * len(codes)
    width = codes.shape[1]
    flat = codes.ravel()
    begins = np.append(True, flat[1:] != flat[:-1])
    begins[::width] = True
    starts = np.flatnonzero(begins)
    lengths = np.diff(np.append(starts, flat.size)).tolist()
    texts = [f"{LETTERS[code]}{length}" for code, length in zip(flat[starts].tolist(), lengths, strict=True)]
    ends = np.searchsorted(starts, np.arange(1, len(codes) + 1) * width)
    return ["".join(texts[start:end]) for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)]


def groups(symbols: Sequence[str]) -> list[dict[str, Any]]:
    """Return the universes that have some of the symbols, with the positions of their members."""
    places = {symbol: place for place, symbol in enumerate(symbols)}
    found = []
    for name in universes.known():
        try:
            members = _members(name)
        except ConfigError:
            continue  # a feed of it reports the problem
        own = sorted(places[symbol] for symbol in members if symbol in places)
        if own:
            found.append({"name": name, "symbols": own})
    return found


def _members(name: str) -> Sequence[str]:
    return universes.read_universe(name).symbols


def _ordinals(sessions: Sequence[date]) -> Numbers:
    return np.array([session.toordinal() for session in sessions], dtype=np.int64)


def summary(counts: Mapping[str, int]) -> str:
    """Return the counts in words, final kinds last, those not expected left out."""
    shown = [(kind, counts[kind.letter]) for kind in KINDS if kind.letter != "." and counts[kind.letter]]
    return ", ".join(f"{count:,} {kind.name}" for kind, count in sorted(shown, key=lambda one: one[0].final))
