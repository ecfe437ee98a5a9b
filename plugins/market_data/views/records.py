"""The records of a coverage ledger as columns: compact, and quick to extend by a few objects."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from market_data.core.dates import EPOCH, MICROSECOND
from market_data.core.outcome import SUSPECTED_GAP, State

if TYPE_CHECKING:
    import pyarrow as pa

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

STATES = tuple(State)
"""The states in the order of ``Records.states``."""

RESET = -1
"""In place of a state: a person has reset the cell."""

EPOCH_DAY = EPOCH.date().toordinal()
NEVER = date.max.toordinal() - EPOCH_DAY
"""A day after all sessions, in days since 1970."""

TEXTS = ("symbol", "reason", "run_id", "batch_id")


class Texts:
    """Distinct strings by number. Strings are only added, so that earlier numbers stay valid."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}

    def numbers(self, names: Iterable[str]) -> npt.NDArray[np.int32]:
        """Return the number of each name; unknown names are added."""
        found = [self._numbers.setdefault(name, len(self._numbers)) for name in names]
        self.names += list(self._numbers)[len(self.names) :]
        return np.array(found, dtype=np.int32)

    def find(self, names: Iterable[str]) -> Numbers:
        """Return the number of each name, -1 for an unknown one."""
        return np.array([self._numbers.get(name, -1) for name in names], dtype=np.int64)


