"""The sample API over real HTTP."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from market_data.core import calendar
from sandbox.http import Call, SampleApi, Window, max_in_window, read_call_log
from sandbox.market.recorded_prices import EXTRA_SYMBOLS, UNIVERSES
from sandbox.vendors.polygon import NO_TIMEFRAME, NOT_ENTITLED, last_date

ROOT = Path(__file__).resolve().parents[2]
KEY = {"Authorization": "Bearer sample"}
GROUPED = "/v2/aggs/grouped/locale/us/market/stocks/"
TOO_MANY = "You've exceeded the maximum requests per minute"


def daily(ticker: str, start: str, end: str) -> str:
    return f"/v2/aggs/ticker/{ticker}/range/1/day/{start}/{end}"


def get(api: SampleApi | str, path: str, headers: dict[str, str] | None = None, **params) -> requests.Response:
    base = api if isinstance(api, str) else api.url
    query = {name: str(value).lower() if isinstance(value, bool) else value for name, value in params.items()}
    return requests.get(base + path, params=query, headers=KEY if headers is None else headers, timeout=10)


def control(api: SampleApi, method: str, route: str, body: object = None) -> requests.Response:
    return requests.request(method, f"{api.url}/_control/{route}", json=body, timeout=10)


def rows(api: SampleApi, path: str, **params) -> list[dict]:
    response = get(api, path, **{"adjusted": False, **params})
    assert response.status_code == 200, response.text
    return response.json().get("results", [])


def all_pages(api: SampleApi, path: str, resend: dict | None = None, **params) -> list[dict]:
    pages = [get(api, path, **params).json()]
    while url := pages[-1].get("next_url"):
        assert len(pages) < 50, "endless pages"
        pages.append(requests.get(url, params=resend, headers=KEY, timeout=10).json())
    return pages


def moment(stamp: int) -> datetime:
    return datetime.fromtimestamp(stamp / 1000, UTC)


@pytest.fixture(scope="module")
def shared():
    """For tests that change nothing."""
    with SampleApi() as api:
        yield api


@pytest.fixture
def api():
    with SampleApi(symbols=("A", "BRK.B", "SPY")) as api:
        yield api


# The two endpoints


def test_range_serves_the_recorded_prices_in_the_vendors_shape(shared):
    from bokeh_sampledata.stocks import IBM

    response = get(shared, daily("IBM", "2012-01-03", "2012-01-06"), adjusted=False)
    body = response.json()
    assert list(body) == ["ticker", "queryCount", "resultsCount", "adjusted", "results", "status", "count", "request_id"]
    assert (body["ticker"], body["status"], body["adjusted"]) == ("IBM", "OK", False)
    assert body["queryCount"] == body["resultsCount"] == body["count"] == len(body["results"]) == 4
    assert response.headers["X-Request-Id"] == body["request_id"]
    assert response.headers["X-Sample-Source"] == "recorded"
    first = IBM["date"].index("2012-01-03")
    columns = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume"}
    for n, row in enumerate(body["results"]):
        assert {key: row[key] for key in columns} == {key: IBM[name][first + n] for key, name in columns.items()}
        assert "vw" not in row
        assert "n" not in row


def test_prices_are_adjusted_unless_told_otherwise(shared):
    from bokeh_sampledata.stocks import AAPL

    place = AAPL["date"].index("2005-02-25")  # the session before a split
    (adjusted,) = get(shared, daily("AAPL", "2005-02-25", "2005-02-25")).json()["results"]
    (raw,) = rows(shared, daily("AAPL", "2005-02-25", "2005-02-25"))
    assert raw["c"] == AAPL["close"][place]
    assert adjusted["c"] == pytest.approx(AAPL["adj_close"][place], abs=1e-4)
    assert adjusted["o"] == pytest.approx(raw["o"] * adjusted["c"] / raw["c"], rel=1e-4)
    assert adjusted["v"] == raw["v"]
    assert get(shared, daily("AAPL", "2005-02-25", "2005-02-25")).json()["adjusted"] is True


@pytest.mark.parametrize(
    ("session", "midnight", "closing"),
    [
        ("2018-02-07", 1517979600000, 1518037200000),
        ("2012-03-09", "2012-03-09T05:00", "2012-03-09T21:00"),  # the last session of winter time
        ("2012-03-12", "2012-03-12T04:00", "2012-03-12T20:00"),
        ("2012-11-02", "2012-11-02T04:00", "2012-11-02T20:00"),  # the last session of summer time
        ("2012-11-05", "2012-11-05T05:00", "2012-11-05T21:00"),
        ("2012-11-23", "2012-11-23T05:00", "2012-11-23T21:00"),  # closed at 13:00
    ],
)
def test_stamps_are_midnight_and_four_in_new_york(shared, session, midnight, closing):
    def stamp(value):
        return value if isinstance(value, int) else int(datetime.fromisoformat(f"{value}Z").timestamp() * 1000)

    assert [row["t"] for row in rows(shared, daily("SPY", session, session))] == [stamp(midnight)]
    assert {row["t"] for row in rows(shared, GROUPED + session)} == {stamp(closing)}


def test_a_range_is_inclusive_and_has_every_session_across_a_clock_change(shared):
    stamps = [moment(row["t"]) for row in rows(shared, daily("SPY", "2012-10-26", "2012-11-06"))]
    days = [calendar.NEW_YORK.fromutc(stamp.replace(tzinfo=calendar.NEW_YORK)).date() for stamp in stamps]
    assert days == [date(2012, 10, 26), date(2012, 10, 31), *(date(2012, 11, day) for day in (1, 2, 5, 6))]


def test_milliseconds_name_the_new_york_date(shared):
    by_date = rows(shared, daily("AAPL", "2012-03-09", "2012-03-12"))
    assert rows(shared, daily("AAPL", "1331269200000", "1331524800000")) == by_date
    assert rows(shared, daily("AAPL", "1331269200000", "1331524799999")) == by_date[:1]


def test_grouped_holds_the_universe_the_recorded_and_the_extra_symbols(shared):
    response = get(shared, GROUPED + "2012-06-01", adjusted=False)
    body = response.json()
    symbols = [row["T"] for row in body["results"]]
    universe = (UNIVERSES / "sp500_etf.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert len(universe) > 500
    assert set(symbols) >= {line.split(",")[0] for line in universe} | {"AAPL", "FB", "GOOG", "IBM", "MSFT"} | set(EXTRA_SYMBOLS)
    assert len(symbols) == len(set(symbols)) == body["resultsCount"] == body["queryCount"]
    assert symbols != sorted(symbols)
    assert response.headers["X-Sample-Source"] == "recorded+generated"
    assert next(iter(body["results"][0])) == "T"
    assert "ticker" not in body


def test_both_endpoints_give_the_same_bar(shared):
    grouped = {row.pop("T"): row for row in rows(shared, GROUPED + "2012-06-01")}
    for symbol in ("AAPL", "BRK.B", "SPY", "ZVZZT"):
        (row,) = rows(shared, daily(symbol, "2012-06-01", "2012-06-01"))
        assert {**row, "t": 0} == {**grouped[symbol], "t": 0}


def test_volumes_from_a_million_on_are_written_with_an_exponent(shared):
    text = get(shared, daily("AAPL", "2012-01-03", "2012-01-03"), adjusted=False).text
    (row,) = json.loads(text)["results"]
    assert row["v"] >= 1e6
    assert '"v":1.07936e+07,' in text
    assert row["v"] == 10793600
    (small,) = json.loads(get(shared, daily("ABBV", "2015-01-02", "2015-01-02")).text)["results"]
    assert isinstance(small["v"], int)


# Paging


@pytest.mark.parametrize("sort", ["asc", "desc"])
def test_pages_make_up_the_whole_range(shared, sort):
    path = daily("AAPL", "2012-03-01", "2012-03-30")
    pages = all_pages(shared, path, adjusted=True, sort=sort, limit=5)
    assert [page["resultsCount"] for page in pages] == [5, 5, 5, 5, 2]
    whole = get(shared, path, sort=sort).json()
    assert "next_url" not in whole
    assert [row for page in pages for row in page["results"]] == whole["results"]
    stamps = [row["t"] for row in whole["results"]]
    assert stamps == sorted(stamps, reverse=sort == "desc")


def test_next_url_has_the_vendors_shape_and_no_key(shared):
    response = get(shared, daily("AAPL", "2004-01-01", "2004-01-09"), headers={}, limit=2, apiKey="sample")
    # the documentation's example, sixteen years earlier: `from` is the midnight after the last bar, a Tuesday
    assert (
        response.json()["next_url"] == f"{shared.url}{daily('AAPL', '1073365200000', '2004-01-09')}?cursor=bGltaXQ9MiZzb3J0PWFzYw"
    )
    assert "sample" not in response.json()["next_url"]


def test_a_page_that_ends_with_the_range_has_no_next(shared):
    (page,) = all_pages(shared, daily("AAPL", "2012-03-05", "2012-03-09"), limit=5)
    assert page["resultsCount"] == 5


def test_a_page_holds_5000_bars_by_default(shared):
    first, second = all_pages(shared, daily("IBM", "2000-03-01", "2026-01-01"), resend={"adjusted": "false"}, adjusted=False)
    assert first["resultsCount"] == 5000
    assert first["resultsCount"] + second["resultsCount"] == calendar.sessions_count(date(2000, 3, 1), date(2026, 1, 1))
    assert get(shared, daily("IBM", "2000-03-01", "2026-01-01"), limit=50_000).json().get("next_url") is None


def test_the_cursor_loses_adjusted_so_a_client_must_say_it_again(shared):
    path = daily("AAPL", "2012-03-01", "2012-03-30")
    assert [page["adjusted"] for page in all_pages(shared, path, adjusted=False, limit=15)] == [False, True]
    assert [page["adjusted"] for page in all_pages(shared, path, {"adjusted": "false"}, adjusted=False, limit=15)] == [False, False]


def test_a_cursor_can_keep_adjusted():
    with SampleApi(symbols=(), cursor_keeps_adjusted=True) as api:
        pages = all_pages(api, daily("AAPL", "2012-03-01", "2012-03-30"), adjusted=False, limit=15)
    assert [page["adjusted"] for page in pages] == [False, False]
    cursor = pages[0]["next_url"].partition("cursor=")[2]
    assert base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)) == b"adjusted=false&limit=15&sort=asc"


# Emptiness and refusals


@pytest.mark.parametrize(
    "path",
    [
        GROUPED + "2012-01-02",  # observed New Year
        GROUPED + "2012-01-07",  # Saturday
        GROUPED + "2999-01-03",
        GROUPED + "1980-01-03",
        daily("NOSUCH", "2012-01-03", "2012-01-05"),
        daily("KIMpL", "2012-01-03", "2012-01-05"),
        daily("aapl", "2012-01-03", "2012-01-05"),
        daily("AAPL", "2012-01-07", "2012-01-08"),
        daily("FB", "2012-01-03", "2012-05-17"),
        daily("SPY", "9999-12-30", "9999-12-31"),
    ],
)
def test_emptiness_is_200_without_results(shared, path):
    response = get(shared, path)
    assert response.status_code == 200
    body = response.json()
    assert "results" not in body
    assert (body["status"], body["resultsCount"], body["queryCount"], body["count"]) == ("OK", 0, 0, 0)
    assert response.headers["X-Sample-Source"] == "generated"


def test_fb_begins_with_its_listing(shared):
    stamps = [moment(row["t"]).date() for row in rows(shared, daily("FB", "2012-05-01", "2012-05-21"))]
    assert stamps == [date(2012, 5, 18), date(2012, 5, 21)]
    assert "FB" not in {row["T"] for row in rows(shared, GROUPED + "2012-05-17")}
    assert "FB" in {row["T"] for row in rows(shared, GROUPED + "2012-05-18")}


def test_a_session_is_there_from_its_close_on():
    now = datetime(2026, 11, 20, 20, 59, 59, tzinfo=UTC)
    with SampleApi(symbols=("SPY",), now=lambda: now) as api:
        assert rows(api, GROUPED + "2026-11-20") == []
        assert len(rows(api, daily("SPY", "2026-11-19", "2026-11-30"))) == 1
        now = datetime(2026, 11, 20, 21, tzinfo=UTC)
        assert rows(api, GROUPED + "2026-11-20") != []
        assert len(rows(api, daily("SPY", "2026-11-19", "2026-11-30"))) == 2


@pytest.mark.parametrize(
    ("headers", "query", "status", "message"),
    [
        (KEY, {}, 200, None),
        ({}, {"apiKey": "sample"}, 200, None),
        ({}, {}, 401, "API Key was not provided"),
        ({"Authorization": "Bearer wrong"}, {}, 401, "Unknown API Key"),
        ({}, {"apiKey": "wrong"}, 401, "Unknown API Key"),
        ({"Authorization": "Basic sample"}, {}, 401, "API Key was not provided"),
    ],
)
def test_keys(api, headers, query, status, message):
    response = get(api, daily("AAPL", "2012-01-03", "2012-01-03"), headers=headers, **query)
    assert response.status_code == status
    if message:
        assert response.json() == {"status": "ERROR", "error": message, "request_id": response.headers["X-Request-Id"]}
        assert "X-Sample-Source" not in response.headers
    (call,) = api.calls
    assert (call.status, call.accepted, call.endpoint, call.ticker) == (status, status == 200, "range", "AAPL")
    assert "apiKey" not in call.target


@pytest.mark.parametrize(
    ("path", "params", "status", "word"),
    [
        (daily("AAPL", "2012-1-3", "2012-01-05"), {}, 400, "'from'"),
        (daily("AAPL", "2012-01-03", "2012-02-30"), {}, 400, "'to'"),
        (daily("AAPL", "2012-01-05", "2012-01-03"), {}, 400, "before 'from'"),
        (daily("AAPL", "2012-01-03", "2012-01-05"), {"limit": 0}, 400, "'limit'"),
        (daily("AAPL", "2012-01-03", "2012-01-05"), {"limit": 50_001}, 400, "'limit'"),
        (daily("AAPL", "2012-01-03", "2012-01-05"), {"sort": "up"}, 400, "asc, desc"),
        (daily("AAPL", "2012-01-03", "2012-01-05"), {"adjusted": "no"}, 400, "true, false"),
        (daily("AAPL", "2012-01-03", "2012-01-05"), {"cursor": "%%%"}, 400, "'cursor'"),
        (GROUPED + "yesterday", {}, 400, "'date'"),
        ("/v2/aggs/ticker/AAPL/range/1/week/2012-01-03/2012-01-05", {}, 400, "only, not range/1/week"),
        ("/v3/reference/conditions", {}, 404, "not found"),
    ],
)
def test_bad_requests_say_what_is_wrong(shared, path, params, status, word):
    response = get(shared, path, **params)
    assert response.status_code == status
    body = response.json()
    assert word in body.get("error", body.get("message"))
    assert body["status"] in ("ERROR", "NOT_FOUND")


# Generated prices


def test_a_bar_is_the_same_whatever_is_requested(shared):
    path = "2019-03-13", "2019-03-13"
    (alone,) = rows(shared, daily("SPY", *path))
    in_year = {row["t"]: row for row in rows(shared, daily("SPY", "2019-01-01", "2019-12-31"))}
    assert in_year[alone["t"]] == alone
    with SampleApi(symbols=("SPY",)) as another:
        assert rows(another, daily("SPY", *path)) == [alone]
    with SampleApi(symbols=("SPY",), seed=1) as seeded:
        assert rows(seeded, daily("SPY", *path)) != [alone]


def test_these_bars_never_change(shared):
    """A changed generator would look like a restatement of everything already in a lake."""
    (row,) = rows(shared, daily("SPY", "2012-01-03", "2012-01-03"))
    assert row == {"v": 1237098, "vw": 12.405, "o": 12.51, "c": 12.34, "h": 12.52, "l": 12.25, "t": 1325566800000, "n": 10310}


def test_generated_bars_are_plausible(shared):
    for symbol in ("A", "BRK.B", "SPY", "XOM", "META"):
        bars = rows(shared, daily(symbol, "2005-01-03", "2014-12-31"))
        assert len(bars) == 2517
        for bar in bars:
            assert 0 < bar["l"] <= min(bar["o"], bar["c"]) <= max(bar["o"], bar["c"]) <= bar["h"]
            assert bar["l"] <= bar["vw"] <= bar["h"]
            assert bar["v"] == int(bar["v"]) > 0
            assert bar["n"] > 0
            assert round(bar["c"], 2) == bar["c"]
        moves = [abs(after["c"] / before["c"] - 1) for before, after in pairwise(bars)]
        assert 0.004 < sum(moves) / len(moves) < 0.03
        assert max(moves) < 0.15


def test_generated_prices_continue_recorded_ones(shared):
    response = get(shared, daily("AAPL", "2013-03-01", "2013-03-04"))
    assert response.headers["X-Sample-Source"] == "recorded+generated"
    for recorded, generated in (response.json()["results"], rows(shared, daily("AAPL", "2013-03-01", "2013-03-04"))):
        assert generated["c"] == pytest.approx(recorded["c"], rel=0.1)
        assert recorded["v"] / 3 < generated["v"] < recorded["v"] * 3


def test_recorded_sessions_are_the_calendars(shared):
    assert len(rows(shared, daily("MSFT", "2000-03-01", "2013-03-01"))) == calendar.sessions_count(
        date(2000, 3, 1), date(2013, 3, 2)
    )
    assert get(shared, daily("MSFT", "2000-01-01", "2013-03-01")).headers["X-Sample-Source"] == "recorded"


# A file


@pytest.fixture
def prices_file(tmp_path):
    table = pa.table(
        {
            "symbol": ["B", "A", "A", "B.X"],
            "date": pa.array([date(2015, 1, 3), date(2015, 1, 5), date(2015, 1, 2), date(2015, 1, 5)]),  # the 3rd is a Saturday
            "open": [1.0, None, 3.0, 4.0],
            "high": [2.0, 5.0, 4.0, 5.0],
            "low": [0.5, 1.0, 2.0, 3.0],
            "close": [1.5, 4.0, float("nan"), 4.5],
            "volume": pa.array([10, None, 30, 4_000_000], pa.int64()),
            "remark": ["x"] * 4,
        }
    )
    path = tmp_path / "prices.parquet"
    pq.write_table(table, path)
    return path


def test_a_file_is_served_exactly(prices_file):
    with SampleApi(data=prices_file) as api:
        first, second = rows(api, daily("A", "2015-01-01", "2015-01-31"))
        assert (first["o"], first["c"], first["v"]) == (3.0, None, 30)
        assert (second["o"], second["c"], second["v"]) == (None, 4.0, None)
        assert [row["t"] for row in (first, second)] == [1420174800000, 1420434000000]
        assert {row["T"]: row["c"] for row in rows(api, GROUPED + "2015-01-05")} == {"A": 4.0, "B.X": 4.5}
        assert [row["T"] for row in rows(api, GROUPED + "2015-01-03")] == ["B"]
        assert rows(api, daily("A", "2015-01-05", "2015-01-31")) == [second]
        assert rows(api, daily("A", "2015-01-03", "2015-01-04")) == []
        assert rows(api, GROUPED + "2015-01-06") == rows(api, daily("AAPL", "2015-01-02", "2015-01-31")) == []
        assert get(api, GROUPED + "2015-01-05").json()["results"] == rows(api, GROUPED + "2015-01-05")
        assert {get(api, GROUPED + day).headers["X-Sample-Source"] for day in ("2015-01-05", "2015-01-06")} == {"file"}


def test_dates_of_a_file_may_be_text(prices_file, tmp_path):
    table = pq.read_table(prices_file)
    text = table.set_column(1, "date", table["date"].cast(pa.string()))
    pq.write_table(text, tmp_path / "text.parquet")
    with SampleApi(data=prices_file) as api, SampleApi(data=tmp_path / "text.parquet") as other:
        assert rows(api, GROUPED + "2015-01-05") == rows(other, GROUPED + "2015-01-05") != []


def test_a_file_without_a_column_is_refused(prices_file, tmp_path):
    pq.write_table(pq.read_table(prices_file).drop_columns(["low", "volume"]), tmp_path / "less.parquet")
    with pytest.raises(ValueError, match="lacks the column\\(s\\) low, volume; needed: symbol, date"):
        SampleApi(data=tmp_path / "less.parquet")


# Altered prices, hidden symbols


def test_an_altered_price_comes_from_both_endpoints(api):
    before = rows(api, daily("AAPL", "2012-01-03", "2012-01-05"))
    api.alter("AAPL", date(2012, 1, 4), close=60.0, open=None)
    after = rows(api, daily("AAPL", "2012-01-03", "2012-01-05"))
    assert after == [before[0], {**before[1], "c": 60.0, "o": None}, before[2]]
    grouped = {row["T"]: row for row in rows(api, GROUPED + "2012-01-04")}
    assert (grouped["AAPL"]["c"], grouped["AAPL"]["o"]) == (60.0, None)
    api.edits.clear_changes()
    assert rows(api, daily("AAPL", "2012-01-03", "2012-01-05")) == before


def test_a_whole_session_multiplied(api):
    before = rows(api, GROUPED + "2012-01-04")
    api.alter(None, date(2012, 1, 4), multiply=10)
    for row, was in zip(rows(api, GROUPED + "2012-01-04"), before, strict=True):
        assert row["v"] == was["v"]
        for field in ("o", "h", "l", "c"):
            assert row[field] == pytest.approx(10 * was[field])
    assert rows(api, daily("SPY", "2012-01-03", "2012-01-03"))[0]["c"] < 1000


def test_alterations_name_what_they_do_not_know(api):
    with pytest.raises(ValueError, match="field is 'vw'; allowed: open, high, low, close, vwap, volume"):
        api.alter("AAPL", date(2012, 1, 4), vw=1.0)
    with pytest.raises(ValueError, match="either symbols or fraction"):
        api.hide(date(2012, 1, 4))


def test_hidden_symbols(api):
    api.hide(date(2012, 1, 4), ["AAPL", "SPY"])
    assert {"AAPL", "SPY"}.isdisjoint(row["T"] for row in rows(api, GROUPED + "2012-01-04"))
    assert "AAPL" in {row["T"] for row in rows(api, GROUPED + "2012-01-05")}
    assert len(rows(api, daily("AAPL", "2012-01-03", "2012-01-05"))) == 2
    api.edits.clear_hidden()
    assert len(rows(api, daily("AAPL", "2012-01-03", "2012-01-05"))) == 3


def test_a_fraction_hidden():
    with SampleApi() as api:
        whole = {row["T"] for row in rows(api, GROUPED + "2012-01-04")}
        api.hide(date(2012, 1, 4), fraction=0.4)
        rest = {row["T"] for row in rows(api, GROUPED + "2012-01-04")}
        assert rest < whole
        assert len(rest) == round(0.6 * len(whole))
        (hidden, *_) = whole - rest
        assert rows(api, daily(hidden, "2012-01-04", "2012-01-04")) == []
        assert {row["T"] for row in rows(api, GROUPED + "2012-01-04")} == rest


# The quota


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_quota_is_a_rolling_window_over_accepted_calls():
    clock = Clock()
    with SampleApi(symbols=(), limits=[Window(2, 60)], clock=clock) as api:

        def call_at(seconds: float) -> int:
            clock.now = 1000 + seconds
            return get(api, GROUPED + "2012-01-04").status_code

        assert [call_at(s) for s in (0, 10, 10, 59.9)] == [200, 200, 429, 429]
        assert call_at(60) == 200  # the call at 0 is exactly a window ago
        assert [call_at(s) for s in (61, 69.9)] == [429, 429]  # refused calls use nothing up
        assert call_at(70) == 200
        assert [call.accepted for call in api.calls] == [True, True, False, False, True, False, False, True]
        assert api.max_in_window(60, accepted_only=True) == 2
        assert api.max_in_window(60) == 6  # 10, 10, 59.9, 60, 61, 69.9


def test_all_windows_hold_at_once():
    clock = Clock()
    with SampleApi(symbols=(), limits=[Window(2, 1), Window(3, 60)], clock=clock) as api:
        statuses = []
        for seconds in (0, 0.5, 0.9, 1.0, 2.0, 60.0):
            clock.now = 1000 + seconds
            statuses.append(get(api, GROUPED + "2012-01-04").status_code)
    assert statuses == [200, 200, 429, 200, 429, 200]


def test_a_call_over_quota_gets_the_vendors_429():
    with SampleApi(symbols=(), limits=[Window(1, 60)]) as api:
        api.fault("server_error", times=None)
        assert get(api, GROUPED + "2012-01-04").status_code == 500
        response = get(api, GROUPED + "2012-01-04")
        assert response.status_code == 429
        assert response.json()["status"] == "ERROR"
        assert response.json()["error"].startswith(TOO_MANY)
        assert "Retry-After" not in response.headers
        assert "X-Sample-Source" not in response.headers
        assert get(api, GROUPED + "2012-01-04", headers={}).status_code == 401


def test_many_threads_never_get_more_than_the_quota():
    with SampleApi(symbols=(), limits=[Window(20, 60)]) as api, ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: get(api, GROUPED + "2012-01-04").status_code, range(60)))
        assert (statuses.count(200), statuses.count(429)) == (20, 40)
        assert (api.max_in_window(60), api.max_in_window(60, accepted_only=True)) == (60, 20)
        assert len(api.calls) == len({call.request_id for call in api.calls}) == 60


def made_call(moment: float, accepted: bool = True) -> Call:
    return Call(moment, moment, "/", "grouped", None, None, 200, accepted, None, None, "", None)


@given(st.lists(st.integers(0, 40)), st.integers(1, 12))
def test_max_in_window_against_brute_force(moments, seconds):
    windows = [sum(start <= moment < start + seconds for moment in moments) for start in range(-12, 41)]
    assert max_in_window(map(made_call, moments), seconds) == max(windows)


# Faults


def test_unauthorized_and_throttled(api):
    api.fault("unauthorized")
    api.fault("throttled")
    api.fault("throttled", retry_after=2)
    responses = [get(api, GROUPED + "2012-01-04") for _ in range(4)]
    assert [response.status_code for response in responses] == [401, 429, 429, 200]
    assert [response.headers.get("Retry-After") for response in responses] == [None, None, "2", None]
    assert responses[0].json()["error"] == "Unknown API Key"
    assert responses[1].json()["error"].startswith(TOO_MANY)
    assert [call.fault for call in api.calls] == ["unauthorized", "throttled", "throttled", None]
    assert all(call.accepted for call in api.calls)


def test_refusals_have_the_vendors_shapes(api):
    for kind in ("forbidden", "not_found", "error_with_200"):
        api.fault(kind)
    api.fault("forbidden", message=NO_TIMEFRAME)
    api.fault("throttled", retry_after="Sun, 06 Nov 1994 08:49:37 GMT")
    responses = [get(api, GROUPED + "2012-01-04") for _ in range(5)]
    assert [response.status_code for response in responses] == [403, 404, 200, 403, 429]
    bodies = [{name: value for name, value in response.json().items() if name != "request_id"} for response in responses]
    assert bodies[0] == {"status": "NOT_AUTHORIZED", "message": NOT_ENTITLED}
    assert bodies[1] == {"status": "NOT_FOUND", "message": "Data not found."}
    assert bodies[2] == {"status": "ERROR", "error": "Internal error"}
    assert bodies[3] == {"status": "NOT_AUTHORIZED", "message": NO_TIMEFRAME}
    assert responses[4].headers["Retry-After"] == "Sun, 06 Nov 1994 08:49:37 GMT"


def test_a_plan_can_end_at_a_date(api):
    end = date(2012, 1, 5)
    api.fault("forbidden", match=lambda request: (last_date(request) or date.min) >= end, times=None)
    paths = [
        *(daily("AAPL", "2012-01-03", last) for last in ("2012-01-04", "2012-01-05", "1325739600000", "2999-01-01")),
        *(GROUPED + day for day in ("2012-01-04", "2012-01-05")),
        daily("AAPL", "2012-01-03", "soon"),
    ]
    assert [get(api, path).status_code for path in paths] == [200, 403, 403, 403, 200, 403, 400]


def test_server_error(api):
    api.fault("server_error")
    api.fault("server_error", status=503)
    assert [get(api, GROUPED + "2012-01-04").status_code for _ in range(3)] == [500, 503, 200]


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_truncated_breaks_the_transfer(api, encoding):
    api.fault("truncated", fraction=0.9)
    headers = {**KEY, "Accept-Encoding": encoding}
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError), match="IncompleteRead"):
        get(api, GROUPED + "2012-01-04", headers=headers)
    assert get(api, GROUPED + "2012-01-04", headers=headers).json()["resultsCount"] > 0


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_truncated_clean_is_a_good_transfer_of_half_a_body(api, encoding):
    headers = {**KEY, "Accept-Encoding": encoding}
    whole = get(api, GROUPED + "2012-01-04", headers=headers)
    api.fault("truncated", clean=True)
    half = get(api, GROUPED + "2012-01-04", headers=headers)
    assert half.status_code == 200
    assert len(half.content) == len(whole.content) // 2
    with pytest.raises(requests.exceptions.JSONDecodeError):
        half.json()


def raw(api: SampleApi, path: str) -> requests.Response:
    """The response to a client that takes gzip, its body as sent."""
    response = requests.get(api.url + path, headers={**KEY, "Accept-Encoding": "gzip"}, timeout=10, stream=True)
    response.body = response.raw.read(decode_content=False)
    assert int(response.headers["Content-Length"]) == len(response.body)
    return response


@pytest.mark.parametrize("fraction", [0.5, 0.9, 0.999])
def test_a_gzip_stream_that_ends_early_is_a_good_transfer(api, fraction):
    whole = raw(api, GROUPED + "2012-01-04").body
    api.fault("truncated_gzip", fraction=fraction)
    cut = raw(api, GROUPED + "2012-01-04")
    assert (cut.status_code, cut.headers["Content-Encoding"]) == (200, "gzip")
    assert len(cut.body) == pytest.approx(fraction * len(whole), abs=20)  # ids differ, so sizes do
    with pytest.raises(EOFError):
        gzip.decompress(cut.body)


def test_bad_gzip_is_a_good_transfer(api):
    api.fault("bad_gzip")
    response = raw(api, GROUPED + "2012-01-04")
    assert (response.status_code, response.headers["Content-Encoding"]) == (200, "gzip")
    with pytest.raises((zlib.error, gzip.BadGzipFile)):
        gzip.decompress(response.body)


def test_an_empty_body(api):
    api.fault("empty")
    response = get(api, GROUPED + "2012-01-04", headers={**KEY, "Accept-Encoding": "identity"})
    assert (response.status_code, response.content, response.headers["Content-Length"]) == (200, b"", "0")


@pytest.mark.parametrize("head", [False, True])
def test_trickle_sends_a_byte_at_a_time(api, head):
    api.fault("trickle", seconds=0.02, head=head)
    arrived = []
    with socket.create_connection(("127.0.0.1", api.port), timeout=30) as client:
        client.sendall(f"GET {daily('SPY', '2012-01-04', '2012-01-04')} HTTP/1.1\r\nAuthorization: Bearer sample\r\n\r\n".encode())
        began = time.monotonic()
        while len(arrived) < 5:
            arrived.append(client.recv(10_000))
        took = time.monotonic() - began
    more = sum(map(len, arrived[1:]))
    assert more >= 4  # a reader that is late finds several
    assert took >= 0.02 * (more - 1)
    assert arrived[0].startswith(b"H" if head else b"HTTP/1.1 200 OK")
    assert len(arrived[0]) < 20 if head else b"\r\n\r\n" in arrived[0]


def test_reset_is_a_tcp_reset(api):
    api.fault("reset")
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as client:
        client.sendall(f"GET {GROUPED}2012-01-04 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sample\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            client.recv(100)
    api.fault("reset")
    with pytest.raises(requests.exceptions.ConnectionError):
        get(api, GROUPED + "2012-01-04")
    assert get(api, GROUPED + "2012-01-04").status_code == 200
    assert [call.fault for call in api.calls] == ["reset", "reset", None]


def test_html_with_200(api):
    api.fault("html")
    response = get(api, GROUPED + "2012-01-04")
    assert (response.status_code, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert response.text.startswith("<!DOCTYPE html>")
    assert "X-Sample-Source" not in response.headers


def test_slow(api):
    api.fault("slow", seconds=0.3)
    began = time.monotonic()
    assert get(api, GROUPED + "2012-01-04").status_code == 200
    assert time.monotonic() - began >= 0.3
    api.fault("slow", seconds=30)
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.get(api.url + GROUPED + "2012-01-04", headers=KEY, timeout=(30, 0.2))
    while len(api.calls) < 2:  # the time-out may come before the call does
        time.sleep(0.01)
    assert len(api.calls) == 2


def test_stop_does_not_wait_for_slow_responses(api):
    api.fault("slow", seconds=60)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(get, api, GROUPED + "2012-01-04")
        while not api.calls:
            time.sleep(0.01)
        began = time.monotonic()
        api.stop()
        assert waiting.exception(timeout=40) is None or isinstance(waiting.exception(), requests.exceptions.ConnectionError)
        assert time.monotonic() - began < 40  # the response would take 60 seconds


# Good JSON that cannot be the response

MONTH = daily("AAPL", "2012-01-03", "2012-01-31")


def faulty(api: SampleApi, kind: str, path: str = MONTH, **options) -> tuple[dict, dict]:
    """The body as it is due, and with a fault; without the ids."""
    due = get(api, path, adjusted=False, limit=5).json()
    api.fault(kind, **options)
    faulty = get(api, path, adjusted=False, limit=5).json()
    assert due.pop("request_id") != faulty.pop("request_id")
    return due, faulty


def test_a_page_can_name_itself_or_an_earlier_one_as_next(api):
    due, itself = faulty(api, "page_loop")
    assert itself == {**due, "next_url": f"{api.url}{MONTH}?adjusted=false&limit=5"}
    second = due["next_url"].removeprefix(api.url)
    api.fault("page_loop", days_back=7)
    back = get(api, second).json()["next_url"]
    assert "cursor=" in back
    assert back != due["next_url"]
    assert get(api, back.removeprefix(api.url)).json()["results"][0]["t"] == due["results"][0]["t"]


@pytest.mark.parametrize("conflicting", [False, True])
def test_rows_can_come_twice(api, conflicting):
    due, twice = faulty(api, "duplicated", conflicting=conflicting)
    assert twice["results"][::2] == due["results"]
    assert twice["results"][1::2] == [{**row, "v": row["v"] + conflicting} for row in due["results"]]
    assert twice["resultsCount"] == twice["queryCount"] == twice["count"] == 10


def test_contents_can_contradict_the_request_or_themselves(api):
    due, other = faulty(api, "other_symbol", symbol="MSFT")
    assert other == {**due, "ticker": "MSFT"}
    due, other = faulty(api, "other_adjustment")
    assert other == {**due, "adjusted": True}
    for by in (2, -1):
        due, other = faulty(api, "miscounted", by=by)
        assert other == {**due, "resultsCount": 5 + by, "count": 5 + by}
    due, other = faulty(api, "no_results", null=True)
    assert other == {**due, "results": None}
    due, other = faulty(api, "no_results")
    assert other == {name: value for name, value in due.items() if name != "results"}
    due, other = faulty(api, "out_of_range", days=40)
    assert other["results"][:-1] == due["results"][:-1]
    assert other["results"][-1] == {**due["results"][-1], "t": due["results"][-1]["t"] + 40 * 86_400_000}
    due, other = faulty(api, "drifted")
    assert [row["c"] for row in other["results"]] == [str(row["c"]) for row in due["results"]]
    due, other = faulty(api, "without_ticker", GROUPED + "2012-01-04")
    assert [{"T": row["T"], **found} for row, found in zip(due["results"], other["results"], strict=True)] == due["results"]


def test_contents_of_an_error_have_nothing_to_change(api):
    for kind in ("page_loop", "other_symbol", "duplicated", "no_results", "other_adjustment"):
        api.fault(kind)
        assert get(api, daily("AAPL", "2012-01-03", "soon")).json()["status"] == "ERROR"


def test_a_fault_meets_the_requests_it_is_for(api):
    api.fault("server_error", match="cursor=", times=None)
    api.fault("server_error", status=502, match=lambda request: "/SPY/" in request.path, times=2)
    page = get(api, daily("AAPL", "2012-01-03", "2012-01-31"), limit=5)
    assert page.status_code == 200
    assert requests.get(page.json()["next_url"], headers=KEY, timeout=10).status_code == 500
    assert [get(api, daily("SPY", "2012-01-03", "2012-01-31")).status_code for _ in range(3)] == [502, 502, 200]
    api.faults.clear()
    assert requests.get(page.json()["next_url"], headers=KEY, timeout=10).status_code == 200


def test_faults_name_what_they_do_not_know(api):
    with pytest.raises(ValueError, match="fault is 'flood'; allowed: unauthorized, forbidden, not_found, throttled, .*, drifted$"):
        api.fault("flood")
    with pytest.raises(ValueError, match="option of fault slow is 'delay'; allowed: seconds"):
        api.fault("slow", delay=1)
    assert api.faults.to_json() == []


# The call log


def test_the_call_log(tmp_path):
    path = tmp_path / "calls.jsonl"
    with SampleApi(symbols=(), call_log=path) as api:
        began = time.time()
        get(api, daily("BRK.B", "2012-01-03", "2012-01-05"), headers={**KEY, "X-Request-Id": "mine"}, limit=10)
        response = get(api, GROUPED + "2012-01-04", headers={}, apiKey="sample", adjusted=False)
        get(api, GROUPED + "2012-01-04", headers={}, apiKey="hidden-key")
        get(api, "/v9")
        first, second, third, fourth = api.calls
        assert first.target == daily("BRK.B", "2012-01-03", "2012-01-05") + "?limit=10"
        assert (first.endpoint, first.ticker, first.date, first.client_request_id) == ("range", "BRK.B", None, "mine")
        assert (second.endpoint, second.ticker, second.date, second.client_request_id) == ("grouped", None, "2012-01-04", None)
        assert second.target == GROUPED + "2012-01-04?adjusted=false"
        assert (second.source, second.request_id) == (response.headers["X-Sample-Source"], response.headers["X-Request-Id"])
        assert (third.status, fourth.status, fourth.endpoint) == (401, 404, "unknown")
        assert began <= first.time <= second.time <= time.time()
        assert first.monotonic < second.monotonic
        assert read_call_log(path) == api.calls
        assert [call.key_in_url for call in api.calls] == [False, True, True, False]
    assert "hidden-key" not in path.read_text()


def test_behind_a_gateway_paths_have_a_prefix_that_links_lack():
    with SampleApi(symbols=(), prefix="/vendors/polygon") as api:
        assert api.url.endswith("/vendors/polygon")
        page = get(api, daily("AAPL", "2012-01-03", "2012-01-31"), limit=5)
        assert page.json()["resultsCount"] == 5
        assert page.json()["next_url"].startswith(api.url.removesuffix("/vendors/polygon") + "/v2/aggs/")
        assert requests.get(page.json()["next_url"], headers=KEY, timeout=10).status_code == 404
        assert api.calls[0].target == daily("AAPL", "2012-01-03", "2012-01-31") + "?limit=5"


def test_forget_makes_a_server_as_new():
    with SampleApi(symbols=("SPY",), limits=[Window(2, 60)]) as api:
        before = rows(api, daily("SPY", "2012-01-03", "2012-01-04"))
        api.fault("server_error", times=None)
        api.alter("SPY", date(2012, 1, 3), close=1.0)
        api.hide(date(2012, 1, 4), ["SPY"])
        assert [get(api, GROUPED + "2012-01-04").status_code for _ in range(2)] == [500, 429]
        api.forget()
        assert (api.calls, api.limits, api.faults.to_json()) == ([], (), [])
        api.limits = [Window(2, 60)]
        assert [rows(api, daily("SPY", "2012-01-03", "2012-01-04")) for _ in range(2)] == [before, before]


# Over HTTP


def test_control_routes(api):
    assert control(api, "GET", "health").json() == {"status": "OK"}
    fault = {"vendor": "polygon", "kind": "throttled", "match": "/grouped/", "times": 2, "retry_after": 1}
    assert control(api, "POST", "faults", fault).json() == {"faults": [fault]}
    assert control(api, "GET", "faults").json() == {"faults": [fault]}
    assert get(api, GROUPED + "2012-01-04").headers["Retry-After"] == "1"
    assert control(api, "DELETE", "faults").json() == {"faults": []}
    assert get(api, GROUPED + "2012-01-04").status_code == 200

    control(
        api,
        "POST",
        "prices",
        {"session": "2012-01-04", "symbol": "AAPL", "multiply": 2, "fields": ["close"], "replace": {"open": 1}},
    )
    altered = rows(api, daily("AAPL", "2012-01-04", "2012-01-04"))[0]
    control(api, "DELETE", "prices")
    original = rows(api, daily("AAPL", "2012-01-04", "2012-01-04"))[0]
    assert altered == {**original, "c": round(2 * original["c"], 4), "o": 1}

    control(api, "POST", "missing", {"session": "2012-01-04", "symbols": ["AAPL"]})
    assert rows(api, daily("AAPL", "2012-01-04", "2012-01-04")) == []
    control(api, "DELETE", "missing")
    assert rows(api, daily("AAPL", "2012-01-04", "2012-01-04")) == [original]

    assert control(api, "GET", "calls").json() == {"calls": [asdict(call) for call in api.calls]}
    assert len(api.calls) == 6
    assert control(api, "DELETE", "calls").json() == {"calls": []}

    quota = {"limits": [{"calls": 1, "seconds": 60.0}]}
    assert control(api, "POST", "quota", quota).json() == control(api, "GET", "quota").json() == quota
    assert get(api, GROUPED + "2012-01-04").status_code == 429  # earlier calls count
    control(api, "POST", "quota", {"limits": []})
    assert get(api, GROUPED + "2012-01-04").status_code == 200


@pytest.mark.parametrize(
    ("route", "body", "status", "word"),
    [
        ("faults", {"kind": "flood"}, 400, "allowed: unauthorized"),
        ("faults", {"match": "x"}, 400, "lacks 'kind'"),
        ("faults", {"kind": "slow", "delay": 1}, 400, "allowed: seconds"),
        ("faults", {"kind": "reset", "match": "("}, 400, "missing )"),
        ("faults", [1], 400, "dictionary"),
        ("prices", {"session": "soon", "symbol": "AAPL"}, 400, "'soon'"),
        ("prices", {"session": "2012-01-04", "replace": {"price": 1}}, 400, "allowed: open"),
        ("missing", {"session": "2012-01-04"}, 400, "either symbols or fraction"),
        ("quota", {}, 400, "lacks 'limits'"),
        ("nothing", {}, 404, "GET /_control/calls"),
    ],
)
def test_control_routes_say_what_is_wrong(api, route, body, status, word):
    response = control(api, "POST", route, body)
    assert response.status_code == status
    assert word in response.json()["error"]
    assert api.faults.to_json() == []


def test_a_connection_stays_open_and_compresses_when_requested(shared):
    connection = http.client.HTTPConnection("127.0.0.1", shared.port, timeout=10)
    connection.connect()
    kept = connection.sock
    bodies = []
    for headers in (KEY, {**KEY, "Accept-Encoding": "gzip"}):
        connection.request("GET", GROUPED + "2012-01-04", headers=headers)
        response = connection.getresponse()
        bodies.append((response.getheader("Content-Encoding"), response.read()))
        assert connection.sock is kept
    connection.close()
    (none, plain), (encoding, compressed) = bodies
    assert (none, encoding) == (None, "gzip")
    assert json.loads(gzip.decompress(compressed))["results"] == json.loads(plain)["results"]


def test_stop_breaks_connections_and_start_takes_the_same_port(api):
    session = requests.Session()
    url = api.url
    assert session.get(url + GROUPED + "2012-01-04", headers=KEY, timeout=10).status_code == 200
    api.stop()
    with pytest.raises(requests.exceptions.ConnectionError):
        session.get(url + GROUPED + "2012-01-04", headers=KEY, timeout=10)
    api.start()
    assert api.url == url
    assert session.get(url + GROUPED + "2012-01-04", headers=KEY, timeout=10).status_code == 200
    assert len(api.calls) == 2


def test_only_gets_of_data(api):
    assert requests.post(api.url + GROUPED + "2012-01-04", json={}, headers=KEY, timeout=10).status_code == 405
    assert api.calls == []


# As a process


def started(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox.http", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_serves_and_ends_cleanly(prices_file, tmp_path, number):
    log = tmp_path / "calls.jsonl"
    process, line = started(
        *("--port", "0", "--data", str(prices_file), "--api-key", "k", "--call-log", str(log)),
        *("--calls", "2", "--seconds", "60", "--calls", "100", "--seconds", "3600"),
    )
    try:
        url = line.removeprefix("sample API on ")
        assert url.startswith("http://127.0.0.1:")
        responses = [get(url, GROUPED + "2015-01-05", headers={"Authorization": "Bearer k"}) for _ in range(3)]
        assert [response.status_code for response in responses] == [200, 200, 429]
        assert [call.status for call in read_call_log(log)] == [200, 200, 429]
        assert len(requests.get(f"{url}/_control/quota", timeout=10).json()["limits"]) == 2
    finally:
        process.send_signal(number)
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")


def test_a_taken_port_is_one_clear_line(api):
    process, line = started("--port", str(api.port))
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, line) == (1, "")
    assert len(errors.splitlines()) == 1
    assert f"port {api.port}" in errors


def test_windows_come_in_pairs():
    process, _ = started("--port", "0", "--calls", "5")
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 2
    assert "--calls is given 1 times, --seconds 0 times" in errors
