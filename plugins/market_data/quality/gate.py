"""The gate: which of the received rows may land, and what is wrong with the others.

Only what can be seen in one answer is judged here, row by row and vectorised; what needs a whole session or its neighbours is the
checkpoint's. A rule is a line in ``RULES``: a name, what it demands, how to find the rows that break it, what to say of them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property, reduce
from string import Formatter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from market_data.datasets.base import Dataset
from market_data.errors import ConfigError, SchemaDrift
from market_data.types import Request

Mask = Any  # pa.ChunkedArray or pa.Array of bool, one per row; null counts as false

PRICES = ("open", "high", "low", "close")
LIMIT = 1e12  # the warehouse keeps numbers as DECIMAL(20, 8): twelve digits before the point, and one number too long fails a load
SMALLEST = 1e-8  # eight digits after it: a smaller price would become 0 there, which is none, and fail the load as well


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
        count = self.rows.num_rows
        key = [name for name in self.dataset.key if name in self.dataset.received.names]
        rows = self.rows.append_column("row", pa.array(range(count), pa.int64()))
        if self.rows.group_by(key).aggregate([]).num_rows == count:
            nowhere = pa.repeat(False, count)
            return nowhere, nowhere
        distinct = rows.group_by(self.rows.column_names).aggregate([("row", "min")])
        variants = distinct.group_by(key).aggregate([("row_min", "count")])
        disputed = variants.filter(pc.greater(variants["row_min_count"], 1)).select(key)
        their_rows = rows.select([*key, "row"]).join(disputed, key, join_type="left semi")["row"]
        conflicting = pc.is_in(rows["row"], their_rows.combine_chunks())
        first = pc.is_in(rows["row"], distinct["row_min"].combine_chunks())
        return pc.and_not(pc.invert(first), conflicting), conflicting


@dataclass(frozen=True)
class Rule:
    """What a row must be.

    :param name: the rule's name in documents, the same as in the checkpoint where both have it.
    :param demand: what is demanded, in words.
    :param broken: the rows that break it.
    :param reason: what to say of such a row; ``{field}`` is the row's value.
    """

    name: str
    demand: str
    broken: Callable[[Received], Mask]
    reason: str


@dataclass(frozen=True)
class Gated:
    """The rows of one answer, told apart. Each received row is in exactly one of the two, in the order received.

    :param good: columns of ``dataset.received``.
    :param bad: the same columns as received, and ``reasons``: every rule the row breaks, joined by ``; ``.
    """

    good: pa.Table
    bad: pa.Table


def present(field: str) -> Rule:
    return Rule(f"{field}_present", f"{field} is there", lambda r: pc.is_null(r[field]), f"{field} is {{{field}}}")


def finite(field: str, *, required: bool = False) -> Rule:
    def broken(received: Received) -> Mask:
        return pc.fill_null(pc.invert(pc.is_finite(received[field])), required)

    demand = "is there and a finite number" if required else "is a finite number where present"
    return Rule(f"{field}_finite", f"{field} {demand}", broken, f"{field} is {{{field}}}")


def storable(field: str) -> Rule:
    def broken(received: Received) -> Mask:
        return pc.and_(pc.is_finite(received[field]), pc.greater_equal(pc.abs(received[field]), LIMIT))

    return Rule(f"{field}_storable", f"{field} is below {LIMIT:g}", broken, f"{field} {{{field}}} not below {LIMIT:g}")


def positive(field: str) -> Rule:
    name, demand = f"{field}_positive", f"{field} is at least {SMALLEST:g}"
    return Rule(name, demand, lambda r: pc.less(r[field], SMALLEST), f"{field} {{{field}}} below {SMALLEST:g}")


def not_negative(field: str) -> Rule:
    return Rule(f"{field}_not_negative", f"{field} is 0 or above", lambda r: pc.less(r[field], 0.0), f"{field} {{{field}}} below 0")


def not_below(field: str, floor: str) -> Rule:
    return Rule(
        f"{field}_not_below_{floor}",
        f"{field} is at least {floor}",
        lambda r: pc.less(r[field], r[floor]),
        f"{field} {{{field}}} below {floor} {{{floor}}}",
    )


def not_above(field: str, ceiling: str) -> Rule:
    return Rule(
        f"{field}_not_above_{ceiling}",
        f"{field} is at most {ceiling}",
        lambda r: pc.greater(r[field], r[ceiling]),
        f"{field} {{{field}}} above {ceiling} {{{ceiling}}}",
    )


def _stranger(received: Received) -> Mask:
    asked = pc.is_in(received["symbol"], pa.array(received.request.symbols, pa.string()))
    return pc.and_not(pc.is_valid(received["symbol"]), asked)


def _outside(received: Received) -> Mask:
    return pc.is_in(received["session"], pa.array(received.strange_sessions[0], pa.date32()))


def _no_session(received: Received) -> Mask:
    return pc.is_in(received["session"], pa.array(received.strange_sessions[1], pa.date32()))


def _off_midnight(received: Received) -> Mask:
    return pc.not_equal(received["bar_time"], received["session"].cast(pa.timestamp("us")).cast(received["bar_time"].type))


WHICH_BAR = (
    present("symbol"),
    present("session"),
    present("bar_time"),
    Rule("symbol_asked", "symbol is one that was asked for", _stranger, "symbol {symbol} not asked for"),
    Rule("session_asked", "session is inside the request", _outside, "session {session} outside the request"),
    Rule("session_of_exchange", "session is a trading day", _no_session, "session {session} not a session of the exchange"),
)
DAILY = (
    Rule(
        "bar_time_of_session",
        "bar_time is 00:00 UTC of the session",
        _off_midnight,
        "bar_time {bar_time} not 00:00 UTC of session {session}",
    ),
)
OHLCV = (
    *(finite(field, required=True) for field in PRICES),
    *(finite(field) for field in ("adj_close", "volume", "vwap")),
    *(storable(field) for field in (*PRICES, "adj_close", "volume", "vwap")),
    *(positive(field) for field in PRICES),
    not_below("high", "low"),
    not_above("open", "high"),
    not_below("open", "low"),
    not_above("close", "high"),
    not_below("close", "low"),
    not_negative("volume"),
)
COPIES = (
    Rule("duplicate_row", "no row comes twice; one copy lands", lambda r: r.copies[0], "duplicate row"),
    Rule("conflicting_duplicate", "no key has two sets of values; no copy lands", lambda r: r.copies[1], "conflicting duplicate"),
)

RULES: dict[str, tuple[Rule, ...]] = {"ohlcv-1d": (*WHICH_BAR, *DAILY, *OHLCV, *COPIES)}


def gate(dataset: Dataset, rows: pa.Table, request: Request, sessions: Sequence[date]) -> Gated:
    """Tell good rows from bad ones.

    :param rows: what the hook returned: the columns of ``dataset.received``; others are left aside.
    :param request: what was asked: its symbols and half-open intervals are the only ones allowed.
    :param sessions: the exchange's sessions, at least those inside the request.
    :raises SchemaDrift: if a column is missing or of another type; names all of them.
    :raises ConfigError: if there are no rules for the dataset.
    """
    if dataset.name not in RULES:
        raise ConfigError(f"the gate has no rules for dataset {dataset.name!r}; datasets with rules: {', '.join(sorted(RULES))}")
    received = Received(dataset, conform(rows, dataset), request, sessions)
    rows = received.rows
    broken: dict[Rule, Mask] = {}
    for rule in RULES[dataset.name]:
        mask = pc.fill_null(rule.broken(received), False)
        if pc.any(mask).as_py():
            broken[rule] = mask
    if not broken:
        return Gated(_declared(rows, dataset), rows.slice(0, 0).append_column("reasons", pa.array([], pa.string())))
    bad = reduce(pc.or_, broken.values())
    bad_rows = rows.filter(bad)
    said = [pc.if_else(pc.filter(mask, bad), render(rule.reason, bad_rows), None) for rule, mask in broken.items()]
    reasons = pc.binary_join_element_wise(*said, "; ", null_handling="skip")
    return Gated(_declared(rows.filter(pc.invert(bad)), dataset), bad_rows.append_column("reasons", reasons))


def conform(rows: pa.Table, dataset: Dataset) -> pa.Table:
    """The columns of ``dataset.received``, in order, nullable: what is null in them is for the rules to say.

    :raises SchemaDrift: if a column is missing, there twice, or of another type; names all of them.
    """
    problems = []
    for field in dataset.received:
        found = rows.schema.get_all_field_indices(field.name)
        if len(found) != 1:
            problems.append(f"column {field.name} is " + ("there more than once" if found else "missing"))
        elif rows.schema.field(found[0]).type != field.type:
            problems.append(f"column {field.name} is {rows.schema.field(found[0]).type}, {field.type} needed")
    if problems:
        raise SchemaDrift(f"{dataset.name} as received: {'; '.join(problems)}; columns needed: {', '.join(dataset.received.names)}")
    names = dataset.received.names
    return pa.table([rows[name] for name in names], names=names)


def render(template: str, rows: pa.Table) -> pa.Array:
    """``template`` filled in for each row: ``{field}`` becomes the row's value."""
    parts: list[Any] = [pa.repeat("", rows.num_rows)]
    for literal, field, _, _ in Formatter().parse(template):
        parts.append(literal)
        if field is not None:
            parts.append(_text(rows[field]))
    return pc.binary_join_element_wise(*parts, "")


def _text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    text = pc.strftime(values, format="%Y-%m-%dT%H:%M:%SZ") if pa.types.is_timestamp(values.type) else values.cast(pa.string())
    return pc.fill_null(text, "null")


def _declared(rows: pa.Table, dataset: Dataset) -> pa.Table:
    return pa.table(rows.columns, schema=dataset.received)
