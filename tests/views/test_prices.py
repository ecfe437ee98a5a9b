"""What the page Prices shows: bars of a range, lines of other sources, marks, adjusted prices, features and restatements."""

import json
from contextlib import nullcontext
from datetime import date, timedelta
from types import SimpleNamespace

import pytest

from market_data.core.calendar import XNYS
from market_data.core.errors import ParamError, WarehouseError
from market_data.views.places import place_of
from market_data.views.price_gold import gold_of
from market_data.views.price_range import MOST_SESSIONS, choose
from market_data.views.prices import head_of, prices_of
from tests.views.price_world import CLOSES, DAYS, HELD, NOW, PAID, REFUSED, RESTATED, SCRIPT, SPLIT, candle, seconds, seed


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return seed(tmp_path_factory.mktemp("world"))


def everybody(_):
    return True


def closed():
    raise WarehouseError("the file is locked")


def chosen_of(world, feed="polygon_ohlcv_1d", symbol="AAPL", first="", last=""):
    return choose(place_of(world.lake, feed), symbol, first, last, NOW)


def shown(world, *, over=(), adjust="none", readable=everybody, warehouse=closed, **chosen):
    found = prices_of(chosen_of(world, **chosen), over, adjust, readable, warehouse, NOW)
    json.dumps(found, allow_nan=False)
    return found


def test_bars_are_those_of_the_lake_and_closes_of_others_are_lines(world):
    found = shown(world, over=["fmp"], first="2024-08-01", last="2024-11-08")
    days = [day for day in DAYS if day >= date(2024, 8, 1) and day != HELD]
    assert found["bars"]["time"] == [seconds(day) for day in days]
    for name in ("open", "high", "low", "close"):
        assert found["bars"][name] == [candle(day)[name] for day in days]
    assert found["bars"]["volume"] == [1000.0] * len(days)
    (line,) = found["lines"]
    assert line["source"] == "fmp"
    assert dict(zip(line["time"], line["close"], strict=True)) == {seconds(day): CLOSES[day] + 0.5 for day in DAYS[-40:-1]}
    assert found["notes"] == ["fmp: 1 bar without all four prices cannot be shown"]


def test_what_can_be_chosen_is_what_the_user_may_see(world):
    place = place_of(world.lake, "polygon_ohlcv_1d")
    assert head_of(place, everybody)["others"] == ["fmp"]
    assert head_of(place, everybody)["symbols"] == [SCRIPT, "AAPL"]
    assert head_of(place_of(world.lake, "polygon_ohlcv_1m"), everybody)["symbols"] == ["AAPL"]  # no ledger: its folders

    def own(dag_id):
        return dag_id.startswith("polygon")

    assert head_of(place, own)["others"] == []
    with pytest.raises(ParamError, match="over is 'fmp'; other sources of ohlcv-1d in the lake: none"):
        shown(world, over=["fmp"], readable=own)
    reported = [one["text"] for one in shown(world, readable=own)["marks"] if one["kind"] == "dividend"]
    assert reported == [f"2 USD per share, ex-date {PAID}, reported by polygon"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"symbol": "<b>"}, "symbol '<b>' is not a symbol"),
        ({"symbol": ""}, "symbol '' is empty"),
        ({"first": "yesterday"}, "from is 'yesterday'; an ISO date is needed"),
        ({"first": "2024-11-01", "last": "2024-10-01"}, "from is 2024-11-01, which is after to, 2024-10-01"),
        ({"last": "1999-12-31"}, "to is 1999-12-31; 2000-01-01 to 2040-12-31 are allowed"),
        ({"feed": "polygon_corporate_actions"}, "feed is polygon_corporate_actions; it has no bars"),
        ({"over": ["../etc"]}, "over is '../etc'; other sources of ohlcv-1d in the lake: fmp"),
        ({"over": ["polygon"]}, "over is 'polygon'"),
        ({"adjust": "x'--"}, 'adjust is "x\'--"; allowed: none, splits, all'),
    ],
)
def test_values_of_a_client_are_checked(world, given, problem):
    with pytest.raises(ParamError) as raised:
        shown(world, **given)
    assert problem in str(raised.value)


def test_a_symbol_without_bars_is_empty_and_never_an_error(world):
    for symbol in (SCRIPT, "ZZZZ"):
        found = shown(world, symbol=symbol, over=["fmp"])
        assert (found["symbol"], found["bars"]["time"], found["marks"]) == (symbol, [], [])


def test_marks_have_the_time_of_their_session_whether_it_has_a_bar_or_not(world):
    found = shown(world)
    assert [(one["time"], one["kind"], one["text"]) for one in found["marks"]] == [
        (seconds(SPLIT), "split", f"4 for 1, ex-date {SPLIT}, reported by polygon"),
        (seconds(PAID), "dividend", f"2 USD per share, ex-date {PAID}, reported by fmp, polygon"),
        (seconds(RESTATED), "restated", "1 bar by run nightly"),
        (seconds(REFUSED), "refused", "no reason is recorded"),
        (seconds(HELD), "quarantined", "high 1 below low 2"),
    ]
    assert seconds(HELD) not in found["bars"]["time"]
    assert shown(world, last=PAID.isoformat(), first=PAID.isoformat())["marks"] == found["marks"][1:2]


