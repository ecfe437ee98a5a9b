"""The units of a plan: requests to a provider, blocks of cells, and batches, one per mapped task.

``to_json`` and ``from_json`` convert to and from the content of an XCom: plain dicts, small, without secrets.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from market_data.core.calendar import Calendar, calendar
from market_data.core.capabilities import Shape
from market_data.core.instruments import calendar_of
from market_data.core.intervals import Interval, IntervalSet, closed, union


@dataclass(frozen=True, slots=True)
class Request:
    """One call chain to a provider.

    It covers the cells ``symbols`` x the sessions inside ``intervals``; where ``intervals`` has holes, the whole span is requested at
    once and rows in the holes are ignored. With ``parts`` it covers only their cells, and the other rows of its symbols are ignored.

    :param calendar_name: the calendar of its symbols, where their spelling does not tell it; they all have the same sessions.
    :param parts: the cells of symbols with different holes, if the provider returns them at once. Empty: all have the same.
    """

    dataset: str
    endpoint: str
    symbols: tuple[str, ...]
    intervals: IntervalSet
    calendar_name: str = ""
    parts: tuple[Block, ...] = ()

    @classmethod
    def of(cls, dataset: str, endpoint: str, blocks: Sequence[Block]) -> Request:
        """Return the request for the cells of ``blocks``, which have the same sessions."""
        symbols = tuple(dict.fromkeys(symbol for block in blocks for symbol in block.symbols))
        intervals = union(one for block in blocks for one in block.intervals)
        parts = tuple(replace(block, joined=False) for block in blocks) if len(blocks) > 1 else ()
        return cls(dataset, endpoint, symbols, intervals if parts else blocks[0].intervals, blocks[0].calendar_name, parts)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Its cells, each once."""
        return self.parts or (Block(self.symbols, self.intervals, self.calendar_name),)

    @property
    def calendar(self) -> Calendar:
        """The calendar of its symbols."""
        return calendar_for(self.calendar_name, self.symbols)

    @property
    def sessions(self) -> tuple[date, ...]:
        """The sessions of its cells, ascending."""
        return self.calendar.sessions_in(self.intervals)

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
        """A hash of the content: equal requests have equal ids."""
        spec: list[Any] = [self.dataset, self.endpoint, self.symbols, [i.to_json() for i in self.intervals]]
        spec += [self.calendar_name] if self.calendar_name else []
        spec += [[part.to_json() for part in self.parts]] if self.parts else []
        return hashlib.sha256(json.dumps(spec).encode()).hexdigest()[:16]

    def renamed(self, names: Mapping[str, str]) -> Request:
        """Return the request of some of its symbols, under other names and over the same span.

        :param names: symbol -> name, of those to keep.
        """
        parts = (replace(part, symbols=tuple(names[symbol] for symbol in part.symbols if symbol in names)) for part in self.parts)
        symbols = tuple(names[symbol] for symbol in self.symbols if symbol in names)
        return replace(self, symbols=symbols, parts=tuple(part for part in parts if part.symbols))

    def __str__(self) -> str:
        symbols = self.symbols[0] if len(self.symbols) == 1 else f"{len(self.symbols)} symbols"
        dates = f"{self.start}" if self.start == self.last else f"{self.start}..{self.last}"
        return f"{self.endpoint} {symbols} {dates}"


@dataclass(frozen=True, slots=True)
class Block:
    """A rectangle of cells: every one of ``symbols`` in every session inside ``intervals``.

    :param calendar_name: as in `Request`.
    :param joined: the request of the block before is for this one, too. Only of endpoints that return many symbols.
    """

    symbols: tuple[str, ...]
    intervals: IntervalSet
    calendar_name: str = ""
    joined: bool = False

    @property
    def sessions(self) -> tuple[date, ...]:
        """The sessions of its cells, ascending."""
        return calendar_for(self.calendar_name, self.symbols).sessions_in(self.intervals)

    def to_json(self) -> dict[str, Any]:
        more: dict[str, Any] = {"calendar": self.calendar_name} if self.calendar_name else {}
        more |= {"joined": True} if self.joined else {}
        return {"symbols": list(self.symbols), "intervals": [interval.to_json() for interval in self.intervals], **more}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Block:
        intervals = tuple(map(Interval.from_json, value["intervals"]))
        return cls(tuple(value["symbols"]), intervals, value.get("calendar", ""), value.get("joined", False))


