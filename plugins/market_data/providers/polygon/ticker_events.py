"""Polygon's ticker events: the changes of a company's symbol.

Source: https://massive.com/docs/rest/stocks/corporate-actions/ticker-events (``/vX/reference/tickers/{id}/events``). A ticker means the
company that has it today. Each event has the ticker that a company took, and the date from which on it has it; the oldest one is the
listing. A company without events is a 404 ("No events found for given ID").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec

from market_data.core.batch import Request
from market_data.core.errors import BadRequest, TruncatedResponse
from market_data.datasets.registry import dataset as find_dataset
from market_data.http.client import Response
from market_data.providers.corporate_actions import Name, Row, requested_rows, with_reasons
from market_data.providers.polygon.client import Rest
from market_data.providers.polygon.parse import PageTable, PolygonPage
from market_data.providers.polygon.symbols import from_vendor
from market_data.providers.unexpected import OnceMore, read_rows


class Taken(msgspec.Struct, gc=False):
    """The ticker that a company took."""

    ticker: Name


class TickerEvent(msgspec.Struct, gc=False):
    """An event; others than a change of ticker have no ``ticker_change``."""

    type: str
    date: date
    ticker_change: Taken | None = None


E = TypeVar("E")


class Company(msgspec.Struct, Generic[E], gc=False):
    """A company and its events, in no particular order; recorded ones have the newest first.

    They are `TickerEvent`, or `msgspec.Raw` where some may be of another form.
    """

    events: list[E]
    name: Any = None


class EventsPage(PolygonPage[E], Generic[E], gc=False):
    """One response: ``results`` is the company itself."""

    results: Company[E] | None = None  # type: ignore[assignment]


class TickerStep(NamedTuple):
    """A ticker that a company took.

    :param day: from when on it has it. ``ticker``: the canonical symbol. Both are None if they cannot be read.
    :param problems: what is wrong with the event.
    """

    day: date | None
    ticker: str | None
    problems: tuple[str, ...]


def changes(rest: Rest, request: Request) -> Iterator[PageTable]:
    """Yield the changes that led to the symbol of the request."""
    (symbol,) = request.symbols
    once_more = OnceMore()

    def read(page: EventsPage[Any], response: Response) -> PageTable:
        where = rest.where(str(request), page.request_id)
        if page.results is None:
            raise TruncatedResponse("the response has no results", **where)
        events, problems = read_rows(page.results.events, TickerEvent, where)
        steps = [_step(event, problems.get(place, ())) for place, event in enumerate(events)]
        taken = [step for step in steps if step is not None]
        issuer = page.results.name if isinstance(page.results.name, str) else None
        rows = [{"symbol": symbol, **row, "issuer": issuer} for row in _changes(taken)]
        table, unexpected = requested_rows(rows, request, where, field="effective_date", symbols=request.symbols)
        once_more.check(unexpected, where)
        source = response.headers.get("X-Sample-Source")
        return PageTable(table, len(taken), None, page.request_id, page.next_url, source, unexpected)

    path = f"/vX/reference/tickers/{quote(symbol, safe='')}/events"
    try:
        yield rest.get(path, {"types": "ticker_change"}, str(request), EventsPage[TickerEvent], read, EventsPage[msgspec.Raw])
    except BadRequest as error:
        if "(HTTP 404)" not in error.said:
            raise
        yield PageTable(find_dataset(request.dataset).received.empty_table(), 0, None, error.request_id)


def _step(event: TickerEvent, problems: Sequence[str]) -> TickerStep | None:
    """Return the ticker that a company took by an event; None for events of other kinds."""
    if event.ticker_change is None and not problems:
        return None
    ticker = from_vendor(event.ticker_change.ticker) if event.ticker_change is not None else None
    return TickerStep(event.date, ticker, tuple(problems))


def _changes(steps: Sequence[TickerStep]) -> Iterator[Row]:
    """Yield the changes from ticker to ticker, oldest first.

    A change has reasons if its event, or the one before, cannot be read; and if several events of its date contradict each other.
    """
    ordered = _in_order(steps)
    tickers: dict[date | None, set[str | None]] = defaultdict(set)
    for step in ordered:
        tickers[step.day].add(step.ticker)
    torn = {day for day, found in tickers.items() if day is not None and len(found) > 1}
    certain = all(step.day is not None for step in steps) or len(ordered) == len(steps)
    if not certain:
        yield from (with_reasons(_row(None, step), step.problems) for step in steps if step.day is None)
    for before, step in zip([None, *ordered], ordered, strict=False):
        problems = [*step.problems]
        if step.day in torn:
            problems.append(f"the events of {step.day} name several tickers: {', '.join(sorted(map(str, tickers[step.day])))}")
        if before is None and not problems:
            continue  # the listing
        if before is not None and (before.ticker is None or (before.day in torn and step.day not in torn)):
            problems.append(
                "the ticker before it cannot be read" if before.ticker is None else "the ticker before it is not certain"
            )
        if not certain:
            problems.append("an event came whose date cannot be read, and the others are in no order")
        if problems or (before is not None and before.ticker != step.ticker):
            yield with_reasons(_row(before, step), problems)


def _row(before: TickerStep | None, step: TickerStep) -> Row:
    return {"effective_date": step.day, "old_symbol": before and before.ticker, "new_symbol": step.ticker}


def _in_order(steps: Sequence[TickerStep]) -> list[TickerStep]:
    """Return the events by date, those without one in the place that they have between the others.

    If the others are in no order, those without a date are left out.
    """
    days = [step.day for step in steps if step.day is not None]
    if len(days) < len(steps):
        for ordered in (list(reversed(steps)), list(steps)):
            known = [step.day for step in ordered if step.day is not None]
            if known == sorted(known):
                return ordered
    return sorted((step for step in steps if step.day is not None), key=lambda step: (step.day, step.ticker or ""))
