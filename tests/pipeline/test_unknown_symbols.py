"""A provider that reports a symbol with stored bars as unknown has failed: its response makes no cell ``empty``."""

from dataclasses import replace
from datetime import date, timedelta
from itertools import product

import pytest

from market_data import pipeline
from market_data.config import universes
from market_data.config.feeds import load_feeds
from market_data.config.universes import members
from market_data.core import calendar
from market_data.core.errors import ParamError, UnknownSymbol
from market_data.core.outcome import State
from market_data.datasets.registry import dataset
from market_data.lake.ledger import read_coverage, write_cells
from market_data.pipeline import unknown_symbols
from market_data.pipeline.run_sessions import Wanted
from tests.pipeline.runs import NOW
from tests.pipeline.test_every_feed import make_hook, world_of  # noqa: F401  fixture
from tests.tiers import tiers

DAYS = calendar.sessions(date(2026, 9, 1), date(2026, 11, 21))
SAID = "No security definition has been found for the request (error 200)"
BARS = [feed.dag_id for feed in load_feeds() if dataset(feed.dataset).is_bars and not feed.dag_id.startswith("_")]
SYMBOL = "IBM"
SHAPES = ("polygon_ohlcv_1d", "alpaca_ohlcv_1d", "ib_ohlcv_1d")
"""A session, many symbols and a symbol per request."""


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

    from market_data.lake.coverage import CELLS

    rows = [{"symbol": SYMBOL, "session": day, "state": str(state), "reason": ""} for day, state in states.items()]
    context = world.context("earlier")
    write_cells(
        world.lake, world.feed.dataset, context.source, context.run, "b", pa.Table.from_pylist(rows, CELLS), recorded_at=NOW
    )


def state(world, session):
    return read_coverage(world.lake, world.feed.dataset, world.context().source).state(SYMBOL, session)


@pytest.mark.parametrize("known", [DAYS[-3], DAYS[0], DAYS[-1]], ids=["just before", "long before", "after"])
@pytest.mark.parametrize("dag_id", tiers(BARS, *SHAPES, "polygon_ohlcv_1m"))
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


@pytest.mark.parametrize("dag_id", tiers(BARS, *SHAPES, "polygon_ohlcv_1m"))
def test_several_symbols_never_seen_are_not_unknown_for_good_before_a_second_response(story, dag_id):
    world = story(dag_id)
    night(world, PAST[40])
    world.run(PAST[:3], EVERY, world.context("first"))
    assert states(world, EVERY, PAST[:3]) == {State.PENDING}
    world.run(PAST[:3], EVERY, world.context("too early"))
    assert states(world, EVERY, PAST[:3]) == {State.PENDING}
    night(world, PAST[41])
    world.run(PAST[:3], EVERY, world.context("later"))
    assert states(world, EVERY, PAST[:3]) == {State.EMPTY}


def test_a_symbol_whose_life_is_over_may_be_unknown(story):
    world = story("ib_ohlcv_1d")
    holes = DAYS[1 : 1 + unknown_symbols.LIFE_OVER]
    remember(world, {DAYS[0]: State.HAVE, **dict.fromkeys(holes, State.EMPTY)})
    _, report = world.run((DAYS[-9],), (SYMBOL,))
    assert report["red"] == []
    assert state(world, DAYS[-9]) is State.EMPTY


# responses without a row


def saying_nothing(world, symbols=None, since=date.min, sessions=None):
    """The provider's responses lack the rows of ``symbols``, or all rows, from ``since`` on, or of ``sessions``."""
    import pyarrow as pa
    import pyarrow.compute as pc

    make = world.make_hook

    def quiet():
        hook = make()
        whole = hook.fetch

        def fetch(request):
            fetched = whole(request)
            table = fetched.table
            gone = pa.repeat(True, len(table)) if symbols is None else pc.is_in(table["symbol"], pa.array(symbols, pa.string()))
            there = pc.greater_equal(table["session"], since)
            if sessions is not None:
                there = pc.is_in(table["session"], pa.array(sessions, pa.date32()))
            table = table.filter(pc.invert(pc.and_(gone, there)))
            return replace(fetched, table=table, evidence=replace(fetched.evidence, rows_received=0, rows_declared=None))

        hook.fetch = fetch
        return hook

    world.make_hook = quiet
    return lambda: setattr(world, "make_hook", make)


