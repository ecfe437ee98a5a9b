"""Rules: what a received row must be to land. Each dataset lists its own; the gate applies them.

Only what can be seen in one answer is demanded here, row by row and vectorised; what needs a whole session or its neighbours is the
checkpoint's. Many rules still hold of what has landed: these say so in a form (``lasting``) that the checkpoint's suite is made of.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from market_data.core import calendar
from market_data.core.batch import Request

if TYPE_CHECKING:
    from market_data.datasets.base import Dataset

Mask = Any  # pa.ChunkedArray or pa.Array of bool, one per row; null counts as false

LIMIT = 1e12  # the warehouse keeps numbers as DECIMAL(20, 8): twelve digits before the point, and one number too long fails a load
SMALLEST = 1e-8  # eight digits after it: a smaller price would become 0 there, which is none, and fail the load as well
EVENING = time(17)  # futures begin their trading day the evening before: at 18:00 New York, the pre-open at 17:00
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Received:
    """The rows of one answer and what they are judged against.

    :param rows: columns of ``dataset.received``.
    :param sessions: the exchange's sessions, at least those inside the request.
    """

    dataset: Dataset
    rows: pa.Table
    request: Request
    sessions: Sequence[date]

    def __getitem__(self, field: str) -> pa.ChunkedArray:
        return self.rows[field]

    def asked(self, session: date) -> bool:
        """Whether ``session`` is inside the request's intervals."""
        intervals = self.request.intervals
        place = bisect_right(intervals, session, key=lambda interval: interval.start) - 1
        return place >= 0 and session in intervals[place]

    @cached_property
    def strange_sessions(self) -> tuple[list[date], list[date]]:
        """Sessions of the rows that are outside the request, and those inside that are no session of the exchange."""
        known = set(self.sessions)
        days = pc.unique(self["session"].drop_null()).to_pylist()
        strange = [day for day in days if day not in known or not self.asked(day)]
        return [day for day in strange if not self.asked(day)], [day for day in strange if self.asked(day)]

    @cached_property
    def copies(self) -> tuple[Mask, Mask]:
        """Rows that repeat an earlier row in every value, and rows whose key comes with other values elsewhere."""
        key = [name for name in self.dataset.key if name in self.rows.column_names]
        places = _repeated([self[name] for name in key])
        again, conflicting = np.zeros(len(self.rows), dtype=bool), np.zeros(len(self.rows), dtype=bool)
        if len(places):  # hardly ever; grouping all rows would cost more memory than they take
            rows = self.rows.take(pa.array(places)).append_column("row", pa.array(places))
            distinct = rows.group_by(self.rows.column_names).aggregate([("row", "min")])
            variants = distinct.group_by(key).aggregate([("row_min", "count")])
            disputed = variants.filter(pc.greater(variants["row_min_count"], 1)).select(key)
            again[places], again[distinct["row_min"].to_numpy()] = True, False
            conflicting[rows.select([*key, "row"]).join(disputed, key, join_type="left semi")["row"].to_numpy()] = True
            again &= ~conflicting
        return pa.array(again), pa.array(conflicting)


def _repeated(columns: Sequence[pa.ChunkedArray]) -> NDArray[np.int64]:
    """Places of the rows that have an equal in all ``columns``, ascending. Null is equal to null."""
    codes = [_codes(column) for column in columns]
    order = np.lexsort(codes[::-1])
    shared = np.zeros(len(order), dtype=bool)
    if len(order):
        equal = np.logical_and.reduce([np.diff(code[order]) == 0 for code in codes])
        shared[1:] |= equal
        shared[:-1] |= equal
    return np.sort(order[shared])


def _codes(column: pa.ChunkedArray) -> NDArray[Any]:
    """Whole numbers that are equal where the values are."""
    if pa.types.is_string(column.type):
        return pc.index_in(column, pc.unique(column)).to_numpy()
    whole = column.cast(pa.int32()) if pa.types.is_date(column.type) else column
    return pc.fill_null(whole.cast(pa.int64()), np.iinfo(np.int64).min).to_numpy()


