"""From a dataset's rows to the exact Arrow table that every engine takes.

Prices become decimals here, so that all engines hold the same digits and equal values are equal. A row that no engine could hold is
refused here, with the column's name, before a connection is opened.
"""

from __future__ import annotations

import hashlib
from binascii import hexlify
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.dates import naive_utc
from market_data.core.errors import DataError
from market_data.warehouse.schema import LOAD_ID, LOADED_AT, ROW_HASH, Column, Reference, Table, Type

TYPES = {
    Type.STRING: pa.string(),  # never large_string: python-oracledb binds that as LONG, which a MERGE refuses
    Type.TIMESTAMP: pa.timestamp("us"),
    Type.DATE: pa.date32(),
    Type.DECIMAL: pa.decimal128(20, 8),
    Type.AMOUNT: pa.decimal128(28, 6),
    Type.INTEGER: pa.int64(),
    Type.SMALL: pa.int32(),
}
SLICE_ROWS = 20_000
"""Rows hashed at once: as text they take many times their room."""
HASH_LENGTH = 64
ESCAPED = {"\\": r"\\", "|": r"\|"}
"""Escapes in a text for characters that would end a value; the escape itself first."""


def schema(columns: tuple[Column, ...]) -> pa.Schema:
    """Return the Arrow schema of ``columns``."""
    return pa.schema([pa.field(c.name, TYPES[c.type], nullable=c.nullable) for c in columns])


def to_wire(table: Table, rows: pa.Table, *, load_id: str, loaded_at: datetime) -> pa.Table:
    """Return ``rows`` in the form of ``table``'s columns, in one chunk.

    Prices are rounded to 8 places and amounts to 6 (half to even); moments become naive UTC. An empty string is null, which it is for
    Oracle anyway; where no null may be, it is refused.

    :param rows: has the dataset's columns; moments with a time zone.
    :param loaded_at: the moment of the load, with a time zone.
    :raises DataError: a column is missing; or a key occurs twice; or a value does not fit: null, NaN, infinity, too large, too long, no
        time zone. Names the column or a key.
    """
    wire = _sourced(table, rows)
    _refuse_duplicates(table, wire)
    wire[ROW_HASH.name] = _marked_hashes(table, wire)
    wire[LOAD_ID.name] = pa.repeat(pa.scalar(load_id), rows.num_rows)
    wire[LOADED_AT.name] = pa.repeat(pa.scalar(naive_utc(loaded_at), pa.timestamp("us")), rows.num_rows)
    return pa.table([wire[column.name] for column in table.columns], schema=schema(table.columns)).combine_chunks()


def to_values(table: Table, rows: pa.Table) -> pa.Table:
    """Return key and values of ``rows`` as the warehouse holds them, without hashes: for comparing.

    :raises DataError: as `to_wire`, apart from keys that occur twice.
    """
    wire, columns = _sourced(table, rows), (*table.key, *table.values)
    return pa.table([wire[column.name] for column in columns], schema=schema(columns))


def _sourced(table: Table, rows: pa.Table) -> dict[str, Any]:
    """Return the columns of ``table`` that come from the dataset's."""
    sourced = [column for column in table.columns if column.source]
    for mark in (column.source for column in sourced if column.mark and column.source not in rows.column_names):
        rows = rows.append_column(mark, pa.nulls(len(rows), pa.bool_()))  # staged by an earlier version
    if missing := [column.source for column in sourced if column.source not in rows.column_names]:
        raise DataError(f"{table.name}: columns missing: {', '.join(missing)}")
    rows = rows.combine_chunks()
    return {column.name: _convert(table, column, rows[column.source]) for column in sourced}


def distinct(table: Table, rows: pa.Table) -> pa.Table:
    """Return ``rows`` if each key comes once.

    :raises DataError: naming a key that comes again. Rows without a whole key are left to the other checks.
    """
    keys = {column.name: rows[column.source] for column in table.key if column.source in rows.column_names}
    whole = pa.table(keys).drop_null()
    if len(keys) == len(table.key):
        _refuse_duplicates(table, {name: whole[name] for name in keys})
    return rows


def _marked_hashes(table: Table, wire: dict[str, Any]) -> Any:
    """Return the hash of each row's values.

    A mark that is set is hashed together with the hash of the others.
    """
    hashes = row_hashes([wire[column.name] for column in table.values if not column.mark])
    for column in table.values:
        if column.mark and wire[column.name].null_count < len(hashes):
            marked = row_hashes([pa.chunked_array([hashes]), wire[column.name]])
            hashes = pc.if_else(pc.is_valid(wire[column.name]).combine_chunks(), marked, hashes)
    return hashes


