"""Read FMP's symbols, CSV files and bars: from bytes to columns. No I/O."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from datetime import date, timedelta
from types import MappingProxyType
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv

from market_data.core.errors import ServerError, TruncatedResponse
from market_data.core.messages import shown, some
from market_data.datasets.registry import dataset as find_dataset
from market_data.http.client import without_bom
from market_data.providers.corporate_actions import Name
from market_data.providers.fmp.symbols import to_vendor
from market_data.providers.responses import drift
from market_data.providers.unexpected import SHOWN, Problems, Unexpected, checked, odd_rows

DAY = timedelta(days=1)
FILE_COLUMNS = {"open": "open", "high": "high", "low": "low", "close": "close", "adj_close": "adjClose", "volume": "volume"}
"""Our columns -> those of the bulk file."""

NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"

vendors_name = to_vendor
"""``BRK.B`` -> ``BRK-B``."""


class FmpBar(msgspec.Struct, gc=False, rename="camel"):
    """A bar as traded; what its fields are called notwithstanding."""

    symbol: Name
    date: date
    adj_open: float | None
    adj_high: float | None
    adj_low: float | None
    adj_close: float | None
    volume: float | None = None


class AdjustedClose(msgspec.Struct, gc=False, rename="camel"):
    """The part of an adjusted bar that is stored."""

    symbol: Name
    date: date
    adj_close: float | None


class OddRow(msgspec.Struct):
    """A bar that cannot be read.

    :param date: None where that is what cannot be read.
    :param values: our columns -> the numbers that can be read.
    """

    date: date | None
    values: dict[str, float | None]
    reason: str


def read_file(body: bytes, needed: Collection[str], where: Mapping[str, str]) -> tuple[pa.Table, Problems]:
    """Return the lines of a CSV file as text, empty fields as null, and what is wrong with some.

    An empty array is an empty file. If a line has not all columns, only its symbol is returned. A last line without a
    line end is left out, as
    nothing says that it is whole.

    :param needed: columns that it must have.
    :raises TruncatedResponse: if the last line, or more than half of them, have not all columns.
    :raises SchemaDrift: if a column is missing.
    """
    body = without_bom(body)
    if body.strip() == b"[]":
        return pa.table({name: pa.array([], pa.string()) for name in needed}), {}
    head, line_end, _ = body.partition(b"\n")
    names = [name.strip().strip('"') for name in head.decode(errors="replace").split(",")]
    if not line_end:
        raise TruncatedResponse(f"the file ends in its header; {len(body)} bytes came", **where)
    if missing := [name for name in needed if name not in names]:
        raise drift(where, f"the file has no column {', '.join(missing)}; its columns: {', '.join(names)}", "the file")
    if len(set(names)) < len(names):
        raise drift(where, f"a column is there twice; its columns: {', '.join(names)}", "the file")
    try:
        rows = _lines(body, names, pa.string())
    except pa.ArrowInvalid as error:
        return _by_line(body, names, error, where)
    return rows if body.endswith(b"\n") else rows.slice(0, len(rows) - 1), {}


def _lines(body: bytes, names: Sequence[str], kind: pa.DataType) -> pa.Table:
    """:raises pa.ArrowInvalid: if a line has not all columns, or is not of ``kind``."""
    try:
        return pc_csv.read_csv(
            pa.py_buffer(body),
            read_options=pc_csv.ReadOptions(use_threads=False, column_names=list(names), skip_rows=1),
            convert_options=pc_csv.ConvertOptions(
                column_types=dict.fromkeys(names, kind), null_values=[""], strings_can_be_null=True
            ),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV" not in str(error):
            raise
        return pa.table({name: pa.array([], kind) for name in names})


def _by_line(body: bytes, names: Sequence[str], error: pa.ArrowInvalid, where: Mapping[str, str]) -> tuple[pa.Table, Problems]:
    """Return what `read_file` does of a file some of whose lines are torn or not UTF-8.

    :param error: why.
    """
    head, *lines = body.split(b"\n")
    damaged = TruncatedResponse(f"the file ends early or is damaged ({' '.join(str(error).split())[:80]})", **where)
    last = lines.pop()  # what follows the last line end
    if last.strip() and len(_cells(last)) != len(names):
        raise damaged
    lines = [line for line in lines if line.strip()]
    whole = [line for line in lines if len(_cells(line)) == len(names)]
    torn = [line for line in lines if len(_cells(line)) != len(names)]
    if 2 * len(torn) > len(lines):
        raise damaged
    try:
        raw = _lines(b"".join(line + b"\n" for line in (head, *whole)), names, pa.binary())
    except pa.ArrowInvalid:
        raise damaged from None
    problems: Problems = {}
    columns = {name: _texts(raw[name], name, problems) for name in names}
    place = names.index("symbol") if "symbol" in names else len(names)
    for number, line in enumerate(torn):
        cells = _cells(line)
        said = f"the line has {len(cells)} fields, not {len(names)}: {shown(line.decode(errors='replace'), 200)}"
        problems[len(whole) + number] = [said]
        for name, column in columns.items():
            column.append(cells[place] or None if name == "symbol" and place < len(cells) else None)
    return pa.table({name: pa.array(column, pa.string()) for name, column in columns.items()}), problems


def _cells(line: bytes) -> list[str]:
    """Return the fields of a line; none if its quotes do not match."""
    try:
        return next(csv.reader([line.decode(errors="replace").rstrip("\r")], strict=True), [])
    except csv.Error:
        return []


def _texts(column: pa.ChunkedArray, name: str, problems: Problems) -> list[str | None]:
    """Return bytes as text, those that are not UTF-8 as None; add these to ``problems``."""
    found: list[str | None] = []
    for place, value in enumerate(column.to_pylist()):
        try:
            found.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            found.append(None)
            problems.setdefault(place, []).append(f"{name} is {shown(value)}, not UTF-8 text")
    return found


def requested_rows(rows: pa.Table, symbols: Sequence[str]) -> pa.Table:
    """Return the rows of ``symbols``, which a column ``requested`` holds; ``symbol`` is the vendor's name."""
    found = with_requested(rows, symbols)
    return found.filter(pc.is_valid(found["requested"]))


