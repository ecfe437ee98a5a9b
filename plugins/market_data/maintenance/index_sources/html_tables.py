"""Read the tables of an HTML page as grids of text, with merged cells filled in.

The parser is libxml2's: its time and memory grow with the length of the page, whatever the page holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from market_data.maintenance.index_sources.cells import LONGEST, plain
from market_data.maintenance.index_sources.found import UnusableSource

MOST_COLUMNS, MOST_ROWS = 60, 20_000
MOST_CELLS = 400_000
_HIDDEN = {"sup", "style", "script", "template", "noscript", "sortkey"}


@dataclass(frozen=True)
class Grid:
    """A table.

    :param name: its ``id``; empty without one.
    :param columns: the texts of the header rows above each column, joined by a space, in lower case.
    :param rows: the other rows; a merged cell is repeated in each place that it covers.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def grids(body: bytes) -> tuple[Grid, ...]:
    """Return the tables of a page.

    :raises UnusableSource: if the page is not HTML, or was cut off.
    """
    from lxml import etree, html

    if b"</html>" not in body[-4096:].lower():
        raise UnusableSource("ends before </html>: the page was cut off, or is not HTML")
    try:
        page = html.document_fromstring(body, parser=html.HTMLParser(encoding=_encoding(body), huge_tree=False))
    except (etree.ParserError, etree.XMLSyntaxError, ValueError, LookupError) as error:
        raise UnusableSource(f"is not readable as HTML: {type(error).__name__}") from None
    return tuple(_grid(table) for table in page.iter("table"))


def title(body: bytes) -> str:
    """Return the title of a page, for messages."""
    head = body[:8192].decode("utf-8", "replace")
    start = head.lower().find("<title")
    text = head[start:].partition(">")[2].partition("<")[0] if start >= 0 else ""
    return plain(text)[:80]


def _encoding(body: bytes) -> str:
    try:
        body.decode()
    except UnicodeDecodeError:
        return "windows-1252"
    return "utf-8"


def _grid(table: Any) -> Grid:
    header: list[tuple[str, ...]] = []
    rows: list[tuple[str, ...]] = []
    for cells, is_header in _filled(list(_own_rows(table))):
        (header if is_header and not rows else rows).append(cells)
    if not header and rows:
        header = [rows.pop(0)]
    width = max(map(len, [*header, *rows]), default=0)
    padded = [(*row, *[""] * (width - len(row))) for row in rows]
    columns = [" ".join(dict.fromkeys(row[place] for row in header if place < len(row))).strip().lower() for place in range(width)]
    return Grid(table.get("id") or "", tuple(" ".join(name.split()) for name in columns), tuple(padded))


def _own_rows(table: Any) -> Iterator[Any]:
    """Yield the rows of a table without those of tables inside it."""
    for part in table:
        if part.tag == "tr":
            yield part
        elif part.tag in ("thead", "tbody", "tfoot"):
            yield from (row for row in part if row.tag == "tr")


def _filled(rows: Sequence[Any]) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Yield the cells of each row, and whether all of its own are header cells."""
    held: dict[int, tuple[int, str]] = {}  # column -> rows that a merged cell still covers, its text
    count = 0
    for row in rows[:MOST_ROWS]:
        cells: list[str] = []
        own = [cell for cell in row if cell.tag in ("td", "th")]
        for cell in own:
            _take_held(cells, held)
            text, below = _text(cell), _span(cell, "rowspan") - 1
            for _ in range(min(_span(cell, "colspan"), MOST_COLUMNS - len(cells))):
                if below:
                    held[len(cells)] = (below, text)
                cells.append(text)
        _take_held(cells, held)
        count += len(cells)
        if count > MOST_CELLS:
            raise UnusableSource(f"has a table with more than {MOST_CELLS:,} cells")
        if cells:
            yield tuple(cells), bool(own) and all(cell.tag == "th" for cell in own)


def _take_held(cells: list[str], held: dict[int, tuple[int, str]]) -> None:
    while len(cells) in held:
        left, text = held.pop(len(cells))
        if left > 1:
            held[len(cells)] = (left - 1, text)
        cells.append(text)


def _span(cell: Any, name: str) -> int:
    """Return how many rows or columns a cell covers; 0, the rest of the table, counts as 1."""
    text = (cell.get(name) or "").strip()
    return max(1, min(int(text), 1000)) if text.isascii() and text.isdigit() and len(text) <= 6 else 1


def _text(cell: Any) -> str:
    return plain("".join(_pieces(cell)))


def _pieces(element: Any) -> Iterator[str]:
    """Yield the visible text of an element; foot notes and sort keys are not."""
    stack: list[tuple[Any, bool]] = [(element, False)]
    length = 0
    while stack and length <= 4 * LONGEST:
        node, after = stack.pop()
        text = node.tail if after else node.text
        hidden = not after and (not isinstance(node.tag, str) or node.tag in _HIDDEN or _is_hidden(node))
        if node is not element and not after:
            stack.append((node, True))
        if not hidden and not after:
            stack.extend((child, False) for child in reversed(node))
            if node.tag in ("br", "p", "li", "div"):
                yield "\n"
        if text and not hidden:
            length += len(text)
            yield text


def _is_hidden(node: Any) -> bool:
    return "display:none" in (node.get("style") or "").replace(" ", "").lower() or "reference" in (node.get("class") or "").split()
