"""Params: every problem named before any call; dates resolved as a table."""

from datetime import UTC, date, datetime

import pytest

from market_data.errors import ParamError
from market_data.params import PARAMS, Wanted, read_params, resolve_sessions

TODAY = date(2026, 11, 20)
OPTIONS = {"adjustment": ("raw", "split")}


def read(**raw):
    return read_params(raw, options=OPTIONS, today=TODAY)


BAD = [
    ({"start_dat": "2026-11-02"}, "start_dat is unknown; known params: universe, symbols"),
    ({"start_date": "2026-11-31"}, "start_date is '2026-11-31'; a date such as"),
    ({"start_date": "02.11.2026"}, "start_date is '02.11.2026'"),
    ({"start_date": "2026-11-23"}, "start_date is 2026-11-23; it is in the future (today is 2026-11-20)"),
    ({"start_date": "2026-11-02", "end_date": "2026-11-21"}, "end_date is 2026-11-21; it is in the future"),
    ({"start_date": "2026-11-05", "end_date": "2026-11-02"}, "start_date is 2026-11-05 and end_date 2026-11-02"),
    ({"end_date": "2026-11-02"}, "end_date is 2026-11-02 without start_date or backfill_days"),
    ({"start_date": "2026-11-02", "backfill_days": 5}, "start_date and backfill_days are both given"),
    ({"backfill_days": 0}, "backfill_days is 0; 1 to 36600 is allowed"),
    ({"backfill_days": "5"}, "backfill_days is '5'"),
    ({"symbols": ["../x"]}, "../x"),
    ({"symbols": ["AAPL", "AAPL"]}, "AAPL"),
    ({"symbols": ["AAPL"], "tickers_path": "t.csv"}, "symbols and tickers_path are both given"),
    ({"universe": "sp600"}, "universe is 'sp600'; known universes: dow30"),
    ({"file_grain": "week"}, "file_grain is 'week'; allowed: day"),
    ({"batch_size": 0}, "batch_size is 0; 1 to 1000 is allowed"),
    ({"batch_size": 1001}, "batch_size is 1001"),
    ({"max_retries": 11}, "max_retries is 11"),
    ({"retry_delay_seconds": -1}, "retry_delay_seconds is -1"),
    ({"lookback_days": 367}, "lookback_days is 367"),
    ({"max_missing_ratio": 1.5}, "max_missing_ratio is 1.5"),
    ({"adjustment": "dividend"}, "adjustment is 'dividend'; allowed: raw, split"),
]


@pytest.mark.parametrize(("raw", "text"), BAD)
def test_each_problem_names_field_value_and_what_is_allowed(raw, text):
    with pytest.raises(ParamError) as caught:
        read(**raw)
    assert text in str(caught.value)


def test_all_problems_come_at_once():
    with pytest.raises(ParamError) as caught:
        read(start_date="2026-11-05", end_date="2026-11-02", batch_size=0, universe="x", colour="red")
    assert len(caught.value.problems) == 4
    assert str(caught.value).startswith("4 problems with the run parameters:\n  1. colour")


def test_every_param_has_a_title_a_description_and_a_default_that_is_allowed():
    for name, (_, schema) in PARAMS.items():
        assert schema["title"], name
        assert schema["description"], name
    assert read().batch_size == 25


def test_options_pass_only_where_given():
    assert read(adjustment="split").options == {"adjustment": "split"}
    assert read().options == {}


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


MONDAY = (at("2026-11-16T00:00"), at("2026-11-17T01:30"))  # 20:30 in New York
SUMMER = (at("2026-07-06T00:00"), at("2026-07-07T00:30"))


def days(*dates):
    return tuple(date.fromisoformat(d) for d in dates)


DATES = [
    # params, interval, scheduled, now -> own, lookback
    ({}, MONDAY, True, "2026-11-17T01:31", ("2026-11-16",), ("2026-11-09", "2026-11-10", "2026-11-11", "2026-11-12", "2026-11-13")),
    ({"lookback_days": 0}, MONDAY, True, "2026-11-17T01:31", ("2026-11-16",), ()),
    ({"lookback_days": 3}, MONDAY, True, "2026-11-17T01:31", ("2026-11-16",), ("2026-11-13",)),
    (
        {},
        SUMMER,
        True,
        "2026-07-07T00:31",
        ("2026-07-06",),
        ("2026-06-29", "2026-06-30", "2026-07-01", "2026-07-02"),
    ),  # 3 July: closed
    ({}, MONDAY, False, "2026-11-20T12:00", ("2026-11-16",), ()),  # a backfill or manual run looks nowhere else
    ({}, None, False, "2026-11-20T12:00", ("2026-11-19",), ()),
    ({}, None, False, "2026-11-20T21:00", ("2026-11-20",), ()),  # the close, 16:00 in New York
    ({}, None, False, "2026-11-22T12:00", ("2026-11-20",), ()),  # a Sunday
    ({"start_date": "2026-11-12"}, None, False, "2026-11-17T12:00", ("2026-11-12", "2026-11-13", "2026-11-16"), ()),
    ({"start_date": "2026-11-12", "end_date": "2026-11-13"}, MONDAY, True, "2026-11-17T12:00", ("2026-11-12", "2026-11-13"), ()),
    ({"start_date": "2026-11-14", "end_date": "2026-11-15"}, None, False, "2026-11-17T12:00", (), ()),  # a weekend
    ({"backfill_days": 4}, MONDAY, False, "2026-11-17T12:00", ("2026-11-12", "2026-11-13", "2026-11-16"), ()),
    ({"backfill_days": 1, "end_date": "2026-11-13"}, MONDAY, False, "2026-11-17T12:00", ("2026-11-12", "2026-11-13"), ()),
]


@pytest.mark.parametrize(("raw", "interval", "scheduled", "now", "own", "lookback"), DATES)
def test_dates(raw, interval, scheduled, now, own, lookback):
    assert resolve_sessions(read(**raw), interval, scheduled=scheduled, now=at(now)) == Wanted(days(*own), days(*lookback))
