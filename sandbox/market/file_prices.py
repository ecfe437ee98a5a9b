"""The prices of a Parquet file."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sandbox.market.bars import DailyBar

COLUMNS = ("symbol", "date", "open", "high", "low", "close", "volume")
EPOCH = date(1970, 1, 1).toordinal()


class FilePrices:
    """The prices of a Parquet file, exactly its symbols and dates.

    :param path: columns symbol, date (a date, or text YYYY-MM-DD), open, high, low, close, volume; blanks are kept.
    :raises ValueError: if the file lacks one of these columns.
    """

    default_source = "file"

    def __init__(self, path: Path) -> None:
        missing = sorted(set(COLUMNS) - set(pq.read_schema(path).names))
        if missing:
            raise ValueError(f"{path} lacks the column(s) {', '.join(missing)}; needed: {', '.join(COLUMNS)}")
        table = pq.read_table(path, columns=list(COLUMNS)).combine_chunks()
        symbols = table["symbol"].combine_chunks().dictionary_encode()
        codes = symbols.indices.to_numpy()
        days = table["date"].cast(pa.date32()).cast(pa.int32()).to_numpy() + EPOCH
        values = [pc.fill_null(table[name].cast(pa.float64()), math.nan).to_numpy() for name in COLUMNS[2:]]
        order = np.lexsort((days, codes))
        self.symbols: list[str] = symbols.dictionary.to_pylist()
        self._codes, self._days, self._values = codes[order], days[order], np.column_stack(values)[order]
        self._by_day = np.argsort(self._days, kind="stable")
        self._sorted_days = self._days[self._by_day]

    def range(self, symbol: str, start: date, end: date) -> list[DailyBar]:
        """Return the bars of ``symbol`` from ``start`` (inclusive) to ``end`` (exclusive), ascending."""
        if symbol not in self.symbols:
            return []
        code = self.symbols.index(symbol)
        first, beyond = np.searchsorted(self._codes, [code, code + 1])
        low, high = first + np.searchsorted(self._days[first:beyond], [start.toordinal(), end.toordinal()])
        return self._bars(np.arange(low, high))

    def session(self, day: date) -> list[DailyBar]:
        """Return the bars of all symbols of one date."""
        first, beyond = np.searchsorted(self._sorted_days, [day.toordinal(), day.toordinal() + 1])
        return self._bars(self._by_day[first:beyond])

    def _bars(self, rows: NDArray[np.int64]) -> list[DailyBar]:
        columns = (self._codes[rows].tolist(), self._days[rows].tolist(), self._values[rows].tolist())
        return [self._bar(code, day, values) for code, day, values in zip(*columns, strict=True)]

    def _bar(self, code: int, day: int, values: list[float]) -> DailyBar:
        open_, high, low, close, volume = (value if math.isfinite(value) else None for value in values)
        return DailyBar(self.symbols[code], date.fromordinal(day), open_, high, low, close, volume, "file")