PAST = calendar.sessions(date(2012, 11, 1), date(2013, 3, 1))
EVERY = members("dow30")[:8]


@pytest.fixture
def seeded(make_hook, tmp_path):  # noqa: F811
    """Return a function that makes the world of a feed with stored sessions, one run for each spell of them."""

    def make(dag_id, *sessions, symbols=EVERY):
        world = world_of(dag_id, tmp_path, make_hook)
        for spell in sessions:
            night(world, spell[-1])
            world.run(spell, symbols, world.context(f"seed {spell[0]}"))
        return world

    return make


def night(world, session, later=0):
    world.now = calendar.session_close(session) + timedelta(hours=11, days=later)


def states(world, symbols, sessions):
    coverage = read_coverage(world.lake, world.feed.dataset, world.context().source)
    return {coverage.state(symbol, session) for symbol in symbols for session in sessions}


DAILY = ("polygon_ohlcv_1d", "alpaca_ohlcv_1d", "fmp_ohlcv_1d", "databento_ohlcv_1d", "ib_ohlcv_1d", "mock_ohlcv_1d")
TICKS = ("databento_trades", "databento_statistics")


@pytest.mark.parametrize(
    ("dag_id", "run_type"),
    tiers(
        product((*DAILY, *TICKS), ("scheduled", "manual")),
        *product((*SHAPES, "databento_statistics"), ("scheduled",)),
        ("alpaca_ohlcv_1d", "manual"),
    ),
)
def test_the_newest_session_without_any_row_of_symbols_that_traded_is_red(seeded, dag_id, run_type):
    world = seeded(dag_id, PAST[:6])
    restore = saying_nothing(world)
    night(world, PAST[6])
    _, report = world.run(PAST[6:7], EVERY, world.context("tonight", run_type=run_type))
    assert any("the response has no row" in words for words in report["red"])
    assert states(world, EVERY, PAST[6:7]) <= {None, State.PENDING}
    restore()
    night(world, PAST[6], 1)
    _, report = world.run(PAST[6:7], EVERY, world.context("again", run_type="scheduled"))
    assert report["red"] == []
    assert states(world, EVERY, PAST[6:7]) == {State.HAVE}


@pytest.mark.parametrize(
    ("dag_id", "symbols", "grain"),
    tiers(
        [
            *((dag_id, symbols, "day") for dag_id in DAILY for symbols in (EVERY, EVERY[:1])),
            *((dag_id, EVERY, "year") for dag_id in DAILY),
            *((dag_id, EVERY, "day") for dag_id in TICKS),
        ],
        *((dag_id, EVERY, "day") for dag_id in (*SHAPES, "databento_statistics")),
        *((dag_id, EVERY, "year") for dag_id in ("alpaca_ohlcv_1d", "ib_ohlcv_1d")),
        ("alpaca_ohlcv_1d", EVERY[:1], "day"),
    ),
)
def test_sessions_between_stored_ones_do_not_turn_empty_for_good(seeded, dag_id, symbols, grain):
    world = seeded(dag_id, PAST[:6], PAST[20:26], symbols=symbols)
    saying_nothing(world)
    night(world, PAST[40])
    _, report = world.run(PAST[6:20], symbols, world.context("hole", file_grain=grain))
    found = states(world, symbols, PAST[6:20])
    assert report["red"]
    assert State.EMPTY not in found


@pytest.mark.parametrize("dag_id", tiers(["alpaca_ohlcv_1d", "databento_ohlcv_1d"], "alpaca_ohlcv_1d"))
def test_one_symbol_of_many_that_a_response_lacks_is_pending_until_a_later_response_lacks_it_too(seeded, dag_id):
    world = seeded(dag_id, PAST[:6])
    saying_nothing(world, EVERY[:1])
    night(world, PAST[40])
    _, report = world.run(PAST[6:20], EVERY, world.context("range"))
    assert states(world, EVERY[:1], PAST[6:20]) == {State.PENDING}
    assert states(world, EVERY[1:], PAST[6:20]) == {State.HAVE}
    assert EVERY[0] not in report["successful_tickers_list"]
    world.run(PAST[6:20], EVERY, world.context("too early"))
    assert states(world, EVERY[:1], PAST[6:20]) == {State.PENDING}
    night(world, PAST[41])
    world.run(PAST[6:20], EVERY, world.context("later"))
    assert states(world, EVERY[:1], PAST[6:20]) == {State.EMPTY}


