"""Choose the requests of endpoints that return many symbols over many sessions, with the fewest calls.

A call chain returns a rectangle: some symbols, from a first to a last session. Missing cells seldom are one: symbols are listed late, and
each may lack sessions of its own. Cells of the rectangle that are not missing cost pages, but nothing else, so that symbols with different
holes share a chain. Three ways to form rectangles are computed, each the best of its kind, and the cheapest one is taken:

* by holes: symbols with equal holes are requested together.
* by dates: the sessions are cut into windows, and each is requested for the symbols that miss one of its sessions.
* by symbols: these are ordered by their first and last missing session, and neighbours are requested together over their whole span.

If a provider charges for the rows, no cell is requested that is not missing. See ``exact_groups``.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import pairwise
from operator import or_
from typing import TYPE_CHECKING, Any, TypeVar

from market_data.core.capabilities import Endpoint
from market_data.pipeline.cheapest_cover import Run, runs_of, sessions_of, span, spells_of

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")

Part = tuple[tuple[str, ...], int]
"""Symbols, and the mask of their missing sessions."""

Group = tuple[Part, ...]
"""The parts that one call chain serves. If a symbol is in several, their spans are apart."""

Cost = Callable[["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"], "np.ndarray[Any, Any]"]
"""Returns the calls for numbers of symbols and of sessions; infinite where that is not possible."""


@dataclass(frozen=True)
class Bounds:
    """The most that one request may have.

    :param symbols: number of symbols.
    :param whole: do not split symbols by dates, as far as memory allows.
    """

    endpoint: Endpoint
    symbols: int
    whole: bool = False

    @property
    def cells(self) -> int:
        """The most cells: what a task can hold in memory."""
        return max(1, self.endpoint.request_rows // self.endpoint.rows_per_session)

    def sessions(self, total: int, symbols: int) -> int:
        """Return the most sessions of a request, of ``total`` that are requested of so many symbols."""
        longest = min(total, sessions_of(self.endpoint.max_days) or total)
        if self.endpoint.market_rows or symbols * longest <= self.cells:
            return longest
        return min(longest, sessions_of(self.endpoint.chunk_days) or longest, self.cells)


def groups_of(masks: Mapping[str, int], members: Mapping[str, int], endpoint: Endpoint, most: int, *, whole: bool) -> list[Group]:
    """Return the call chains that fetch the missing cells.

    :param masks: symbol -> mask of missing sessions, none of them empty.
    :param members: symbol -> mask of its sessions in the universe; all of them for a symbol that is left out.
    :param most: maximum symbols per request. It does not apply if a response has every symbol anyway.
    :param whole: do not split symbols by dates, as far as memory allows.
    """
    if not masks:
        return []
    classes: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for symbol, mask in masks.items():
        classes[tuple(spells_of(mask, members.get(symbol, 0)))].append(symbol)
    parts: list[Part] = [(tuple(names), mask) for spells, names in classes.items() for mask in spells]
    if endpoint.market_rows:
        return _by_dates(parts, Bounds(endpoint, len(masks)))
    bounds = Bounds(endpoint, min(most, endpoint.max_symbols or most), whole)
    if endpoint.charged:
        return exact_groups(parts, bounds)
    found = [[group for part in parts for group in _cut([part], bounds)]]
    if len(parts) > 1:
        found += [_by_symbols(parts, bounds)] + ([] if whole else [_by_dates(parts, bounds)])
    return min(found, key=lambda groups: (sum(calls_of(group, endpoint) for group in groups), len(groups)))


def calls_of(group: Iterable[Part], endpoint: Endpoint) -> int:
    """Return the calls of one chain."""
    group = list(group)
    return endpoint.calls(span(hull(group)), len({symbol for symbols, _ in group for symbol in symbols}))


def hull(group: Iterable[Part]) -> int:
    """Return the sessions that a group's parts miss, as a mask."""
    return reduce(or_, (mask for _, mask in group), 0)


def pieces(mask: int, long: int) -> list[int]:
    """Split ``mask`` into spans of ``long`` sessions, from its first bit on; drop empty spans."""
    first = (mask & -mask).bit_length() - 1
    cuts = (mask & (((1 << long) - 1) << start) for start in range(first, mask.bit_length(), long))
    return [piece for piece in cuts if piece]


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield ``items`` in slices of ``size``."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


# -- by dates --------------------------------------------------------------------------------------------------------------------------


