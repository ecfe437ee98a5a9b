"""Universes: named, point-in-time sets of symbols.

A universe is a CSV file in ``include/universes``, named by the file; each row is a member::

    symbol,added_date,removed_date,source

``added_date`` is the first date the symbol belongs to it, ``removed_date`` the first on which it no longer does; empty means
unknown, and an unknown date excludes nothing. A symbol that left and came back has two rows. A column ``primary_exchange`` may follow: it
says that the symbol is a stock listed there, where a provider has several instruments of that name. More columns are ignored.

**Survivorship bias**: the files that come with this project hold the members on the day they were written, without dates. Companies
that were members in 2012 and have since been acquired, gone bankrupt or been replaced are missing, so a study of the past over
``sp500_etf`` sees survivors only. :func:`update` dates every change from now on; a file with the full history can replace it without
a code change.

Symbols are case sensitive (Polygon's preferred shares are written ``KIMpL``) and never changed: others are rejected.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from market_data.config.symbol_tables import ADDED, EXCHANGE, REMOVED, SYMBOL_COLUMNS, read_table
from market_data.config.symbols import symbol_problem
from market_data.core.dates import read_date
from market_data.core.errors import ConfigError, ParamError
from market_data.core.intervals import Interval, union
from market_data.core.membership import EVER, Membership
from market_data.core.messages import shortened, shown, suggestion
from market_data.core.paths import INCLUDE
from market_data.core.symbol_changes import HasBars, SymbolChange, company_of

FOLDER = INCLUDE / "universes"
LARGEST_FILE = 10_000_000
"""Characters of a universe file; one line has about 40."""

# 20 widely used US ETFs: large companies, other parts of the market, abroad, bonds, metals, sectors.
ETFS = (
    *("DIA", "IVV", "SPY", "VOO"),
    *("IWM", "QQQ", "VTI"),
    *("EEM", "EFA", "VEA", "VWO"),
    *("AGG", "BND", "HYG", "LQD", "TLT"),
    *("GLD", "SLV"),
    *("XLF", "XLK"),
)


@dataclass(frozen=True, slots=True)
class Member:
    """A symbol's membership of a universe: from ``added`` (inclusive) to ``removed`` (exclusive).

    None means unknown.

    :param exchange: where the stock is listed, e.g. ``NYSE`` or ``XNYS``; empty: unknown.
    """

    symbol: str
    added: date | None = None
    removed: date | None = None
    source: str = ""
    exchange: str = ""

    def on(self, day: date) -> bool:
        """Return True if it is a member on ``day``; an unknown date does not exclude it."""
        return (self.added is None or self.added <= day) and (self.removed is None or day < self.removed)


def known(folder: Path = FOLDER) -> tuple[str, ...]:
    """Return the names of all universes, sorted."""
    return tuple(sorted(path.stem for path in folder.glob("*.csv")))


def members(name: str, as_of: date | None = None, folder: Path = FOLDER) -> tuple[str, ...]:
    """Return the symbols of a universe, sorted, each once.

    :param name: one of :func:`known`.
    :param as_of: members on this date; None: all that have not been removed.
    :raises ParamError: if the universe does not exist.
    :raises ConfigError: if its file is invalid; lists every problem with its line.
    """
    rows = read_universe(name, folder).members
    return tuple(sorted({row.symbol for row in rows if (row.removed is None if as_of is None else row.on(as_of))}))


@dataclass(frozen=True)
class Universe:
    """The symbols of a run, and the dates on which they are members.

    :param name: for messages.
    :param members: may hold a symbol several times, at different dates.
    :param as_of: the members on this date are members in all sessions; None: each session has its own members.
    """

    name: str
    members: tuple[Member, ...]
    as_of: date | None = None

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """All symbols, each once; with ``as_of`` the members on that date."""
        return tuple(dict.fromkeys(row.symbol for row in self.members if self.as_of is None or row.on(self.as_of)))

    @cached_property
    def membership(self) -> Membership:
        """The dates of the symbols that are not always members."""
        if self.as_of is not None:
            return {}
        spans: dict[str, list[Interval]] = defaultdict(list)
        for row in self.members:
            spans[row.symbol].append(Interval(row.added or date.min, row.removed or date.max))
        return {symbol: dates for symbol, found in spans.items() if (dates := union(found)) != EVER}

    @cached_property
    def exchanges(self) -> Mapping[str, str]:
        """Symbol -> primary exchange of the stock, for those of which it is known."""
        return {row.symbol: row.exchange for row in self.members if row.exchange}


def with_earlier_names(
    members: Iterable[Member], changes: Sequence[SymbolChange], has_bars: HasBars = lambda *_: False
) -> tuple[Member, ...]:
    """Return the members with a row for each symbol that their company had during the membership.

    A symbol means the company that has it at the end of the membership.

    :param changes: of any companies.
    :param has_bars: see `core.symbol_changes.company_of`.
    """
    named = {change.old for change in changes} | {change.new for change in changes}
    found: list[Member] = []
    for row in members:
        if row.symbol not in named:
            found.append(row)
            continue
        added, removed = row.added or date.min, row.removed or date.max
        for span in company_of(row.symbol, changes, removed - timedelta(days=1) if row.removed else None, has_bars):
            start, end = max(span.start, added), min(span.end, removed)
            if start < end:
                dates = (None if start == date.min else start, None if end == date.max else end)
                found.append(Member(span.symbol, *dates, row.source, row.exchange))
    return tuple(dict.fromkeys(found))


def read_universe(name: str, folder: Path = FOLDER) -> Universe:
    """Return a universe of ``include/universes``; its symbols are sorted.

    :raises ParamError: if it does not exist; names the known ones.
    :raises ConfigError: if its file is invalid; lists every problem with its line.
    """
    if name not in known(folder):
        near = suggestion(name, known(folder))
        raise ParamError([f"universe is {shown(name)}{near}; known universes: {', '.join(known(folder)) or f'none in {folder}'}"])
    rows = read_members((folder / f"{name}.csv").read_text(encoding="utf-8-sig"), source=f"{name}.csv")
    return Universe(f"universe {name}", in_order(rows))


def read_members(text: str, *, source: str) -> tuple[Member, ...]:
    """Return the rows of a universe file. Its header may be in any case and order.

    :param source: the file's name, for the messages.
    :raises ConfigError: listing every problem with its line.
    """
    if len(text) > LARGEST_FILE:
        raise ConfigError(f"{source} has more than {LARGEST_FILE:,} characters, the most allowed")
    try:
        table = read_table(text)
    except (ValueError, csv.Error) as error:
        raise ConfigError(f"{source}, {error}") from None
    missing = {"symbol", ADDED, REMOVED} - {"symbol" if name in SYMBOL_COLUMNS else name for name in table.columns}
    if missing:
        raise ConfigError(
            f"{source}: columns {', '.join(sorted(missing))} are missing; symbol, added_date, removed_date are needed"
        )
    rows: list[Member] = []
    problems: list[str] = []
    for record in table.rows:
        try:
            row = Member(record.symbol, parse_date(record.added), parse_date(record.removed), record.source, record.exchange)
        except ValueError as error:
            problems.append(f"line {record.line}: {error}")
            continue
        problem = symbol_problem(row.symbol)
        if problem:
            problems.append(f"line {record.line}: {shown(row.symbol)} {problem}")
        if wrong := order_problem(row):
            problems.append(f"line {record.line}: {wrong}")
        rows.append(row)
    problems += _overlaps(rows)
    if problems:
        raise ConfigError("\n  ".join([f"{source} is not a universe:", *shortened(problems)]))
    return tuple(rows)


def order_problem(row: Member) -> str:
    """Return the problem with the order of a member's dates, or an empty text."""
    if row.added and row.removed and row.added >= row.removed:
        return f"{row.symbol} is removed on {row.removed}, not after it was added on {row.added}"
    return ""


