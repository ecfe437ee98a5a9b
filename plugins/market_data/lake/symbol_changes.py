"""Read all changes of symbols that the lake has.

They are a few rows per company, so every object is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.outcome import State
from market_data.core.symbol_changes import HasBars, SymbolChange
from market_data.datasets.bars import OHLCV_1D
from market_data.datasets.base import Dataset
from market_data.lake import parquet
from market_data.lake.layout import Layout
from market_data.lake.ledger import read_coverage, sources
from market_data.lake.reader import listed_objects, newest
from market_data.lake.store import Lake


def read_symbol_changes(lake: Lake, layout: Layout, dataset: Dataset, provider: str | None = None) -> list[SymbolChange]:
    """Return the changes that were not withdrawn, ascending, each once.

    :param dataset: ``symbol-changes``.
    :param provider: None: of all providers in the ledger.
    :raises LakeError: if the store fails or an object cannot be read.
    """
    found: set[SymbolChange] = set()
    for source in sources(lake, dataset.name) if provider is None else (provider,):
        folder = layout.root(dataset, source)

        def keys(folders: Sequence[str]) -> dict[str, list[str]]:
            listed = {folder: [key for key, _ in lake.list(folder)] for folder in folders}
            return {
                folder: [key for key in some if (parsed := layout.parse(key)) and parsed.folder == dataset.folder]
                for folder, some in listed.items()
            }

        # Day files first: of equally new rows the reader returns those.
        ordered = sorted(dict(listed_objects(lake, [folder], keys)).items(), key=lambda item: "/month=" not in item[0])
        rows = newest(parquet.gather((parquet.decode_rows(body, key, dataset) for key, body in ordered), dataset.schema), dataset)
        kept = rows.filter(pc.is_null(rows[dataset.withdrawn])).select(["effective_date", "old_symbol", "new_symbol"])
        found.update(SymbolChange(*change.values()) for change in kept.to_pylist())
    return sorted(found)


def bars_in(lake: Lake) -> HasBars:
    """Return a function that tells if a symbol has daily bars on or after a date.

    The ledgers of all providers are read when it is first called.
    """

    @cache
    def held() -> list[pa.Table]:
        tables = [read_coverage(lake, OHLCV_1D.name, source).table for source in sources(lake, OHLCV_1D.name)]
        return [table.filter(pc.equal(table["state"].cast(pa.string()), str(State.HAVE))) for table in tables]

    def has_bars(symbol: str, day: date) -> bool:
        return any(
            pc.any(pc.and_(pc.equal(cells["symbol"].cast(pa.string()), symbol), pc.greater_equal(cells["session"], day))).as_py()
            for cells in held()
        )

    return has_bars


def without_withdrawn(rows: pa.Table, dataset: Dataset) -> pa.Table:
    """Return ``rows`` without those that the vendor has withdrawn."""
    return rows.filter(pc.invert(pc.fill_null(rows[dataset.withdrawn], False))) if dataset.withdrawn else rows
