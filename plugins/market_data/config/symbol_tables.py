"""Read text with symbols: a CSV table with a header, or one symbol per line."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from market_data.core.messages import shown

SYMBOL_COLUMNS = ("symbol", "ticker", "ticker_symbol", "symbols", "tickers")
ADDED, REMOVED = "added_date", "removed_date"
EXCHANGE = "primary_exchange"
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*")
_DELIMITERS = ",;\t"


class Row(NamedTuple):
    """A symbol of a table, with its line (from 1), and the text of further columns or an empty one."""

    line: int
    symbol: str
    added: str = ""
    removed: str = ""
    source: str = ""
    exchange: str = ""


@dataclass(frozen=True)
class Table:
    """The rows with a symbol.

    :param columns: names in lower case, with ``_`` for a space; none if the text has one symbol per line.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_table(text: str) -> Table:
    """Return the symbols in ``text``.

    The first line with a cell ``symbol`` or ``ticker``, in any case, quoted or not, is the header, also if it begins with ``#``. Only
    comments may precede it. A comment begins with a ``#`` at the line's start or after a space.

    :raises ValueError: if it is a table without a column of symbols.
    :raises csv.Error: if it cannot be read as CSV.
    """
    lines = list(io.StringIO(text.removeprefix("\ufeff"), newline=None))  # str.splitlines would also split at control characters
    head = _header(lines)
    if head is None:
        return Table((), tuple(_plain(lines)))
    delimiter = _delimiter(lines[head])
    columns = _columns(lines[head])
    if twice := [name for name in (*SYMBOL_COLUMNS, ADDED, REMOVED, EXCHANGE) if columns.count(name) > 1]:
        raise ValueError(f"line {head + 1} has the column {twice[0]} twice; which one is meant?")
    return Table(columns, tuple(_cells(lines, head, delimiter, columns)))


def _header(lines: Sequence[str]) -> int | None:
    """Return the place of the header, or None if there is one symbol per line."""
    for place, line in enumerate(lines):
        if not line.strip():
            continue
        content, delimiter = _COMMENT.sub("", line).strip(), _delimiter(line)
        if any(column in SYMBOL_COLUMNS for column in _columns(line)):
            # A comment, or a header in which a column is called #: the next line tells.
            following = next((one for one in lines[place + 1 :] if one.strip()), "")
            if content == line.strip() or (delimiter in line and delimiter in following):
                return place
        if content and delimiter in content:
            raise ValueError(
                f"line {place + 1} has the columns {shown(', '.join(_columns(line)))}; one named symbol or ticker is needed"
            )
        if content:
            return None
    return None


def _delimiter(line: str) -> str:
    return max(_DELIMITERS, key=line.count)


def _columns(line: str) -> tuple[str, ...]:
    cells = next(csv.reader([line], delimiter=_delimiter(line)), [])
    return tuple("_".join(cell.strip().lstrip("#").lower().split()) for cell in cells)


def _plain(lines: Sequence[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if symbol := _COMMENT.sub("", line).strip():
            yield Row(number, symbol)


def _cells(lines: Sequence[str], head: int, delimiter: str, columns: Sequence[str]) -> Iterator[Row]:
    column = next(place for place, name in enumerate(columns) if name in SYMBOL_COLUMNS)
    places = [columns.index(name) if name in columns else len(columns) for name in (ADDED, REMOVED, "source", EXCHANGE)]
    table = csv.reader(lines[head + 1 :], delimiter=delimiter, strict=True)  # else a quote that is not closed hides the rest
    for cells in table:
        if len(columns) == 1 and any(cell.strip() for cell in cells[1:]):
            raise ValueError(
                f"line {head + 1 + table.line_num} has several cells; the header has one, and one symbol per line is needed"
            )
        if any(cell.strip() for cell in cells):
            padded = [cell.strip() for cell in cells[: len(columns)]] + [""] * (len(columns) + 1 - min(len(cells), len(columns)))
            yield Row(head + 1 + table.line_num, padded[column], *(padded[place] for place in places))