def reference_rows(table: Reference, rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """Return ``rows``, which have the columns of ``table`` in order; at least one."""
    columns = zip(table.columns, zip(*rows, strict=True), strict=True)
    return pa.table([pa.array(values, TYPES[column.type]) for column, values in columns], schema=schema(table.columns))


def row_hashes(values: list[pa.ChunkedArray]) -> pa.Array:
    """Return each row's SHA-256 (hex): values as integers or text joined by ``|``, a null as nothing.

    A decimal counts in units of its last place, so 10.0 and 10.00 are equal. A moment counts in microseconds and a date in days from
    1970. These are integers because the text of other types depends on the library, and these hashes are kept for years.
    """
    count, sha256 = len(values[0]), hashlib.sha256

    def digests() -> Iterator[bytes]:
        for start in range(0, count, SLICE_ROWS):
            texts = [_text(column.slice(start, SLICE_ROWS)) for column in values]
            joined = pc.binary_join_element_wise(*texts, "|", null_handling="replace", null_replacement="")
            lines = pc.cast(joined, pa.binary())
            yield hexlify(b"".join([sha256(line).digest() for line in lines.to_pylist()]))  # once, not a row: a third of the time

    offsets = np.arange(count + 1, dtype=np.int64) * HASH_LENGTH
    texts = pa.LargeStringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(b"".join(digests())))
    return texts.cast(pa.string())  # an error for more rows than 32-bit offsets can have


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_string(column.type):
        for character, escaped in ESCAPED.items():
            column = pc.replace_substring(column, character, escaped)
        return column
    if pa.types.is_decimal(column.type):
        units = pa.decimal128(column.type.precision, 0)
        column = _short(pa.chunked_array([chunk.view(units) for chunk in column.chunks], units))
    elif pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    elif pa.types.is_date32(column.type):
        column = column.cast(pa.int32())
    return column.cast(pa.string())


def _short(units: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return whole decimals as integers of 64 bits if all fit.

    Their text is the same and made in half the time.
    """
    try:
        return units.cast(pa.int64())
    except pa.ArrowInvalid:
        return units


def _convert(table: Table, column: Column, values: pa.ChunkedArray) -> pa.ChunkedArray:
    where = f"{table.name}: column {column.source}"
    if pa.types.is_dictionary(values.type):
        values = pc.cast(values, values.type.value_type)
    if column.nullable and _is_text(values.type):
        values = pc.if_else(pc.equal(values, ""), pa.scalar(None, values.type), values)
    if values.null_count and not column.nullable:
        raise DataError(f"{where} has {values.null_count} nulls of {len(values)} rows; none is allowed")
    _check(column, values, where)
    try:
        return _cast(column, values)
    except pa.ArrowInvalid as error:
        raise DataError(f"{where} does not fit {_limits(column)}; it came as {values.type}") from error
    except pa.ArrowNotImplementedError as error:
        raise DataError(f"{where} came as {values.type}; {_limits(column)} is needed") from error


def _check(column: Column, values: pa.ChunkedArray, where: str) -> None:
    if pa.types.is_floating(values.type) and not _all(pc.is_finite(values)):
        raise DataError(f"{where} holds NaN or infinity; finite numbers are allowed, and null where the column may be absent")
    if pa.types.is_timestamp(values.type) and values.type.tz is None:
        raise DataError(f"{where} has no time zone; UTC is needed")
    if column.type is Type.STRING and _is_text(values.type):
        lengths = pc.utf8_length(values)
        if not _all(pc.and_(pc.greater(lengths, 0), pc.less_equal(lengths, column.length))):
            raise DataError(
                f"{where} holds an empty string or one over {column.length} characters; 1 to {column.length} are allowed"
            )


def _cast(column: Column, values: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = TYPES[column.type]
    if column.type is Type.TIMESTAMP:
        if column.cut and pa.types.is_timestamp(values.type) and values.type.unit == "ns":
            values = pc.floor_temporal(values, unit="microsecond")
        return pc.cast(pc.cast(values, pa.timestamp("us", "UTC")), kind)
    if pa.types.is_decimal(kind) and pa.types.is_decimal(values.type):
        return pc.cast(pc.round(values, kind.scale, round_mode="half_to_even"), kind)
    if pa.types.is_decimal(kind) and pa.types.is_integer(values.type):
        return pc.cast(pc.cast(values, pa.decimal128(38, kind.scale)), kind)
    return pc.cast(values, kind)


def _limits(column: Column) -> str:
    return {
        Type.STRING: "text",
        Type.TIMESTAMP: "a moment in microseconds",
        Type.DATE: "a date",
        Type.DECIMAL: "a number with at most 12 digits before the point and 8 after",
        Type.AMOUNT: "a number with at most 22 digits before the point and 6 after",
        Type.INTEGER: "a whole number of 64 bits",
        Type.SMALL: "a whole number of 32 bits",
    }[column.type]


def _refuse_duplicates(table: Table, wire: dict[str, pa.ChunkedArray]) -> None:
    names = [column.name for column in table.key]
    if _ascend([wire[name] for name in names]):
        return
    groups = pa.table({name: wire[name] for name in names}).group_by(names).aggregate([([], "count_all")])
    twice = groups.filter(pc.greater(groups["count_all"], 1))
    if twice.num_rows:
        first = ", ".join(f"{name} {twice[name][0]}" for name in names)
        raise DataError(f"{table.name}: {twice.num_rows} keys occur more than once in one load, the first: {first}")


def _ascend(keys: list[pa.ChunkedArray]) -> bool:
    """Return True if each key is above the one before it.

    Most rows come so. Then no key occurs twice, and nothing has to be grouped.
    """
    above = pa.scalar(False)
    for values in reversed(keys):
        before, after = values.slice(0, max(0, len(values) - 1)), values.slice(1)
        above = pc.or_(pc.greater(after, before), pc.and_(pc.equal(after, before), above))
    return _all(above)


def _all(mask: pa.ChunkedArray) -> bool:
    return pc.all(mask, min_count=0).as_py()


def _is_text(kind: Any) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
