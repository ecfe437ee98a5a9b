"""The memberships of an index: from today's constituents back through the list of changes.

The list is incomplete and written by people. Rows that contradict others are reported with their dates, and a membership whose first date
is not known has none: an unknown date excludes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import NamedTuple

from market_data.config.symbols import symbol_problem
from market_data.config.universes import Member, in_order, with_earlier_names
from market_data.core.messages import shown, some
from market_data.core.symbol_changes import HasBars, SymbolChange, company_of
from market_data.maintenance.index_sources.found import Change, Constituent, Found

DAY = timedelta(days=1)
COUNTED_SINCE = 2000
"""The first year of which the number of members is checked."""
_RENAMED = re.compile(
    r"\b(?:ticker|symbol)\b.*\bchang|\bchang\w*\b.*\b(?:ticker|symbol|name)\b|\brenam|\brebrand|\bname change", re.IGNORECASE
)
_OTHER = re.compile(r"acqui|spun|spin|split|replac|capitali[sz]ation|merge|bankrupt|delist|class|private", re.IGNORECASE)


class Company(NamedTuple):
    """A company by its latest symbol, and the date on which it took it."""

    symbol: str
    since: date


@dataclass(frozen=True)
class History:
    """The memberships of an index.

    :param members: with the symbols as traded; no two of a symbol hold at once.
    :param renames: all changes of symbols that were taken into account and concern the index.
    :param joining: symbols of which a row of a source says that they joined; ``leaving``: that they left.
    :param sentences: gaps and contradictions of the sources.
    """

    members: tuple[Member, ...]
    renames: tuple[SymbolChange, ...] = ()
    joining: frozenset[str] = frozenset()
    leaving: frozenset[str] = frozenset()
    sentences: tuple[str, ...] = ()


def history(
    found: Found,
    day: date,
    renames: Iterable[SymbolChange] = (),
    *,
    past: Found | None = None,
    expected: tuple[int, int] | None = None,
    has_bars: HasBars = lambda *_: False,
) -> History:
    """Return the memberships that a source describes.

    :param day: the date of the source.
    :param renames: changes of symbols, of any companies.
    :param past: a source with memberships. Up to its latest date, they count instead of the list of changes.
    :param expected: the number of members, at least and at most; years outside are reported.
    :param has_bars: see `core.symbol_changes.company_of`. A member of today is listed, with or without bars in the lake.
    """
    listed = {one.symbol for one in found.constituents}

    def trades(symbol: str, since: date) -> bool:
        return symbol in listed or has_bars(symbol, since)

    older = past or Found()
    given = list(renames)
    known = relevant([*given, *new_renames(renames_in(found.changes), given)], _symbols(found) | _symbols(older))
    walk = _Walk(known, day, trades)
    walk.run(found)
    members, sentences = _consistent(with_earlier_names(walk.members, known, trades))
    if older.memberships:
        before, more = _consistent(with_earlier_names(older.memberships, known, trades))
        members, contradictions = _joined_at(_last_date(older.memberships), before, members)
        # The walk's sentences are on the list of changes, which counts after that date only.
        sentences = [*older.warnings, *more, *contradictions]
    else:
        sentences = [*walk.sentences, *sentences]
    sentences = [*found.warnings, *sentences, *unusual_years(members, day, expected)]
    return History(in_order(members), tuple(known), *_by_rows(found), tuple(sentences))


def _by_rows(found: Found) -> tuple[frozenset[str], frozenset[str]]:
    """Return the symbols of the list of changes that joined, and that left."""
    return frozenset(row.added for row in found.changes), frozenset(row.removed for row in found.changes)


def _last_date(memberships: Iterable[Member]) -> date:
    return max((moment for row in memberships for moment in (row.added, row.removed) if moment), default=date.min)


def _joined_at(last: date, before: Sequence[Member], after: Sequence[Member]) -> tuple[list[Member], list[str]]:
    """Return the memberships of ``before`` up to ``last`` and of ``after`` from then on.

    And a sentence per contradiction.
    """
    turn = last + DAY
    going_on = {row.symbol: row for row in after if row.on(turn)}
    found: list[Member] = []
    ended, begun = [], []
    # A later change of symbol has split a membership after the turn: from there on, the other source counts.
    known = (row if row.removed is None or row.removed <= last else replace(row, removed=None) for row in before)
    for row in (row for row in known if row.added is None or row.added <= last):
        if row.removed is not None:
            found.append(row)
        elif row.symbol in going_on:
            found.append(replace(row, removed=going_on.pop(row.symbol).removed))
        else:
            found.append(replace(row, removed=turn))
            ended.append(row.symbol)
    for row in going_on.values():
        found.append(replace(row, added=turn))
        if row.added != turn:
            begun.append(row.symbol)
    sentences = []
    if ended:
        sentences.append(
            f"{len(ended)} members of {last} by the memberships are not by the page; they end on {turn}: {some(ended, 40)}"
        )
    if begun:
        sentences.append(
            f"{len(begun)} members of {turn} by the page are not by the memberships; they begin on that date: {some(begun, 40)}"
        )
    found += [row for row in after if row.added and row.added > turn]
    return found, sentences


def renames_in(changes: Iterable[Change]) -> list[SymbolChange]:
    """Return the rows that are a company's change of symbol, not one company for another."""
    return [SymbolChange(row.day, row.removed, row.added) for row in changes if row.added and row.removed and _is_rename(row)]


