"""Constructors of rules: requirements on received rows. Datasets list theirs; the gate applies them.

A rule sees one response, row by row and vectorised. The checkpoint judges faults that show only in a whole session or its neighbours,
such as price jumps: `quality/metric_rules.py`.
Many rules still hold for stored rows: these carry a `Check`, from which the checkpoint counts the rows that break it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import date, time, timedelta
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.calendar import FIRST, LAST, XNYS, Calendar, at
from market_data.core.dates import dates_of, microseconds
from market_data.datasets.base import UTC_MICROS, AtLeast, InRange, Mask, NotNull, OneOf, PositivePrice, Received, Rule

LIMIT = 1e12
"""The warehouse stores numbers as DECIMAL(20, 8): twelve digits before the point. One larger number fails a load."""
SMALLEST = 1e-8
"""Eight digits after the point: a smaller price would be stored as 0, which is not a price, and fail the load as well."""
EVENING = time(17)
"""Futures begin their trading day the evening before: at 18:00 New York, the pre-open at 17:00."""
DAY = timedelta(days=1)


# -- one value -------------------------------------------------------------------------------------------------------------------


def present(field: str) -> Rule:
    return Rule(
        f"{field}_present",
        f"{field} is there",
        lambda r: pc.is_null(r[field]),
        f"{field} is {{{field}}}",
        NotNull(field),
        lambda r: r[field].null_count == 0,
    )


def finite(field: str, *, required: bool = False) -> Rule:
    def broken(received: Received) -> Mask:
        return pc.fill_null(pc.invert(pc.is_finite(received[field])), required)

    def kept(received: Received) -> bool:
        return received.extent(field) is not None and not (required and received[field].null_count)

    demand = "is there and a finite number" if required else "is a finite number where present"
    check = NotNull(field) if required else None
    return Rule(f"{field}_finite", f"{field} {demand}", broken, f"{field} is {{{field}}}", check, kept)


def storable(field: str, limit: float = LIMIT) -> Rule:
    def broken(received: Received) -> Mask:
        return pc.and_(pc.is_finite(received[field]), pc.greater_equal(pc.abs(received[field]), limit))

    # InRange includes its lower bound: the checkpoint accepts the single value -limit, which the gate rejects.
    check = InRange(field, -limit, limit)
    reason, above = f"{field} {{{field}}} not below {limit:g}", math.nextafter(-limit, 0)
    return Rule(f"{field}_storable", f"{field} is below {limit:g}", broken, reason, check, lambda r: r.within(field, above, limit))


def positive(field: str) -> Rule:
    """Require a positive number."""
    return Rule(
        f"{field}_positive",
        f"{field} is at least {SMALLEST:g}",
        lambda r: pc.less(r[field], SMALLEST),
        f"{field} {{{field}}} below {SMALLEST:g}",
        InRange(field, low=SMALLEST),
        lambda r: r.within(field, SMALLEST),
    )


def positive_price(field: str, low: float = SMALLEST) -> Rule:
    """Require a price of at least ``low``.

    Not of kinds of instruments whose prices may be negative: `core/instruments.py`.
    """
    return Rule(
        f"{field}_positive",
        f"{field} is at least {low:g}, unless the instrument is of a kind whose prices may be negative",
        lambda r: pc.and_(r.unsigned, pc.less(r[field], low)),
        f"{field} {{{field}}} below {low:g}",
        PositivePrice(field, low),
        lambda r: r.within(field, low),
    )


def not_negative(field: str) -> Rule:
    name, demand = f"{field}_not_negative", f"{field} is 0 or above"

    def broken(received: Received) -> Mask:
        return pc.less(received[field], pa.scalar(0, received[field].type))

    return Rule(name, demand, broken, f"{field} {{{field}}} below 0", InRange(field, low=0), lambda r: r.within(field, 0))


def one_of(field: str, values: Sequence[str]) -> Rule:
    def broken(received: Received) -> Mask:
        return pc.and_not(pc.is_valid(received[field]), pc.is_in(received[field], pa.array(values, pa.string())))

    allowed = f"one of {', '.join(values)}"
    demand, reason = f"{field} is {allowed}, where present", f"{field} {{{field}}} not {allowed}"
    return Rule(f"{field}_known", demand, broken, reason, OneOf(field, tuple(values)))


def short_text(field: str, most: int) -> Rule:
    """Reject empty text, which Oracle stores as null, and text longer than the warehouse's column."""

    def broken(received: Received) -> Mask:
        length = pc.utf8_length(received[field])
        return pc.or_(pc.equal(length, 0), pc.greater(length, most))

    allowed = f"1 to {most} characters"
    return Rule(f"{field}_short", f"{field} has {allowed}, where present", broken, f"{field} '{{{field}}}' does not have {allowed}")