@dataclass(frozen=True)
class Records:
    """All records of a dataset and source, ordered by cell and moment.

    The last record of a cell is its current one.

    :param texts: column -> its distinct strings, for ``TEXTS``. Shared by all later versions.
    :param codes: the cell: number of the symbol << 32, plus the session in days since 1970.
    :param stamps: when it was recorded, microseconds since 1970, UTC.
    :param states: position in ``STATES``, or ``RESET``.
    :param numbers: column -> numbers in ``texts``, for all of ``TEXTS`` but the symbol.
    :param objects: number of the ledger object that has the record.
    :param version: differs whenever the ledger does, in every process the same.
    :param unreadable: a sentence per object that was left out.
    """

    texts: dict[str, Texts]
    codes: Numbers
    stamps: Numbers
    states: npt.NDArray[np.int8]
    numbers: dict[str, npt.NDArray[np.int32]]
    objects: npt.NDArray[np.int32]
    version: str = ""
    unreadable: tuple[str, ...] = field(default=())

    @classmethod
    def none(cls) -> Records:
        """Return the records of an empty ledger."""
        ints = np.empty(0, dtype=np.int32)
        codes = np.empty(0, dtype=np.int64)
        return cls(
            {name: Texts() for name in TEXTS}, codes, codes, np.empty(0, dtype=np.int8), dict.fromkeys(TEXTS[1:], ints), ints
        )

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def nbytes(self) -> int:
        """Bytes that the columns take, and those that were made of them."""
        columns = [*dict(vars(self)).values(), *self.numbers.values(), *vars(self).get("cells", ())]
        return sum(column.nbytes for column in columns if isinstance(column, np.ndarray))

    # -- cells -----------------------------------------------------------------------------------------------------------------

    @cached_property
    def latest(self) -> Numbers:
        """The rows of current records, ordered by ``codes``. Cells that were reset have none."""
        last = np.append(self.codes[1:] != self.codes[:-1], np.ones(min(1, len(self)), dtype=bool))
        return np.flatnonzero(last & (self.states != RESET))

    @property
    def symbols(self) -> list[str]:
        """The symbols by number; some may have no current record."""
        return self.texts["symbol"].names

    @cached_property
    def suspected(self) -> Mask:
        """Mask of the rows that are suspected gaps; one element more, False, for row -1."""
        return np.append(self._begins(SUSPECTED_GAP) & (self.states == STATES.index(State.EMPTY)), np.False_)

    def _begins(self, text: str) -> Mask:
        """Return a mask of the rows whose reason begins with ``text``."""
        named = np.array([name.startswith(text) for name in self.texts["reason"].names], dtype=bool)
        return named[self.numbers["reason"]] if len(self) else np.zeros(0, dtype=bool)

    def rows_of(self, symbols: Sequence[str], sessions: Sequence[date]) -> Numbers:
        """Return the row of the current record of each cell, or -1, as a matrix of symbols x sessions."""
        found = np.full((len(symbols), len(sessions)), -1, dtype=np.int64)
        if not found.size or not len(self.latest):
            return found
        own, days = self.texts["symbol"].find(symbols), days_of(sessions)
        places = np.full(len(self.symbols), -1, dtype=np.int64)
        inside = (own >= 0) & (own < len(places))
        places[own[inside]] = np.flatnonzero(inside)
        first = int(days.min())
        columns = np.full(int(days.max()) - first + 1, -1, dtype=np.int64)
        columns[days - first] = np.arange(len(days))
        numbers, recorded = self.cells
        row, column = places[numbers], recorded - first
        inside = (row >= 0) & (column >= 0) & (column < len(columns))
        inside[inside] = columns[column[inside]] >= 0
        found[row[inside], columns[column[inside]]] = self.latest[inside]
        return found

    def current(self, symbols: Sequence[str], sessions: Sequence[date]) -> Numbers:
        """Return the row of the current record of each cell, or -1.

        :param symbols: of the cells; ``sessions`` likewise.
        """
        known = self.codes[self.latest]
        wanted = (self.texts["symbol"].find(symbols) << 32) + days_of(sessions)
        if not len(known):
            return np.full(len(wanted), -1, dtype=np.int64)
        places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        return np.where(known[places] == wanted, self.latest[places], -1)

    @cached_property
    def last_stamps(self) -> dict[str, int]:
        """Symbol -> when the current record of its last session was recorded, microseconds since 1970."""
        numbers, _ = self.cells
        ends = np.flatnonzero(np.append(numbers[1:] != numbers[:-1], np.ones(min(1, len(numbers)), dtype=bool)))
        names = [self.symbols[number] for number in numbers[ends].tolist()]
        return dict(zip(names, self.stamps[self.latest[ends]].tolist(), strict=True))

    @cached_property
    def cells(self) -> tuple[Numbers, Numbers]:
        """The number of the symbol and the day of each current record, in the order of ``latest``."""
        return split(self.codes[self.latest])

    @cached_property
    def first_days(self) -> Numbers:
        """The day of the first current record of each symbol by number; ``NEVER`` for one without."""
        numbers, days = self.cells
        found = np.full(len(self.symbols), NEVER, dtype=np.int64)
        np.minimum.at(found, numbers, days)
        return found

    def first_days_of(self, symbols: Sequence[str]) -> Numbers:
        """Return the day of the first current record of each symbol; ``NEVER`` for one without."""
        own = self.texts["symbol"].find(symbols)
        return np.append(self.first_days, NEVER)[np.where(own < len(self.first_days), own, -1)]

    def history(self, symbol: str, session: date) -> Numbers:
        """Return the rows of all records of a cell, oldest first; those that are stored twice, once."""
        (own,) = self.texts["symbol"].find([symbol]).tolist()
        code = (own << 32) + int(days_of([session])[0])
        first, end = (int(np.searchsorted(self.codes, code, side)) for side in ("left", "right"))
        rows = np.arange(first, end if own >= 0 else first)
        kept = {tuple(self._values(int(row)).values()): int(row) for row in rows}
        return np.array(sorted(kept.values()), dtype=np.int64)

    def record(self, row: int) -> dict[str, Any]:
        """Return a record; ``recorded_at`` in UTC, ``state`` None for a reset."""
        found = self._values(row)
        symbol, day = split(self.codes[row : row + 1])
        return {"symbol": self.symbols[int(symbol[0])], "session": date.fromordinal(EPOCH_DAY + int(day[0])), **found}

    def _values(self, row: int) -> dict[str, Any]:
        state = int(self.states[row])
        moment: datetime = EPOCH + int(self.stamps[row]) * MICROSECOND
        texts = {name: self.texts[name].names[int(numbers[row])] for name, numbers in self.numbers.items()}
        return {"recorded_at": moment, "state": None if state == RESET else str(STATES[state]), **texts}

    # -- objects ---------------------------------------------------------------------------------------------------------------

    def revised(
        self, removed: Collection[int], added: Sequence[tuple[int, pa.Table]], order: npt.NDArray[np.int32], version: str,
        unreadable: Sequence[str] = (),
    ) -> Records:  # fmt: skip
        """Return the records without those of some objects and with those of others.

        :param removed: numbers of objects.
        :param added: number of an object and its records, as ``ledger.decode_records`` returns them.
        :param order: the place of each object by number; of two records of a cell and moment, that of the later object counts.
        """
        kept = ~np.isin(self.objects, list(removed)) if removed else slice(None)
        new = _columns(self.texts, [table for _, table in added])
        objects = np.repeat(np.array([number for number, _ in added], dtype=np.int32), [len(table) for _, table in added])
        own: list[npt.NDArray[Any]] = [self.codes, self.stamps, self.states, *self.numbers.values(), self.objects]
        columns = [
            np.concatenate([old[kept], fresh]) if len(old) else fresh for old, fresh in zip(own, (*new, objects), strict=True)
        ]
        rows = _sorted(columns[0], columns[1], order[columns[-1]])
        codes, stamps, states, *numbers, objects = (column if rows is None else column[rows] for column in columns)
        return Records(
            self.texts, codes, stamps, states, dict(zip(self.numbers, numbers, strict=True)), objects, version, tuple(unreadable)
        )