@pytest.mark.parametrize("dag_id", tiers(["alpaca_ohlcv_1d", "databento_ohlcv_1d"], "alpaca_ohlcv_1d"))
def test_a_session_that_a_response_lacks_for_all_symbols_is_pending_at_first(make_hook, tmp_path, dag_id):  # noqa: F811
    world = world_of(dag_id, tmp_path, make_hook)
    saying_nothing(world, sessions=PAST[4:6])
    night(world, PAST[40])
    world.run(PAST[:10], EVERY, world.context("range"))
    assert states(world, EVERY, PAST[4:6]) == {State.PENDING}
    assert states(world, EVERY, (*PAST[:4], *PAST[6:10])) == {State.HAVE}
    night(world, PAST[41])
    _, report = world.run(PAST[:10], EVERY, world.context("these two alone"))
    assert "the response has no row" in report["red"][0]
    world.run(PAST[:10], EVERY, world.context("all again", force=True))
    assert states(world, EVERY, PAST[4:6]) == {State.EMPTY}
    assert read_coverage(world.lake, world.feed.dataset, world.context().source).suspected.sum() == 2 * len(EVERY)


@pytest.mark.parametrize(
    ("dag_id", "again"),
    tiers(
        [*((dag_id, {"force": True}) for dag_id in DAILY), ("polygon_ohlcv_1d", {"clear_number": 1})],
        *((dag_id, {"force": True}) for dag_id in SHAPES),
        ("polygon_ohlcv_1d", {"clear_number": 1}),
    ),
)
def test_stored_sessions_that_a_whole_response_lacks_are_a_failure_when_fetched_again(seeded, dag_id, again):
    world = seeded(dag_id, PAST[:6])
    saying_nothing(world)
    _, report = world.run(PAST[:6], EVERY, world.context("again", **again))
    assert any("the ledger has rows in these sessions of " in words for words in report["red"])
    assert states(world, EVERY, PAST[:6]) == {State.HAVE}


@pytest.mark.parametrize("dag_id", tiers([*DAILY, "databento_trades"], *SHAPES))
def test_a_first_run_without_any_row_proves_nothing(seeded, dag_id):
    world = seeded(dag_id)
    restore = saying_nothing(world)
    night(world, PAST[40])
    world.run(PAST[:3], EVERY, world.context("first"))
    assert states(world, EVERY, PAST[:3]) == {State.PENDING}
    restore()
    world.run(PAST[:3], EVERY, world.context("second"))
    assert states(world, EVERY, PAST[:3]) == {State.HAVE}


@pytest.mark.parametrize("dag_id", SHAPES)
def test_sessions_before_the_first_bar_of_a_symbol_stay_empty(seeded, dag_id):
    world = seeded(dag_id, PAST[20:26])
    saying_nothing(world, EVERY[:1])
    _, report = world.run(PAST[10:20], EVERY, world.context("before"))
    assert report["red"] == []
    assert states(world, EVERY[:1], PAST[10:20]) == {State.EMPTY}


def test_many_symbols_without_a_row_before_their_first_bars_are_pending_at_first(seeded):
    world = seeded("alpaca_ohlcv_1d", PAST[20:26])
    saying_nothing(world)
    night(world, PAST[40])
    world.run(PAST[10:20], EVERY, world.context("before"))
    assert states(world, EVERY, PAST[10:20]) == {State.PENDING}
    night(world, PAST[41])
    world.run(PAST[10:20], EVERY, world.context("later"))
    assert states(world, EVERY, PAST[10:20]) == {State.EMPTY}


@pytest.mark.parametrize("dag_id", tiers(SHAPES, "alpaca_ohlcv_1d"))
def test_a_delisted_symbol_becomes_empty_night_by_night_and_no_run_is_red(seeded, dag_id):
    world = seeded(dag_id, PAST[:10])
    gone = EVERY[:4]
    saying_nothing(world, gone, PAST[10])
    for place in range(10, 18):
        night(world, PAST[place])
        context = world.context(f"night-{place}", run_type="scheduled")
        _, report = world.run(PAST[place : place + 1], EVERY, context, PAST[place - 5 : place])
        assert report["red"] == [], place
    assert states(world, gone, PAST[10:14]) == {State.EMPTY}
    assert states(world, EVERY[4:], PAST[10:18]) == {State.HAVE}


