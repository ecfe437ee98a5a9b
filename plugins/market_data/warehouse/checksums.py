"""Counts and checksums of silver's values by symbol and month, in SQL and, equally, in Arrow.

A checksum of a column is its sum, and its sum weighted by the row's place in the month: a changed value changes the first, two values
exchanged the second. All numbers are exact decimals, so both sides are equal to the last digit if the values are. ``row_hash`` is not
used: it stays as it was when somebody changes a value by hand.
"""

# ruff: noqa: S608  only names from ``schema`` and whole numbers enter the text; values are bound

from __future__ import annotations

import string
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from market_data.warehouse.dialects import Dialect
from market_data.warehouse.schema import PROVIDER, SYMBOL, Column, Table, Type
from market_data.warehouse.upsert_sql import never_loaded

Numbers = npt.NDArray[np.int64]

ALPHABET = string.ascii_letters + string.digits + "_-. ,/"
CHARACTERS = 16
"""Characters of a text that count; of a longer one its length counts besides."""
BY_LENGTH, MODULUS = 131, 9973
EXACT = pa.decimal128(38, 8)
MONTH = "month_no"
"""Months since the year 0."""


def summed(table: Table) -> tuple[Column, ...]:
    """Return the columns with checksums: values, and the further columns of the key.

    Symbol, provider, timeframe and moment are apart.
    """
    known = {SYMBOL.name, PROVIDER.name, "timeframe", table.moment.name}
    return tuple(column for column in (*table.key, *table.values) if column.name not in known)


# -- in SQL --------------------------------------------------------------------------------------------------------------------------


def count_by_month(table: Table) -> str:
    """Count rows by symbol and month. Binds: see `scope`."""
    inner = f"SELECT symbol, {_month(table.moment)} AS {MONTH} FROM {table.silver} WHERE {scope(table)}"
    return f"SELECT symbol, {MONTH}, {_whole('COUNT(*)')} AS row_count FROM ({inner}) q GROUP BY symbol, {MONTH}"


def checksums(table: Table, dialect: Dialect, symbols: int) -> str:
    """Return counts and checksums by symbol and month, columns as `arrow_checksums`. Binds: see `scope`."""
    moment = table.moment
    weights = [_seconds(moment), *(_key_weight(column, dialect) for column in summed(table) if column in table.key)]
    inner = [f"symbol, {_month(moment)} AS {MONTH}", f"CAST({' + '.join(weights)} AS DECIMAL(8,0)) AS w"]
    inner += [f"{_number(column, dialect)} AS {column.name}" for column in summed(table)]
    outer = [_whole("COUNT(*)") + " AS row_count", _exact("SUM(w)") + " AS weights"]
    for name in (column.name for column in summed(table)):
        outer += [f"{_whole(f'COUNT({name})')} AS n_{name}", f"{_exact(f'SUM({name})')} AS s_{name}"]
        outer += [f"{_exact(f'SUM({name} * w)')} AS w_{name}"]
    rows = f"SELECT {', '.join(inner)} FROM {table.silver} WHERE {scope(table, symbols)}"
    return f"SELECT symbol, {MONTH}, {', '.join(outer)} FROM ({rows}) q GROUP BY symbol, {MONTH}"


def rows_between(table: Table, symbols: int) -> str:
    """Return key and values of the rows between two moments. Binds: see `scope`."""
    names = ", ".join(column.name for column in (*table.key, *table.values))
    return f"SELECT {names} FROM {table.silver} WHERE {scope(table, symbols)}"


def never_loaded_between(table: Table, symbols: int) -> str:
    """Return the rows between two moments that no load wrote. Binds: see `scope`."""
    names = ", ".join(column.name for column in table.columns)
    return f"SELECT {names} FROM {table.silver} p WHERE {scope(table, symbols)} AND {never_loaded(table)}"


