"""Cells as numbers, their current records, and the findings collected from them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.calendar import DAY, FIRST, LAST
from market_data.core.instruments import CalendarOf, by_calendar
from market_data.core.outcome import CONFIRMED_WRONG, EARLIER_VALUE, MAY_BE_MORE, SOME_QUARANTINED, State
from market_data.maintenance.audit.listing import Numbers, cell_codes, day_of, numbers_of
from market_data.maintenance.findings import FINDINGS, Cause, Repair

if TYPE_CHECKING:
    from market_data.lake.coverage import Coverage
    from market_data.pipeline.selection import Selection

Mask = npt.NDArray[np.bool_]
LOW = (1 << 32) - 1
HALF = 1 << 31


class Names:
    """Symbols by number, sorted by name. A cell's code is ``cell_codes(symbol, day)``."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = tuple(sorted(set(names)))
        self._array = pa.array(self.names, pa.string())

    def of(self, symbols: Sequence[str] | pa.Array | pa.ChunkedArray) -> Numbers:
        """Return the number of each symbol; -1 for an unknown one."""
        values = symbols if isinstance(symbols, pa.Array | pa.ChunkedArray) else pa.array(symbols, pa.string())
        if pa.types.is_dictionary(values.type):
            values = values.cast(pa.string())
        found: Numbers = pc.fill_null(pc.index_in(values, value_set=self._array), -1).to_numpy().astype(np.int64)
        return found

    def codes(self, cells: pa.Table) -> Numbers:
        """Return the code of each row's ``symbol`` and ``session``; all symbols must be known."""
        days = cells["session"].combine_chunks() if isinstance(cells["session"], pa.ChunkedArray) else cells["session"]
        return cell_codes(self.of(cells["symbol"]), days.cast(pa.int32()).to_numpy().astype(np.int64))


def symbols_of(codes: Numbers) -> Numbers:
    """Return the symbol of each cell code."""
    found: Numbers = (codes + HALF) >> 32
    return found


def days_of(codes: Numbers) -> Numbers:
    """Return the day of each cell code, in days since 1970."""
    return codes - (symbols_of(codes) << 32)


def months_of(days: Numbers) -> Numbers:
    """Return the month of each day, in months since 1970."""
    return days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)


@dataclass(frozen=True)
class Recorded:
    """The selected records of the ledger, as columns in the order of ``codes``.

    :param states: positions in ``coverage.STATES``.
    :param loaded: the lake and, if the dataset has a table, the warehouse have rows of the cell.
    :param suspected: suspected gaps.
    :param reasons: dictionary-encoded.
    :param stamps: when they were recorded, microseconds since 1970.
    """

    codes: Numbers
    states: npt.NDArray[np.int8]
    loaded: Mask
    suspected: Mask
    reasons: pa.DictionaryArray
    stamps: Numbers

    @classmethod
    def of(cls, coverage: Coverage, names: Names, selection: Selection) -> Recorded:
        """Return the records of ``coverage`` inside a selection."""
        table = coverage.table
        symbols = table["symbol"].combine_chunks()
        own = names.of(symbols.dictionary)[symbols.indices.to_numpy()]
        days = table["session"].combine_chunks().cast(pa.int32()).to_numpy().astype(np.int64)
        first, last = numbers_of([selection.start, selection.end])
        inside = (days >= first) & (days <= last) & (own >= 0)
        if selection.symbols is not None:
            inside &= np.isin(own, names.of(selection.symbols))
        rows = np.flatnonzero(inside)
        codes = cell_codes(own[rows], days[rows])
        rows, codes = rows[order := np.argsort(codes)], codes[order]
        states, reasons = coverage.state_codes(rows), table["reason"].combine_chunks().take(pa.array(rows))
        stamps = table["recorded_at"].combine_chunks().cast(pa.int64()).to_numpy()[rows]
        return cls(codes, states, _loaded(states, reasons), coverage.suspected[rows], reasons, stamps)

    @property
    def confirmed_wrong(self) -> Numbers:
        """The cells whose values a person confirmed to be wrong, and of which no earlier value was loaded."""
        texts = self.reasons.dictionary.cast(pa.string())
        wrong = pc.and_(pc.starts_with(texts, CONFIRMED_WRONG), pc.invert(pc.ends_with(texts, EARLIER_VALUE)))
        found: Numbers = self.codes[wrong.to_numpy(zero_copy_only=False)[self.reasons.indices.to_numpy()] & ~self.loaded]
        return found

    def has(self, codes: Numbers) -> Mask:
        """Return a mask of the ``codes`` with a record."""
        return among(codes, self.codes)

    def are_loaded(self, codes: Numbers) -> Mask:
        """Return a mask of the ``codes`` whose rows runs have loaded."""
        return among(codes, self.codes[self.loaded])


