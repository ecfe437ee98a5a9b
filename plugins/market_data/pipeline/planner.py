"""Plan the requests and batches that fetch the missing cells with the fewest calls.

Everything here is pure: the same cells, endpoints and quota give the same plan, and its cost is known before any call.

**Fewest calls.** Market-wide and per-symbol endpoints of a provider are combined by ``cheapest_cover.py``.

A call of a multi-symbol endpoint returns a page of many symbols over many sessions. The missing cells are split into rectangles that one
task can hold in memory, of the size that leaves the fewest pages half full. If a provider has both kinds, the cheaper plan is used.

Missing cells are passed as bit masks: for each symbol an int whose bit ``i`` is set if its cell of ``sessions[i]`` is missing.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import reduce
from operator import or_
from typing import Any, TypeVar

from market_data.core.batch import Batch, Block, spec_hash
from market_data.core.capabilities import Capabilities, Endpoint, Shape
from market_data.core.errors import ParamError
from market_data.core.intervals import IntervalSet, closed, coalesce
from market_data.pipeline.cheapest_cover import cover, holders, span, spells_of, unavailable

T = TypeVar("T")

MAX_BATCHES = 1024
"""Airflow's default ``[core] max_map_length``: more mapped tasks than this fail the plan."""


MOST_SESSIONS = 21
"""Sessions of a batch of market-wide requests: a month. A lasting failure fails no more of them."""


@dataclass(frozen=True)
class Plan:
    """The batches of a run, with their cost.

    :param batches: one per mapped task.
    :param calls_per_minute: the account's rate for all these calls with one pool slot.
    """

    batches: tuple[Batch, ...]
    calls_per_minute: float

    @property
    def cells(self) -> int:
        return sum(batch.cells for batch in self.batches)

    @property
    def calls(self) -> int:
        return sum(batch.calls for batch in self.batches)

    @property
    def rows(self) -> int:
        """Maximum number of rows expected."""
        return sum(batch.rows for batch in self.batches)

    @property
    def minutes(self) -> float:
        """Minutes that the calls take at the sustained rate of one slot."""
        return self.calls / self.calls_per_minute

    def estimate(self) -> dict[str, Any]:
        """Return the totals that a dry run shows."""
        return {
            "batches": len(self.batches),
            "cells": self.cells,
            "calls": self.calls,
            "rows": self.rows,
            "minutes": round(self.minutes, 1),
        }

    def explain(self) -> str:
        """Return a table of the batches with calls, minutes and rows of each, and the totals."""
        header = f"{'batch':<34} {'endpoint':<10} {'symbols':>8} {'cells':>9} {'calls':>7} {'minutes':>8} {'rows':>9}"
        lines = [header, "-" * len(header)]
        for batch in self.batches:
            minutes = batch.calls / self.calls_per_minute
            lines.append(
                f"{batch.label:<34} {batch.endpoint:<10} {len(batch.symbols):>8,} {batch.cells:>9,} {batch.calls:>7,} "
                f"{minutes:>8.1f} {batch.rows:>9,}"
            )
        lines.append("-" * len(header))
        lines.append(f"{f'{len(self.batches)} batches':<54} {self.cells:>9,} {self.calls:>7,} {self.minutes:>8.1f} {self.rows:>9,}")
        return "\n".join(lines)


