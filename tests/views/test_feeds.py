"""A feed at a glance: completeness against the calendar, the strip of sessions, the next run, calls and spend."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from market_data.config.feeds import Feed
from market_data.config.universes import Member, Universe
from market_data.core import calendar
from market_data.core.capabilities import Quota, Window
from market_data.core.run import RunInfo
from market_data.lake.coverage import CELLS
from market_data.lake.ledger import write_cells
from market_data.lake.store import Lake
from market_data.maintenance.audit.expected import last_due
from market_data.views import feeds
from market_data.views.coverage import grid_of
from market_data.views.places import place_of

DAYS = calendar.sessions(date(2024, 8, 1), date(2024, 10, 1))
FEED = Feed("mock", "ohlcv-1d", "dow30", "20:30", date(2000, 1, 3), conn_id="mock_default")
UNIVERSE = Universe("test", (Member("A"), Member("B")))
LATE = datetime(2024, 10, 1, 12, tzinfo=UTC)  # the run of 30 September had its four hours
EVENING = datetime(2024, 10, 1, 1, tzinfo=UTC)  # half an hour after the run of 30 September began


def glance(folder, states, now, feed=FEED, run_id="manual__x"):
    lake = Lake.open(f"file://{folder}")
    rows = [{"symbol": s, "session": d, "state": state, "reason": ""} for (s, d), state in states.items()]
    run = RunInfo(feed.dag_id, run_id, run_id.partition("__")[0], 0, now)
    if rows:
        write_cells(lake, "ohlcv-1d", "mock", run, "b000", pa.Table.from_pylist(rows, schema=CELLS), recorded_at=now)
    place = place_of(lake, feed.dag_id, feeds=[feed])
    strip = feeds.strip_of(grid_of(place, now, UNIVERSE), calendar.XNYS, last_due(feed, calendar.XNYS, now))
    return strip, feeds.completeness(strip, calendar.XNYS, now, feed)


ALL = {(symbol, day): "have" for symbol in "AB" for day in DAYS}


@pytest.mark.parametrize(
    ("changes", "now", "last", "behind", "letter"),
    [
        ({}, LATE, DAYS[-1], 0, "h"),
        ({}, EVENING, DAYS[-1], 0, "h"),
        ({("B", DAYS[-1]): "empty"}, LATE, DAYS[-1], 0, "e"),
        ({("B", DAYS[-1]): "pending"}, LATE, DAYS[-2], 1, "p"),
        ({("B", DAYS[-1]): None}, LATE, DAYS[-2], 1, "m"),
        ({("B", DAYS[-1]): None}, EVENING, DAYS[-2], 1, "h"),  # not requested yet, so it is not complete
        ({("B", day): "refused" for day in DAYS[-3:]}, LATE, DAYS[-4], 3, "r"),
    ],
)
def test_the_last_complete_session_is_counted_against_the_calendar(tmp_path, changes, now, last, behind, letter):
    states = {cell: state for cell, state in {**ALL, **changes}.items() if state}
    strip, found = glance(tmp_path, states, now)
    assert len(strip) == feeds.SHOWN
    assert (strip[-1]["session"], strip[-1]["letter"]) == (DAYS[-1].isoformat(), letter)
    assert (found["last_complete"], found["behind"]) == (last.isoformat(), behind)
    assert found["behind_text"] == {0: "up to date", 1: "1 session behind", 3: "3 sessions behind"}[behind]


def test_an_empty_lake_and_a_feed_without_a_complete_session_say_so(tmp_path):
    strip, found = glance(tmp_path / "empty", {}, LATE)
    assert {one["letter"] for one in strip} == {"."}
    assert found["behind_text"] == "nothing fetched yet"
    _, found = glance(tmp_path / "held", dict.fromkeys(ALL, "quarantined"), LATE)
    assert found["behind_text"] == "no complete session among the last 30"


def test_the_strip_has_the_sessions_that_a_backfill_had_until_a_run_was_scheduled(tmp_path):
    backfill = DAYS[3:8]
    states = {(symbol, day): "have" for symbol in "AB" for day in backfill}
    strip, found = glance(tmp_path / "backfill", states, LATE)
    assert [one["session"] for one in strip] == [day.isoformat() for day in backfill]
    assert {one["letter"] for one in strip} == {"h"}
    assert (found["last_complete"], found["behind"]) == (backfill[-1].isoformat(), len(DAYS) - 8)
    states |= {("A", DAYS[-2]): "have", ("B", DAYS[-2]): "have"}
    strip, _ = glance(tmp_path / "scheduled", states, LATE, run_id="scheduled__x")
    assert len(strip) == feeds.SHOWN  # the sessions between are missing, and so is the one that is due
    assert "".join(one["letter"] for one in strip) == "m" * 28 + "hm"


@pytest.mark.parametrize(
    ("now", "session", "utc", "new_york"),
    [
        (EVENING, "2024-10-01", "2024-10-02 00:30", "2024-10-01 20:30"),
        (datetime(2024, 11, 1, 23, tzinfo=UTC), "2024-11-01", "2024-11-02 00:30", "2024-11-01 20:30"),
        (datetime(2024, 11, 2, 23, tzinfo=UTC), "2024-11-04", "2024-11-05 01:30", "2024-11-04 20:30"),  # winter time
    ],
)
def test_the_next_run_follows_the_exchange_in_summer_and_winter(now, session, utc, new_york):
    assert feeds.next_run(FEED, now) == {"session": session, "utc": utc, "new_york": new_york}
    assert feeds.next_run(replace(FEED, schedule=None), now) is None


def report(dag_id, hours, calls, cost):
    return {"dag_id": dag_id, "end_time": (LATE - timedelta(hours=hours)).isoformat(), "api_calls": calls, "cost_usd": cost}


def test_calls_are_those_of_the_account_in_a_day_and_spend_is_that_of_the_feed():
    reports = [
        report("a", 1, 3, 1.5),
        report("b", 23, 5, 2.0),
        report("a", 25, 7, 0.25),
        report("c", 1, 11, 4.0),
        report("a", 2, 13, None),
    ]
    assert feeds.calls_in_a_day(reports, ["a", "b"], LATE) == 21
    assert feeds.spend(reports, "a") | {"text": ""} == {"dollars": 1.75, "text": "", "unknown": 1}


def test_a_quota_is_put_in_words_and_its_daily_window_is_found():
    quota = Quota(5, (Window(5, 60), Window(250, 86_400), Window(900, 3600)))
    assert feeds.quota_text(quota) == "5 calls in 60 s; 250 calls in 24 h; 900 calls in 1 h; 5 calls per minute per pool slot"
    assert feeds.quota_text(Quota(1, (Window(1, 0.01),))) == "1 call every 0.01 s; 1 call per minute per pool slot"
    assert feeds.daily_limit(quota) == 250
    assert feeds.daily_limit(Quota(5, (Window(5, 60),))) is None


def test_reports_with_and_without_a_charge_are_read(tmp_path):
    lake = Lake.open(f"file://{tmp_path}")
    base = {
        "run_id": "r",
        "provider": "mock",
        "dataset": "ohlcv-1d",
        "restated": [],
        "refused": [],
        "warnings": [],
        "rows_quarantined": 0,
    }
    for number, charge in enumerate([{"cost_usd": 2.5}, {}]):
        body = {**base, **report(FEED.dag_id, 1, 4, None), "start_time": LATE.isoformat()}
        body = {name: value for name, value in body.items() if name != "cost_usd"} | charge
        lake.put_new(f"logs/ingest/date=2024-10-01/run-{number}.json", json.dumps(body).encode())
    found = feeds.feed_of(place_of(lake, FEED.dag_id, feeds=[FEED]), [FEED.dag_id], LATE)
    assert found["calls"] == 8
    assert (found["spend"]["dollars"], found["spend"]["unknown"]) == (2.5, 1)
    json.dumps(found)