def scope(table: Table, symbols: int = 0) -> str:
    """Return a condition on the rows to read.

    Its binds are `binds`, first and last (exclusive) moment, then as many symbols, if any.
    """
    moment = table.moment.name
    found = "provider = ?" + (" AND timeframe = ?" if any(column.name == "timeframe" for column in table.key) else "")
    found += f" AND {moment} >= ? AND {moment} < ?"
    return found + (f" AND symbol IN ({', '.join('?' * symbols)})" if symbols else "")


def binds(table: Table, provider: str, timeframe: str) -> list[str]:
    """Return the first values of `scope`."""
    return [provider, *([timeframe] if any(column.name == "timeframe" for column in table.key) else [])]


def _whole(text: str) -> str:
    return f"CAST({text} AS DECIMAL(18,0))"


def _exact(text: str) -> str:
    return f"CAST({text} AS DECIMAL(38,8))"


def _month(column: Column) -> str:
    return f"CAST(EXTRACT(YEAR FROM {column.name}) * 12 + EXTRACT(MONTH FROM {column.name}) AS DECIMAL(18,0))"


def _seconds(column: Column) -> str:
    """Return the seconds since the month began, or the day of a date."""
    day = f"EXTRACT(DAY FROM {column.name})"
    if column.type is Type.DATE:
        return day
    clock = f"EXTRACT(HOUR FROM {column.name}) * 3600 + EXTRACT(MINUTE FROM {column.name}) * 60"
    return f"{day} * 86400 + {clock} + FLOOR(EXTRACT(SECOND FROM {column.name}))"


def _number(column: Column, dialect: Dialect) -> str:
    if column.type is Type.STRING:
        return f"CASE WHEN {column.name} IS NOT NULL THEN CAST({_text(column, dialect)} AS DECIMAL(8,0)) END"
    if column.type in (Type.DATE, Type.TIMESTAMP):
        months = f"(EXTRACT(YEAR FROM {column.name}) * 12 + EXTRACT(MONTH FROM {column.name}))"
        return f"CAST({months} * 10000000 + {_seconds(column)} AS DECIMAL(14,0))"
    if column.type in (Type.INTEGER, Type.SMALL):
        return f"CAST({column.name} AS DECIMAL(20,0))"
    return column.name


def _key_weight(column: Column, dialect: Dialect) -> str:
    if column.type is Type.STRING:
        return _text(column, dialect)
    if column.type in (Type.INTEGER, Type.SMALL):
        return f"MOD(ABS({column.name}), {MODULUS})"
    return _seconds(column)


def _text(column: Column, dialect: Dialect) -> str:
    parts = [f"LENGTH({column.name}) * {BY_LENGTH}"]
    for place in range(1, min(CHARACTERS, column.length) + 1):
        # An empty part has a position on some engines, and is null on others.
        found = dialect.position.format(text=f"'{ALPHABET}'", part=f"SUBSTR({column.name}, {place}, 1)")
        parts.append(f"CASE WHEN LENGTH({column.name}) >= {place} THEN {found} * {place} ELSE 0 END")
    return " + ".join(parts)


# -- in Arrow ------------------------------------------------------------------------------------------------------------------------


def months(values: pa.ChunkedArray | pa.Array) -> Numbers:
    """Return the month of dates or naive moments, as ``month_no`` counts them."""
    found: Numbers = values.to_numpy().astype("datetime64[M]").astype(np.int64) + 1970 * 12 + 1
    return found


def arrow_checksums(table: Table, rows: pa.Table) -> pa.Table:
    """Return the same as `checksums` for ``rows`` of ``arrow_rows.to_values``."""
    moment = rows[table.moment.name]
    weights = _arrow_seconds(moment)
    for column in (column for column in summed(table) if column in table.key):
        weights = weights + _arrow_key_weight(column, rows[column.name])
    weight = _decimal(weights, 8)
    columns: dict[str, Any] = {"symbol": rows["symbol"], MONTH: pa.array(months(moment)), "w": weight.cast(EXACT)}
    aggregations: list[tuple[Any, ...]] = [([], "count_all"), ("w", "sum")]
    for column in summed(table):
        number = _arrow_number(column, rows[column.name])
        columns[column.name] = number.cast(EXACT)
        columns[f"w_{column.name}"] = pc.multiply(number, weight).cast(EXACT)
        aggregations += [(column.name, "count"), (column.name, "sum"), (f"w_{column.name}", "sum")]
    found = pa.table(columns).group_by(["symbol", MONTH]).aggregate(aggregations)
    names = {"count_all": "row_count", "w_sum": "weights"}
    for column in summed(table):
        names |= {f"{column.name}_count": f"n_{column.name}", f"{column.name}_sum": f"s_{column.name}"}
        names[f"w_{column.name}_sum"] = f"w_{column.name}"
    return exact(found.rename_columns([names.get(name, name) for name in found.column_names]))