def make_plan(
    dataset: str,
    missing: Mapping[str, int],
    sessions: Sequence[date],
    capabilities: Capabilities,
    *,
    batch_size: int = 25,
    endpoint: str = "auto",
    file_grain: str = "day",
    refetch: bool = False,
    now: datetime | None = None,
    members: Mapping[str, int] | None = None,
) -> Plan:
    """Return the plan that fetches every missing cell, and no other, with the fewest calls.

    :param dataset: dataset name, copied into the batches.
    :param missing: symbol -> bit mask of missing cells over ``sessions``.
    :param sessions: all relevant sessions, ascending; intervals extend over the dates between two neighbours.
    :param batch_size: maximum symbols per batch of per-symbol or multi-symbol requests.
    :param endpoint: ``auto``, or the name of the only endpoint to use.
    :param file_grain: with ``year``, each symbol is requested over all its sessions, so that one request writes a whole object.
    :param refetch: copied into the batches.
    :param members: symbol -> bit mask of the sessions in which it belongs to the universe; all sessions for a symbol that is left out.
        No request extends over sessions outside.
    :param now: UTC; sessions that an endpoint does not have yet are not requested from it. None: it has all.
    :raises ParamError: if the provider has no such ``endpoint`` for that grain, or the plan exceeds 1,024 batches.
    """
    usable = choose_endpoints(capabilities.endpoints, endpoint, file_grain)
    missing = {symbol: mask for symbol, mask in missing.items() if mask}
    spells = {symbol: mask for symbol, mask in (members or {}).items() if symbol in missing}
    apart = {symbol: mask for symbol, mask in spells.items() if (mask + (mask & -mask)) & mask}
    window = capabilities.quota.window_calls
    plans = []
    covering = {shape: next((e for e in usable if e.shape is shape), None) for shape in (Shape.MARKET, Shape.SYMBOL)}
    if any(covering.values()):
        market, symbol = covering[Shape.MARKET], covering[Shape.SYMBOL]
        by_symbol, by_session = cover(missing, market, symbol, unavailable(market, sessions, now), apart)
        drafts = [
            *_market_drafts(by_session, sessions, market, window),
            *_symbol_drafts(by_symbol, sessions, symbol, batch_size, apart),
        ]
        plans.append((usable.index(market or symbol or usable[0]), drafts))
    plans += [
        (place, list(_multi_drafts(missing, sessions, e, batch_size, file_grain, spells)))
        for place, e in enumerate(usable)
        if e.shape is Shape.MULTI
    ]
    found = [
        (sum(used.weight * _calls(used, block, sessions) for used, blocks in drafts for block in blocks), place, drafts)
        for place, drafts in plans
    ]
    _, _, drafts = min(found, key=lambda plan: plan[:2])
    if len(drafts) > MAX_BATCHES:
        raise ParamError(
            [
                f"the run needs {len(drafts):,} batches; at most {MAX_BATCHES:,} fit into one run: "
                "request fewer dates or symbols, or raise batch_size"
            ]
        )
    batches = []
    for number, (used, blocks) in enumerate(drafts):
        cells = sum(len(block.symbols) * _sessions_in(block.intervals, sessions) for block in blocks)
        digest = spec_hash(dataset, used.name, blocks)[:8]
        batches.append(
            Batch(
                id=f"b{number:03d}-{digest}",
                dataset=dataset,
                endpoint=used.name,
                shape=used.shape,
                blocks=blocks,
                cells=cells,
                calls=sum(_calls(used, block, sessions) for block in blocks),
                rows=cells * used.rows_per_session,
                refetch=refetch,
                of=len(drafts),
            )
        )
    return Plan(tuple(batches), capabilities.quota.calls_per_minute(sum(batch.calls for batch in batches)))


def choose_endpoints(endpoints: Sequence[Endpoint], wanted: str, file_grain: str = "day") -> list[Endpoint]:
    """Return the endpoints that may be used, best first.

    :raises ParamError: if ``wanted`` is neither ``auto`` nor the name of one, or if ``file_grain`` is ``year`` and no endpoint serves
        single symbols.
    """
    usable = [e for e in endpoints if file_grain != "year" or e.shape is not Shape.MARKET]
    names = [endpoint.name for endpoint in usable]
    if not usable:
        raise ParamError(
            [f"file_grain is {file_grain!r}; the provider has no endpoint that serves a symbol by itself; allowed: day"]
        )
    if wanted != "auto" and wanted not in names:
        only = "" if file_grain != "year" else f" with file_grain {file_grain!r}"
        raise ParamError([f"endpoint is {wanted!r}; allowed{only}: auto, {', '.join(names)}"])
    return [endpoint for endpoint in usable if wanted in ("auto", endpoint.name)]


