"""Plan ragged coverage: CPU seconds, and calls beside the least possible number.

``python -m benchmarks.planner [SESSIONS]`` plans 523 symbols x 504 or 2,516 sessions for each provider's daily bars.
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import date

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, maximum_bipartite_matching

from market_data.core import calendar
from market_data.core.capabilities import Capabilities, Endpoint, Quota, Shape
from market_data.pipeline.planner import make_plan
from market_data.providers.registry import serving

SYMBOLS = 523
SESSIONS = calendar.sessions(date(2015, 1, 1), date(2025, 1, 1))
"""Ten years: 2,516 sessions."""
PROVIDERS = {"polygon": ("flatfile",), "alpaca": (), "fmp": (), "databento": (), "ib": ()}
"""Provider -> endpoints of its daily bars that most accounts lack."""


def capabilities(provider: str) -> Capabilities:
    """Return the endpoints of a provider's daily bars, and a quota."""
    without = PROVIDERS[provider]
    return Capabilities(tuple(one for one in serving(provider, "ohlcv-1d") if one.name not in without), Quota(200))


def coverages(sessions: int, symbols: int = SYMBOLS, seed: int = 1) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield kinds of ragged coverage: a name, and symbol -> mask of the missing sessions."""
    chance, every = random.Random(seed), (1 << sessions) - 1

    def of(mask_of: Mapping[int, int]) -> dict[str, int]:
        return {f"S{number}": mask for number, mask in mask_of.items()}

    def some(count: int) -> int:
        return sum(1 << bit for bit in chance.sample(range(sessions), count))

    def since(first: int) -> int:
        return every & ~((1 << first) - 1)

    numbers = range(symbols)
    yield "everything", of(dict.fromkeys(numbers, every))
    yield "one session each", of({number: some(1) for number in numbers})
    yield "five sessions each", of({number: some(5) for number in numbers})
    yield "half of all cells", of({number: chance.getrandbits(sessions) or 1 for number in numbers})
    yield "late listings", of({number: every if number % 5 else since(chance.randrange(sessions)) for number in numbers})
    yield "half the universe new", of({number: every if number % 2 else since(sessions - 1) for number in numbers})
    yield "staircase", of({number: since(number * sessions // symbols) for number in numbers})


def least_calls(missing: Mapping[str, int], endpoints: tuple[Endpoint, ...]) -> int:
    """Return a number of calls that no plan for daily bars can go below.

    * By symbol or by session: as many as the cells of which no two share a symbol or a session (König's theorem).
    * By symbol alone: one for each symbol.
    * Many symbols, charged by the row: each request has whole runs of missing sessions or parts of them. It connects the two ends of
      its part, and together they have to connect those of every run.
    * Many symbols: the pages that the missing cells fill.
    """
    shapes = {endpoint.shape for endpoint in endpoints}
    if Shape.MULTI in shapes:
        (endpoint,) = endpoints
        if endpoint.charged:
            return _ends_to_connect(missing)
        return math.ceil(sum(mask.bit_count() for mask in missing.values()) / endpoint.page_rows)
    if shapes == {Shape.SYMBOL}:
        return len(missing)
    cells = [(row, bit) for row, mask in enumerate(missing.values()) for bit in range(mask.bit_length()) if mask >> bit & 1]
    rows, bits = np.array(cells).T
    graph = coo_array((np.ones(len(cells), dtype=np.int8), (rows, bits))).tocsr()
    return int((maximum_bipartite_matching(graph) >= 0).sum())


def _ends_to_connect(missing: Mapping[str, int]) -> int:
    starts, ends = [], []
    for mask in missing.values():
        turns = mask ^ (mask << 1)
        places = [bit for bit in range(turns.bit_length()) if turns >> bit & 1]
        starts += places[::2]
        ends += places[1::2]
    size = max(ends) + 1
    count, _ = connected_components(coo_array((np.ones(len(starts)), (starts, ends)), shape=(size, size)), directed=False)
    nodes = len({*starts, *ends})
    return nodes - (count - (size - nodes))


def measure(sessions: int = len(SESSIONS)) -> dict[str, dict[str, float]]:
    """Return provider and coverage -> planned calls, the least number, and CPU seconds of the plan."""
    found = {}
    for provider in PROVIDERS:
        able = capabilities(provider)
        for name, missing in coverages(sessions):
            began = time.process_time()
            plan = make_plan("ohlcv-1d", missing, SESSIONS[-sessions:], able, batch_size=1000)
            seconds = time.process_time() - began
            found[f"{provider}: {name}"] = {
                "calls": plan.calls,
                "least": least_calls(missing, able.endpoints),
                "cpu_seconds": round(seconds, 2),
            }
    return found


if __name__ == "__main__":
    for name, figures in measure(*map(int, sys.argv[1:2])).items():
        print(json.dumps({"plan": name, **figures}))