def with_requested(rows: pa.Table, symbols: Sequence[str]) -> pa.Table:
    """Return all rows with a column ``requested``: the one of ``symbols`` that each is of, or null."""
    places = pc.index_in(rows["symbol"], value_set=pa.array([vendors_name(symbol) for symbol in symbols], pa.string()))
    places = pc.if_else(pc.is_valid(rows["symbol"]), places, None)
    return rows.append_column("requested", pa.array(symbols, pa.string()).take(places))


def odd_bars(symbol: str, bars: Sequence[OddRow]) -> pa.Table | None:
    """Return bars of ``symbol`` that cannot be read, as `Fetched.odd` has them; None if there are none."""
    if not bars:
        return None
    values = {name: pa.array([bar.values.get(name) for bar in bars], pa.float64()) for name in FILE_COLUMNS}
    days = pa.array([bar.date for bar in bars], pa.date32())
    table = _columns(pa.array([symbol] * len(bars), pa.string()), days, values)
    return odd_rows(table, {place: [bar.reason] for place, bar in enumerate(bars)}, range(len(bars)))


def bars_table(bars: Sequence[tuple[str, FmpBar]], adjusted: Mapping[date, float | None] = MappingProxyType({})) -> pa.Table:
    """Return the bars of the symbol endpoint, with whose they are.

    :param adjusted: date -> adjusted close, of one symbol.
    """
    values: dict[str, Sequence[float | None]] = {
        "open": [bar.adj_open for _, bar in bars],
        "high": [bar.adj_high for _, bar in bars],
        "low": [bar.adj_low for _, bar in bars],
        "close": [bar.adj_close for _, bar in bars],
        "adj_close": [adjusted.get(bar.date) for _, bar in bars] if adjusted else [None] * len(bars),
        "volume": [bar.volume for _, bar in bars],
    }
    columns = {name: pa.array(column, pa.float64()) for name, column in values.items()}
    symbols = pa.array([symbol for symbol, _ in bars], pa.string())
    return _columns(symbols, pa.array([bar.date for _, bar in bars], pa.date32()), columns)