@pytest.mark.parametrize("adjust", ["splits", "all"])
def test_adjusted_prices_use_the_factors_of_each_source(world, adjust):
    found = shown(world, adjust=adjust, over=["fmp"], warehouse=world.warehouse)
    before_paid = DAYS[DAYS.index(PAID) - 1]
    cash = 1 - 2.0 / CLOSES[before_paid] if adjust == "all" else 1
    factors = {day: (0.25 if day < SPLIT else 1) * (cash if day < PAID else 1) for day in DAYS if day != HELD}
    bars = found["bars"]
    assert bars["time"] == [seconds(day) for day in factors]
    for name in ("open", "high", "low", "close"):
        assert bars[name] == pytest.approx([candle(day)[name] * factor for day, factor in factors.items()], rel=1e-9)
    assert bars["volume"] == pytest.approx([4000.0 if day < SPLIT else 1000.0 for day in factors])
    assert (found["adjust"], found["lines"]) == (adjust, [{"source": "fmp", "time": [], "close": []}])
    assert any(note.startswith("fmp: 39 bars cannot be adjusted") for note in found["notes"])


def test_without_the_warehouse_prices_are_raw_and_it_is_reported(world):
    found = shown(world, adjust="all")
    assert (found["adjust"], found["bars"]) == ("none", shown(world)["bars"])
    assert found["notes"] == ["prices are raw, because the factors are in the warehouse, which cannot be read: the file is locked"]


def test_features_and_every_restatement_come_from_the_warehouse(world, monkeypatch):
    found = gold_of(chosen_of(world), world.warehouse)
    json.dumps(found, allow_nan=False)
    assert (found["problem"], found["notes"]) == ("", [])
    features = found["features"]
    place = features["time"].index(seconds(DAYS[60]))
    assert features["ma_20"][place] == pytest.approx(sum(CLOSES[day] for day in DAYS[41:61]) / 20)
    assert features["ma_20"][:19] == [None] * 19
    assert features["ma_50"][place] == pytest.approx((sum(CLOSES[day] for day in DAYS[11:61])) / 50)
    assert features["close_stddev_20d"][place] > 0
    assert [(one["time"], one["session"]) for one in found["restated"]] == [
        (seconds(d), d.isoformat()) for d in (DAYS[5], RESTATED)
    ]
    assert found["restated"][0]["text"].startswith("open 404 to 405, high 407 to 408, low 403 to 404, close 405 to 406, 20")
    assert found["restated"][0]["text"].endswith("UTC by run nightly")
    assert gold_of(chosen_of(world, first=DAYS[6].isoformat()), world.warehouse)["restated"] == found["restated"][1:]
    monkeypatch.setattr("market_data.views.price_gold.MOST_MARKS", 1)
    fewer = gold_of(chosen_of(world), world.warehouse)
    assert (fewer["restated"], fewer["notes"]) == (found["restated"][1:], ["2 restated bars: the latest 1 are marked"])


@pytest.mark.parametrize("broken", [closed, lambda: nullcontext(SimpleNamespace(query=lambda *_: closed()))])
def test_a_warehouse_that_cannot_be_read_is_a_sentence(world, broken):
    found = gold_of(chosen_of(world), broken)
    assert found == {"features": {}, "restated": [], "notes": [], "problem": "the file is locked"}


def test_bars_within_the_day_have_the_time_of_the_exchange_on_both_sides_of_a_change_of_clocks(world):
    found = shown(world, feed="polygon_ohlcv_1m", first=DAYS[-7].isoformat(), last=DAYS[-1].isoformat())
    assert found["zone"] == "America/New_York"
    summer, winter = DAYS[-7], DAYS[-1]
    assert [XNYS.session_open(day).hour for day in (summer, winter)] == [13, 14]
    assert found["bars"]["time"] == [
        *(seconds(summer, 9, 30 + n) for n in range(3)),
        *(seconds(winter, 8, 30 + n) for n in range(3)),
    ]


def test_bars_within_the_day_are_adjusted_and_restated_by_their_session(world):
    before, last = DAYS[10].isoformat(), DAYS[-1].isoformat()
    found = shown(world, feed="polygon_ohlcv_1m", first=before, last=before, adjust="splits", warehouse=world.warehouse)
    assert found["bars"]["close"] == pytest.approx([2.5, 2.75])
    gold = gold_of(chosen_of(world, feed="polygon_ohlcv_1m", first=last, last=last), world.warehouse)
    ((time, text),) = [(one["time"], one["text"]) for one in gold["restated"]]  # not that of the day before
    assert time == seconds(DAYS[-1], 9, 30)
    assert text.startswith("high 10 to 12, ")
    assert gold["features"] == {}


def test_a_range_has_a_default_and_a_limit(world):
    year = chosen_of(world)
    assert (year.first, year.last, year.notes) == (DAYS[-1] - timedelta(days=365), DAYS[-1], ())
    days = chosen_of(world, feed="polygon_ohlcv_1m")
    assert (days.first, days.last) == (DAYS[-5], DAYS[-1])
    long = chosen_of(world, feed="polygon_ohlcv_1m", first="2024-01-02", last=DAYS[-1].isoformat())
    assert len(long.sessions) == MOST_SESSIONS["1m"] == 20
    assert long.notes == ("the range has 217 sessions: the latest 20 are shown",)
