"""A run names the symbols that its provider cannot have before any call, and stores the others under the requested symbols."""

from datetime import date

import pytest

from market_data import pipeline
from market_data.core.errors import ParamError
from market_data.pipeline.run_sessions import Wanted
from sandbox.http import SampleApi
from sandbox.ib_gateway import SampleGateway
from tests.contract.provider import KEY
from tests.pipeline.runs import World, feed_of
from tests.providers.test_ib import make
from tests.providers.test_symbols import FIRST, hook_of

WEEK = tuple(date(2012, 7, 30 + day) if day < 2 else date(2012, 8, day - 1) for day in range(5))


@pytest.fixture
def worlds(tmp_path):
    """A function that returns a world of a feed, and its server."""
    servers = []

    def start(dag_id, symbols):
        feed = feed_of(dag_id)
        server = (
            SampleGateway(symbols=symbols)
            if feed.provider == "ib"
            else SampleApi(vendor=feed.provider, api_key=KEY, symbols=symbols)
        )
        servers.append(server)
        server.__enter__()
        make_hook = (lambda: make(server)) if feed.provider == "ib" else lambda: hook_of(feed.provider, server)
        return World(feed, tmp_path, make_hook), server

    yield start
    for server in servers:
        server.__exit__(None, None, None)


def plan(world, wanted, **params):
    with world.hook() as hook:
        return pipeline.plan_run(world.context(**params), hook, Wanted(WEEK), wanted, world.now)


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    ("dag_id", "symbols", "problems"),
    [
        ("fmp_ohlcv_1d", ("BRK.B", "IBM", "BRK-B"), ["fmp calls BRK-B and BRK.B both BRK-B: request one of them"]),
        (
            "fmp_ohlcv_1d",
            ("IBM", "ES.c.0"),
            ["ES.c.0 is a future; FMP serves stocks, ETFs and indices, e.g. AAPL, BRK.B, VOD.L, ^GSPC"],
        ),
        ("alpaca_ohlcv_1d", ("BRK-B",), ["BRK-B has several meanings: write BRK.B (class B) or BRK.PRB (preferred, series B)"]),
        (
            "ib_ohlcv_1d",
            ("AAPL", "ES", "MNQ"),
            [f"{root} is also a future: write {root}.c.0 or {root}:STK" for root in ("ES", "MNQ")],
        ),
        ("polygon_ohlcv_1d", ("^GSPC", "BAC.PRK", "BACpK"), None),
    ],
)
def test_a_run_names_all_its_symbols_that_cannot_be_requested_before_any_call(worlds, dag_id, symbols, problems, dry_run):
    world, server = worlds(dag_id, ("IBM", "AAPL"))
    with pytest.raises(ParamError) as caught:
        plan(world, symbols, symbols=symbols, dry_run=dry_run)
    if problems is None:
        problems = ["polygon calls BACpK and BAC.PRK both BACpK: request one of them",
                    "^GSPC is not a symbol of Polygon: write I: and its name, e.g. I:SPX"]  # fmt: skip
    assert list(caught.value.problems) == [f"symbols: {problem}" for problem in problems]
    assert list(server.calls) == []


@pytest.mark.parametrize(
    ("dag_id", "wrong", "write"),
    [
        ("ib_ohlcv_1d", "MES", "write MES.c.0 or MES:STK"),
        ("fmp_ohlcv_1d", "ES.c.0", "is a future"),
        ("polygon_ohlcv_1d", "^GSPC", "write I: and its name"),
        ("alpaca_ohlcv_1d", "BRK-B", "write BRK.B (class B) or BRK.PRB"),
        ("databento_ohlcv_1d", "^GSPC", "is an index"),
    ],
)
def test_a_universe_goes_on_without_the_symbol_and_the_run_says_so(worlds, dag_id, wrong, write):
    world, server = worlds(dag_id, ("AAPL", "ES"))
    world.run(WEEK, ("AAPL", wrong))
    failed = {symbol: why for receipt in world.receipts for symbol, why in receipt.failed.items()}
    assert list(failed) == [wrong]
    assert write in failed[wrong]
    assert not [call for call in server.calls if wrong in call.target.split()]
    with world.warehouse() as warehouse:
        assert warehouse.query("SELECT COUNT(*) AS n FROM silver_prices WHERE symbol = 'AAPL'").to_pylist() == [{"n": len(WEEK)}]


def test_two_spellings_in_a_universe_end_the_run_too(worlds):
    world, server = worlds("fmp_ohlcv_1d", ("BRK.B",))
    with pytest.raises(ParamError, match="fmp calls BRK-B and BRK.B both BRK-B"):
        plan(world, ("BRK.B", "BRK-B"))
    assert list(server.calls) == []


@pytest.mark.parametrize("dag_id", ["polygon_ohlcv_1d", "alpaca_ohlcv_1d", "fmp_ohlcv_1d", "databento_ohlcv_1d"])
def test_every_kind_of_suffix_is_stored_under_the_requested_symbol(worlds, dag_id):
    world, _ = worlds(dag_id, FIRST)
    world.run(WEEK, FIRST)
    with world.warehouse() as warehouse:
        rows = warehouse.query("SELECT symbol, COUNT(*) AS n FROM silver_prices GROUP BY symbol").to_pylist()
    assert {row["symbol"]: row["n"] for row in rows} == dict.fromkeys(FIRST, len(WEEK))