def new_renames(changes: Iterable[SymbolChange], known: Iterable[SymbolChange]) -> list[SymbolChange]:
    """Return the ``changes`` between two symbols for which none is ``known``.

    Dates do not matter: an index shows a change of symbol when it is read, perhaps long after it happened.
    """
    pairs = {(one.old, one.new) for one in known}
    return [one for one in dict.fromkeys(changes) if (one.old, one.new) not in pairs]


def _is_rename(row: Change) -> bool:
    if row.added == row.removed:
        return False
    named = bool(row.added_name) and _company(row.added_name) == _company(row.removed_name)
    return named or bool(_RENAMED.search(row.reason) and not _OTHER.search(row.reason))


def _company(name: str) -> str:
    """Return a company's name without its legal form and its case."""
    return re.sub(r"[^a-z0-9]+|\b(?:inc|corp|corporation|company|co|plc|ltd|the|group|holdings?)\b", "", name.lower())


def relevant(changes: Iterable[SymbolChange], symbols: Iterable[str]) -> list[SymbolChange]:
    """Return the changes of the companies that had one of ``symbols`` at some time, ascending."""
    left, names = set(changes), set(symbols)
    found: set[SymbolChange] = set()
    while more := {change for change in left if change.old in names or change.new in names}:
        found |= more
        left -= more
        names |= {name for change in more for name in (change.old, change.new)}
    return sorted(found)


def _symbols(found: Found) -> set[str]:
    rows = {name for row in found.changes for name in (row.added, row.removed) if name}
    return rows | {one.symbol for one in found.constituents} | {one.symbol for one in found.memberships}


