"""Polygon's minutes and reference data over real HTTP."""

from datetime import UTC, date, datetime
from itertools import pairwise

import pytest
import requests

from market_data.core import calendar
from sandbox.http import SampleApi

NOW = datetime(2024, 12, 10, 12, tzinfo=UTC)
KEY = {"Authorization": "Bearer sample"}
WEEK = ("2024-11-25", "2024-11-29")  # Thanksgiving, and a half day
MINUTES = 3 * 390 + 210


@pytest.fixture(scope="module")
def api():
    with SampleApi(symbols=("SPY", "F", "BRK.B", *(f"S{n}" for n in range(60))), now=lambda: NOW) as api:
        yield api


def get(api, path, **params):
    response = requests.get(path if path.startswith("http") else api.url + path, params=params, headers=KEY, timeout=10)
    assert response.status_code == 200, response.text
    return response.json()


def minutes(size, start, end, ticker="BRK.B"):
    return f"/v2/aggs/ticker/{ticker}/range/{size}/minute/{start}/{end}"


def all_pages(api, path, **params):
    pages = [get(api, path, adjusted="false", **params)]
    while url := pages[-1].get("next_url"):
        assert len(pages) < 50, "endless pages"
        pages.append(get(api, url, adjusted="false"))
    return pages


def rows(pages):
    return [row for page in pages for row in page["results"]]


def moment(day, clock):
    return int(calendar.at(date.fromisoformat(day), datetime.strptime(clock, "%H:%M").time()).timestamp() * 1000)  # noqa: DTZ007


def test_minutes_are_those_of_the_daily_bars(api):
    found = get(api, minutes(1, *WEEK), adjusted="false", limit=50_000)
    (daily, *_) = get(api, "/v2/aggs/ticker/BRK.B/range/1/day/2024-11-25/2024-11-25", adjusted="false")["results"]
    assert list(found["results"][0]) == ["v", "vw", "o", "c", "h", "l", "t", "n"]
    assert found["queryCount"] == found["resultsCount"] == len(found["results"]) <= MINUTES
    assert found["results"][0]["t"] == moment("2024-11-25", "09:30")
    assert found["results"][-1]["t"] == moment("2024-11-29", "12:59")
    first_day = [row for row in found["results"] if row["t"] < moment("2024-11-26", "00:00")]
    assert (first_day[0]["o"], first_day[-1]["c"]) == (daily["o"], daily["c"])
    assert (max(r["h"] for r in first_day), min(r["l"] for r in first_day)) == (daily["h"], daily["l"])
    assert sum(row["v"] for row in first_day) == daily["v"]


@pytest.mark.parametrize("sort", ["asc", "desc"])
@pytest.mark.parametrize(("size", "limit"), [(1, 400), (5, 400), (5, 3), (5, 50_000), (7, 100)])
def test_pages_of_minutes_make_up_the_whole_range(api, sort, size, limit):
    span = WEEK if limit > 50 else (str(moment("2024-11-25", "09:30")), str(moment("2024-11-25", "10:00")))
    whole = get(api, minutes(size, *span), adjusted="false", limit=50_000, sort=sort)
    pages = all_pages(api, minutes(size, *span), limit=limit, sort=sort)
    assert rows(pages) == whole["results"]
    assert sum(page["queryCount"] for page in pages) == whole["queryCount"]
    assert all(page["queryCount"] <= max(limit, size) for page in pages)
    stamps = [row["t"] for row in rows(pages)]
    assert stamps == sorted(set(stamps), reverse=sort == "desc")
    assert (len(pages) == 1) == (limit == 50_000)


