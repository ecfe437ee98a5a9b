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

MOST_EDGES = 2_000_000
"""Missing cells of classes of symbols for which the cheapest cover is computed; beyond, a near one."""

Run = tuple[int, int]
"""The first of adjacent sessions, and the one after the last."""


def cover(
    missing: Mapping[str, int],
    market: Endpoint | None,
    symbol: Endpoint | None,
    unavailable: int,
    apart: Mapping[str, int] | None = None,
) -> tuple[dict[str, int], dict[str, int]]:
    """Split the missing cells into those to request by symbol and those by session, as masks per symbol.

    :param unavailable: sessions that the market-wide endpoint does not have yet.
    :param apart: symbol -> mask of its sessions in the universe, where it left and came back: each stay is a request of its own.
    """
    if not missing or market is None:
        return dict(missing), {}
    if symbol is None:
        return {}, dict(missing)
    available = {name: mask & ~unavailable for name, mask in missing.items()}
    by_symbol, by_session = _cheapest_cover(available, market, symbol, apart or {})
    late = {name: by_symbol.get(name, 0) | mask & unavailable for name, mask in missing.items()}
    return {name: mask for name, mask in late.items() if mask}, by_session


def _cheapest_cover(
    missing: Mapping[str, int], market: Endpoint, symbol: Endpoint, apart: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, int]]:
    missing = {name: mask for name, mask in missing.items() if mask}
    if not missing:
        return {}, {}
    groups: dict[tuple[int, int], list[str]] = defaultdict(list)
    for name, mask in missing.items():
        groups[mask, apart.get(name, 0)].append(name)
    requests = {key: symbol_requests(key[0], symbol, key[1]) for key in groups}
    if sum(mask.bit_count() for mask, _ in groups) > MOST_EDGES:
        costs = {key: sum(symbol.calls(span(part)) for part in parts) for key, parts in requests.items()}
        return _near_cover(missing, market, {name: float(costs[key]) for key, names in groups.items() for name in names})
    # Each of a symbol's calls may be replaced by sessions.
    classes: dict[int, list[str]] = defaultdict(list)
    for key, names in groups.items():
        for part in requests[key]:
            classes[part] += names
    columns: dict[tuple[int, ...], int] = defaultdict(int)
    for bit, members in holders(list(classes)):
        columns[members] |= 1 << bit
    symbol_calls = [len(names) * symbol.calls(span(part)) for part, names in classes.items()]
    session_calls = [market.calls(column.bit_count()) for column in columns.values()]
    asked_by_symbol = _minimum_cover(symbol_calls, session_calls, list(columns))
    by_symbol: dict[str, int] = defaultdict(int)
    for place, (part, names) in enumerate(classes.items()):
        for name in names if place in asked_by_symbol else ():
            by_symbol[name] |= part
    by_session = {name: mask & ~by_symbol.get(name, 0) for name, mask in missing.items()}
    return dict(by_symbol), {name: mask for name, mask in by_session.items() if mask}


def symbol_requests(mask: int, endpoint: Endpoint, own: int = 0) -> list[int]:
    """Split one symbol's missing sessions into requests with the fewest calls.

    From the first missing session on, each page covers as many sessions as it can hold. A page does not begin before the next missing
    session, so that long holes are left out. Neighbours are requested at once if that takes no more calls.

    :param own: mask of the symbol's sessions in the universe, where it left and came back: each stay is requested by itself. 0: none is.
    """
    page = max(1, endpoint.page_rows // endpoint.rows_per_session)
    longest = sessions_per_request(endpoint)
    found: list[int] = []
    for spell in spells_of(mask, own):
        first = len(found)
        rest = spell
        while rest:
            piece = rest & ((1 << min(page, longest)) - 1) * (rest & -rest)
            rest &= ~piece
            both = found[-1] | piece if len(found) > first else 0
            if (
                both
                and span(both) <= longest
                and endpoint.calls(span(both)) <= endpoint.calls(span(found[-1])) + endpoint.calls(span(piece))
            ):
                found[-1] = both
            else:
                found.append(piece)
    return found


def sessions_per_request(endpoint: Endpoint) -> int:
    """Return the number of sessions per per-symbol request: as many as memory allows, in whole pages."""
    fits = max(1, endpoint.request_rows // endpoint.rows_per_session)
    page = max(1, endpoint.page_rows // endpoint.rows_per_session)
    fits = fits // page * page or fits
    return min(fits, sessions_of(endpoint.max_days) or fits)


def _near_cover(missing: Mapping[str, int], market: Endpoint, costs: Mapping[str, float]) -> tuple[dict[str, int], dict[str, int]]:
    """Return a cheap split, not always the cheapest.

    It is the best of those that request by session all sessions with many symbols. For universes in which thousands of symbols have
    dates of their own: their graph has too many edges for a minimum cut.

    :param costs: calls of each symbol, requested by itself.
    """
    holding = _holder_counts(list(missing.values()))
    best: tuple[float, dict[str, int], dict[str, int]] | None = None
    for least in sorted({0, *(max(holding) * step // 20 for step in range(21)), max(holding) + 1, 1, 2, 3, 5, 10}):
        dense = sum(1 << bit for bit, count in enumerate(holding) if count >= least)
        by_symbol = {name: mask for name, mask in missing.items() if mask & ~dense}
        by_session = {name: mask for name, mask in missing.items() if not mask & ~dense}
        sessions = reduce(or_, by_session.values(), 0).bit_count()
        cost = sum(map(costs.__getitem__, by_symbol)) + (market.calls(sessions) if sessions else 0)
        if best is None or cost < best[0]:
            best = cost, by_symbol, by_session
    return (best[1], best[2]) if best else ({}, {})


def _holder_counts(masks: Sequence[int]) -> list[int]:
    """Return how many masks have each bit."""
    import numpy as np

    width = max(mask.bit_length() for mask in masks) + 7 >> 3
    counts = np.zeros(width * 8, dtype=np.int64)
    for start in range(0, len(masks), 1024):
        packed = np.frombuffer(b"".join(mask.to_bytes(width, "little") for mask in masks[start : start + 1024]), np.uint8)
        counts += np.unpackbits(packed.reshape(-1, width), axis=1, bitorder="little").sum(axis=0, dtype=np.int64)
    found: list[int] = counts.tolist()
    return found


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


def spells_of(mask: int, members: int) -> list[int]:
    """Split ``mask`` into its parts in each unbroken run of bits of ``members``; 0: it stays whole."""
    parts = []
    while members:
        low = members & -members
        run = members & ~(members + low)
        parts += [mask & run] if mask & run else []
        members ^= run
    return parts or [mask]


def runs_of(mask: int) -> Iterator[Run]:
    """Yield the runs of adjacent bits."""
    while mask:
        low = mask & -mask
        run = mask & ~(mask + low)
        yield low.bit_length() - 1, run.bit_length()
        mask ^= run


def sessions_of(days: int | None) -> int | None:
    """Return the number of sessions that fit into ``days`` calendar days: five of seven."""
    return None if days is None else max(1, days * 5 // 7)


def span(mask: int) -> int:
    """Return the number of sessions from the first to the last missing one, which one request covers."""
    return mask.bit_length() - ((mask & -mask).bit_length() - 1)