def in_order(rows: Iterable[Member]) -> tuple[Member, ...]:
    """Return the rows by symbol, then by the date of joining."""
    return tuple(sorted(rows, key=lambda row: (row.symbol, row.added or date.min)))


def write_members(rows: Iterable[Member], *, sources: bool = True) -> str:
    """Return ``rows`` as the text of a universe file, sorted; :func:`read_members` reads it back.

    :param sources: write the column ``source``, and ``primary_exchange`` if a row has one.
    """
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    ordered = in_order(rows)
    width = 3 if not sources else 5 if any(row.exchange for row in ordered) else 4
    table.writerow(["symbol", ADDED, REMOVED, "source", EXCHANGE][:width])
    for row in ordered:
        table.writerow([row.symbol, row.added or "", row.removed or "", row.source, row.exchange][:width])
    return out.getvalue()


def update(rows: Iterable[Member], wanted: Mapping[str, str], day: date, *, begins: date | None = None) -> tuple[Member, ...]:
    """Return ``rows`` brought up to date: on ``day``, exactly the symbols in ``wanted`` are members.

    New members are added on ``day`` and missing ones removed on it; earlier memberships are kept.

    :param wanted: symbol -> source.
    :param begins: if there are no rows yet, the date from which the first ones are members; None: the past is unknown.
    """
    rows = list(rows)
    since = day if rows else begins
    kept = [replace(row, removed=day) if row.removed is None and row.symbol not in wanted else row for row in rows]
    kept = [row for row in kept if row.added is None or row.added != row.removed]  # came and went on the same day
    new = wanted.keys() - {row.symbol for row in kept if row.removed is None}
    return (*kept, *(Member(symbol, added=since, source=wanted[symbol]) for symbol in sorted(new)))


