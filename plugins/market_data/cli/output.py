"""Rows as text: a table that fits the terminal, one value per line, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

GAP = 2
WIDEST = 36
"""Characters of a value in a table; longer ones are cut."""
LATE = ("ingest_ts", "confirmed_ts", "loaded_at", "load_id", "row_hash", "dag_id", "run_id")
"""Columns that are left out first where a table does not fit."""


def short(value: Any) -> str:
    """Format a value for people.

    Dates have no midnight, times are to the second, numbers have no trailing zeros.
    """
    if value is None:
        return ""
    if isinstance(value, datetime):
        midnight = value.time() == time() and (value.utcoffset() is None or not value.utcoffset())
        return f"{value:%Y-%m-%d}" if midnight else f"{value:%Y-%m-%d %H:%M:%S}".removesuffix(":00")
    if isinstance(value, float | Decimal):
        text = f"{value:.6f}" if abs(float(value)) < 1e15 else f"{value}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return " ".join(str(value).split())


def as_table(table: pa.Table, width: int) -> str:
    """Return ``table`` in columns of at most ``width`` characters together.

    If not all columns fit, technical ones are left out first, then those on the right; the last line names them.
    """
    names = table.column_names
    cells = {name: [_cut(short(value)) for value in table.column(n).to_pylist()] for n, name in enumerate(names)}
    sizes = {name: max([len(name), *map(len, cells[name])]) for name in names}
    kept = list(names)
    droppable = [*(name for name in reversed(names) if name in LATE), *(name for name in reversed(names) if name not in LATE)]
    while len(kept) > 1 and sum(sizes[name] + GAP for name in kept) - GAP > width:
        kept.remove(next(name for name in droppable if name in kept))
    number = {name: _is_number(table.schema.field(names.index(name)).type) for name in kept}

    def line(values: Iterable[tuple[str, str]]) -> str:
        padded = (text.rjust(sizes[name]) if number[name] else text.ljust(sizes[name]) for name, text in values)
        return (" " * GAP).join(padded).rstrip()

    lines = [line((name, name) for name in kept), line((name, "-" * sizes[name]) for name in kept)]
    lines += [line((name, cells[name][row]) for name in kept) for row in range(table.num_rows)]
    lines.append(f"{table.num_rows:,} {'row' if table.num_rows == 1 else 'rows'}")
    if left := [name for name in names if name not in kept]:
        lines += _wrapped(f"not shown: {', '.join(left)}; --vertical, --csv or --json shows them", width)
    return "\n".join(lines)


def as_lines(table: pa.Table) -> str:
    """Return ``table`` with one value per line, rows divided by a line."""
    widest = max((len(name) for name in table.column_names), default=0)
    rows = []
    for number, row in enumerate(_rows(table), 1):
        rows += [f"-- row {number}", *(f"{name.ljust(widest)}  {short(value)}".rstrip() for name, value in row)]
    return "\n".join(rows) or "0 rows"


def as_csv(table: pa.Table) -> str:
    """Return ``table`` as CSV with a header; times in ISO format, empty where there is no value."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.column_names)
    writer.writerows([_exact(value) for _, value in row] for row in _rows(table))
    return out.getvalue().rstrip("\n")


def as_json(table: pa.Table) -> str:
    """Return ``table`` as a JSON list of objects."""
    return json.dumps([{name: _json(value) for name, value in row} for row in _rows(table)], indent=1)


def _rows(table: pa.Table) -> Iterable[Sequence[tuple[str, Any]]]:
    columns = [column.to_pylist() for column in table.columns]
    return ([*zip(table.column_names, row, strict=True)] for row in zip(*columns, strict=True))


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 3]}..."


def _exact(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


def _json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(_exact(value))


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