def _market_drafts(
    masks: Mapping[str, int], sessions: Sequence[date], endpoint: Endpoint | None, window: int
) -> Iterator[tuple[Endpoint, tuple[Block, ...]]]:
    """Yield batches of consecutive sessions, one quota window each.

    ``MOST_SESSIONS`` at most, or more to keep to 1,024 batches.
    """
    if endpoint is None or not masks:
        return
    classes = {mask: place for place, mask in enumerate(dict.fromkeys(masks.values()))}
    wanted = list(holders(list(classes)))
    symbols: dict[tuple[int, ...], tuple[str, ...]] = {}
    for members in {members for _, members in wanted}:
        chosen = set(members)
        symbols[members] = tuple(symbol for symbol, mask in masks.items() if classes[mask] in chosen)
    size = max(min(window, MOST_SESSIONS), math.ceil(len(wanted) / MAX_BATCHES))
    for chunk in _chunks(wanted, size):
        axis = sessions[chunk[0][0] : chunk[-1][0] + 1]
        blocks: dict[tuple[int, ...], list[date]] = defaultdict(list)
        for bit, members in chunk:
            blocks[members].append(sessions[bit])
        yield endpoint, tuple(Block(symbols[members], coalesce(days, axis)) for members, days in blocks.items())


def _symbol_drafts(
    masks: Mapping[str, int], sessions: Sequence[date], endpoint: Endpoint | None, batch_size: int, apart: Mapping[str, int]
) -> Iterator[tuple[Endpoint, tuple[Block, ...]]]:
    """Yield batches of at most ``batch_size`` symbols, symbols with equal holes next to each other."""
    if endpoint is None or not masks:
        return
    page = _whole_pages(endpoint)
    keys = {(mask, apart.get(symbol, 0)) for symbol, mask in masks.items()}
    masks_of = {(mask, own): [piece for part in spells_of(mask, own) for piece in _pieces(part, page)] for mask, own in keys}
    order = {mask: place for place, mask in enumerate(dict.fromkeys(masks.values()))}
    ranked = sorted(masks, key=lambda symbol: order[masks[symbol]])
    holes: dict[int, IntervalSet] = {}
    for chunk in _chunks(ranked, batch_size):
        blocks: dict[IntervalSet, list[str]] = defaultdict(list)
        for symbol in chunk:
            for piece in masks_of[masks[symbol], apart.get(symbol, 0)]:
                if piece not in holes:
                    holes[piece] = _intervals(piece, sessions)
                blocks[holes[piece]].append(symbol)
        yield endpoint, tuple(Block(tuple(symbols), intervals) for intervals, symbols in blocks.items())


def _multi_drafts(
    masks: Mapping[str, int],
    sessions: Sequence[date],
    endpoint: Endpoint,
    batch_size: int,
    file_grain: str,
    members: Mapping[str, int],
) -> Iterator[tuple[Endpoint, tuple[Block, ...]]]:
    """Yield batches of rectangles of symbols with equal holes, each one request; small ones share a batch."""
    if endpoint.market_rows and masks:
        # A response has every symbol: requesting one group after another would return the same rows again.
        every = reduce(or_, masks.values())
        batch_size, masks = len(masks), {symbol: every & members.get(symbol, -1) for symbol in masks}
    classes: dict[tuple[int, int], list[str]] = defaultdict(list)
    for symbol, mask in masks.items():
        classes[mask, members.get(symbol, 0)].append(symbol)
    # Only holes in the membership divide a request, not how long it is.
    parts: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for (mask, own), symbols in classes.items():
        parts[tuple(spells_of(mask, own))] += symbols
    blocks = []
    for mask, symbols in ((mask, symbols) for masks_apart, symbols in parts.items() for mask in masks_apart):
        wide, long = _rectangle(len(symbols), span(mask), endpoint, batch_size, whole=file_grain == "year")
        pieces = [_intervals(piece, sessions) for piece in _pieces(mask, long)]
        blocks += [Block(tuple(part), piece) for part in _chunks(symbols, wide) for piece in pieces]
    drafts: list[list[Block]] = []
    room = 0
    for block in blocks:
        rows = len(block.symbols) * _sessions_in(_hull(block), sessions) * endpoint.rows_per_session
        known = {symbol for other in (drafts[-1] if drafts else ()) for symbol in other.symbols}
        if not drafts or rows > room or len(known.union(block.symbols)) > batch_size:
            drafts.append([])
            room = endpoint.request_rows
        drafts[-1].append(block)
        room -= rows
    for chunk in _chunks(drafts, max(1, math.ceil(len(drafts) / MAX_BATCHES))):
        yield endpoint, tuple(block for draft in chunk for block in draft)


