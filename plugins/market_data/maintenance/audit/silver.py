"""Compare the lake's rows with silver: checksums first, rows only where these differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.calendar import FIRST, LAST
from market_data.core.instruments import CalendarOf
from market_data.maintenance.audit.cells import Names
from market_data.maintenance.audit.listing import Numbers, cell_codes
from market_data.warehouse import checksums
from market_data.warehouse.arrow_rows import schema, to_values
from market_data.warehouse.checksums import MONTH
from market_data.warehouse.schema import Column, Type, table

if TYPE_CHECKING:
    from market_data.pipeline.selection import Selection
    from market_data.warehouse.base import Warehouse

SYMBOLS = 200
"""Symbols whose rows are fetched at once."""
SINCE = 1970 * 12 + 1
"""``month_no`` of January 1970."""


@dataclass(frozen=True)
class Differences:
    """Cells in which lake and silver differ, as codes.

    :param lacking: silver lacks rows. ``changed``: it has other values. ``only``: it has rows that the lake lacks.
    :param loaded: of ``only``, cells with such a row that a load wrote; those of the others were put there by hand.
    """

    lacking: Numbers
    changed: Numbers
    only: Numbers
    loaded: Numbers

    @classmethod
    def of(cls, parts: Sequence[Differences]) -> Differences:
        """Return all of several parts; a cell is of the first kind that it has."""
        lacking, changed, only, loaded = (
            np.unique(np.concatenate([np.empty(0, dtype=np.int64), *(getattr(part, name) for part in parts)]))
            for name in ("lacking", "changed", "only", "loaded")
        )
        changed = np.setdiff1d(changed, lacking)
        return cls(lacking, changed, np.setdiff1d(only, np.union1d(lacking, changed)), loaded)


class Silver:
    """The selected rows of a silver table.

    :param span: first moment and last (exclusive), naive UTC.
    """

    def __init__(self, warehouse: Warehouse, selection: Selection, find: CalendarOf) -> None:
        self._warehouse, self._selection, self._find = warehouse, selection, find
        self.table = table(selection.dataset.table)
        first, last = max(selection.start, FIRST), min(selection.end, LAST)
        self._span = [datetime.combine(first, time()), datetime.combine(last, time()) + timedelta(days=1)]
        self.rows = 0

    @cached_property
    def exists(self) -> bool:
        """False if the table is lost: there is no such table, or no such file."""
        path = getattr(self._warehouse, "path", None)
        if path is not None and not path.exists():
            return False
        found = self._warehouse.query(self._warehouse.dialect.table_exists, [self.table.silver])
        return bool(found.column(0)[0].as_py())

    @cached_property
    def counts(self) -> pa.Table:
        """Rows by symbol and month of the selected symbols.

        Columns: ``symbol``, ``month`` (since 1970), ``row_count``.
        """
        found = self._warehouse.query(checksums.count_by_month(self.table), self._binds())
        found = checksums.exact(found)
        if self._selection.symbols is not None:
            found = found.filter(pc.is_in(found["symbol"], pa.array(self._selection.symbols, pa.string())))
        return found.set_column(1, "month", pc.subtract(found[MONTH], SINCE))

    def _binds(self, symbols: Sequence[str] = ()) -> list[Any]:
        chosen = self._selection
        return [*checksums.binds(self.table, chosen.source, chosen.dataset.timeframe), *self._span, *symbols]

    def compare(self, rows: pa.Table, symbols: Sequence[str], names: Names, wanted: Any) -> Differences:
        """Return where the rows of some symbols differ from silver's.

        :param rows: of the dataset's schema, each key once, only those that are loaded.
        :param symbols: all symbols to compare, at most some hundred; those without rows too.
        :param wanted: a function of symbols and months that masks what is compared.
        :raises DataError: the rows do not fit the table.
        """
        values = to_values(self.table, rows).append_column("session", rows["session"])
        moments = values[self.table.moment.name]
        low, high = (pa.scalar(moment).cast(moments.type) for moment in self._span)
        values = values.filter(pc.and_(pc.greater_equal(moments, low), pc.less(moments, high)))
        moments = values[self.table.moment.name]
        months = checksums.months(moments) - SINCE
        inside = wanted(names.of(values["symbol"]), months)
        values, months = values.filter(pa.array(inside)), months[inside]
        self.rows += len(values)
        ours = checksums.arrow_checksums(self.table, values)
        theirs = checksums.exact(
            self._warehouse.query(
                checksums.checksums(self.table, self._warehouse.dialect, len(symbols)),
                self._binds(symbols),
            )
        )
        theirs = theirs.filter(pa.array(wanted(names.of(theirs["symbol"]), theirs[MONTH].to_numpy() - SINCE)))
        lost, differing = _differing(ours, theirs, names)
        codes = cell_codes(names.of(values["symbol"]), months)
        gone = values.filter(pa.array(np.isin(codes, lost)))
        parts = [Differences(names.codes(gone), *[np.empty(0, dtype=np.int64)] * 3)]
        if len(differing):
            parts += self._by_row(values.filter(pa.array(np.isin(codes, differing))), differing, names)
        return Differences.of(parts)

    def _by_row(self, values: pa.Table, differing: Numbers, names: Names) -> Iterator[Differences]:
        own = np.unique((differing + (1 << 31)) >> 32)
        kinds = schema((*self.table.key, *self.table.values))
        moment = self.table.moment.name
        for start in range(0, len(own), SYMBOLS):
            numbers = own[start : start + SYMBOLS]
            some = [names.names[number] for number in numbers.tolist()]
            text = checksums.rows_between(self.table, len(some))
            stored = self._warehouse.query(text, self._binds(some)).cast(kinds)
            codes = cell_codes(names.of(stored["symbol"]), checksums.months(stored[moment]) - SINCE)
            stored = stored.filter(pa.array(np.isin(codes, differing)))
            here = values.filter(pc.is_in(values["symbol"], pa.array(some, pa.string())))
            yield self._of_rows(here, stored, names)

    def never_loaded(self, symbols: Sequence[str]) -> pa.Table:
        """Return the rows of some symbols that no load wrote: the columns of the table, and ``session``."""
        kinds = schema(self.table.columns)
        parts = [kinds.empty_table()]
        for start in range(0, len(symbols), SYMBOLS):
            some = symbols[start : start + SYMBOLS]
            text = checksums.never_loaded_between(self.table, len(some))
            parts.append(self._warehouse.query(text, self._binds(some)).cast(kinds))
        rows = pa.concat_tables(parts)
        sessions = self._sessions(rows["symbol"].to_pylist(), rows[self._dated_by.name].to_pylist())
        return rows.append_column("session", pa.array(sessions, pa.date32()))

    def _of_rows(self, ours: pa.Table, stored: pa.Table, names: Names) -> Differences:
        key = [column.name for column in self.table.key]
        left = ours.append_column("ours", pa.repeat(True, len(ours)))
        right = stored.append_column("theirs", pa.repeat(True, len(stored)))
        both = left.join(right, key, join_type="full outer", right_suffix="_stored")
        lacking, only = pc.is_null(both["theirs"]), pc.is_null(both["ours"])
        differs = pa.repeat(False, len(both))
        for column in self.table.values:
            mine, other = both[column.name], both[f"{column.name}_stored"]
            equal = pc.fill_null(pc.equal(mine, other), False)
            differs = pc.or_(differs, pc.invert(pc.or_(equal, pc.and_(pc.is_null(mine), pc.is_null(other)))))
        changed = both.filter(pc.and_(differs, pc.invert(pc.or_(lacking, only))))
        counts = stored.group_by(key).aggregate([([], "count_all")])
        twice = ours.join(counts.filter(pc.greater(counts["count_all"], 1)), key, join_type="left semi")  # where no key forbids it
        dated_by = self._dated_by.name
        alone = both.filter(only)
        moments = alone[dated_by if dated_by in key else f"{dated_by}_stored"].to_pylist()
        sessions = self._sessions(alone["symbol"].to_pylist(), moments)
        alone = alone.select(key).append_column("session", pa.array(sessions, pa.date32()))
        by_hand = self.never_loaded(alone["symbol"].unique().to_pylist()).select(key)
        loaded = names.codes(alone.join(by_hand, key, join_type="left anti"))
        return Differences(
            names.codes(both.filter(lacking)),
            np.concatenate([names.codes(changed), names.codes(twice)]),
            names.codes(alone),
            loaded,
        )

    @property
    def _dated_by(self) -> Column:
        """The column that tells the session of a row: statements belong to that of their filing."""
        return self.table.published or self.table.moment

    def _sessions(self, symbols: Sequence[str], moments: Sequence[Any]) -> list[date]:
        """Return the session of rows that only silver has."""
        found: dict[tuple[str, Any], date] = {}
        for symbol, moment in zip(symbols, moments, strict=True):
            if (symbol, moment) not in found:
                found[symbol, moment] = self._session(symbol, moment)
        return [found[pair] for pair in zip(symbols, moments, strict=True)]

    def _session(self, symbol: str, moment: Any) -> date:
        if self._dated_by.type is Type.DATE:
            return self._find(symbol).first_session(moment)
        if self._selection.dataset.timeframe == "1d":
            day: date = moment.date()
            return day
        return self._find(symbol).session_of(moment.replace(tzinfo=UTC))


def _differing(ours: pa.Table, theirs: pa.Table, names: Names) -> tuple[Numbers, Numbers]:
    """Return the symbols and months that silver lacks as a whole, and those that differ, as codes."""
    kept = [name for name in ours.column_names if name not in ("symbol", MONTH)]
    both = ours.join(theirs.select(ours.column_names), ["symbol", MONTH], join_type="full outer", right_suffix="_stored")
    codes = cell_codes(names.of(both["symbol"]), both[MONTH].to_numpy() - SINCE)
    lost = pc.is_null(both["row_count_stored"]).to_numpy()
    equal = np.ones(len(both), dtype=bool)
    for name in kept:
        mine, other = both[name], both[f"{name}_stored"]
        same = pc.or_(pc.fill_null(pc.equal(mine, other), False), pc.and_(pc.is_null(mine), pc.is_null(other)))
        equal &= same.to_numpy()
    return codes[lost], codes[~equal & ~lost]
