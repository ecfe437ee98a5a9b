"""Choose what to request by symbol and what by session, with the fewest calls for all missing cells.

A call of a market-wide endpoint returns one session of every symbol; a call of a per-symbol endpoint returns every session of one
symbol. So a plan must cover each missing cell by its session or by its symbol: a vertex cover of the bipartite graph of symbols and
sessions whose edges are the missing cells. The cheapest one is a minimum cut (König's theorem, weighted form), computed on classes of
symbols with equal holes and of sessions with equal symbols, so that the graph stays small.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import reduce
from operator import or_

from market_data.core.capabilities import Endpoint


def cover(
    missing: Mapping[str, int], market: Endpoint | None, symbol: Endpoint | None, unavailable: int
) -> tuple[dict[str, int], dict[str, int]]:
    """Split the missing cells into those to request by symbol and those by session, as masks per symbol.

    :param unavailable: sessions that the market-wide endpoint does not have yet.
    """
    if not missing or market is None:
        return dict(missing), {}
    if symbol is None:
        return {}, dict(missing)
    by_symbol, by_session = _cheapest_cover({name: mask & ~unavailable for name, mask in missing.items()}, market, symbol)
    late = {name: by_symbol.get(name, 0) | mask & unavailable for name, mask in missing.items()}
    return {name: mask for name, mask in late.items() if mask}, by_session


def _cheapest_cover(missing: Mapping[str, int], market: Endpoint, symbol: Endpoint) -> tuple[dict[str, int], dict[str, int]]:
    missing = {name: mask for name, mask in missing.items() if mask}
    if not missing:
        return {}, {}
    classes: dict[int, list[str]] = defaultdict(list)
    for name, mask in missing.items():
        classes[mask].append(name)
    masks = list(classes)
    columns: dict[tuple[int, ...], int] = defaultdict(int)
    for bit, members in holders(masks):
        columns[members] |= 1 << bit
    symbol_calls = [len(classes[mask]) * symbol.calls(span(mask)) for mask in masks]
    session_calls = [market.calls(column.bit_count()) for column in columns.values()]
    asked_by_symbol = _minimum_cover(symbol_calls, session_calls, list(columns))
    by_symbol = {name: mask for k, mask in enumerate(masks) if k in asked_by_symbol for name in classes[mask]}
    by_session = {name: mask for name, mask in missing.items() if name not in by_symbol}
    return by_symbol, by_session


def _minimum_cover(left: Sequence[int], right: Sequence[int], edges: Sequence[tuple[int, ...]]) -> set[int]:
    """Return the left vertices of a cheapest vertex cover of a bipartite graph; ties prefer the left.

    :param left: cost of each left vertex.
    :param right: cost of each right vertex.
    :param edges: for each right vertex, the left vertices connected to it.
    """
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    source, sink = len(left) + len(right), len(left) + len(right) + 1
    ends = [(k, len(left) + j) for j, members in enumerate(edges) for k in members]
    heads = np.array([source] * len(left) + [k for k, _ in ends] + list(range(len(left), source)))
    tails = np.array(list(range(len(left))) + [j for _, j in ends] + [sink] * len(right))
    unlimited = sum(left) + sum(right) + 1
    capacity = np.array([*left, *[unlimited] * len(ends), *right], dtype=np.int32)
    graph = coo_array((capacity, (heads, tails)), shape=(sink + 1, sink + 1)).tocsr()
    residual = graph - maximum_flow(graph, source, sink).flow
    residual.eliminate_zeros()
    reached = set(breadth_first_order(residual, source, return_predecessors=False).tolist())
    return set(range(len(left))) - reached


def unavailable(endpoint: Endpoint | None, sessions: Sequence[date], now: datetime | None) -> int:
    """Return the sessions, as a bit mask, that ``endpoint`` does not have yet."""
    if endpoint is None or now is None or not endpoint.available_after:
        return 0
    latest = (now - timedelta(seconds=endpoint.available_after)).date()
    return sum(1 << bit for bit, session in enumerate(sessions) if session > latest)


def holders(masks: Sequence[int]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield every bit that is set in any mask, ascending, and the places of the masks in which it is set."""
    # Neighbouring bits mostly have the same holders: they are collected again only where a run of bits begins or ends.
    every = reduce(or_, masks, 0)
    turns = reduce(or_, (mask ^ mask << 1 for mask in masks), 0)
    members: tuple[int, ...] = ()
    for bit in range(every.bit_length()):
        if turns >> bit & 1:
            members = tuple(place for place, mask in enumerate(masks) if mask >> bit & 1)
        if members:
            yield bit, members


def span(mask: int) -> int:
    """Return the number of sessions from the first to the last missing one, which one request covers."""
    return mask.bit_length() - ((mask & -mask).bit_length() - 1)
