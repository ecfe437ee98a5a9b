"""The sample API's Alpaca without the hook."""

import base64
import json
import time
import urllib.error
import urllib.request
from datetime import date
from urllib.parse import urlencode

import pytest

from market_data.core import calendar
from market_data.core.capabilities import Window
from sandbox.http import SampleApi
from sandbox.vendors.alpaca import NO_KEY, NOT_RECENT, UNKNOWN_KEY

KEYS = {"APCA-API-KEY-ID": "an-id", "APCA-API-SECRET-KEY": "a-key"}
WEEK = {"symbols": "SPY,AAPL", "timeframe": "1Day", "start": "2012-01-03", "end": "2012-01-06"}


@pytest.fixture(scope="module")
def running():
    with SampleApi(vendor="alpaca", api_key="a-key") as api:
        yield api


@pytest.fixture
def api(running):
    running.forget()
    return running


def get(api, keys=KEYS, **query):
    """Status, headers and body."""
    url = f"{api.url}/v2/stocks/bars?{urlencode({**WEEK, **query})}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=keys)) as response:
            return response.status, response.headers, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, error.headers, json.load(error)


def test_bars_come_by_symbol_and_then_by_time_both_ends_inclusive(api):
    status, headers, body = get(api)
    assert (status, headers["Content-Type"], list(body)) == (200, "application/json", ["bars", "next_page_token"])
    assert list(body["bars"]) == ["AAPL", "SPY"]
    days = [f"2012-01-0{day}T05:00:00Z" for day in (3, 4, 5, 6)]
    assert [[row["t"] for row in rows] for rows in body["bars"].values()] == [days, days]
    assert body["next_page_token"] is None
    assert set(body["bars"]["SPY"][0]) == {"t", "o", "h", "l", "c", "v", "n", "vw"}


@pytest.mark.parametrize(
    ("start", "end", "days"),
    [
        ("2012-01-03T05:00:00Z", "2012-01-05T05:00:00Z", [3, 4, 5]),
        ("2012-01-03T05:00:01Z", "2012-01-05T04:59:59Z", [4]),
        ("2012-01-03T00:00:00-05:00", "2012-01-04T00:00:00-05:00", [3, 4]),
        ("2012-01-07", "2012-01-08", []),
    ],
)
def test_moments_and_dates_are_taken_with_both_ends(api, start, end, days):
    body = get(api, symbols="SPY", start=start, end=end)[2]
    assert [int(row["t"][8:10]) for row in body["bars"].get("SPY", [])] == days


def test_nothing_is_an_empty_object(api):
    assert get(api, symbols="NOSUC")[2] == {"bars": {}, "next_page_token": None}


def test_a_token_names_the_last_row_and_the_limit_is_for_all_symbols(api):
    body = get(api, limit=6)[2]
    assert [len(rows) for rows in body["bars"].values()] == [4, 2]
    assert base64.b64decode(body["next_page_token"]) == b"SPY|D|2012-01-04T05:00:00.000000000Z"
    rest = get(api, limit=6, page_token=body["next_page_token"])[2]
    assert [row["t"][:10] for row in rest["bars"].pop("SPY")] == ["2012-01-05", "2012-01-06"]
    assert rest == {"bars": {}, "next_page_token": None}


def test_minutes_are_in_tokens_too(api):
    body = get(api, timeframe="5Min", limit=3)[2]
    assert [row["t"] for row in body["bars"]["AAPL"]] == [f"2012-01-03T14:{minute}:00Z" for minute in (30, 35, 40)]
    assert base64.b64decode(body["next_page_token"]) == b"AAPL|M|2012-01-03T14:40:00.000000000Z"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"symbols": "SPY,BRK-B"}, "code=400, message=invalid symbol: BRK-B"),
        ({"symbols": "TOOLONG"}, "code=400, message=invalid symbol: TOOLONG"),
        ({"symbols": "A1"}, "code=400, message=invalid symbol: A1"),
        ({"symbols": ""}, "symbols is required"),
        ({"timeframe": "3Week"}, "invalid timeframe: 3Week"),
        ({"feed": "delayed_sip"}, "invalid feed: delayed_sip"),
        ({"adjustment": "raw,none"}, "invalid adjustment: raw,none"),
        ({"limit": 10_001}, "invalid limit: 10001"),
        ({"start": "2012-01-03T05:00:00"}, "invalid start: 2012-01-03T05:00:00"),
        ({"end": "2012-01-02"}, "end should not be before start"),
        ({"page_token": "nonsense"}, "invalid page token"),
        ({"page_token": base64.b64encode(b"IBM|D|2012-01-04T05:00:00.000000000Z").decode()}, "invalid page token"),
        ({"sort": "desc"}, "sort=asc only"),
    ],
)
def test_what_is_wrong_is_reported_with_400(api, query, text):
    status, _, body = get(api, **query)
    assert status == 400
    assert list(body) == ["message"]
    assert text in body["message"]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({}, NO_KEY),
        ({"APCA-API-SECRET-KEY": "a-key"}, NO_KEY),
        ({**KEYS, "APCA-API-SECRET-KEY": "another"}, UNKNOWN_KEY),
    ],
)
def test_both_halves_of_the_key_are_needed(api, keys, text):
    status, _, body = get(api, keys)
    assert (status, body) == (401, {"message": text})


def test_every_response_tells_what_is_left_of_the_quota(api):
    api.limits = [Window(2, 60)]
    responses = [get(api), get(api, symbols="BRK-B"), get(api)]
    assert [status for status, _, _ in responses] == [200, 400, 429]
    assert [headers["X-RateLimit-Limit"] for _, headers, _ in responses] == ["2"] * 3
    assert [headers["X-RateLimit-Remaining"] for _, headers, _ in responses] == ["1", "0", "0"]
    assert all(58 < int(headers["X-RateLimit-Reset"]) - time.time() <= 61 for _, headers, _ in responses)


def test_young_consolidated_bars_are_refused_and_those_of_iex_are_not():
    day = date(2020, 6, 16)
    now = calendar.session_close(day)
    with SampleApi(vendor="alpaca", api_key="a-key", embargo=900, now=lambda: now) as api:
        young = {"symbols": "SPY", "timeframe": "1Min", "start": f"{day}", "end": f"{now:%Y-%m-%dT%H:%M:%SZ}"}
        assert get(api, **young)[::2] == (403, {"message": NOT_RECENT})
        assert len(get(api, **young, feed="iex")[2]["bars"]["SPY"]) > 300
        assert get(api, **{**young, "end": f"{day}T19:45:00Z"})[0] == 200