def test_five_minutes_are_folded_and_cost_their_minutes(api):
    ones, fives = (get(api, minutes(size, *WEEK), adjusted="false", limit=50_000) for size in (1, 5))
    assert fives["queryCount"] == ones["queryCount"] > fives["resultsCount"] == -(-MINUTES // 5)
    for bar in fives["results"][:100]:
        inside = [row for row in ones["results"] if 0 <= row["t"] - bar["t"] < 300_000]
        assert (bar["o"], bar["c"], bar["v"]) == (inside[0]["o"], inside[-1]["c"], sum(row["v"] for row in inside))
        assert (bar["h"], bar["l"]) == (max(row["h"] for row in inside), min(row["l"] for row in inside))


def test_a_bar_that_the_limit_would_cut_begins_the_next_page(api):
    first = get(api, minutes(5, *WEEK, "SPY"), limit=12)
    assert (first["queryCount"], first["resultsCount"]) == (10, 2)
    assert f"/5/minute/{moment('2024-11-25', '09:40')}/2024-11-29?cursor=" in first["next_url"]


def test_milliseconds_are_moments_for_minutes(api):
    span = moment("2024-11-25", "10:00"), moment("2024-11-25", "10:09")
    found = get(api, minutes(1, *span, "SPY"))
    assert (found["results"][0]["t"], found["results"][-1]["t"], found["resultsCount"]) == (*span, 10)


def test_adjusted_minutes_are_scaled_as_the_day_is(api):
    path = minutes(1, "2005-02-25", "2005-02-25", "AAPL")  # before a split
    raw, adjusted = (get(api, path, adjusted=word)["results"] for word in ("false", "true"))
    daily = get(api, "/v2/aggs/ticker/AAPL/range/1/day/2005-02-25/2005-02-25")["results"][0]
    assert raw[-1]["c"] > 10 * adjusted[-1]["c"]
    assert (adjusted[0]["o"], adjusted[-1]["c"]) == (daily["o"], daily["c"])


@pytest.mark.parametrize(
    ("ticker", "start", "end"),
    [("NOSUCH", *WEEK), ("SPY", "2024-11-30", "2024-12-01"), ("SPY", "2024-12-10", "2025-01-01")],
)
def test_no_minutes_is_200_without_results(api, ticker, start, end):
    found = get(api, minutes(1, start, end, ticker))
    assert "results" not in found
    assert (found["queryCount"], found["resultsCount"]) == (0, 0)


# Reference data


def test_tickers(api):
    first = get(api, "/v3/reference/tickers", limit=50)
    assert (len(first["results"]), first["status"]) == (50, "OK")
    rest = get(api, first["next_url"])
    found = [row["ticker"] for row in rows([first, rest])]
    assert found == sorted(api.market.symbols)
    assert "next_url" not in rest
    assert [row["ticker"] for row in get(api, "/v3/reference/tickers", ticker="BRK.B")["results"]] == ["BRK.B"]
    after = get(api, "/v3/reference/tickers", limit=1000, **{"ticker.gt": "S58", "ticker.lte": "SPY"})["results"]
    assert [row["ticker"] for row in after] == ["S59", "S6", "S7", "S8", "S9", "SPY"]
    assert get(api, "/v3/reference/tickers", active="false")["results"] == []


def test_splits(api):
    found = get(api, "/v3/reference/splits", limit=1000)["results"]
    assert list(found[0]) == ["execution_date", "id", "split_from", "split_to", "ticker"]
    dates = [row["execution_date"] for row in found]
    assert dates == sorted(dates, reverse=True)
    assert max(dates) <= "2025-01-09"  # known 30 days before
    assert len(get(api, "/v3/reference/splits")["results"]) == 10
    some = get(api, "/v3/reference/splits", limit=1000, ticker="SPY", **{"execution_date.gte": "2010-01-01"})["results"]
    assert some == [row for row in found if row["ticker"] == "SPY" and row["execution_date"] >= "2010-01-01"] != []


def test_dividends_page_by_page(api):
    span = {"ex_dividend_date.gte": "2023-01-01", "ex_dividend_date.lte": "2023-12-31"}
    pages = all_pages(api, "/v3/reference/dividends", limit=37, order="asc", **span)
    assert {len(page["results"]) for page in pages[:-1]} == {37}
    found = rows(pages)
    assert sorted(found[0]) == [
        *("cash_amount", "currency", "declaration_date", "dividend_type", "ex_dividend_date"),
        *("frequency", "id", "pay_date", "record_date", "ticker"),
    ]
    assert found == get(api, "/v3/reference/dividends", limit=1000, order="asc", **span)["results"]
    expected = api.market.dividends(date(2023, 1, 1), date(2024, 1, 1))
    assert sorted(row["id"] for row in found) == sorted(dividend.action_id for dividend in expected)
    assert all(a["ex_dividend_date"] <= b["ex_dividend_date"] for a, b in pairwise(found))


def test_a_dividend_is_there_from_its_declaration_on():
    question = {"limit": 1000, "ex_dividend_date.gte": "2024-11-01", "ex_dividend_date.lte": "2024-12-01"}
    responses = []
    for now in (datetime(2024, 11, 1, 12, tzinfo=UTC), NOW):
        with SampleApi(symbols=[f"S{n}" for n in range(60)], now=lambda now=now: now) as api:
            responses.append(get(api, "/v3/reference/dividends", **question)["results"])
    early, late = responses
    assert early == [row for row in late if row["declaration_date"] <= "2024-11-01"]
    assert 0 < len(early) < len(late)


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({"limit": 1001}, "'limit'"),
        ({"order": "up"}, "asc, desc"),
        ({"ex_dividend_date.gte": "soon"}, "ex_dividend_date"),
        ({"ticker": "SPY", "cash_amount.gt": "much"}, "'cash_amount.gt'"),
        ({"cursor": "b2Zmc2V0PXg"}, "'cursor'"),
    ],
)
def test_bad_questions_are_refused(api, params, word):
    response = requests.get(f"{api.url}/v3/reference/dividends", params=params, headers=KEY, timeout=10)
    assert response.status_code == 400
    assert word in response.json()["error"]


@pytest.mark.parametrize(
    ("kind", "field"),
    [("drifted", "cash_amount"), ("duplicated", "id"), ("out_of_range", "ex_dividend_date"), ("other_symbol", "ticker")],
)
def test_reference_data_can_be_wrong_too(api, kind, field):
    due = get(api, "/v3/reference/dividends", limit=5)["results"]
    api.fault(kind)
    wrong = get(api, "/v3/reference/dividends", limit=5)["results"]
    assert wrong != due
    assert [row[field] for row in wrong] != [row[field] for row in due]