# -- two values ------------------------------------------------------------------------------------------------------------------


def not_below(field: str, floor: str) -> Rule:
    return Rule(
        f"{field}_not_below_{floor}",
        f"{field} is at least {floor}",
        lambda r: pc.less(r[field], r[floor]),
        f"{field} {{{field}}} below {floor} {{{floor}}}",
        AtLeast(field, floor),
        lambda r: r.in_order(floor, field),
    )


def not_above(field: str, ceiling: str) -> Rule:
    return Rule(
        f"{field}_not_above_{ceiling}",
        f"{field} is at most {ceiling}",
        lambda r: pc.greater(r[field], r[ceiling]),
        f"{field} {{{field}}} above {ceiling} {{{ceiling}}}",
        AtLeast(ceiling, field),
        lambda r: r.in_order(field, ceiling),
    )


def not_after(field: str, other: str) -> Rule:
    """Return the rule of ``not_above``, worded for dates."""
    return Rule(
        f"{field}_not_after_{other}",
        f"{field} is not after {other}, where both are present",
        lambda r: pc.greater(r[field], r[other]),
        f"{field} {{{field}}} after {other} {{{other}}}",
        AtLeast(other, field),
    )


# -- the session -----------------------------------------------------------------------------------------------------------------


def in_trading_day(field: str) -> Rule:
    """Require a moment on the trading day of the row's session.

    It lasts from the evening of the previous session of the symbol's calendar to the end of the session's date, in the time zone of the
    calendar.

    Shares trade from 04:00 to 20:00. Futures begin at 18:00 the day before (https://www.cmegroup.com/trading-hours.html).
    """

    def broken(received: Received) -> Mask:
        calendar = received.request.calendar
        moments, days = received[field], pc.unique(received["session"])
        places = pc.index_in(received["session"], days).combine_chunks()

        def per_row(edge: Callable[[Calendar, date], int]) -> pa.Array:
            edges = [edge(calendar, day) if _in_calendar(day) else None for day in dates_of(days)]
            return pa.array(edges, UTC_MICROS).take(places)

        begin, end = per_row(_evening_before), per_row(_midnight_after)
        return pc.or_kleene(pc.less(moments, begin), pc.greater_equal(moments, end))

    def kept(received: Received) -> bool:
        """Compare the first and the last moment of each run of rows of one session."""
        starts = received.session_starts
        if starts is None or not len(starts) or received[field].null_count:
            return False
        sessions, calendar = dates_of(received["session"].take(starts)), received.request.calendar
        if not all(map(_in_calendar, sessions)):
            return False
        moments = received[field].to_numpy().astype("datetime64[us]", copy=False).astype(np.int64)
        begins, ends = (np.array([edge(calendar, day) for day in sessions]) for edge in (_evening_before, _midnight_after))
        lowest, highest = np.minimum.reduceat(moments, starts), np.maximum.reduceat(moments, starts)
        return bool((begins <= lowest).all() and (highest < ends).all())

    return Rule(
        f"{field}_in_trading_day",
        f"{field} is from 17:00 of the session before its own to the end of its session's date, in its exchange's time zone",
        broken,
        f"{field} {{{field}}} outside the trading day of session {{session}}",
        kept=kept,
    )


