"""The calendars of futures, the VIX, currencies and crypto. ``test_calendar.py`` has the functions, with those of stocks."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.core import calendar
from market_data.core.calendar import ALWAYS, CALENDARS, CFE, CMES, WEEKDAYS, XNYS, Calendar
from market_data.core.errors import ConfigError, ParamError

DAY = timedelta(days=1)
every = st.sampled_from(list(CALENDARS.values()))


def day(text: str) -> date:
    return date.fromisoformat(text)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("session", "close"),
    [
        # Futures trade on these days, on which the stock exchange is closed.
        ("2026-04-03", "13:15"),  # Good Friday with an employment report: 8:15 Chicago
        ("2026-01-19", "18:00"),  # Martin Luther King Jr. Day: 12:00 Chicago
        ("2026-11-26", "18:00"),  # Thanksgiving
        ("2024-06-19", "17:00"),  # Juneteenth, in summer
        ("2025-01-09", "14:30"),  # mourning for Jimmy Carter: 8:30 Chicago
        ("2018-12-05", "14:30"),
        ("2012-10-29", "13:15"),  # hurricane Sandy
        ("2012-11-22", "16:30"),  # until 2014 holidays ended at 10:30 Chicago
        ("2015-07-03", "17:00"),
        ("2021-04-02", "13:15"),
        ("2004-06-11", "13:00"),
        # Early closes with the stock exchange, at 12:15 Chicago
        ("2026-11-27", "18:15"),
        ("2025-07-03", "17:15"),
        # A regular session
        ("2026-11-24", "22:00"),
    ],
)
def test_sessions_of_futures_and_their_closes(session: str, close: str) -> None:
    assert CMES.is_session(day(session))
    assert CMES.session_close(day(session)) == utc(f"{session}T{close}")
    assert CMES.is_early_close(day(session)) == (session != "2026-11-24")


@pytest.mark.parametrize(
    ("closed", "reason"),
    [
        ("2025-04-18", "Good Friday"),
        ("2024-03-29", "Good Friday"),
        ("2022-04-15", "Good Friday"),
        ("2026-12-25", "Christmas Day"),
        ("2021-12-24", "Christmas Day"),
        ("2023-01-02", "New Year's Day"),
        ("2001-09-12", "attacks on the World Trade Center"),
        ("2007-01-02", "day of mourning for Gerald Ford"),
        ("2026-11-22", "Sunday"),
    ],
)
def test_days_on_which_futures_do_not_trade(closed: str, reason: str) -> None:
    assert CMES.why_closed(day(closed)) == reason


@pytest.mark.parametrize("closed", ["2026-04-03", "2026-01-19", "2025-01-09", "2001-09-11", "2012-10-29", "2024-06-19"])
def test_the_vix_has_the_holidays_of_stocks_and_closes_of_its_own(closed: str) -> None:
    assert not CFE.is_session(day(closed))
    assert CFE.session_close(day("2026-11-24")) == utc("2026-11-24T21:15")
    assert CFE.session_close(day("2026-11-27")) == utc("2026-11-27T18:15")


def test_crypto_trades_every_day_and_currencies_on_every_weekday() -> None:
    assert ALWAYS.sessions_count(day("2026-01-01"), day("2027-01-01")) == 365
    assert WEEKDAYS.sessions_count(day("2026-01-01"), day("2027-01-01")) == 261
    assert ALWAYS.session_close(day("2026-11-28")) == utc("2026-11-29T00:00")
    assert ALWAYS.last_completed_session(utc("2026-11-29T00:00")) == day("2026-11-28")
    assert ALWAYS.last_completed_session(utc("2026-11-28T23:59")) == day("2026-11-27")
    assert WEEKDAYS.session_open(day("2026-11-23")) == utc("2026-11-22T22:00")  # Sunday, 17:00 New York


@pytest.mark.parametrize(
    ("moment", "session"),
    [
        ("2026-01-18T23:00", "2026-01-19"),  # Sunday, 18:00 New York: the holiday's session opens
        ("2026-01-19T17:59", "2026-01-19"),
        ("2026-01-19T23:00", "2026-01-20"),
        ("2026-04-02T21:59", "2026-04-02"),
        ("2026-04-02T22:00", "2026-04-03"),
        ("2026-04-05T22:00", "2026-04-06"),
        ("2025-04-20T22:00", "2025-04-21"),  # after a Good Friday without a session
        ("2025-12-25T23:00", "2025-12-26"),
    ],
)
def test_the_trading_day_of_a_future_begins_the_evening_before(moment: str, session: str) -> None:
    assert CMES.session_of(utc(moment)) == day(session)


@given(every, st.dates(date(2000, 1, 10), date(2040, 12, 20)))
def test_a_session_has_its_own_moments(calendar: Calendar, near: date) -> None:
    session = calendar.first_session(near)
    opens, closes = calendar.session_open(session), calendar.session_close(session)
    assert opens < closes <= calendar.trading_end(session)
    assert calendar.session_of(opens) == session
    assert calendar.session_of(closes - timedelta(seconds=1)) == session
    assert calendar.last_completed_session(closes) == session
    assert calendar.last_completed_session(closes - timedelta(seconds=1)) == calendar.previous_session(session)


@given(every, st.dates(date(2000, 1, 10), date(2040, 12, 20)))
def test_every_calendar_counts_its_sessions_one_by_one(calendar: Calendar, start: date) -> None:
    days = [start + n * DAY for n in range(15)]
    assert calendar.sessions(days[0], days[-1] + DAY) == tuple(filter(calendar.is_session, days))
    assert [calendar.why_closed(one) is None for one in days] == [calendar.is_session(one) for one in days]


def test_futures_trade_on_every_session_of_stocks_and_crypto_on_every_one_of_futures() -> None:
    years = (calendar.FIRST, calendar.LAST)
    assert {*XNYS.sessions(*years)} < {*CMES.sessions(*years)} < {*WEEKDAYS.sessions(*years)} < {*ALWAYS.sessions(*years)}


def test_an_extra_closing_is_one_of_the_calendar_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(calendar.EXTRA_CLOSURES, "2027-03-01, CMES:2027-03-02, 24/7:2027-03-06")
    assert [one.name for one in CALENDARS.values() if not one.is_session(day("2027-03-01"))] == ["XNYS"]
    assert [one.name for one in CALENDARS.values() if not one.is_session(day("2027-03-02"))] == ["CMES"]
    assert not ALWAYS.is_session(day("2027-03-06"))
    assert CMES.why_closed(day("2027-03-02")) == "closed by MARKET_DATA_EXTRA_CLOSURES"


@pytest.mark.parametrize("text", ["XLON:2027-03-01", "CMES:2027-03-06", "CMES:soon"])
def test_an_extra_closing_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(calendar.EXTRA_CLOSURES, text)
    with pytest.raises(ConfigError, match=text):
        XNYS.is_session(day("2027-03-01"))


def test_unknown_calendars_and_days_are_named() -> None:
    with pytest.raises(ConfigError, match="calendar is 'XLON'; allowed: XNYS, CMES, CFE, 24/5, 24/7"):
        calendar.calendar("XLON")
    with pytest.raises(ParamError, match="2025-04-18 is not a session of CMES; the next one is 2025-04-21"):
        CMES.session_close(day("2025-04-18"))
    with pytest.raises(ParamError, match="outside the CMES calendar"):
        CMES.is_session(day("1999-12-31"))
    assert CMES.last_completed_session(utc("2026-04-03T23:00"), time(18)) == day("2026-04-03")
