"""Read CSV files of an index: today's constituents, or memberships with first and last dates.

Constituents have a column ``Symbol`` or ``Ticker``, perhaps ``Security``, ``Date added`` and ``CIK``. Memberships have ``start_date`` and
``end_date`` (the first date after it) beside the symbol, a row per membership; ``added_date`` and ``removed_date`` mean the same.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from datetime import date

from market_data.config.universes import Member, order_problem
from market_data.core.messages import shown
from market_data.maintenance.index_sources.cells import cik_of, day_of, symbols
from market_data.maintenance.index_sources.found import Constituent, Found, UnusableSource

SYMBOL, NAME = ("symbol", "ticker", "ticker_symbol"), ("security", "company", "name")
ADDED, JOINED, LEFT = ("date_added", "date_first_added", "added"), ("start_date", "added_date"), ("end_date", "removed_date")
MOST_ROWS = 100_000


def read_csv(text: str) -> Found:
    """Return the constituents or the memberships of a CSV file.

    :raises UnusableSource: if it is not such a file, or has no rows.
    """
    if "<html" in text[:2000].lower():
        raise UnusableSource("is an HTML page, not a CSV file")
    try:
        rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
        names = {"_".join((name or "").strip().lower().split()): name for name in rows.fieldnames or ()}
        symbol = _first(names, SYMBOL)
        if symbol is None:
            raise UnusableSource(f"has the columns {shown(', '.join(names))}; one named symbol or ticker is needed")
        records = [(row[symbol] or "", row) for row in rows]
    except csv.Error as error:
        raise UnusableSource(f"is not readable as CSV: {error}") from None
    if not records or len(records) > MOST_ROWS:
        raise UnusableSource(f"has {len(records):,} rows; 1 to {MOST_ROWS:,} are allowed")
    start, end = _first(names, JOINED), _first(names, LEFT)
    warnings: list[str] = []
    if start and end:
        return Found(memberships=tuple(_memberships(records, start, end, warnings)), warnings=tuple(warnings))
    added, name, cik = (_first(names, words) for words in (ADDED, NAME, ("cik",)))
    found: dict[str, Constituent] = {}
    for number, (ticker, row) in enumerate(records, 2):
        for one in _symbols(ticker, number, warnings):
            day = _date(row[added] if added else "", number, warnings)
            found.setdefault(one, Constituent(one, row[name] or "" if name else "", cik_of(row[cik] or "") if cik else "", day))
    if not found:
        raise UnusableSource("has no row with a symbol")
    return Found(tuple(found.values()), warnings=tuple(warnings))


def _first(names: Mapping[str, str], words: tuple[str, ...]) -> str | None:
    return next((names[word] for word in words if word in names), None)


def _memberships(records: list[tuple[str, dict[str, str]]], start: str, end: str, warnings: list[str]) -> list[Member]:
    found = []
    for number, (ticker, row) in enumerate(records, 2):
        dates = [_date(row[name] or "", number, warnings) for name in (start, end)]
        if (row[end] or "").strip() and dates[1] is None:
            warnings.append(f"line {number}: {end} {shown(row[end])} is not a date; the row is left out")
            continue
        for symbol in _symbols(ticker, number, warnings):
            one = Member(symbol, dates[0], dates[1])
            if wrong := order_problem(one):
                warnings.append(f"line {number}: {wrong}; the row is left out")
            else:
                found.append(one)
    return found


def _symbols(text: str, number: int, warnings: list[str]) -> list[str]:
    found, odd = symbols(text)
    if odd or not found:
        warnings.append(f"line {number}: {shown(text)} is not a symbol; it is left out")
    return found


def _date(text: str | None, number: int, warnings: list[str]) -> date | None:
    try:
        return day_of(text or "")
    except ValueError:
        warnings.append(f"line {number}: {shown(text)} is not a date")
        return None
