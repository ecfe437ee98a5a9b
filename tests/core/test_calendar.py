import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.core import calendar
from market_data.core.errors import ConfigError, ParamError
from market_data.core.intervals import closed

DAY = timedelta(days=1)
days = st.dates(date(2000, 1, 4), date(2040, 12, 28))


@pytest.fixture(scope="module")
def reference():
    import exchange_calendars  # imports pandas: a second that the other tests need not wait for

    return exchange_calendars.get_calendar("XNYS", start="2000-01-01", end="2040-12-31")


@pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # exchange_calendars's own
def test_sessions_equal_those_of_exchange_calendars(reference):
    assert calendar.sessions(date(2000, 1, 1), date(2041, 1, 1)) == tuple(session.date() for session in reference.sessions)


def test_closes_equal_those_of_exchange_calendars(reference):
    closes = {session.date(): close.to_pydatetime() for session, close in reference.closes.items()}
    assert {day: calendar.session_close(day) for day in closes} == closes
    early = {session.date() for session in reference.early_closes}
    assert {day for day in closes if calendar.is_early_close(day)} == early


@pytest.mark.parametrize(
    ("day", "session"),
    [
        ("2001-09-10", True),  # the day before the attacks
        ("2001-09-14", False),
        ("2012-10-29", False),  # hurricane Sandy
        ("2012-10-31", True),
        ("2010-12-31", True),  # New Year's Day on a Saturday gives no day off
        ("2021-06-18", True),  # before Juneteenth was a holiday
        ("2022-06-20", False),  # Juneteenth on a Sunday
        ("2025-01-09", False),  # mourning for Jimmy Carter
        ("2026-04-03", False),  # Good Friday
        ("2026-07-03", False),  # 4 July on a Saturday
        ("2026-11-02", True),
        ("2026-11-26", False),  # Thanksgiving
        ("2026-11-27", True),
        ("2026-11-28", False),  # a Saturday
    ],
)
def test_is_session(day, session):
    assert calendar.is_session(date.fromisoformat(day)) is session


@pytest.mark.parametrize(
    ("day", "close"),
    [
        ("2026-11-03", "2026-11-03T21:00"),  # winter
        ("2026-07-02", "2026-07-02T20:00"),  # summer
        ("2026-11-27", "2026-11-27T18:00"),  # after Thanksgiving
        ("2026-12-24", "2026-12-24T18:00"),
        ("2025-07-03", "2025-07-03T17:00"),
        # The two exceptions to the rules: when 4 July was a Thursday the short day was, until 2012, the Friday after;
        ("2002-07-03", "2002-07-03T20:00"),
        ("2002-07-05", "2002-07-05T17:00"),
        ("2013-07-03", "2013-07-03T17:00"),
        ("2013-07-05", "2013-07-05T20:00"),
        # and in 2003 the exchange closed early on the Friday after Christmas as well.
        ("2003-12-24", "2003-12-24T18:00"),
        ("2003-12-26", "2003-12-26T18:00"),
        ("2008-12-26", "2008-12-26T21:00"),
    ],
)
def test_session_close(day, close):
    assert calendar.session_close(date.fromisoformat(day)) == datetime.fromisoformat(close).replace(tzinfo=UTC)


def test_session_close_of_a_holiday_names_the_next_session():
    with pytest.raises(ParamError, match=r"2026-11-26 is not a session of XNYS; the next one is 2026-11-27"):
        calendar.session_close(date(2026, 11, 26))


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("2026-11-02", "2026-11-05", ["2026-11-02", "2026-11-03", "2026-11-04"]),  # the end is outside
        ("2026-11-06", "2026-11-10", ["2026-11-06", "2026-11-09"]),  # over a weekend
        ("2025-12-31", "2026-01-03", ["2025-12-31", "2026-01-02"]),  # over a year's end
        ("2025-12-31", "2026-01-01", ["2025-12-31"]),  # the end is a year's first day
        ("2026-11-07", "2026-11-09", []),
        ("2026-11-02", "2026-11-02", []),
        ("2026-11-05", "2026-11-02", []),
    ],
)
def test_sessions(start, end, expected):
    start, end = date.fromisoformat(start), date.fromisoformat(end)
    assert [str(day) for day in calendar.sessions(start, end)] == expected
    assert calendar.sessions_count(start, end) == len(expected)


@given(days)
def test_next_and_previous_are_inverse(day):
    after, before = calendar.next_session(day), calendar.previous_session(day)
    assert before < day < after
    assert calendar.is_session(before)
    assert calendar.is_session(after)
    assert calendar.sessions(before + DAY, after) == ((day,) if calendar.is_session(day) else ())
    if calendar.is_session(day):
        assert calendar.previous_session(after) == day == calendar.next_session(before)


@given(days, days, days)
def test_sessions_of_adjoining_ranges_add_up(a, b, c):
    a, b, c = sorted((a, b, c))
    assert calendar.sessions(a, b) + calendar.sessions(b, c) == calendar.sessions(a, c)


@given(st.datetimes(datetime.fromisoformat("2000-01-05"), datetime.fromisoformat("2040-12-28"), timezones=st.just(UTC)))
def test_last_completed_session_is_the_last_whose_close_has_come(now):
    session = calendar.last_completed_session(now)
    assert calendar.session_close(session) <= now < calendar.session_close(calendar.next_session(session))