@lru_cache(maxsize=4096)
def _evening_before(calendar: Calendar, session: date) -> int:
    """Return the microseconds since 1970 at which the trading day of a session begins."""
    first = session < FIRST + 10 * DAY  # the previous session may be older than the calendar
    day = session - DAY if first else calendar.previous_session(session)
    return microseconds(at(day, EVENING, calendar.zone))


@lru_cache(maxsize=4096)
def _midnight_after(calendar: Calendar, session: date) -> int:
    return microseconds(at(session + DAY, time(), calendar.zone))


def _in_calendar(day: date | None) -> bool:
    """Return True if the calendar covers ``day``; requested sessions are always covered."""
    return day is not None and FIRST <= day <= LAST


def first_session_from(field: str) -> Rule:
    """Require that ``session`` is the exchange's first session on or after the date ``field``."""

    def broken(received: Received) -> Mask:
        days = pc.unique(received[field])
        firsts = pa.array([_first_session(day) for day in days.to_pylist()], pa.date32())
        first = firsts.take(pc.index_in(received[field], days).combine_chunks())
        return pc.and_(pc.is_valid(received[field]), pc.fill_null(pc.not_equal(received["session"], first), True))

    return Rule(
        f"session_follows_{field}",
        f"session is the first one on or after {field}",
        broken,
        f"session {{session}} not the first one on or after {field} {{{field}}}",
        AtLeast("session", field),
    )


def _first_session(day: date | None) -> date | None:
    """Return the first session on or after ``day``; None where the calendar does not cover it."""
    if day is None or not FIRST < day < LAST - 10 * DAY:
        return None
    return XNYS.next_session(day - DAY)


# -- every dataset ---------------------------------------------------------------------------------------------------------------


def _unexpected_symbol(received: Received) -> Mask:
    requested = pc.is_in(received["symbol"], pa.array(received.request.symbols, pa.string()))
    return pc.and_not(pc.is_valid(received["symbol"]), requested)


def _known_symbols(received: Received) -> bool:
    return received.symbols <= {*received.request.symbols}


def _outside(received: Received) -> Mask:
    return _of_sessions(received, received.unexpected_sessions[0])


def _no_session(received: Received) -> Mask:
    return _of_sessions(received, received.unexpected_sessions[1])


def _of_sessions(received: Received, sessions: Sequence[date]) -> Mask:
    return pc.is_in(received["session"], pa.array(sessions, pa.date32()))


CELL = (
    Rule(
        "symbol_requested",
        "symbol is one of the request's",
        _unexpected_symbol,
        "symbol {symbol} was not requested",
        kept=_known_symbols,
    ),
    Rule(
        "session_requested",
        "session is inside the request",
        _outside,
        "session {session} outside the request",
        kept=lambda r: not r.unexpected_sessions[0],
    ),
    Rule(
        "session_of_exchange",
        "session is a trading day",
        _no_session,
        "session {session} not a session of the exchange",
        kept=lambda r: not r.unexpected_sessions[1],
    ),
)
COPIES = (
    Rule(
        "duplicate_row",
        "no row comes twice; one copy is kept",
        lambda r: r.copies[0],
        "duplicate row",
        kept=lambda r: r.are_ascending,
    ),
    Rule(
        "conflicting_duplicate",
        "no key has two sets of values; no copy is kept",
        lambda r: r.copies[1],
        "conflicting duplicate",
        kept=lambda r: r.are_ascending,
    ),
)


def of_every_row(received: pa.Schema, *rules: Rule) -> tuple[Rule, ...]:
    """Return ``rules`` between those of every dataset.

    Required columns have values, cells were requested, no row comes twice.
    """
    there = ("symbol", "session", *(field.name for field in received if not field.nullable))
    return (*(present(name) for name in dict.fromkeys(there)), *CELL, *rules, *COPIES)
