"""The value types that pass between the parts, frozen and serialisable.

Dates are exchange dates; intervals are half-open; moments are UTC. ``to_json``/``from_json`` give what an XCom carries: plain
dicts, small, without secrets. Nothing heavy is imported here.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from market_data.interval import Interval, IntervalSet, closed, union


class State(StrEnum):
    """What is known of a cell. A cell without any state is missing; only a missing cell is planned."""

    HAVE = "have"
    EMPTY = "empty"
    QUARANTINED = "quarantined"
    REFUSED = "refused"
    PENDING = "pending"


class Shape(StrEnum):
    """What one call of an endpoint can answer."""

    SYMBOL = "symbol"  # one symbol, a range of sessions
    MULTI = "multi"  # many symbols, a range of sessions
    MARKET = "market"  # every symbol, one session


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A provider's way to serve a dataset.

    :param name: the provider's word for it, what the run param ``endpoint`` takes, e.g. ``grouped``.
    :param shape: what one call can answer.
    :param page_rows: most rows one page holds; a request takes ``ceil(rows / page_rows)`` calls.
    :param rows_per_session: rows that a symbol has in a session at most, as pages count them (1 for daily bars).
    :param chains: call chains that one request takes: three statements in two periods are six.
    :param request_rows: most rows one request should bring, for memory's sake; the plan cuts symbols and dates so.
    :param max_symbols: most symbols a request may name.
    :param market_rows: rows of all symbols together that one chain has in a session, where an answer has every symbol, whichever are
        asked: then requests are not cut by symbols. 0: an answer has the asked ones only.
    :param weight: what a call is counted as when kinds of endpoints are compared: one that brings a file of the whole market is no
        match for a small one.
    :param chunk_days: calendar days of a request where it would bring more than ``request_rows`` otherwise.
    :param max_days: calendar days that a request may span in any case.
    :param available_after: seconds from midnight UTC after a session's date until this endpoint has it, where that is later than the
        plan's others.
    """

    name: str
    shape: Shape
    page_rows: int = 50_000
    rows_per_session: int = 1
    chains: int = 1
    request_rows: int = 400_000
    max_symbols: int | None = None
    market_rows: int = 0
    weight: int = 1
    chunk_days: int | None = None
    max_days: int | None = None
    available_after: float = 0.0

    def calls(self, sessions: int, symbols: int = 1) -> int:
        """Calls that one request for ``symbols`` over ``sessions`` sessions takes."""
        if self.shape is Shape.MARKET:
            return sessions * self.chains
        if self.market_rows:
            return self.chains * max(1, min(symbols, math.ceil(sessions * self.market_rows / self.page_rows)))
        return self.chains * max(1, math.ceil(symbols * sessions * self.rows_per_session / self.page_rows))