def exact(found: pa.Table) -> pa.Table:
    """Return checksums, of SQL or Arrow, in the same types."""
    kinds = {"symbol": pa.string(), MONTH: pa.int64(), "row_count": pa.int64()}
    columns = {}
    for name in found.column_names:
        kind = kinds.get(name, pa.int64() if name.startswith("n_") else EXACT)
        columns[name] = _as_decimal(found[name]) if kind == EXACT else found[name].cast(kind)
    return pa.table(columns)


def _as_decimal(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_integer(values.type):
        values = values.cast(pa.decimal128(20, 0))
    return values.cast(EXACT)


def _arrow_seconds(values: pa.ChunkedArray) -> Numbers:
    times = values.to_numpy()
    month = times.astype("datetime64[M]")
    if pa.types.is_date(values.type):
        return np.asarray((times.astype("datetime64[D]") - month.astype("datetime64[D]")).astype(np.int64) + 1)
    since = times.astype("datetime64[us]").astype(np.int64) - month.astype("datetime64[us]").astype(np.int64)
    return np.asarray(since // 1_000_000 + 86_400)


def _arrow_number(column: Column, values: pa.ChunkedArray) -> pa.Array:
    if column.type is Type.STRING:
        return _decimal(_arrow_text(column, values), 8, values)
    if column.type in (Type.DATE, Type.TIMESTAMP):
        full = values.fill_null(pa.scalar(0, pa.int32() if column.type is Type.DATE else pa.int64()).cast(values.type))
        return _decimal(months(full) * 10_000_000 + _arrow_seconds(full), 14, values)
    if column.type in (Type.INTEGER, Type.SMALL):
        return values.combine_chunks().cast(pa.decimal128(20, 0))
    return values.combine_chunks()


def _arrow_key_weight(column: Column, values: pa.ChunkedArray) -> Numbers:
    if column.type is Type.STRING:
        return _arrow_text(column, values)
    if column.type in (Type.INTEGER, Type.SMALL):
        return np.asarray(np.abs(values.to_numpy().astype(np.int64)) % MODULUS)
    return _arrow_seconds(values)


def _arrow_text(column: Column, values: pa.ChunkedArray) -> Numbers:
    """Return the number of each text; 0 for a null."""
    encoded = values.combine_chunks().dictionary_encode()
    texts = encoded.dictionary
    numbers = pc.utf8_length(texts).to_numpy().astype(np.int64) * BY_LENGTH
    letters = pa.array(list(ALPHABET))
    for place in range(min(CHARACTERS, column.length)):
        characters = pc.utf8_slice_codeunits(texts, place, place + 1)
        found = pc.fill_null(pc.index_in(characters, value_set=letters), -1).to_numpy().astype(np.int64) + 1
        numbers += found * (place + 1)
    numbers = np.append(numbers, 0)
    return np.asarray(numbers[pc.fill_null(encoded.indices, len(texts)).to_numpy()])


def _decimal(numbers: Numbers, digits: int, like: pa.ChunkedArray | None = None) -> pa.Array:
    """Return whole numbers as decimals, null where ``like`` is."""
    mask = None if like is None or not like.null_count else like.is_null().combine_chunks().to_numpy(zero_copy_only=False)
    return pa.array(numbers, pa.int64(), mask=mask).cast(pa.decimal128(19, 0)).cast(pa.decimal128(digits, 0))
