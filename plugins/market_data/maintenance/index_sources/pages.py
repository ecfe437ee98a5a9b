"""Read an encyclopedia's page on an index: the table of its constituents, and the table of changes.

``table#constituents`` has a row per symbol. ``table#changes`` has a header of two rows: date, added (ticker, security), removed (ticker,
security), reason. Their labels have changed over the years and differ between indices, so columns are found by their words.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from itertools import zip_longest

from market_data.core.messages import shown
from market_data.maintenance.index_sources.cells import NONE, cik_of, day_of, symbols
from market_data.maintenance.index_sources.found import Change, Constituent, Found, UnusableSource
from market_data.maintenance.index_sources.html_tables import Grid, grids, title

SYMBOL, NAME = ("symbol", "ticker"), ("security", "company", "name")


def read_page(body: bytes) -> Found:
    """Return the constituents and changes of a page.

    :raises UnusableSource: if the page has no table of constituents, or it is empty.
    """
    tables = grids(body)
    table = _constituents(tables)
    if table is None:
        raise UnusableSource(f"has no table of constituents; the page's title is {shown(title(body))}")
    warnings: list[str] = []
    found = _read_constituents(table, warnings)
    if not found:
        raise UnusableSource(f"has an empty table of constituents; the page's title is {shown(title(body))}")
    listed = _changes(tables)
    changes = _read_changes(listed, warnings) if listed else []
    return Found(tuple(found), tuple(changes), (), tuple(warnings))


def _constituents(tables: Sequence[Grid]) -> Grid | None:
    return _chosen([table for table in tables if _column(table, SYMBOL) is not None and not _is_changes(table)], "constituents")


def _changes(tables: Sequence[Grid]) -> Grid | None:
    return _chosen([table for table in tables if _is_changes(table)], "changes")


def _chosen(tables: Sequence[Grid], name: str) -> Grid | None:
    """Return the table of that id, else the longest."""
    return next((table for table in tables if table.name == name), max(tables, key=lambda table: len(table.rows), default=None))


def _is_changes(table: Grid) -> bool:
    return None not in (_column(table, ("date",)), _column(table, SYMBOL, "added"), _column(table, SYMBOL, "removed"))


def _column(table: Grid, words: Sequence[str], also: str = "") -> int | None:
    """Return the first column whose header has one of ``words`` and ``also``; the earlier words first."""
    places = [(word, place) for word in words for place, name in enumerate(table.columns) if word in name and also in name]
    return places[0][1] if places else None


def _read_constituents(table: Grid, warnings: list[str]) -> list[Constituent]:
    columns = [_column(table, words) for words in (SYMBOL, NAME, ("cik",))]
    added = next((place for place, name in enumerate(table.columns) if "date" in name and "added" in name), None)
    found: dict[str, Constituent] = {}
    for number, row in enumerate(table.rows, 1):
        place = f"constituents, row {number}"
        tickers, name, cik = (row[column] if column is not None else "" for column in columns)
        names, odd = symbols(tickers)
        if len(set(row)) == 1 < len(row):  # a heading across the whole table
            continue
        if odd or not names:
            warnings.append(f"{place}: {shown(tickers)} is not a symbol (company {shown(name)}); the row is left out")
        for symbol in names:
            one = Constituent(symbol, _line(name), cik_of(cik), _day(row[added] if added is not None else "", place, warnings))
            if symbol in found:
                warnings.append(f"{place}: {symbol} occurs twice; the first row counts")
            found.setdefault(symbol, one)
    return list(found.values())


def _read_changes(table: Grid, warnings: list[str]) -> list[Change]:
    date_column = _column(table, ("date",)) or 0
    added, removed = (_column(table, SYMBOL, side) for side in ("added", "removed"))
    added_name, removed_name = (_column(table, NAME, side) for side in ("added", "removed"))
    reason = _column(table, ("reason", "note", "comment"))
    found: dict[Change, None] = {}
    for number, row in enumerate(table.rows, 1):
        place = f"changes, row {number}"

        def cell(column: int | None, row: Sequence[str] = row) -> str:
            return row[column] if column is not None else ""

        if len(set(row)) == 1 < len(row):
            continue
        day = _day(cell(date_column), place, warnings)
        joined = _named(cell(added), cell(added_name), place, warnings)
        left = _named(cell(removed), cell(removed_name), place, warnings)
        if day is None:
            if joined or left:
                warnings.append(f"{place}: {shown(cell(date_column))} is not a date; the row is left out ({_words(joined, left)})")
            continue
        for one, other in zip_longest(joined, left, fillvalue=("", "")):
            found[Change(day, one[0], one[1], other[0], other[1], _line(cell(reason)))] = None
    return list(found)


def _named(tickers: str, name: str, place: str, warnings: list[str]) -> list[tuple[str, str]]:
    """Return the symbols of a cell with the company's name."""
    names, odd = symbols(tickers)
    if odd or (not names and _line(name).lower() not in NONE):
        warnings.append(f"{place}: {shown(tickers)} is not a symbol (company {shown(_line(name))}); it is left out")
    return [(symbol, _line(name)) for symbol in names]


def _day(text: str, place: str, warnings: list[str]) -> date | None:
    try:
        return day_of(text)
    except ValueError:
        warnings.append(f"{place}: {shown(text)} is not a date")
        return None


def _line(text: str) -> str:
    return " ".join(text.split())[:120]


def _words(joined: Sequence[tuple[str, str]], left: Sequence[tuple[str, str]]) -> str:
    return f"added {', '.join(name for name, _ in joined) or 'none'}, removed {', '.join(name for name, _ in left) or 'none'}"