def file_table(
    rows: pa.Table, problems: Problems, day: date, symbols: Sequence[str], where: Mapping[str, str]
) -> tuple[pa.Table, Unexpected]:
    """Return the requested rows of the bulk file of ``day``, and what else it holds that matters.

    :param rows: all lines. ``problems``: of them.
    :raises ServerError: if most of the rows are of another day.
    :raises SchemaDrift: if most of them cannot be read.
    """
    dated = pc.fill_null(pc.match_substring_regex(rows["date"], r"^\d{4}-\d\d-\d\d$"), False)
    own = pc.fill_null(pc.equal(rows["date"], f"{day}"), False)
    strays = pc.and_(dated, pc.invert(own))
    count, usual = pc.sum(strays).as_py() or 0, pc.sum(own).as_py() or 0
    others = [one["values"] for one in pc.value_counts(rows.filter(strays)["date"]).sort("descending", by="counts").to_pylist()]
    if count > usual and count:
        raise ServerError(f"rows of {others[0]} came", **where)
    problems = {place: [*texts] for place, texts in problems.items()}
    for name, mask in {"symbol": pc.is_null(rows["symbol"]), "date": pc.invert(dated)}.items():
        for place in pc.indices_nonzero(mask).to_pylist():
            known = problems.setdefault(place, [])
            if not any(text.startswith((f"{name} is ", "the line has ")) for text in known):
                value = rows[name][place].as_py()
                known.append(f"{name} is missing" if value is None else f"{name} is {shown(value)}")
    values = {name: _numbers(rows[theirs], theirs, problems) for name, theirs in FILE_COLUMNS.items()}
    checked(problems, len(rows), where)
    rows = with_requested(rows, symbols)
    table = _columns(rows["requested"], pa.array([day] * len(rows), pa.date32()), values)
    odd = pa.array([place in problems for place in range(len(rows))], pa.bool_())
    placed, known = pc.invert(strays), pc.is_valid(rows["requested"])
    kept = table.filter(pc.and_(pc.and_(known, placed), pc.invert(odd)))
    nameless = pc.is_null(rows["symbol"])
    rejected = odd_rows(table, problems, pc.indices_nonzero(pc.and_(pc.and_(odd, placed), pc.or_(known, nameless))).to_pylist())
    said = f"rows of {some(others, SHOWN)} came"
    lost = pc.unique(rows.filter(pc.and_(strays, known))["requested"]).to_pylist() if count else []
    there = {*kept["symbol"].to_pylist(), *(rejected["symbol"].to_pylist() if rejected else ())}
    unproved = {symbol: said for symbol in lost if symbol not in there}
    anyones = "a row came whose symbol cannot be read" if rejected is not None and rejected["symbol"].null_count else ""
    return kept, Unexpected(count, tuple(others), rejected, unproved, anyones)


def _numbers(column: pa.ChunkedArray, name: str, problems: Problems) -> pa.ChunkedArray:
    """Return text as numbers; add what is not a number to ``problems``."""
    try:
        return pc.cast(column, pa.float64())
    except pa.ArrowInvalid:
        valid = pc.fill_null(pc.match_substring_regex(column, NUMBER), True)
        for place in pc.indices_nonzero(pc.invert(valid)).to_pylist():
            problems.setdefault(place, []).append(f"{name} is {shown(column[place].as_py())}, not a number")
        return pc.cast(pc.utf8_trim_whitespace(pc.if_else(valid, column, None)), pa.float64())


def _columns(symbols: Any, days: pa.Array, values: Mapping[str, Any]) -> pa.Table:
    schema = find_dataset("ohlcv-1d").received
    columns = {"symbol": symbols, "session": days, "bar_time": days.cast(pa.timestamp("us", tz="UTC")), **values}
    return pa.table([columns.get(name, pa.nulls(len(days), schema.field(name).type)) for name in schema.names], schema=schema)