@dataclass(frozen=True, slots=True)
class Option:
    """A provider's own setting, as feeds and the trigger form have it.

    :param schema: JSON schema of the value: ``type``, ``enum``, ``pattern``, ``minimum``, ``maximum``.
    :param description: what the form says of it.
    :param datasets: those that it is for; none named: all.
    :param variant: a value other than the default changes what comes, so its rows are kept apart: ``alpaca~iex``.
    :param refused: values that a user may well try -> why they are none.
    """

    default: str | int | float | None
    schema: Mapping[str, Any]
    description: str
    variant: bool = True
    refused: Mapping[str, str] = field(default_factory=dict)
    datasets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """At most ``calls`` calls in any ``seconds`` seconds."""

    calls: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Quota:
    """What an account may do: the rate of one pool slot and, over all slots, the vendor's own windows.

    :param calls_per_minute_per_slot: rate of a task that holds one slot of the provider's pool.
    :param limits: windows that hold for the whole account, all at once; empty where the vendor sets none.
    """

    calls_per_minute_per_slot: float
    limits: tuple[Window, ...] = ()

    def calls_per_minute(self, calls: int) -> float:
        """The rate at which so many calls go with one slot. A window that holds all of them, as a day's may, slows none."""
        return min([self.calls_per_minute_per_slot, *(60 * w.calls / w.seconds for w in self.limits if w.calls < calls)])

    @property
    def window_calls(self) -> int:
        """Calls of the narrowest window: how many make up one quota window."""
        return min((w.calls for w in self.limits), default=max(1, round(self.calls_per_minute_per_slot)))


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can do for one dataset on one plan.

    :param endpoints: best first.
    :param quota: the account's.
    :param history_start: first session the plan has, or None where it has all.
    :param available_after: seconds from midnight UTC after a session's date until the plan has it.
    """

    endpoints: tuple[Endpoint, ...]
    quota: Quota
    history_start: date | None = None
    available_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """One call chain: what is asked of a provider in one go.

    It covers the cells ``symbols`` x the sessions inside ``intervals``; where ``intervals`` has holes, the provider is asked for
    the whole span in one go and rows in the holes are left aside.
    """

    dataset: str
    endpoint: str
    symbols: tuple[str, ...]
    intervals: IntervalSet

    @property
    def start(self) -> date:
        """First date, inclusive."""
        return self.intervals[0].start

    @property
    def last(self) -> date:
        """Last date, inclusive."""
        return self.intervals[-1].last

    @property
    def id(self) -> str:
        """A hash of what is asked: equal requests have equal ids."""
        spec = [self.dataset, self.endpoint, self.symbols, [i.to_json() for i in self.intervals]]
        return hashlib.sha256(json.dumps(spec).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        symbols = self.symbols[0] if len(self.symbols) == 1 else f"{len(self.symbols)} symbols"
        dates = f"{self.start}" if self.start == self.last else f"{self.start}..{self.last}"
        return f"{self.endpoint} {symbols} {dates}"


@dataclass(frozen=True, slots=True)
class Block:
    """A rectangle of cells: every one of ``symbols`` in every session inside ``intervals``."""

    symbols: tuple[str, ...]
    intervals: IntervalSet

    def to_json(self) -> dict[str, Any]:
        return {"symbols": list(self.symbols), "intervals": [interval.to_json() for interval in self.intervals]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Block:
        return cls(tuple(value["symbols"]), tuple(Interval.from_json(i) for i in value["intervals"]))


@dataclass(frozen=True, slots=True)
class Batch:
    """What one mapped task does: requests of one endpoint for the cells of ``blocks``.

    :param id: ``b``, its number in the plan, and a hash of what it asks: unique across runs that ask for different things, equal
        where the same is asked again.
    :param dataset: e.g. ``ohlcv-1d``.
    :param cells: cells it asks for.
    :param calls: calls it will take.
    :param rows: rows it may bring at most.
    :param refetch: the cells are asked again (``force`` or a clear), so objects may stand already.
    :param of: how many batches the plan has.
    """

    id: str
    dataset: str
    endpoint: str
    shape: Shape
    blocks: tuple[Block, ...]
    cells: int
    calls: int
    rows: int
    refetch: bool = False
    of: int = 1

    @property
    def number(self) -> int:
        """Its place in the plan, from 1."""
        return int(self.id[1:].split("-")[0]) + 1

    @property
    def symbols(self) -> tuple[str, ...]:
        """All its symbols, each once, in the order of the blocks."""
        return tuple(dict.fromkeys(symbol for block in self.blocks for symbol in block.symbols))

    @property
    def intervals(self) -> IntervalSet:
        """All its dates."""
        return union(interval for block in self.blocks for interval in block.intervals)

    @property
    def label(self) -> str:
        """What the grid shows: the number, and sessions or symbols."""
        number = self.id.split("-")[0]
        if self.shape is Shape.MARKET:
            first, last = self.intervals[0].start, self.intervals[-1].last
            return f"{number} {first}" if first == last else f"{number} {first}..{last}"
        symbols = self.symbols
        dates = f" {self.intervals[0].start}..{self.intervals[-1].last}" if self.shape is Shape.MULTI else ""
        return f"{number} {symbols[0]}" + (f" +{len(symbols) - 1}" if len(symbols) > 1 else "") + dates

    @property
    def spec_hash(self) -> str:
        """A hash of what is asked, whatever the batch's place in the plan."""
        return spec_hash(self.dataset, self.endpoint, self.blocks)

    def requests(self, sessions: Sequence[date]) -> Iterator[Request]:
        """The requests of this batch, in order.

        :param sessions: the exchange's sessions, at least those inside ``intervals``, ascending.
        """
        for block in self.blocks:
            if self.shape is Shape.MARKET:
                for session in sessions:
                    if any(session in interval for interval in block.intervals):
                        yield Request(self.dataset, self.endpoint, block.symbols, (closed(session, session),))
            elif self.shape is Shape.MULTI:
                yield Request(self.dataset, self.endpoint, block.symbols, block.intervals)
            else:
                for symbol in block.symbols:
                    yield Request(self.dataset, self.endpoint, (symbol,), block.intervals)

    def to_json(self) -> dict[str, Any]:
        fields = ("id", "dataset", "endpoint", "cells", "calls", "rows", "refetch", "of", "label")
        return {
            **{name: getattr(self, name) for name in fields},
            "shape": str(self.shape),
            "blocks": [block.to_json() for block in self.blocks],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Batch:
        known = {name: item for name, item in value.items() if name != "label"}
        known["shape"] = Shape(known["shape"])
        known["blocks"] = tuple(Block.from_json(block) for block in known["blocks"])
        return cls(**known)


def spec_hash(dataset: str, endpoint: str, blocks: Sequence[Block]) -> str:
    """A hash of what is asked for."""
    spec = [dataset, endpoint, [block.to_json() for block in blocks]]
    return hashlib.sha256(json.dumps(spec).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why an answer is believed to be whole.

    :param calls: HTTP calls made, retries included.
    :param retries: of these, repeated ones.
    :param pages: pages that make up the answer.
    :param bytes: body bytes, decompressed.
    :param rows_received: rows in all pages, before anything was left aside.
    :param rows_declared: rows the provider said there are, or None where it does not say.
    :param last_page_seen: the provider said that no page follows.
    :param request_ids: the provider's ids, for a support ticket.
    :param source: the provider's word on where the values come from, where it gives one.
    """

    calls: int
    retries: int
    pages: int
    bytes: int
    rows_received: int
    rows_declared: int | None
    last_page_seen: bool
    request_ids: tuple[str, ...] = ()
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a batch; the XCom of a fetch task. What landed, row by row, is in the lake's receipt objects.

    :param batch_id: the plan's id of the batch.
    :param prefix: the lake folder that holds its receipt objects. Clearing one map index leaves the other batches' receipts where
        an earlier attempt put them, so each receipt says where its own are.
    :param cells: how many cells of the batch ended in each state.
    :param failed: symbol -> reason, for symbols that ended without a state.
    :param warnings: what the provider said beside the data.
    """

    batch_id: str
    prefix: str = ""
    calls: int = 0
    retries: int = 0
    bytes: int = 0
    rows_received: int = 0
    rows_landed: int = 0
    rows_quarantined: int = 0
    files_written: int = 0
    files_unchanged: int = 0
    requests_resumed: int = 0
    seconds: float = 0.0
    cells: Mapping[str, int] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        lists = {name: list(getattr(self, name)) for name in ("sources", "warnings")}
        return {**asdict(self), "cells": dict(self.cells), "failed": dict(self.failed), **lists}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Receipt:
        return cls(**{**value, **{name: tuple(value.get(name, ())) for name in ("sources", "warnings")}})


@dataclass(frozen=True, slots=True)
class Verdict:
    """The checkpoint's word on one partition.

    :param partition: a session's ISO date, or a symbol and a year: see ``quality.partitions``.
    :param passed: whether it may be loaded.
    :param reasons: the rules it broke, with the observed values; warnings too, when it passed.
    """

    partition: str
    passed: bool
    reasons: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"partition": self.partition, "passed": self.passed, "reasons": list(self.reasons)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Verdict:
        return cls(value["partition"], value["passed"], tuple(value["reasons"]))


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Which run this is: what deterministic keys and ids are made of.

    :param clear_number: how often the run was cleared; part of every resume key and load id.
    :param started: when the run was queued first, UTC.
    """

    dag_id: str
    run_id: str
    run_type: str
    clear_number: int
    started: datetime

    @property
    def key(self) -> str:
        """A short hash of dag and run, safe in object keys, and the clear number."""
        digest = hashlib.sha256(f"{self.dag_id}/{self.run_id}".encode()).hexdigest()[:16]
        return f"{digest}-{self.clear_number}"
