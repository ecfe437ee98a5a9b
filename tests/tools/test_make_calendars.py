"""The session files against ``exchange_calendars`` and what the exchanges published, 2000 to 2026."""

from __future__ import annotations

from datetime import date, time
from pathlib import Path

import pytest

from market_data.core.calendar import CALENDARS, FOLDER, _special
from tools import make_calendars

pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # exchange_calendars's own
NAMES = ("XNYS", "CMES", "CFE")
DOCS = Path(__file__).parents[2] / "docs/reference/calendars.md"


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_those_that_the_tool_writes(name: str) -> None:
    assert _special(name) == make_calendars.lines_of(name)
    assert {file.stem for file in FOLDER.iterdir()} == {*NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_sessions_differ_from_those_of_exchange_calendars_only_where_the_exchange_published_so(name: str) -> None:
    import exchange_calendars

    years = (date(2000, 1, 1), date(2027, 1, 1))
    theirs = {day.date() for day in exchange_calendars.get_calendar(name, start="2000-01-01", end="2026-12-31").sessions}
    ours = {*CALENDARS[name].sessions(*years)}
    published = {day: close for day, close, _, _ in make_calendars.corrections(name)}
    assert ours - theirs == {day for day, close in published.items() if close is not None and day not in theirs}
    assert theirs - ours == {day for day, close in published.items() if close is None}


@pytest.mark.parametrize(("name", "theirs"), [("24/5", "24/5"), ("24/7", "24/7")])
def test_calendars_without_holidays_equal_those_of_exchange_calendars(name: str, theirs: str) -> None:
    import exchange_calendars

    found = exchange_calendars.get_calendar(theirs, start="2000-01-01", end="2026-12-31").sessions
    assert CALENDARS[name].sessions(date(2000, 1, 1), date(2027, 1, 1)) == tuple(day.date() for day in found)


# CME Globex, equity index products: the exchange's holiday schedules. Closed, or the time of the close in Chicago.
PUBLISHED = {
    2009: "01-01 closed 01-19 1030 02-16 1030 04-10 closed 05-25 1030 07-03 1030 09-07 1030 11-26 1030 11-27 1215 12-24 1215 12-25 closed",
    2010: "01-01 closed 01-18 1030 02-15 1030 04-02 0815 05-31 1030 07-05 1030 09-06 1030 11-25 1030 11-26 1215 12-24 closed 12-31 open",
    2011: "01-03 open 01-17 1030 02-21 1030 04-22 closed 05-30 1030 07-04 1030 09-05 1030 11-24 1030 11-25 1215 12-26 closed 12-30 open",
    2012: "01-02 closed 01-16 1030 02-20 1030 04-06 0815 05-28 1030 07-03 1215 07-04 1030 09-03 1030 11-22 1030 12-24 1215 12-25 closed",
    2021: "01-01 closed 01-18 1200 02-15 1200 04-02 0815 05-31 1200 07-05 1200 09-06 1200 11-25 1200 11-26 1215 12-24 closed 12-31 open",
    2023: "01-02 closed 01-16 1200 02-20 1200 04-07 0815 05-29 1200 06-19 1200 07-03 1215 07-04 1200 09-04 1200 11-23 1200 12-25 closed",
    2026: "01-01 closed 01-19 1200 02-16 1200 04-03 0815 05-25 1200 06-19 1200 07-03 1200 09-07 1200 11-26 1200 11-27 1215 12-25 closed",
}


@pytest.mark.parametrize("year", PUBLISHED)
def test_holidays_of_futures_are_those_that_the_exchange_published(year: int) -> None:
    words = PUBLISHED[year].split()
    for day, hours in zip(words[::2], words[1::2], strict=True):
        session, cmes = date.fromisoformat(f"{year}-{day}"), CALENDARS["CMES"]
        if hours == "closed":
            assert not cmes.is_session(session)
        elif hours == "open":
            assert cmes.is_session(session)
            assert not cmes.is_early_close(session)
        else:
            close = cmes.session_close(session).astimezone(make_calendars.NEW_YORK)
            assert (session, f"{close.hour - 1:02}{close.minute:02}") == (session, hours)


# All closed weekdays and early closes of these years: nyse.com/markets/hours-calendars, cboe.com/about/hours/us-options,
# cmegroup.com/trading-hours. CME has early closes on the holidays of the others.
CLOSED = {
    2024: "01-01 01-15 02-19 03-29 05-27 06-19 07-04 09-02 11-28 12-25",
    2025: "01-01 01-09 01-20 02-17 04-18 05-26 06-19 07-04 09-01 11-27 12-25",
    2026: "01-01 01-19 02-16 04-03 05-25 06-19 07-03 09-07 11-26 12-25",
}
EARLY = {2024: "07-03 11-29 12-24", 2025: "07-03 11-28 12-24", 2026: "11-27 12-24"}
CLOSED_AT_CME = {2024: "01-01 03-29 12-25", 2025: "01-01 04-18 12-25", 2026: "01-01 12-25"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("year", CLOSED)
def test_closed_days_and_early_closes_are_all_that_the_exchanges_published(name: str, year: int) -> None:
    closed = CLOSED_AT_CME[year] if name == "CMES" else CLOSED[year]
    early = f"{CLOSED[year]} {EARLY[year]}" if name == "CMES" else EARLY[year]
    days = {day: close for day, (close, _) in _special(name).items() if day.year == year}
    assert {f"{day:%m-%d}" for day, close in days.items() if close is None} == {*closed.split()}
    assert {f"{day:%m-%d}" for day, close in days.items() if close} == {*early.split()} - {*closed.split()}


@pytest.mark.parametrize("name", ["CMES", "CFE"])
def test_early_closes_differ_from_those_of_exchange_calendars_by_the_rules_of_the_guide(name: str) -> None:
    theirs = {day: close for day, (close, _) in make_calendars.of_library(name).items() if close}
    ours = {day: (close, why) for day, (close, why) in _special(name).items() if close}
    published = {day for day, _, _, _ in make_calendars.corrections(name)}
    with_stocks = {day for day, (close, _) in _special("XNYS").items() if close}
    more = {day for day in ours.keys() - theirs.keys() - published if ours[day][1] != "Juneteenth"}
    assert more <= with_stocks
    assert theirs.keys() <= ours.keys()
    assert {close for day, (close, _) in ours.items() if day in with_stocks - published} == {time(13, 15)}
    moved = {day: close for day, (close, _) in ours.items() if day not in with_stocks | published}
    assert {close for day, close in moved.items() if day < make_calendars.HALTED_EARLIER_UNTIL} <= {time(11, 30)}
    assert {close for day, close in moved.items() if day >= make_calendars.HALTED_EARLIER_UNTIL} <= {time(13)}


@pytest.mark.parametrize("name", ["CMES", "CFE"])
def test_the_guide_lists_every_correction_with_its_source(name: str) -> None:
    text = DOCS.read_text()
    for day, close, why, source in make_calendars.corrections(name):
        shown = f"{close:%H:%M}" if close else "closed"
        assert f"| {name} | {day} | {shown} | {why} | {source} |" in text


def test_reasons_are_known_for_every_closed_day() -> None:
    assert {why for name in NAMES for _, why in _special(name).values()} >= {"Good Friday", "hurricane Sandy", "Juneteenth"}
    assert _special("XNYS")[date(2003, 12, 26)] == (time(13), "day after Christmas")
