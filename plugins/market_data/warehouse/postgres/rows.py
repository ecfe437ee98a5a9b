"""Rows as the CSV of COPY, both ways."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

BLOCK_BYTES = 4_000_000
"""How much of the CSV is parsed at once: smaller blocks save little memory, larger ones take more."""

TYPES = {
    psycopg.adapters.types.get_oid(name): kind
    for name, kind in {
        "bool": pa.bool_(),
        "int2": pa.int16(),
        "int4": pa.int32(),
        "int8": pa.int64(),
        "float4": pa.float32(),
        "float8": pa.float64(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us"),
        "timestamptz": pa.timestamp("us", "UTC"),
    }.items()
}
NUMERIC = psycopg.adapters.types.get_oid("numeric")
COMPUTED = pa.large_string()
"""Type of a NUMERIC without declared digits until its values are known."""
VALUES = {
    "null_values": [""],
    "strings_can_be_null": True,
    "quoted_strings_can_be_null": False,
    "true_values": ["t"],
    "false_values": ["f"],
}
PARSE = csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)


def arrow_type(column: psycopg.Column) -> pa.DataType:
    """Return the Arrow type of a column: text for types Arrow lacks and, at first, computed numbers."""
    if column.type_code == NUMERIC:
        precision, scale = column.precision or 0, column.scale or 0
        return pa.decimal128(precision, scale) if 0 < precision <= 38 and 0 <= scale <= precision else COMPUTED
    return TYPES.get(column.type_code, pa.string())


def _number(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the numbers of a NUMERIC without declared digits as decimals, or as doubles.

    Decimals while all have at most 8 places, such as sums of our own columns; doubles once one has more, such as means and quotients.
    """
    if pc.any(pc.match_substring_regex(values, r"\.\d{9}")).as_py():
        return values.cast(pa.float64())
    try:
        return values.cast(pa.decimal128(38, 8))
    except pa.ArrowInvalid:  # too large, or NaN
        return values.cast(pa.float64())


def to_csv(rows: pa.Table) -> memoryview:
    """Return rows as CSV: every text in quotes, a null as nothing, so that COPY tells them apart."""
    sink = pa.BufferOutputStream()
    csv.write_csv(rows, sink, csv.WriteOptions(include_header=False))
    return memoryview(sink.getvalue())


def to_arrow(rows: Iterable[bytes | bytearray | memoryview], types: list[pa.DataType]) -> list[pa.ChunkedArray]:
    """Return the columns of CSV that arrives row by row."""
    schema = pa.schema([pa.field(str(n), kind) for n, kind in enumerate(types)])
    table = pa.concat_tables([schema.empty_table(), *(_parse(block, schema) for block in _blocks(rows))])
    return [_number(column) if column.type == COMPUTED else column for column in table.columns]


def _blocks(rows: Iterable[bytes | bytearray | memoryview]) -> Iterator[memoryview]:
    block = io.BytesIO()
    for row in rows:
        block.write(row)
        if block.tell() >= BLOCK_BYTES:
            yield block.getbuffer()
            block = io.BytesIO()
    if block.tell():
        yield block.getbuffer()


def _pool() -> pa.MemoryPool:
    return pa.mimalloc_memory_pool() if "mimalloc" in pa.supported_memory_backends() else pa.default_memory_pool()


def _parse(block: memoryview, schema: pa.Schema) -> pa.Table:
    # In this thread, and in Arrow's own memory: its other threads and the system's allocator keep what the parser frees, which is more
    # than the size of the rows.
    read = csv.ReadOptions(column_names=schema.names, block_size=len(block) + 1, use_threads=False)
    convert = csv.ConvertOptions(column_types=schema, **VALUES)
    return csv.read_csv(pa.py_buffer(block), read, PARSE, convert, memory_pool=_pool())