def _by_dates(parts: Sequence[Part], bounds: Bounds) -> list[Group]:
    """Return the best windows of sessions, each requested for the symbols that miss one of them."""
    total = hull(parts).bit_length()
    longest = bounds.sessions(total, sum(len(symbols) for symbols, _ in parts))
    found: list[Group] = []
    for start, end in _windows(parts, total, longest, _cost(bounds)):
        window = ((1 << end - start) - 1) << start
        inside = [(symbols, mask & window) for symbols, mask in parts if mask & window]
        found += _cut(inside, bounds)
    return found


def _windows(parts: Sequence[Part], total: int, longest: int, cost: Cost) -> list[tuple[int, int]]:
    """Return the windows that cost the fewest calls, as first and last session (exclusive).

    If several cost the same, the longest are taken.
    From the last session back, the best first window of the rest is found: its symbols are those whose next missing session is inside.
    """
    import numpy as np

    width = total + 7 >> 3
    packed = np.frombuffer(b"".join(mask.to_bytes(width, "little") for _, mask in parts), np.uint8)
    weights = np.array([len(symbols) for symbols, _ in parts], dtype=np.int64)
    lacking: Any = np.unpackbits(packed.reshape(-1, width), axis=1, bitorder="little").astype(bool)
    next_missing = np.full(len(parts), total)
    symbols_by_next = np.zeros(total + 1, dtype=np.int64)
    best = np.zeros(total + 1)
    ends = np.arange(1, total + 2)
    for start in range(total - 1, -1, -1):
        here = np.flatnonzero(lacking[:, start])
        if not len(here):
            best[start] = best[start + 1]
            continue
        np.subtract.at(symbols_by_next, next_missing[here], weights[here])
        next_missing[here] = start
        symbols_by_next[start] += weights[here].sum()
        lengths = np.arange(1, min(longest, total - start) + 1)
        counts = np.cumsum(symbols_by_next[start : start + len(lengths)])
        sums = cost(counts, lengths) + best[start + 1 : start + 1 + len(lengths)]
        length = len(lengths) - int(np.argmin(sums[::-1]))
        best[start], ends[start] = sums[length - 1], start + length
    found, start = [], 0
    every = lacking.any(axis=0)
    while start < total:
        if every[start]:
            found.append((start, int(ends[start])))
        start = int(ends[start])
    return found


# -- by symbols ------------------------------------------------------------------------------------------------------------------------


def _by_symbols(parts: Sequence[Part], bounds: Bounds) -> list[Group]:
    """Return the best groups of neighbours, ordered by their first and last missing session."""
    import numpy as np

    longest = bounds.sessions(max(span(mask) for _, mask in parts), sum(len(symbols) for symbols, _ in parts))
    items = [(symbols, piece) for symbols, mask in parts for piece in pieces(mask, longest)]
    items.sort(key=lambda part: (part[1] & -part[1], part[1].bit_length()))
    firsts = np.array([(mask & -mask).bit_length() - 1 for _, mask in items])
    lasts = np.array([mask.bit_length() for _, mask in items])
    weights = np.array([len(symbols) for symbols, _ in items], dtype=np.int64)
    cost, most = _cost(bounds), max(1, bounds.symbols)
    best, ends = np.zeros(len(items) + 1), np.arange(1, len(items) + 2)
    for place in range(len(items) - 1, -1, -1):
        near = slice(place, place + most)
        lengths = np.maximum.accumulate(lasts[near]) - firsts[place]
        sums = np.where(lengths > longest, math.inf, cost(np.cumsum(weights[near]), lengths))
        sums += best[place + 1 : place + 1 + len(lengths)]
        count = len(lengths) - int(np.argmin(sums[::-1]))
        best[place], ends[place] = sums[count - 1], place + count
    found: list[Group] = []
    place = 0
    while place < len(items):
        found += _cut(items[place : ends[place]], bounds)
        place = int(ends[place])
    return found


# -- rectangles ------------------------------------------------------------------------------------------------------------------------