def _rectangle(symbols: int, sessions: int, endpoint: Endpoint, batch_size: int, *, whole: bool) -> tuple[int, int]:
    """Return the symbols and sessions per request that need the fewest calls, then the fewest requests.

    :param whole: do not split symbols by dates, as far as memory allows.
    """
    import numpy as np

    widest = min(symbols, batch_size, endpoint.max_symbols or symbols)
    longest = min(sessions, _sessions_of(endpoint.max_days) or sessions)
    if endpoint.market_rows:
        return widest, longest
    fits = endpoint.request_rows // endpoint.rows_per_session  # cells
    if widest * longest <= fits:
        return widest, longest
    longest = min(longest, _sessions_of(endpoint.chunk_days) or longest, max(1, fits))
    if whole:
        return max(1, min(widest, fits // longest)), longest
    long = np.arange(1, longest + 1)

    def calls(some: int, days: Any) -> Any:
        return -(-some * days * endpoint.rows_per_session // endpoint.page_rows)

    columns, later = sessions // long, sessions % long
    best = (math.inf, math.inf, 1, 1)
    for wide in range(1, widest + 1):
        rows, more = divmod(symbols, wide)
        total = rows * (columns * calls(wide, long) + calls(wide, later)) + columns * calls(more, long) + calls(more, later)
        parts = -(-symbols // wide) * -(-sessions // long)
        possible = (wide * long <= fits) | (wide * long == 1)
        place = int(np.lexsort((parts, total, ~possible))[0])
        if possible[place]:
            best = min(best, (float(total[place]), float(parts[place]), wide, int(long[place])))
    return best[2], best[3]


def _sessions_of(days: int | None) -> int | None:
    """Return the number of sessions that fit into ``days`` calendar days: five of seven."""
    return None if days is None else max(1, days * 5 // 7)


def _whole_pages(endpoint: Endpoint) -> int:
    """Return the number of sessions per per-symbol request: as many as memory allows, in whole pages."""
    fits = max(1, endpoint.request_rows // endpoint.rows_per_session)
    page = max(1, endpoint.page_rows // endpoint.rows_per_session)
    fits = fits // page * page or fits
    return min(fits, _sessions_of(endpoint.max_days) or fits)


def _pieces(mask: int, long: int) -> list[int]:
    """Split ``mask`` into spans of ``long`` sessions, from its first bit on; drop empty spans."""
    first = (mask & -mask).bit_length() - 1
    cuts = (mask & (((1 << long) - 1) << start) for start in range(first, mask.bit_length(), long))
    return [piece for piece in cuts if piece]


def _intervals(mask: int, sessions: Sequence[date]) -> IntervalSet:
    return coalesce([day for bit, day in enumerate(sessions) if mask >> bit & 1], sessions)


def _hull(block: Block) -> IntervalSet:
    """Return the whole span of a block, holes included, which one request covers."""
    return (closed(block.intervals[0].start, block.intervals[-1].last),)


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _sessions_in(intervals: IntervalSet, sessions: Sequence[date]) -> int:
    return sum(bisect_left(sessions, interval.end) - bisect_left(sessions, interval.start) for interval in intervals)


def _calls(endpoint: Endpoint, block: Block, sessions: Sequence[date]) -> int:
    if endpoint.shape is Shape.MARKET:
        return endpoint.calls(_sessions_in(block.intervals, sessions))
    span = _sessions_in(_hull(block), sessions)
    if endpoint.shape is Shape.MULTI:
        return endpoint.calls(span, len(block.symbols))
    return len(block.symbols) * endpoint.calls(span)