# -- what lasts ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class There:
    """No null in ``column``."""

    column: str


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where there is a value, ``low <= column < high``; None: no bound."""

    column: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Among:
    """Where there is a value, it is one of ``values``."""

    column: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ordered:
    """Where both have a value, ``above`` is at least ``below``."""

    above: str
    below: str


Lasting = There | Bounds | Among | Ordered


@dataclass(frozen=True)
class Rule:
    """What a row must be.

    :param name: the rule's name in documents, the same as in the checkpoint where both have it.
    :param demand: what is demanded, in words.
    :param broken: the rows that break it.
    :param reason: what to say of such a row; ``{field}`` is the row's value.
    :param lasting: what the checkpoint's suite demands likewise of landed rows, if anything.
    """

    name: str
    demand: str
    broken: Callable[[Received], Mask]
    reason: str
    lasting: Lasting | None = None


# -- one value -------------------------------------------------------------------------------------------------------------------


def present(field: str) -> Rule:
    return Rule(f"{field}_present", f"{field} is there", lambda r: pc.is_null(r[field]), f"{field} is {{{field}}}", There(field))


def finite(field: str, *, required: bool = False) -> Rule:
    def broken(received: Received) -> Mask:
        return pc.fill_null(pc.invert(pc.is_finite(received[field])), required)

    demand = "is there and a finite number" if required else "is a finite number where present"
    return Rule(f"{field}_finite", f"{field} {demand}", broken, f"{field} is {{{field}}}", There(field) if required else None)


def storable(field: str, limit: float = LIMIT) -> Rule:
    def broken(received: Received) -> Mask:
        return pc.and_(pc.is_finite(received[field]), pc.greater_equal(pc.abs(received[field]), limit))

    # A bound is not strict below: the one value -limit more is no matter to what checks again.
    lasting = Bounds(field, -limit, limit)
    return Rule(f"{field}_storable", f"{field} is below {limit:g}", broken, f"{field} {{{field}}} not below {limit:g}", lasting)


def positive(field: str) -> Rule:
    return Rule(
        f"{field}_positive",
        f"{field} is at least {SMALLEST:g}",
        lambda r: pc.less(r[field], SMALLEST),
        f"{field} {{{field}}} below {SMALLEST:g}",
        Bounds(field, low=SMALLEST),
    )


def not_negative(field: str) -> Rule:
    name, demand = f"{field}_not_negative", f"{field} is 0 or above"

    def broken(received: Received) -> Mask:
        return pc.less(received[field], pa.scalar(0, received[field].type))

    return Rule(name, demand, broken, f"{field} {{{field}}} below 0", Bounds(field, low=0))


def one_of(field: str, values: Sequence[str]) -> Rule:
    def broken(received: Received) -> Mask:
        return pc.and_not(pc.is_valid(received[field]), pc.is_in(received[field], pa.array(values, pa.string())))

    allowed = f"one of {', '.join(values)}"
    demand, reason = f"{field} is {allowed}, where present", f"{field} {{{field}}} not {allowed}"
    return Rule(f"{field}_known", demand, broken, reason, Among(field, tuple(values)))


def short_text(field: str, most: int) -> Rule:
    """No empty text, which Oracle takes for null, and none longer than the warehouse's column."""

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
        Ordered(field, floor),
    )


def not_above(field: str, ceiling: str) -> Rule:
    return Rule(
        f"{field}_not_above_{ceiling}",
        f"{field} is at most {ceiling}",
        lambda r: pc.greater(r[field], r[ceiling]),
        f"{field} {{{field}}} above {ceiling} {{{ceiling}}}",
        Ordered(ceiling, field),
    )