@dataclass(frozen=True, slots=True)
class Batch:
    """The work of one mapped task: requests of one endpoint for the cells of ``blocks``.

    :param id: ``b``, the number in the plan, and a hash of the requested cells: unique across runs that request different cells, equal
        where the same cells are requested again.
    :param dataset: e.g. ``ohlcv-1d``.
    :param cells: number of requested cells.
    :param calls: number of calls planned.
    :param rows: maximum number of rows expected.
    :param refetch: the cells are requested again (``force`` or a clear), so their objects may exist already.
    :param of: number of batches in the plan.
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
        """The place in the plan, from 1."""
        return int(self.id[1:].split("-")[0]) + 1

    @property
    def symbols(self) -> tuple[str, ...]:
        """All symbols, each once, in the order of the blocks."""
        return tuple(dict.fromkeys(symbol for block in self.blocks for symbol in block.symbols))

    @property
    def intervals(self) -> IntervalSet:
        """All dates."""
        return union(interval for block in self.blocks for interval in block.intervals)

    @property
    def sessions(self) -> tuple[date, ...]:
        """The sessions of its cells, ascending."""
        return tuple(sorted({session for block in self.blocks for session in block.sessions}))

    @property
    def label(self) -> str:
        """The text in Airflow's grid: the number, and sessions or symbols."""
        number = self.id.split("-")[0]
        if self.shape is Shape.MARKET:
            first, last = self.intervals[0].start, self.intervals[-1].last
            return f"{number} {first}" if first == last else f"{number} {first}..{last}"
        symbols = self.symbols
        dates = f" {self.intervals[0].start}..{self.intervals[-1].last}" if self.shape is Shape.MULTI else ""
        return f"{number} {symbols[0]}" + (f" +{len(symbols) - 1}" if len(symbols) > 1 else "") + dates

    @property
    def spec_hash(self) -> str:
        """A hash of the requested cells, independent of the batch's place in the plan."""
        return spec_hash(self.dataset, self.endpoint, self.blocks)

    def requests(self, sessions: Sequence[date]) -> Iterator[Request]:
        """Yield the requests of this batch, in order.

        :param sessions: at least those of the batch, ascending, and none that only symbols of other batches have.
        """
        if self.shape is Shape.MULTI:
            yield from (Request.of(self.dataset, self.endpoint, blocks) for blocks in joined(self.blocks))
            return
        for block in self.blocks:
            if self.shape is Shape.MARKET:
                for interval in block.intervals:
                    for session in sessions[bisect_left(sessions, interval.start) : bisect_left(sessions, interval.end)]:
                        yield Request(self.dataset, self.endpoint, block.symbols, (closed(session, session),), block.calendar_name)
            else:
                for symbol in block.symbols:
                    yield Request(self.dataset, self.endpoint, (symbol,), block.intervals, block.calendar_name)

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


def joined(blocks: Sequence[Block]) -> Iterator[tuple[Block, ...]]:
    """Yield the blocks of each request, in order."""
    starts = [place for place, block in enumerate(blocks) if not (block.joined and place)]
    for start, end in zip(starts, [*starts[1:], len(blocks)], strict=True):
        yield tuple(blocks[start:end])


def spec_hash(dataset: str, endpoint: str, blocks: Sequence[Block]) -> str:
    """Return a hash of the requested cells."""
    spec = [dataset, endpoint, [block.to_json() for block in blocks]]
    return hashlib.sha256(json.dumps(spec).encode()).hexdigest()[:16]


def calendar_for(name: str, symbols: Sequence[str]) -> Calendar:
    """Return the calendar called ``name``; without a name that of ``symbols``, which share sessions."""
    return calendar(name) if name else calendar_of(symbols[0])