def sp500_etf_symbols() -> tuple[str, ...]:
    """Return today's S&P 500 from ``pytickersymbols`` (no network) and :data:`ETFS`, sorted."""
    return tuple(sorted({*_index("S&P 500"), *ETFS}))


def dow30_symbols() -> tuple[str, ...]:
    """Return today's Dow Jones Industrial Average from ``pytickersymbols`` (no network), sorted."""
    return tuple(sorted(_index("DOW JONES")))


LISTS: dict[str, Callable[[], tuple[str, ...]]] = {
    "dow30": dow30_symbols,
    "etf20": lambda: tuple(sorted(ETFS)),
    "sp500_etf": sp500_etf_symbols,
}


def refresh(day: date, folder: Path = FOLDER) -> None:
    """Bring the files of this project's universes up to ``day``, after an update of ``pytickersymbols``.

    ::

        PYTHONPATH=plugins python -c "from datetime import date; from market_data.config import universes as u; u.refresh(date.today())"
    """
    for name, symbols in LISTS.items():
        path = folder / f"{name}.csv"
        rows = read_members(path.read_text(encoding="utf-8-sig"), source=path.name) if path.exists() else ()
        wanted = {symbol: "airflow-market-data" if symbol in ETFS else "pytickersymbols" for symbol in symbols()}
        path.write_text(write_members(update(rows, wanted, day)), encoding="utf-8")


def _index(name: str) -> Iterator[str]:
    from pytickersymbols import PyTickerSymbols

    return (stock["symbol"] for stock in PyTickerSymbols().get_stocks_by_index(name))


def _overlaps(rows: Sequence[Member]) -> list[str]:
    ordered = in_order(rows)
    return [
        f"{left.symbol} has two rows that hold at once"
        for left, right in pairwise(ordered)
        if left.symbol == right.symbol and (left.removed is None or right.added is None or right.added < left.removed)
    ]


def parse_date(text: str | None) -> date | None:
    """Return the date that an ISO text names; None for an empty one.

    :raises ValueError: if it is not an ISO date.
    """
    if not text:
        return None
    try:
        return read_date(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is not a date; ISO dates are needed, e.g. 2026-11-02") from None