def not_after(field: str, other: str) -> Rule:
    """As ``not_above``, in the words of dates."""
    return Rule(
        f"{field}_not_after_{other}",
        f"{field} is not after {other}, where both are present",
        lambda r: pc.greater(r[field], r[other]),
        f"{field} {{{field}}} after {other} {{{other}}}",
        Ordered(other, field),
    )


# -- the session -----------------------------------------------------------------------------------------------------------------


def in_trading_day(field: str) -> Rule:
    """The moment lies between the evening of the session before and the end of the session's date, New York time.

    Shares trade from 04:00 to 20:00. Futures begin at 18:00 the day before (https://www.cmegroup.com/trading-hours.html); what they trade
    on a holiday of the stock exchange, and on the evening of a Sunday, belongs to the next session.
    """

    def broken(received: Received) -> Mask:
        moments, days = received[field], pc.unique(received["session"])
        places = pc.index_in(received["session"], days).combine_chunks()

        def of_each(edge: Callable[[date], datetime]) -> pa.Array:
            return pa.array([edge(day) if _in_calendar(day) else None for day in days.to_pylist()], moments.type).take(places)

        begin, end = of_each(_evening_before), of_each(_midnight_after)
        return pc.or_kleene(pc.less(moments, begin), pc.greater_equal(moments, end))

    return Rule(
        f"{field}_in_trading_day",
        f"{field} is from 17:00 New York time of the session before its own to the end of its session's date",
        broken,
        f"{field} {{{field}}} outside the trading day of session {{session}}",
    )


def _evening_before(session: date) -> datetime:
    first = session < calendar.FIRST + 10 * DAY  # the one before may be older than the calendar
    return calendar.at(session - DAY if first else calendar.previous_session(session), EVENING)


def _midnight_after(session: date) -> datetime:
    return calendar.at(session + DAY, time())


def _in_calendar(day: date | None) -> bool:
    """No session that was asked for is outside."""
    return day is not None and calendar.FIRST <= day <= calendar.LAST


def first_session_from(field: str) -> Rule:
    """``session`` is the exchange's first one on or after the date ``field``."""

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
        Ordered("session", field),
    )


def _first_session(day: date | None) -> date | None:
    """None where the calendar does not reach."""
    if day is None or not calendar.FIRST < day < calendar.LAST - 10 * DAY:
        return None
    return calendar.next_session(day - DAY)


# -- every dataset ---------------------------------------------------------------------------------------------------------------


def _stranger(received: Received) -> Mask:
    asked = pc.is_in(received["symbol"], pa.array(received.request.symbols, pa.string()))
    return pc.and_not(pc.is_valid(received["symbol"]), asked)


def _outside(received: Received) -> Mask:
    return pc.is_in(received["session"], pa.array(received.strange_sessions[0], pa.date32()))


def _no_session(received: Received) -> Mask:
    return pc.is_in(received["session"], pa.array(received.strange_sessions[1], pa.date32()))


CELL = (
    Rule("symbol_asked", "symbol is one that was asked for", _stranger, "symbol {symbol} not asked for"),
    Rule("session_asked", "session is inside the request", _outside, "session {session} outside the request"),
    Rule("session_of_exchange", "session is a trading day", _no_session, "session {session} not a session of the exchange"),
)
COPIES = (
    Rule("duplicate_row", "no row comes twice; one copy lands", lambda r: r.copies[0], "duplicate row"),
    Rule("conflicting_duplicate", "no key has two sets of values; no copy lands", lambda r: r.copies[1], "conflicting duplicate"),
)


def of_every_row(received: pa.Schema, *rules: Rule) -> tuple[Rule, ...]:
    """``rules`` between those of every dataset: what must be there is, the cell was asked for, and no row comes twice."""
    there = ("symbol", "session", *(field.name for field in received if not field.nullable))
    return (*(present(name) for name in dict.fromkeys(there)), *CELL, *rules, *COPIES)