@dataclass
class _Walk:
    """Goes back from today's constituents, newest change first."""

    known: Sequence[SymbolChange]
    day: date
    trades: HasBars
    members: list[Member] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    _open: dict[Company, date | None] = field(default_factory=dict)
    _current: dict[Company, Constituent] = field(default_factory=dict)
    _inferred: list[str] = field(default_factory=list)
    _named: set[str] = field(default_factory=set)
    _joined: set[tuple[Company, date]] = field(default_factory=set)

    def run(self, found: Found) -> None:
        self._named = {name for change in self.known for name in (change.old, change.new)}
        for one in found.constituents:
            company = self._company(one.symbol, self.day)
            self._current.setdefault(company, one)
            self._open.setdefault(company, None)
        rows = [row for row in found.changes if new_renames([SymbolChange(row.day, row.removed, row.added)], self.known)]
        # Symbols that the list says joined: their own row tells the date.
        self._joined = {(self._company(row.added, row.day), row.day) for row in rows if row.added}
        for moment in sorted({row.day for row in rows}, reverse=True):
            group = [row for row in rows if row.day == moment]
            joined = dict.fromkeys(row.added for row in group if row.added)
            left = dict.fromkeys(row.removed for row in group if row.removed)
            for symbol in [symbol for symbol in joined if symbol in left and self._for_a_moment(symbol, moment, rows)]:
                self.sentences.append(f"{symbol} joined and left on {moment}; it counts as a member on no date")
                del joined[symbol], left[symbol]
            for symbol in joined:
                self._added(symbol, moment)
            for symbol in left:
                self._removed(symbol, moment)
        self._finish()

    def _company(self, symbol: str, on: date) -> Company:
        if symbol not in self._named:
            return Company(symbol, date.min)
        last = company_of(symbol, self.known, on, self.trades)[-1]
        return Company(last.symbol, last.start)

    def _emit(self, company: Company, added: date | None, removed: date | None) -> None:
        if added and removed and added >= removed:
            self.sentences.append(f"{company.symbol} left on {removed}, not after it joined on {added}; the membership is left out")
        else:
            self.members.append(Member(company.symbol, added, removed))

    def _for_a_moment(self, symbol: str, moment: date, rows: Sequence[Change]) -> bool:
        """Return True if a symbol that joined and left on one date was a member neither before nor after it."""
        after = self._company(symbol, moment) in self._open
        earlier = [row for row in rows if row.day < moment and symbol in (row.added, row.removed)]
        before = bool(earlier) and symbol == max(earlier, key=lambda row: row.day).added
        return not after and not before

    def _added(self, symbol: str, moment: date) -> None:
        company = self._company(symbol, moment)
        if company in self._open:
            self._emit(company, moment, self._open.pop(company))
        elif moment > self.day:
            self._emit(company, moment, None)  # announced: not in the table of constituents yet
        elif other := self._under_another_name(moment):
            self._inferred.append(f"{symbol} joined on {moment} and is {other.symbol} today")
            self._emit(other, moment, self._open.pop(other))
        else:
            self.sentences.append(f"{symbol} joined on {moment}; no row says when it left: this membership is left out")

    def _under_another_name(self, moment: date) -> Company | None:
        """Return the one company that joined on ``moment`` by the table of constituents only."""
        since = [
            company
            for company, one in self._current.items()
            if one.added == moment and self._open.get(company, moment) is None and (company, moment) not in self._joined
        ]
        return since[0] if len(since) == 1 else None

    def _removed(self, symbol: str, moment: date) -> None:
        company = self._company(symbol, moment - DAY)
        if company not in self._open:
            self._open[company] = moment
            return
        until, one = self._open[company], self._current.get(company)
        if moment > self.day and until is None:
            self._open[company] = moment  # announced: still in the table of constituents
        elif until is None and one and one.added and one.added >= moment:
            self._emit(company, one.added, None)
            self._open[company] = moment
        elif until != moment:
            later = f"left again on {until}" if until else "is a member now"
            self.sentences.append(
                f"{symbol} left on {moment} and {later}; no row says when it came back: it counts as a member throughout"
            )

    def _finish(self) -> None:
        unknown, undated = [], []
        for company, removed in self._open.items():
            one = self._current.get(company)
            added = one.added if one and (removed is None or removed > self.day) else None
            if added is None and removed is not None:
                unknown.append(f"{company.symbol} (left {removed})")
            elif added is None:
                undated.append(company.symbol)
            self._emit(company, added, removed)
        if self._inferred:
            self.sentences.append(
                f"{len(self._inferred)} companies seem to have changed their symbols on dates that are not known"
                f" (the lake has no symbol-changes of them): {some(self._inferred)}"
            )
        if unknown:
            self.sentences.append(
                f"{len(unknown)} former members have no row that says when they joined; they count as members since ever:"
                f" {some(unknown)}"
            )
        if undated:
            self.sentences.append(
                f"{len(undated)} members have no date on which they joined; they count as members since ever: {some(undated)}"
            )


def _consistent(members: Iterable[Member]) -> tuple[list[Member], list[str]]:
    """Return the memberships without invalid symbols, and a sentence per problem.

    Those of one symbol that hold at once are joined.
    """
    by_symbol: dict[str, list[Member]] = {}
    sentences = []
    for row in members:
        by_symbol.setdefault(row.symbol, []).append(row)
    found: list[Member] = []
    for symbol, rows in by_symbol.items():
        if problem := symbol_problem(symbol):
            sentences.append(f"{shown(symbol)} {problem}; it is left out")
            continue
        kept: list[Member] = []
        for row in sorted(rows, key=lambda row: (row.added or date.min, row.removed or date.max)):
            if kept and (kept[-1].removed is None or (row.added or date.min) < kept[-1].removed):
                last = kept[-1]
                longest = None if None in (last.removed, row.removed) else max(last.removed or date.min, row.removed or date.min)
                if row != last:
                    sentences.append(
                        f"{symbol} has two memberships that hold at once, since {last.added} and {row.added}; they are joined"
                    )
                kept[-1] = replace(last, removed=longest)
            else:
                kept.append(row)
        found += kept
    return found, sentences


def unusual_years(members: Sequence[Member], day: date, expected: tuple[int, int] | None) -> list[str]:
    """Return a sentence on the years that begin with fewer or more members than there can be."""
    if expected is None:
        return []
    first = max(COUNTED_SINCE, min((row.added.year for row in members if row.added), default=day.year))
    counts = {
        year: sum(row.on(date(year, 1, 15)) for row in members) for year in range(first, day.year + (day >= date(day.year, 1, 15)))
    }
    odd = [f"{year}: {count}" for year, count in counts.items() if not expected[0] <= count <= expected[1]]
    if not odd:
        return []
    return [
        f"members in January by these sources, where {expected[0]} to {expected[1]} are expected: {', '.join(odd)};"
        " the sources are incomplete for these years"
    ]