def split(codes: Numbers) -> tuple[Numbers, Numbers]:
    """Return number of the symbol and day of each cell code."""
    symbols = (codes + (1 << 31)) >> 32  # a day before 1970 is negative
    return symbols, codes - (symbols << 32)


def days_of(sessions: Sequence[date]) -> Numbers:
    """Return days since 1970."""
    return np.array([session.toordinal() - EPOCH_DAY for session in sessions], dtype=np.int64)


def _columns(texts: dict[str, Texts], tables: Sequence[pa.Table]) -> list[Any]:
    """Return codes, stamps, states and the numbers of the texts."""
    import pyarrow as pa

    if not tables:
        none = Records.none()
        return [none.codes, none.stamps, none.states, *none.numbers.values()]
    table = pa.concat_tables(tables)

    def numbers(name: str) -> npt.NDArray[np.int32]:
        column = table[name].unify_dictionaries().combine_chunks()
        return texts[name].numbers(column.dictionary.to_pylist())[_plain(column.indices)]

    state = table["state"].unify_dictionaries().combine_chunks()
    places = {str(state): place for place, state in enumerate(STATES)}
    codes_of_state = np.array([places.get(name, RESET) for name in state.dictionary.to_pylist()], dtype=np.int8)
    states = codes_of_state[_plain(state.indices)]
    days = _plain(table["session"].combine_chunks().cast(pa.int32())).astype(np.int64)
    stamps = _plain(table["recorded_at"].combine_chunks().cast(pa.int64()))
    symbols, *others = (numbers(name) for name in TEXTS)
    return [(symbols.astype(np.int64) << 32) + days, stamps, states, *others]


def _plain(column: pa.Array) -> npt.NDArray[Any]:
    """Return the numbers of a column; its own ``to_numpy`` would import pandas first."""
    return np.from_dlpack(column)


def _sorted(codes: Numbers, stamps: Numbers, order: npt.NDArray[np.int32]) -> Numbers | None:
    """Return the order of rows by cell, moment and object; None if they are in order.

    Rows that are in order already but for a few at the end take a fraction of the time.
    """
    rows = np.argsort(codes, kind="stable")
    found, moments, places = codes[rows], stamps[rows], order[rows]
    same = found[1:] == found[:-1]
    late = (moments[1:] < moments[:-1]) | ((moments[1:] == moments[:-1]) & (places[1:] < places[:-1]))
    return np.lexsort((order, stamps, codes)) if (same & late).any() else rows