def among(codes: Numbers, ordered: Numbers) -> Mask:
    """Return a mask of the ``codes`` that occur in ``ordered``, which is sorted."""
    if not len(ordered):
        return np.zeros(len(codes), dtype=bool)
    places = np.minimum(np.searchsorted(ordered, codes), len(ordered) - 1)
    found: Mask = ordered[places] == codes
    return found


def _loaded(states: npt.NDArray[np.int8], reasons: pa.DictionaryArray) -> Mask:
    """Return a mask of the records by which rebuild-warehouse loads rows."""
    from market_data.lake.coverage import STATES

    texts = reasons.dictionary.cast(pa.string())
    some, earlier, more = (
        check(texts, text).to_numpy(zero_copy_only=False)[reasons.indices.to_numpy()]
        for check, text in ((pc.starts_with, SOME_QUARANTINED), (pc.ends_with, EARLIER_VALUE), (pc.starts_with, MAY_BE_MORE))
    )
    whole = [place for place, state in enumerate(STATES) if str(state) in ("have", "released")]
    partly = (states == STATES.index(State.QUARANTINED)) & (some | earlier)
    growing = (states == STATES.index(State.PENDING)) & more
    found: Mask = np.isin(states, whole) | partly | growing
    return found


class Collector:
    """Collect findings, each cell once: the first cause counts."""

    def __init__(self, selection: Selection, names: Names, find: CalendarOf) -> None:
        self._selection, self._names, self._find = selection, names, find
        self._taken: Numbers = np.empty(0, dtype=np.int64)
        self._texts: dict[tuple[str, str, str, str | None], int] = {}
        self._codes: list[Numbers] = []
        self._kinds: list[Numbers] = []
        self._objects: list[dict[str, object]] = []

    @property
    def taken(self) -> Numbers:
        """The cells found so far, sorted."""
        return self._taken

    def leave(self, parts: Iterable[Numbers]) -> None:
        """Leave cells out: their objects changed during the audit."""
        for codes in parts:
            self._taken = np.union1d(self._taken, codes)

    def cells(
        self,
        codes: Numbers,
        cause: Cause,
        repair: Repair | Sequence[Repair],
        detail: str | Sequence[str],
        key: str | Sequence[str | None] | None = None,
    ) -> None:
        """Add cells. ``repair``, ``detail`` and ``key`` are for all, or one for each cell."""
        size = len(codes)
        columns = [[value] * size if value is None or isinstance(value, str) else list(value) for value in (repair, detail, key)]
        if not size:
            return
        _, first = np.unique(codes, return_index=True)
        fresh = first[~among(codes[first], self._taken) & self._selected(codes[first])]
        kinds = [
            self._texts.setdefault((str(cause), str(columns[0][n]), str(columns[1][n]), columns[2][n]), len(self._texts))
            for n in fresh.tolist()
        ]
        self._codes.append(codes[fresh])
        self._kinds.append(np.array(kinds, dtype=np.int64))
        self._taken = np.union1d(self._taken, codes[fresh])

    def _selected(self, codes: Numbers) -> Mask:
        first, last = numbers_of([self._selection.start, self._selection.end])
        inside: Mask = (days_of(codes) >= first) & (days_of(codes) <= last)
        if self._selection.symbols is not None:
            inside &= np.isin(symbols_of(codes), self._names.of(self._selection.symbols))
        return inside

    def object(
        self, key: str, cause: Cause, repair: Repair, detail: str, symbol: str | None = None, days: tuple[int, int] | None = None
    ) -> None:
        """Add an object; ``days``: first and last, since 1970."""
        first, last = (day_of(days[0]), day_of(days[1])) if days else (None, None)
        self._objects.append(
            {
                "symbol": symbol,
                "first_session": first,
                "last_session": last,
                "key": key,
                "cause": str(cause),
                "detail": detail,
                "repair": str(repair),
            }
        )

    def table(self) -> pa.Table:
        """Return the findings, schema ``FINDINGS``, by symbol and session.

        Neighbouring cells of one kind share a row.
        """
        place = {"dataset": self._selection.dataset.name, "source": self._selection.source}
        rows = pa.Table.from_pylist([{**place, **row} for row in self._objects], schema=FINDINGS)
        return pa.concat_tables([rows, self._cell_rows(place)]).sort_by(
            [("symbol", "ascending"), ("first_session", "ascending"), ("key", "ascending")]
        )

    def _cell_rows(self, place: dict[str, str]) -> pa.Table:
        if not any(map(len, self._codes)):
            return FINDINGS.empty_table()
        codes, kinds = np.concatenate(self._codes), np.concatenate(self._kinds)
        order = np.lexsort((codes, kinds))
        codes, kinds = codes[order], kinds[order]
        symbols, days = symbols_of(codes), days_of(codes)
        numbers = self._session_numbers(symbols, days)
        joined = (kinds[1:] == kinds[:-1]) & (symbols[1:] == symbols[:-1]) & (numbers[1:] == numbers[:-1] + 1)
        starts = np.flatnonzero(np.append(True, ~joined))
        ends = np.append(starts[1:], len(codes)) - 1
        texts = list(self._texts)
        chosen = [texts[kind] for kind in kinds[starts].tolist()]
        columns = {
            **{name: pa.repeat(value, len(starts)) for name, value in place.items()},
            "symbol": pa.array(self._names.names, pa.string()).take(pa.array(symbols[starts])),
            "first_session": pa.array(days[starts].astype("datetime64[D]")),
            "last_session": pa.array(days[ends].astype("datetime64[D]")),
            "key": pa.array([text[3] for text in chosen], pa.string()),
            "cause": pa.array([text[0] for text in chosen], pa.string()),
            "detail": pa.array([text[2] for text in chosen], pa.string()),
            "repair": pa.array([text[1] for text in chosen], pa.string()),
        }
        return pa.table([columns[name].cast(FINDINGS.field(name).type) for name in FINDINGS.names], schema=FINDINGS)

    def _session_numbers(self, symbols: Numbers, days: Numbers) -> Numbers:
        """Return the number of each day among the sessions of the symbol's calendar."""
        numbers = np.empty(len(days), dtype=np.int64)
        names = {self._names.names[symbol]: symbol for symbol in np.unique(symbols).tolist()}
        for calendar, own in by_calendar(names, self._find).items():
            chosen = np.isin(symbols, [names[name] for name in own])
            first, last = numbers_of([FIRST, LAST])
            ends = np.clip([days[chosen].min(), days[chosen].max()], first, last)
            axis = numbers_of(calendar.sessions(day_of(ends[0]), day_of(ends[1]) + DAY))
            places = np.searchsorted(axis, days[chosen])
            # a date that is not a session has no neighbour
            odd = ~among(days[chosen], axis)
            numbers[chosen] = np.where(odd, -2 * np.arange(1, odd.size + 1) - 2, places)
        return numbers
