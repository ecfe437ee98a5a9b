"""A provider that reports a symbol with stored bars as unknown has failed: its response makes no cell ``empty``."""

from datetime import date

import pytest

from market_data.config.feeds import load_feeds
from market_data.core import calendar
from market_data.core.errors import UnknownSymbol
from market_data.core.outcome import State
from market_data.datasets.registry import dataset
from market_data.lake.ledger import read_coverage, write_cells
from market_data.pipeline import unknown_symbols
from tests.pipeline.runs import NOW
from tests.pipeline.test_every_feed import api, gateway, make_hook, world_of  # noqa: F401  fixtures

DAYS = calendar.sessions(date(2026, 9, 1), date(2026, 11, 21))
SAID = "No security definition has been found for the request (error 200)"
BARS = [feed.dag_id for feed in load_feeds() if dataset(feed.dataset).is_bars and not feed.dag_id.startswith("_")]
SYMBOL = "IBM"


@pytest.fixture
def story(make_hook, tmp_path):  # noqa: F811
    """Return a function that makes the world of a feed whose provider reports every symbol as unknown."""

    def make(dag_id):
        world = world_of(dag_id, tmp_path, make_hook)
        hook_of = world.make_hook

        def unknowing():
            hook = hook_of()

            def fetch(request):
                raise UnknownSymbol(SAID, symbols=request.symbols, provider=hook.provider, request=str(request))

            hook.fetch = fetch
            return hook

        world.make_hook = unknowing
        return world

    return make


def remember(world, states):
    """Record session -> state for the symbol, as an earlier run did."""
    import pyarrow as pa

    from market_data.lake.ledger import CELLS

    rows = [{"symbol": SYMBOL, "session": day, "state": str(state), "reason": ""} for day, state in states.items()]
    context = world.context("earlier")
    write_cells(
        world.lake, world.feed.dataset, context.source, context.run, "b", pa.Table.from_pylist(rows, CELLS), recorded_at=NOW
    )


def state(world, session):
    return read_coverage(world.lake, world.feed.dataset, world.context().source).state(SYMBOL, session)


@pytest.mark.parametrize("known", [DAYS[-3], DAYS[0], DAYS[-1]], ids=["just before", "long before", "after"])
@pytest.mark.parametrize("dag_id", BARS)
def test_a_symbol_with_bars_that_is_reported_as_unknown_is_a_failure(story, dag_id, known):
    world, requested = story(dag_id), DAYS[-2]
    remember(world, {known: State.HAVE})
    _, report = world.run((requested,), (SYMBOL,))
    assert any("the ledger has bars: IBM" in words and "No security definition" in words for words in report["red"])
    assert state(world, requested) is None
    assert report["successful_tickers"] == 0


def test_the_newest_session_of_a_known_symbol_does_not_turn_empty(story):
    world = story("ib_ohlcv_1d")
    remember(world, dict.fromkeys(DAYS[-7:-2], State.HAVE))
    _, report = world.run((DAYS[-2],), (SYMBOL,), world.context("night", run_type="scheduled"))
    assert report["red"]
    assert state(world, DAYS[-2]) is None


def test_a_symbol_never_seen_that_is_reported_as_unknown_stays_empty(story):
    world = story("ib_ohlcv_1d")
    _, report = world.run((DAYS[-9],), (SYMBOL,))
    assert report["red"] == []
    assert state(world, DAYS[-9]) is State.EMPTY


def test_a_symbol_whose_life_is_over_may_be_unknown(story):
    world = story("ib_ohlcv_1d")
    holes = DAYS[1 : 1 + unknown_symbols.LIFE_OVER]
    remember(world, {DAYS[0]: State.HAVE, **dict.fromkeys(holes, State.EMPTY)})
    _, report = world.run((DAYS[-9],), (SYMBOL,))
    assert report["red"] == []
    assert state(world, DAYS[-9]) is State.EMPTY
