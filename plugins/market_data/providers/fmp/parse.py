"""Read FMP's symbols, CSV files and bars: from bytes to columns. No I/O."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv

from market_data.core.errors import SchemaDrift, TruncatedResponse
from market_data.datasets.registry import dataset as find_dataset

DAY = timedelta(days=1)
FILE_COLUMNS = {"open": "open", "high": "high", "low": "low", "close": "close", "adj_close": "adjClose", "volume": "volume"}
"""Our columns -> those of the bulk file."""

_CLASS = re.compile(r"(?<=[A-Z])\.(?=[A-E]$)")


class FmpBar(msgspec.Struct, gc=False, rename="camel"):
    """A bar as traded; what its fields are called notwithstanding."""

    symbol: str
    date: date
    adj_open: float | None
    adj_high: float | None
    adj_low: float | None
    adj_close: float | None
    volume: float | None = None


def vendors_name(symbol: str) -> str:
    """Return ``BRK-B`` for ``BRK.B``: the vendor puts a dash before a share class, A to E.

    Other dots are exchanges (``VOD.L``) and stay.
    """
    return _CLASS.sub("-", symbol)


def read_file(body: bytes, needed: Collection[str], where: Mapping[str, str]) -> pa.Table:
    """Return the lines of a CSV file as text, empty fields as null. An empty array is an empty file.

    A last line without a line end is left out, as nothing says that it is whole.

    :param needed: columns that it must have.
    :raises TruncatedResponse: if a line has not all columns.
    :raises SchemaDrift: if a column is missing.
    """
    if body.strip() == b"[]":
        return pa.table({name: pa.array([], pa.string()) for name in needed})
    head, line_end, _ = body.partition(b"\n")
    names = [name.strip().strip('"') for name in head.decode(errors="replace").split(",")]
    if not line_end:
        raise TruncatedResponse(f"the file ends in its header; {len(body)} bytes came", **where)
    if missing := [name for name in needed if name not in names]:
        raise drift(where, f"the file has no column {', '.join(missing)}; its columns: {', '.join(names)}")
    try:
        rows = pc_csv.read_csv(
            pa.py_buffer(body),
            read_options=pc_csv.ReadOptions(use_threads=False, column_names=names, skip_rows=1),
            convert_options=pc_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True
            ),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV" in str(error):
            return pa.table({name: pa.array([], pa.string()) for name in names})
        raise TruncatedResponse(f"the file ends early or is damaged ({' '.join(str(error).split())[:80]})", **where) from None
    return rows if body.endswith(b"\n") else rows.slice(0, len(rows) - 1)


def requested_rows(rows: pa.Table, symbols: Sequence[str]) -> pa.Table:
    """Return the rows of ``symbols``, which a column ``requested`` holds; ``symbol`` is the vendor's name."""
    names = [pa.array([vendors_name(symbol) for symbol in symbols], pa.string()), pa.array(symbols, pa.string())]
    return rows.join(pa.table(names, names=["symbol", "requested"]), "symbol", join_type="inner", use_threads=False)


def drift(where: Mapping[str, str], found: str) -> SchemaDrift:
    """Return the error of a response of another form."""
    return SchemaDrift(
        f"{where['provider']}: {where['request']}: {found}. To do: see the provider's changelog; the hook has to learn the new form"
    )


def bars_table(bars: Sequence[tuple[str, FmpBar]]) -> pa.Table:
    """Return the bars of the symbol endpoint, with whose they are."""
    values = {
        "open": [bar.adj_open for _, bar in bars],
        "high": [bar.adj_high for _, bar in bars],
        "low": [bar.adj_low for _, bar in bars],
        "close": [bar.adj_close for _, bar in bars],
        "volume": [bar.volume for _, bar in bars],
    }
    columns = {name: pa.array(column, pa.float64()) for name, column in values.items()}
    symbols = pa.array([symbol for symbol, _ in bars], pa.string())
    return _columns(symbols, pa.array([bar.date for _, bar in bars], pa.date32()), columns)


def file_table(rows: pa.Table, day: date, where: Mapping[str, str]) -> pa.Table:
    """Return the rows of the bulk file, all of ``day``."""
    columns = {}
    for name, theirs in FILE_COLUMNS.items():
        try:
            columns[name] = pc.cast(rows[theirs], pa.float64())
        except pa.ArrowInvalid:
            raise drift(where, f"the file's {theirs} is not a number everywhere") from None
    return _columns(rows["requested"], pa.array([day] * len(rows), pa.date32()), columns)


def _columns(symbols: Any, days: pa.Array, values: Mapping[str, Any]) -> pa.Table:
    schema = find_dataset("ohlcv-1d").received
    columns = {"symbol": symbols, "session": days, "bar_time": days.cast(pa.timestamp("us", tz="UTC")), **values}
    return pa.table([columns.get(name, pa.nulls(len(days), schema.field(name).type)) for name in schema.names], schema=schema)