def _cost(bounds: Bounds) -> Cost:
    """Return the function that gives the calls of rectangles, each cut by symbols where it has to be."""
    import numpy as np

    endpoint, fits = bounds.endpoint, bounds.cells

    def of_all(counts: Any, lengths: Any) -> Any:
        pages = -(-lengths * endpoint.market_rows // endpoint.page_rows)
        return endpoint.chains * np.maximum(1, np.minimum(counts, pages)).astype(float)

    def of_requested(counts: Any, lengths: Any) -> Any:
        widest = np.minimum(bounds.symbols, fits // lengths)
        possible = (widest >= 1) | (lengths == 1)
        rows = lengths * endpoint.rows_per_session
        found = np.full(len(lengths), math.inf)
        full = np.maximum(1, widest)
        for wide in (full, np.clip(full * rows // endpoint.page_rows * endpoint.page_rows // rows, 1, full)):
            whole, rest = np.divmod(counts, wide)
            pages = whole * -(-wide * rows // endpoint.page_rows) + -(-rest * rows // endpoint.page_rows)
            found = np.minimum(found, endpoint.chains * pages)
        return np.where(possible, found, math.inf)

    return of_all if endpoint.market_rows else of_requested


def _cut(parts: Sequence[Part], bounds: Bounds) -> list[Group]:
    """Cut a rectangle into those that one request may have, with the fewest calls."""
    every = hull(parts)
    symbols = list(dict.fromkeys(symbol for names, _ in parts for symbol in names))
    wide, long = _rectangle(len(symbols), span(every), bounds)
    if len(symbols) <= wide and span(every) <= long:
        return [_merged(parts)]
    chunk_of = {symbol: place // wide for place, symbol in enumerate(symbols)}
    chunked: list[list[Part]] = [[] for _ in range(-(-len(symbols) // wide))]
    for names, mask in parts:
        own: dict[int, list[str]] = defaultdict(list)
        for name in names:
            own[chunk_of[name]].append(name)
        for chunk, some in own.items():
            chunked[chunk].append((tuple(some), mask))
    windows = [((1 << window.bit_length()) - 1) & ~((window & -window) - 1) for window in pieces(every, long)]
    groups = (_merged((names, mask & window) for names, mask in some if mask & window) for some in chunked for window in windows)
    return [group for group in groups if group]


def _merged(parts: Iterable[Part]) -> Group:
    """Return the parts with symbols of equal holes in one."""
    symbols: dict[int, list[str]] = defaultdict(list)
    for names, mask in parts:
        symbols[mask] += names
    return tuple((tuple(some), mask) for mask, some in symbols.items())


@lru_cache(maxsize=4096)
def _rectangle(symbols: int, sessions: int, bounds: Bounds) -> tuple[int, int]:
    """Return the symbols and sessions per request that need the fewest calls, then the fewest requests."""
    import numpy as np

    endpoint, fits = bounds.endpoint, bounds.cells
    widest, longest = min(symbols, bounds.symbols), min(sessions, sessions_of(endpoint.max_days) or sessions)
    if endpoint.market_rows or widest * longest <= fits:
        return widest, longest
    longest = bounds.sessions(sessions, widest)
    if bounds.whole:
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


# -- providers that charge for the rows ------------------------------------------------------------------------------------------------


def exact_groups(parts: Sequence[Part], bounds: Bounds) -> list[Group]:
    """Return groups that request the missing cells and no other.

    Each symbol's missing sessions form runs. Either every distinct run is a request, or the runs are cut where others begin and end. The
    second way is the best one without limits on symbols and rows. The requests connect the two ends of each run, so they are at least as
    many as the edges of a spanning forest of these ends.
    """
    runs: dict[Run, list[str]] = defaultdict(list)
    for symbols, mask in parts:
        for run in runs_of(mask):
            runs[run] += symbols
    ends = _connected_ends(runs)
    cut: dict[Run, list[str]] = defaultdict(list)
    for run, names in runs.items():
        tree = ends[run[0]]
        for piece in pairwise(tree[bisect_left(tree, run[0]) : bisect_right(tree, run[1])]):
            cut[piece] += names
    found = [
        [one for (start, end), names in way.items() for one in _cut([(tuple(names), ((1 << end - start) - 1) << start)], bounds)]
        for way in (runs, cut)
    ]
    return min(found, key=len)


def _connected_ends(runs: Iterable[Run]) -> dict[int, list[int]]:
    """Return end of a run -> all ends that runs with common ends connect to it, ascending."""
    parent: dict[int, int] = {}

    def root(end: int) -> int:
        parent.setdefault(end, end)
        while parent[end] != end:
            parent[end] = parent[parent[end]]
            end = parent[end]
        return end

    for start, end in runs:
        parent[root(start)] = root(end)
    trees: dict[int, list[int]] = defaultdict(list)
    for end in sorted(parent):
        trees[root(end)].append(end)
    return {end: tree for tree in trees.values() for end in tree}
