"""Alpaca's own client understands the sample API."""

from datetime import UTC, date, datetime

import pytest

from sandbox.http import SampleApi
from sandbox.vendors.alpaca import NOT_RECENT, midnight

KEY = "a-key"
MONTH = (date(2012, 3, 1), date(2012, 3, 31))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def api():
    with SampleApi(vendor="alpaca", api_key=KEY, page_rows=10) as api:
        yield api


@pytest.fixture(scope="module")
def heard(api, asked):
    """What the client made of the answers."""
    api.fault("forbidden", match="symbols=IBM", message=NOT_RECENT)
    api.fault("server_error", match="symbols=MSFT", times=None)
    api.fault("throttled", match="symbols=GOOG", times=None)
    api.fault("empty", match="symbols=GE", times=None)
    api.fault("no_token", match="symbols=AAPL%2CFB", times=None)
    return asked("ask_alpaca.py", api.url, KEY)


def values(bar):
    numbers = (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.vwap, bar.trades)
    return [bar.symbol, midnight(bar.session).isoformat(), *numbers]


def minutes(api, size, last):
    bars = api.market.range("SPY", date(2012, 3, 8), last)
    columns = api.market.minutes(bars, size)
    stamps = [datetime.fromtimestamp(stamp / 1e9, UTC).isoformat() for stamp in columns.time.tolist()]
    return [["SPY", stamp, *row] for stamp, *row in zip(stamps, *(column.tolist() for column in columns[2:]), strict=True)]


def test_many_symbols_are_followed_through_all_pages(heard, api):
    held = [bar for symbol in ("AAPL", "BRK.B", "SPY") for bar in api.market.range(symbol, *MONTH)]
    assert len(held) == 66
    assert heard["paged"] == [values(bar) for bar in held]


def test_minutes_are_read_as_they_are_held(heard, api):
    """Clocks go forward in these days."""
    assert heard["minutes"] == minutes(api, 1, date(2012, 3, 15))
    assert heard["five minutes"] == minutes(api, 5, date(2012, 3, 9))
    assert len(heard["minutes"]) > 1500


def test_options_change_what_comes(heard, api):
    assert heard["iex"] != [values(bar) for bar in api.market.range("SPY", *MONTH)]
    assert heard["adjusted"] == [values(bar.adjusted) for bar in api.market.range("AAPL", *MONTH)]


def test_nothing_to_bring_is_nothing(heard):
    assert heard["unknown"] == []


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("malformed", "invalid symbol: BRK-B"),
        ("wrong key", "unauthorized."),
        ("recent", NOT_RECENT),
        ("server error", "Internal Server Error"),
        ("throttled", "too many requests."),
    ],
)
def test_errors_are_the_clients_errors(heard, case, text):
    assert heard[case][0] == "APIError"
    assert text in heard[case][1]


def test_a_failed_server_is_asked_once(heard, api):
    assert [call.status for call in api.calls if "symbols=MSFT" in call.target] == [500]


def test_an_empty_answer_is_an_error_of_the_language(heard):
    assert heard["empty"][0] in ("TypeError", "AttributeError")


def test_the_client_loses_rows_in_silence_where_a_page_does_not_name_the_next(heard):
    """Why the hook does not use it."""
    assert len(heard["lost"]) == 10 < len(heard["paged"])
