"""Polygon's own clients understand the sample API: it does not merely mirror how our hook reads the vendor."""

import base64
from datetime import date

import pytest

from sandbox.http import SampleApi
from sandbox.vendors.polygon import NOT_ENTITLED
from sandbox.vendors.polygon_parameters import closing, midnight

KEY = "a-key"
MONTH = (date(2012, 3, 1), date(2012, 3, 31))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def api():
    with SampleApi(api_key=KEY) as api:
        yield api


@pytest.fixture(scope="module", params=["massive", "polygon"])
def heard(request, asked, api):
    """What a client made of the answers."""
    api.forget()
    api.fault("forbidden", match="2012-07-02")
    api.fault("not_found", match="2012-07-03")
    api.fault("server_error", match="2012-07-05", times=None)
    api.fault("throttled", match="2012-07-06", times=None)
    api.fault("truncated", match=f"cursor={cursor(7)}", times=None, clean=True)
    return asked("ask.py", request.param, api.url, KEY)


def cursor(limit):
    """The cursor of pages of so many rows."""
    return base64.urlsafe_b64encode(f"limit={limit}&sort=asc".encode()).decode().rstrip("=")


def values(bar, stamp):
    return [stamp(bar.session), bar.open, bar.high, bar.low, bar.close, bar.volume, bar.vwap, bar.trades]


def test_a_range_is_followed_through_all_its_pages(heard, api):
    bars = api.prices.range("AAPL", *MONTH)
    assert len(bars) == 22
    assert heard["paged"] == [values(bar.adjusted, midnight) for bar in bars]
    paged = [call for call in api.calls if call.ticker == "AAPL" and f"cursor={cursor(5)}" in call.target]
    assert len(paged) == 4


def test_values_are_read_as_they_are_held(heard, api):
    assert heard["whole"] == [values(bar, midnight) for bar in api.prices.range("AAPL", *MONTH)]
    assert heard["generated"] == [values(bar, midnight) for bar in api.prices.range("SPY", *MONTH)]


def test_a_grouped_day_has_every_ticker(heard, api):
    held = {bar.symbol: values(bar, closing) for bar in api.prices.session(date(2012, 6, 1))}
    assert len(held) > 500
    assert heard["grouped"] == held


def test_nothing_to_bring_is_nothing(heard):
    assert (heard["unknown"], heard["closed"]) == ([], {})


@pytest.mark.parametrize(
    ("case", "error", "text"),
    [
        ("wrong key", "BadResponse", "Unknown API Key"),
        ("forbidden", "BadResponse", NOT_ENTITLED),
        ("not found", "BadResponse", "NOT_FOUND"),
        ("server error", "MaxRetryError", "too many 500 error responses"),
        ("throttled", "MaxRetryError", "too many 429 error responses"),
    ],
)
def test_errors_are_the_clients_errors(heard, case, error, text):
    assert heard[case][0] == error
    assert text in heard[case][1]


def test_a_client_loses_rows_in_silence_where_a_page_is_cut(heard, api):
    """Why the hook does not use one."""
    assert len(heard["cut"]) == 7 < len(api.prices.range("AAPL", *MONTH))
