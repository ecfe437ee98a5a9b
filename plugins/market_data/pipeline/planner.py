"""Plan the requests and batches that fetch the missing cells with the fewest calls.

Everything here is pure: the same cells, endpoints and quota give the same plan, and its cost is known before any call.

**Fewest calls.** Market-wide and per-symbol endpoints of a provider are combined by ``cheapest_cover.py``.

The requests of multi-symbol endpoints are chosen by ``many_symbols.py``. If a provider has both kinds, the cheaper plan is used.

Missing cells are passed as bit masks: for each symbol an int whose bit ``i`` is set if its cell of ``sessions[i]`` is missing.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from market_data.core.batch import Batch, Block, Request, joined, spec_hash
from market_data.core.capabilities import Capabilities, Endpoint, Quota, Shape
from market_data.core.errors import ParamError
from market_data.core.intervals import IntervalSet, closed, coalesce
from market_data.pipeline.cheapest_cover import cover, holders, runs_of, span, symbol_requests, unavailable
from market_data.pipeline.many_symbols import chunks, groups_of, hull

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

    def counted(self, calls: Callable[[Request], int], quota: Quota) -> Plan:
        """Return the plan with the calls of each batch as ``calls`` counts them for its requests."""
        batches = tuple(replace(batch, calls=sum(map(calls, batch.requests(batch.sessions)))) for batch in self.batches)
        return Plan(batches, quota.calls_per_minute(sum(batch.calls for batch in batches)))

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
        (sum(used.weight * _calls(used, blocks, sessions) for used, blocks in drafts), place, drafts) for place, drafts in plans
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
                calls=_calls(used, blocks, sessions),
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
    for chunk in chunks(wanted, size):
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
    keys = {(mask, apart.get(symbol, 0)) for symbol, mask in masks.items()}
    masks_of = {(mask, own): symbol_requests(mask, endpoint, own) for mask, own in keys}
    order = {mask: place for place, mask in enumerate(dict.fromkeys(masks.values()))}
    ranked = sorted(masks, key=lambda symbol: order[masks[symbol]])
    holes: dict[int, IntervalSet] = {}
    for chunk in chunks(ranked, batch_size):
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
    """Yield batches of call chains of many symbols; small chains share a batch."""
    if endpoint.market_rows:  # a response has every symbol
        batch_size = len(masks)
    drafts: list[list[Block]] = []
    known: set[str] = set()
    room = 0
    for group in groups_of(masks, members, endpoint, batch_size, whole=file_grain == "year"):
        symbols = {symbol for names, _ in group for symbol in names}
        rows = len(symbols) * span(hull(group)) * endpoint.rows_per_session
        if not drafts or rows > room or len(known | symbols) > batch_size:
            drafts.append([])
            known, room = set(), endpoint.request_rows
        drafts[-1] += [Block(names, _intervals(mask, sessions), joined=place > 0) for place, (names, mask) in enumerate(group)]
        known |= symbols
        room -= rows
    for chunk in chunks(drafts, max(1, math.ceil(len(drafts) / MAX_BATCHES))):
        yield endpoint, tuple(block for draft in chunk for block in draft)


def _intervals(mask: int, sessions: Sequence[date]) -> IntervalSet:
    return tuple(closed(sessions[first], sessions[end - 1]) for first, end in runs_of(mask))


def _sessions_in(intervals: IntervalSet, sessions: Sequence[date]) -> int:
    return sum(bisect_left(sessions, interval.end) - bisect_left(sessions, interval.start) for interval in intervals)


def _calls(endpoint: Endpoint, blocks: Sequence[Block], sessions: Sequence[date]) -> int:
    """Return the calls of the blocks of a batch."""
    if endpoint.shape is Shape.MARKET:
        return sum(endpoint.calls(_sessions_in(block.intervals, sessions)) for block in blocks)
    if endpoint.shape is Shape.SYMBOL:
        return sum(len(block.symbols) * endpoint.calls(_span([block], sessions)) for block in blocks)
    return sum(
        endpoint.calls(_span(chain, sessions), len({symbol for block in chain for symbol in block.symbols}))
        for chain in joined(blocks)
    )


def _span(blocks: Sequence[Block], sessions: Sequence[date]) -> int:
    """Return the number of sessions that one request for ``blocks`` covers, holes included."""
    first, last = min(block.intervals[0].start for block in blocks), max(block.intervals[-1].last for block in blocks)
    return _sessions_in((closed(first, last),), sessions)