@pytest.fixture
def removed(tmp_path, monkeypatch):
    """A universe that three symbols have left."""
    folder = tmp_path / "universes"
    folder.mkdir()
    rows = [f"{symbol},,{PAST[6] if symbol in EVERY[:3] else ''}," for symbol in EVERY]
    (folder / "mine.csv").write_text("\n".join(["symbol,added_date,removed_date,source", *rows, ""]))
    monkeypatch.setattr(universes, "FOLDER", folder)
    monkeypatch.setattr(universes.known, "__defaults__", (folder,))
    monkeypatch.setattr(universes.read_universe, "__defaults__", (folder,))
    monkeypatch.setattr(universes.members, "__defaults__", (None, folder))
    return "mine"


@pytest.mark.parametrize("dag_id", SHAPES)
def test_symbols_that_have_left_the_universe_may_be_absent(seeded, removed, dag_id):
    world = seeded(dag_id, PAST[:6])
    saying_nothing(world)
    night(world, PAST[40])
    _, report = world.run(PAST[6:20], EVERY[:3], world.context("range", universe=removed))
    assert report["red"] == []
    assert states(world, EVERY[:3], PAST[6:20]) == {State.EMPTY}


@pytest.mark.parametrize("place", ["local", "s3"])
def test_a_symbol_that_has_left_the_tickers_file_may_be_unknown(story, tmp_path, place):
    path = tmp_path / "mine.csv" if place == "local" else "s3://bucket/mine.csv"
    for removed, red in (("", True), (DAYS[2], False)):
        text = f"symbol,added_date,removed_date\n{SYMBOL},,{removed}\nAAPL,,\n"
        (tmp_path / "mine.csv").write_text(text)
        world = story("ib_ohlcv_1d")
        remember(world, {DAYS[0]: State.HAVE})
        context = replace(world.context("range", tickers_path=str(path)), open_s3={str(path): text.encode()}.__getitem__)
        _, report = world.run((DAYS[4],), (SYMBOL,), context)
        assert bool(report["red"]) is red


@pytest.mark.parametrize(("params", "refused"), [({"universe": "sp500_etf"}, False), ({"symbols": ("ES",)}, True)])
def test_eversource_energy_of_the_universe_is_fetched_as_a_stock(make_hook, tmp_path, params, refused):  # noqa: F811
    world = world_of("ib_ohlcv_1d", tmp_path, make_hook)
    context = world.context("night", **params)
    if refused:
        with pytest.raises(ParamError, match="ES is also a future: write ES.c.0 or ES:STK"):
            world.run((DAYS[-9],), ("ES",), context)
        return
    _, report = world.run((DAYS[-9],), ("ES", "A"), context)
    assert (report["red"], report["failed_tickers_list"], report["successful_tickers"]) == ([], [], 2)


def test_a_symbol_that_has_left_the_universe_may_be_unknown(story, removed):
    world = story("ib_ohlcv_1d")
    remember(world, {DAYS[0]: State.HAVE})
    for name, red in (("dow30", True), (removed, False)):
        universes.FOLDER.joinpath("mine.csv").write_text(f"symbol,added_date,removed_date,source\n{SYMBOL},,{DAYS[2]},\n")
        _, report = world.run((DAYS[-9],), (SYMBOL,), world.context(name, universe=name))
        assert bool(report["red"]) == red
    assert state(world, DAYS[-9]) is State.EMPTY


@pytest.mark.parametrize("dag_id", ["polygon_ohlcv_1d", "ib_ohlcv_1d"])
def test_the_ledger_is_read_once_in_a_batch(seeded, dag_id, monkeypatch):
    world = seeded(dag_id, PAST[:3])
    saying_nothing(world, EVERY[:2])
    reads = []
    monkeypatch.setattr("market_data.lake.ledger.read_coverage", lambda *place: reads.append(place) or read_coverage(*place))
    night(world, PAST[40])
    context = world.context("range", endpoint="range" if dag_id.startswith("polygon") else "historical")
    with world.hook() as hook:
        planned = pipeline.plan_run(context, hook, Wanted(PAST[3:20]), EVERY, world.now)
        reads.clear()
        (batch,) = planned.plan.batches
        pipeline.fetch_batch(context, hook, batch, lambda: world.now)
    assert len(reads) == 1
