"""Follow a company through its changes of symbol.

FB until 2022-06-08 and META from 2022-06-09 are one company.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta


@dataclass(frozen=True, slots=True, order=True)
class SymbolChange:
    """A company trades as ``new`` from ``day`` on; until then it traded as ``old``."""

    day: date
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class NamedSpan:
    """The dates from ``start`` (inclusive) to ``end`` (exclusive) on which a company trades as ``symbol``.

    The first span of a company starts at ``date.min`` and the last one ends at ``date.max``: when it was listed is not known here.
    """

    symbol: str
    start: date
    end: date

    def __contains__(self, day: date) -> bool:
        return self.start <= day < self.end


def follow(symbol: str, changes: Iterable[SymbolChange], on: date | None = None) -> tuple[NamedSpan, ...]:
    """Return the spans of the names of one company, ascending and without gaps.

    :param symbol: one of its names.
    :param changes: of any companies, in any order; repeated ones count once.
    :param on: the date on which ``symbol`` means this company: a symbol may be given to another company later. None: the company that
        had the symbol last.
    """
    known = sorted({change for change in changes if change.old != change.new})
    spans = _spans(symbol, known)
    chosen = next((span for span in spans if on is not None and on in span), spans[-1])
    return (*_before(chosen, known), chosen, *_after(chosen, known))


LONG_AFTER = timedelta(days=30)
"""Vendors date a change some days too early or too late; so long after it, nobody trades under the old symbol any more."""
HasBars = Callable[[str, date], bool]
"""Returns true if a symbol has bars on or after a date."""


def company_of(
    symbol: str, changes: Iterable[SymbolChange], on: date | None = None, has_bars: HasBars = lambda *_: False
) -> tuple[NamedSpan, ...]:
    """Return the spans of the company that ``symbol`` means; see `follow`.

    A symbol that one company gave up may be listed anew without a change of symbol: GOOG became GOOGL on 2014-04-03, and the new GOOG is
    another share. Bars of the symbol long after that date show it. Then the symbol means the new listing.

    :param has_bars: tells if there are any.
    """
    spans = follow(symbol, changes, on)
    given_up = max(span.end for span in spans if span.symbol == symbol)
    if given_up == date.max or (on is not None and on < given_up) or not has_bars(symbol, given_up + LONG_AFTER):
        return spans
    return (NamedSpan(symbol, given_up, date.max),)


def name_on(symbol: str, day: date, changes: Iterable[SymbolChange], on: date | None = None) -> str:
    """Return the name that the company ``symbol`` has on ``day``; see `follow` for ``on``."""
    return next(span.symbol for span in follow(symbol, changes, on) if day in span or span.end == date.max)


def _spans(symbol: str, known: Sequence[SymbolChange]) -> list[NamedSpan]:
    """Return the spans in which one company after another has ``symbol``, ascending; at least one."""
    spans, start = [], date.min
    begun = True  # a symbol that no change gave away or brought was always there
    own = [change for change in known if symbol in (change.old, change.new)]
    for change in sorted(own, key=lambda change: (change.day, change.new == symbol)):  # it is given away before it is taken
        if change.old == symbol and begun and change.day > start:
            spans.append(NamedSpan(symbol, start, change.day))
            start, begun = change.day, False
        if change.new == symbol:
            if begun and change.day > start and (start, spans) != (date.min, []):
                spans.append(NamedSpan(symbol, start, change.day))
            start, begun = change.day, True
    if begun:
        spans.append(NamedSpan(symbol, start, date.max))
    return spans


def _before(span: NamedSpan, known: Sequence[SymbolChange]) -> tuple[NamedSpan, ...]:
    found: list[NamedSpan] = []
    while change := next((c for c in known if (c.day, c.new) == (span.start, span.symbol)), None):
        span = next((s for s in _spans(change.old, known) if s.end == change.day), NamedSpan(change.old, date.min, change.day))
        found.insert(0, span)
    return tuple(found)


def _after(span: NamedSpan, known: Sequence[SymbolChange]) -> tuple[NamedSpan, ...]:
    found: list[NamedSpan] = []
    while change := next((c for c in known if (c.day, c.old) == (span.end, span.symbol)), None):
        span = next((s for s in _spans(change.new, known) if s.start == change.day), NamedSpan(change.new, change.day, date.max))
        found.append(span)
    return tuple(found)
