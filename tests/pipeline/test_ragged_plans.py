"""Plans for coverage in which each symbol lacks sessions of its own: against the least number of calls, by search and by bounds."""

import math
import random
from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from benchmarks.planner import PROVIDERS, SESSIONS, capabilities, coverages, least_calls
from market_data.core.capabilities import Capabilities, Endpoint, Quota, Shape
from market_data.pipeline.planner import make_plan
from market_data.providers.registry import providers

PROVED = {name for name, _ in coverages(9, 9)} - {"one session each", "five sessions each", "half of all cells"}
"""Coverages for which the pages that the missing cells fill are a good bound."""


def plan(missing, sessions, able, **options):
    return make_plan("ohlcv-1d", missing, SESSIONS[-sessions:], able, batch_size=1000, **options)


@pytest.mark.parametrize("sessions", [252, *(pytest.param(count, marks=pytest.mark.slow) for count in (504, 2516))])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_ragged_coverage_takes_at_most_5_percent_more_calls_than_the_least(provider, sessions):
    able = capabilities(provider)
    for name, missing in coverages(sessions):
        result = plan(missing, sessions, able)
        assert result.cells == sum(mask.bit_count() for mask in missing.values()), name
        if provider != "alpaca" or name in PROVED:
            assert result.calls <= math.ceil(1.05 * least_calls(missing, able.endpoints)), name
        else:  # never more than the rectangle of all symbols and sessions takes; on 0.4.0 a call for each kind of holes, up to 523
            assert result.calls <= able.endpoints[0].calls(sessions, len(missing)), name


def test_symbols_that_lack_a_session_each_take_six_calls_of_alpaca():
    missing = dict(coverages(504))["one session each"]
    assert plan(missing, 504, capabilities("alpaca")).calls == 6


def test_minutes_that_each_symbol_lacks_are_requested_by_session():
    """Five sessions of 252 each: on 0.4.0 all that is between them was requested, 8,670 pages."""
    minutes = Endpoint("bars", Shape.MULTI, page_rows=10_000, rows_per_session=960)
    missing = dict(coverages(252))["five sessions each"]
    assert plan(missing, 252, Capabilities((minutes,), Quota(5))).calls <= 370


def test_a_hole_of_pages_between_two_sessions_is_not_requested():
    minutes = Capabilities((Endpoint("range", Shape.SYMBOL, rows_per_session=960),), Quota(5))
    assert plan({"A": 1 | 1 << 251}, 252, minutes).calls == 2


def test_a_provider_that_charges_is_asked_for_no_cell_twice_and_for_none_that_is_not_missing():
    for name, missing in coverages(60, 30):
        result = plan(missing, 60, capabilities("databento"))
        requests = [request for batch in result.batches for request in batch.requests(batch.sessions)]
        bought = [(symbol, day) for request in requests for symbol in request.symbols for day in request.sessions]
        spans = [request for request in requests if len(request.intervals) > 1 or request.parts]
        assert len(bought) == len(set(bought)) == result.cells, name
        assert spans == [], name


def test_every_endpoint_that_charges_is_told_apart():
    for spec in providers().values():
        charged = {endpoint.charged for endpoints in spec.serves.values() for endpoint in endpoints}
        assert charged == {spec.charges}, spec.name


# -- small plans, against a search -----------------------------------------------------------------------------------------------------


def fewest(missing, sessions, endpoints):
    """The least calls by any choice of symbols x windows and of sessions, by integer programming."""
    cells = {(s, b): i for i, (s, b) in enumerate((s, b) for s, mask in missing.items() for b in range(sessions) if mask >> b & 1)}
    windows = [(i, j) for i in range(sessions) for j in range(i + 1, sessions + 1)]
    columns, costs = [], []
    for endpoint in endpoints:
        if endpoint.shape is Shape.MARKET:
            choices = [(tuple(missing), b, b + 1) for b in range(sessions)]
        else:
            most = 1 if endpoint.shape is Shape.SYMBOL else len(missing)
            some = [names for count in range(1, most + 1) for names in combinations(missing, count)]
            choices = [(names, i, j) for names in some for i, j in windows]
        for names, i, j in choices:
            inside = [(s, b) for s in names for b in range(i, j)]
            wanted = [cells[cell] for cell in inside if cell in cells]
            rows = len(inside) * endpoint.rows_per_session
            fits = endpoint.shape is Shape.MARKET or rows <= endpoint.request_rows or len(inside) == 1
            if wanted and fits and not (endpoint.charged and len(wanted) < len(inside)):
                columns.append(wanted)
                costs.append(endpoint.calls(j - i, len(names)))
    if not cells:
        return 0
    matrix = np.zeros((len(cells), len(columns)))
    for place, wanted in enumerate(columns):
        matrix[wanted, place] = 1
    most = 1 if any(endpoint.charged for endpoint in endpoints) else np.inf
    found = milp(costs, constraints=LinearConstraint(matrix, 1, most), integrality=np.ones(len(costs)), bounds=Bounds(0, 1))
    return round(found.fun)


def small_cases(seed, kinds):
    chance = random.Random(seed)
    for _ in range(60):
        sessions, symbols, density = chance.randint(1, 6), chance.randint(1, 5), chance.choice([0.2, 0.5, 0.8])
        missing = {f"S{n}": sum(1 << b for b in range(sessions) if chance.random() < density) for n in range(symbols)}
        yield {name: mask for name, mask in missing.items() if mask}, sessions, kinds(chance)


MARKET = Endpoint("grouped", Shape.MARKET)
KINDS = {
    "symbol or session": lambda _: (MARKET, Endpoint("range", Shape.SYMBOL)),
    "pages of a symbol, or session": lambda chance: (MARKET, Endpoint("range", Shape.SYMBOL, page_rows=chance.randint(1, 6))),
    "pages of a symbol": lambda chance: (Endpoint("range", Shape.SYMBOL, page_rows=chance.randint(1, 6)),),
    "pages of many symbols": lambda chance: (
        Endpoint("bars", Shape.MULTI, page_rows=chance.randint(1, 12), request_rows=chance.choice([8, 20, 100])),
    ),
    "charged": lambda _: (Endpoint("range", Shape.MULTI, page_rows=10**9, charged=True),),
}


@pytest.mark.parametrize("kind", KINDS)
def test_small_plans_take_at_most_5_percent_more_calls_than_a_search_finds(kind):
    planned = least = 0
    for missing, sessions, endpoints in small_cases(7, KINDS[kind]):
        calls, best = plan(missing, sessions, Capabilities(endpoints, Quota(5))).calls, fewest(missing, sessions, endpoints)
        assert best <= calls <= best + 1
        planned, least = planned + calls, least + best
        if kind in ("symbol or session", "pages of a symbol", "charged"):
            assert calls == best
    assert planned <= 1.05 * least