@pytest.mark.parametrize(
    ("now", "run_at", "session"),
    [
        ("2026-11-03T20:59:59+00:00", None, "2026-11-02"),
        ("2026-11-03T21:00:00+00:00", None, "2026-11-03"),
        ("2026-11-04T00:30:00+00:00", None, "2026-11-03"),  # still the 3rd in New York
        ("2026-11-27T18:00:00+00:00", None, "2026-11-27"),  # early close
        ("2026-11-27T18:00:00+00:00", time(16), "2026-11-25"),  # run_at knows no early close
        ("2026-11-08T12:00:00+00:00", None, "2026-11-06"),  # a Sunday
        ("2026-11-04T01:29:59+00:00", time(20, 30), "2026-11-02"),
        ("2026-11-04T01:30:00+00:00", time(20, 30), "2026-11-03"),
        ("2026-11-03T16:00:00-05:00", None, "2026-11-03"),  # any time zone will do
    ],
)
def test_last_completed_session(now, run_at, session):
    assert calendar.last_completed_session(datetime.fromisoformat(now), run_at) == date.fromisoformat(session)


def test_last_completed_session_needs_a_time_zone():
    with pytest.raises(ValueError, match="without a time zone"):
        calendar.last_completed_session(datetime.fromisoformat("2026-11-03T21:00"))


@pytest.mark.parametrize(
    "call",
    [
        lambda: calendar.is_session(date(1999, 12, 31)),
        lambda: calendar.is_session(date(2041, 1, 1)),
        lambda: calendar.sessions(date(1999, 12, 31), date(2000, 2, 1)),
        lambda: calendar.sessions(date(2040, 1, 1), date(2041, 1, 2)),
        lambda: calendar.sessions(date(2050, 1, 1), date(2049, 1, 1)),
        lambda: calendar.next_session(date(2040, 12, 31)),
        lambda: calendar.previous_session(date(2000, 1, 3)),
        lambda: calendar.last_completed_session(datetime(1995, 1, 1, tzinfo=UTC)),
    ],
)
def test_outside_the_calendar_the_range_is_named(call):
    with pytest.raises(ParamError, match="outside the XNYS calendar, which holds 2000-01-01 to 2040-12-31"):
        call()


def test_the_ends_of_the_calendar_are_inside():
    assert calendar.sessions(date(2000, 1, 1), date(2000, 1, 4)) == (date(2000, 1, 3),)
    assert calendar.previous_session(date(2041, 1, 1)) == date(2040, 12, 31)
    assert calendar.next_session(date(2000, 1, 1)) == date(2000, 1, 3)


def test_a_datetime_is_not_accepted_as_a_date():
    with pytest.raises(TypeError, match="a session is a date"):
        calendar.is_session(datetime(2026, 11, 3, tzinfo=timezone(timedelta(hours=-5))))


def test_extra_closures_are_no_sessions(monkeypatch):
    week = (closed(date(2027, 2, 26), date(2027, 3, 3)),)
    assert len(calendar.sessions_in(week)) == 4
    assert calendar.is_session(date(2027, 3, 1))
    monkeypatch.setenv(calendar.EXTRA_CLOSURES, "2027-03-01, 2027-03-02,")
    assert calendar.sessions(date(2027, 2, 26), date(2027, 3, 4)) == (date(2027, 2, 26), date(2027, 3, 3))
    assert calendar.previous_session(date(2027, 3, 3)) == date(2027, 2, 26)
    assert calendar.sessions_in(week) == (date(2027, 2, 26), date(2027, 3, 3))
    monkeypatch.delenv(calendar.EXTRA_CLOSURES)
    assert calendar.is_session(date(2027, 3, 1))


@pytest.mark.parametrize(
    "text", ["01.03.2027", "2027-02-30", "2027-03-01;2027-03-02", "yes", "2027-03-06", "1999-03-01", "2041-03-01"]
)
def test_wrong_extra_closures_are_refused(monkeypatch, text):
    monkeypatch.setenv(calendar.EXTRA_CLOSURES, text)
    with pytest.raises(ConfigError, match=rf"MARKET_DATA_EXTRA_CLOSURES holds '?{text[:10]}.*(2027-03-01|allowed)"):
        calendar.is_session(date(2027, 3, 1))


def test_importing_the_calendar_pulls_nothing_heavy():
    code = (
        "import sys; import market_data.core.calendar, market_data.config.universes; "
        "print(sorted({'airflow', 'numpy', 'pandas', 'pendulum', 'pyarrow', 'pytickersymbols'} & set(sys.modules)))"
    )
    plugins = Path(__file__).parents[2] / "plugins"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=plugins)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("day", "reason"),
    [
        (date(2013, 1, 1), "New Year's Day"),
        (date(2026, 11, 21), "Saturday"),
        (date(2026, 11, 26), "Thanksgiving Day"),
        (date(2021, 12, 24), "Christmas Day"),  # observed on the Friday
        (date(2012, 10, 29), "hurricane Sandy"),
        (date(2026, 11, 20), None),
    ],
)
def test_why_the_exchange_is_closed(day, reason):
    assert calendar.why_closed(day) == reason


def test_a_closing_of_the_environment_is_named_as_such(monkeypatch):
    monkeypatch.setenv("MARKET_DATA_EXTRA_CLOSURES", "2027-03-01")
    assert calendar.why_closed(date(2027, 3, 1)) == "closed by MARKET_DATA_EXTRA_CLOSURES"


@given(st.dates(calendar.FIRST, calendar.LAST))
def test_every_closed_day_has_a_reason_and_no_session_has_one(day):
    assert (calendar.why_closed(day) is None) == calendar.is_session(day)
