"""Who is told what, and how often, on a clock that the test moves."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from market_data.alerts.causes import audit_causes
from market_data.alerts.reports import AuditReport
from market_data.alerts.sent import KEY, read_state
from market_data.alerts.watch import find
from market_data.config.alerts import Alerts, Thresholds
from market_data.core.errors import ClockError, ConfigError
from market_data.core.outcome import EARLIER_VALUE
from market_data.core.run import RunInfo
from market_data.datasets.registry import dataset
from market_data.lake.coverage import CELLS
from market_data.lake.layout import Layout
from market_data.lake.ledger import write_cells
from market_data.maintenance.audit.result import Audit, write_report
from market_data.maintenance.audit.scope import Scope
from market_data.maintenance.findings import FINDINGS
from market_data.pipeline.selection import EVER, Selection
from tests.alerts.desk import DAY, FEED, MEMBERS, NEW_YORK, THURSDAY, TUESDAY, Desk, new_york
from tests.pipeline.runs import feed_of

NAME = "polygon_ohlcv_1d"
DUE = new_york(THURSDAY, 7)
OLD = {"feed": NAME, "title": "from an earlier version", "event": False, "found": "2015-02-01T00:00:00+00:00", "told": ["desk"]}


@pytest.fixture
def desk(tmp_path):
    found = Desk(tmp_path)
    found.cells(TUESDAY)
    assert found.watch() == []
    return found


def titles(desk):
    return [message.title for _, message in desk.inbox]


def nothing(desk):
    """The DAG is paused, the scheduler is down, or the run never started: the lake looks the same."""


def late(desk):
    desk.cells(DAY, symbols=MEMBERS[2:])


def all_pending(desk):
    desk.cells(DAY, "pending", reason="nothing yet")


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (nothing, ["the ledger has no record of any of its 30 cells", "No run has reported on it"]),
        (late, [f"2 of 30 cells missing: {MEMBERS[0]}, {MEMBERS[1]}"]),
        (all_pending, ["30 of 30 cells pending"]),
    ],
)
def test_a_session_that_is_not_complete_when_due_is_one_message_and_one_all_clear(desk, trouble, words):
    trouble(desk)
    assert desk.until(DUE - timedelta(minutes=1), step=120) == []
    assert desk.until(DUE + timedelta(minutes=30)) == [f"{NAME} {DAY}: late"]
    ((moment, message),) = desk.inbox
    assert DUE <= moment <= DUE + timedelta(minutes=5)
    assert "It was due at 07:00 on 2024-03-07 (America/New_York)" in message.text
    assert all(part in message.text for part in words)
    assert message.todo
    assert desk.until(DUE + timedelta(hours=8), step=60) == []
    desk.cells(DAY)
    assert desk.until(desk.now + timedelta(minutes=15)) == [f"all-clear: {NAME} {DAY}: late"]
    assert desk.found.causes == ()


def test_a_session_that_is_late_stays_the_same_cause_when_it_is_no_longer_recent(desk):
    desk.until(DUE, step=60)
    assert titles(desk) == [f"{NAME} {DAY}: late"]
    for session in (THURSDAY, *(date(2024, 3, day) for day in (8, 11, 12, 13, 14, 15, 18, 19, 20, 21, 22))):
        desk.now = new_york(session, 20)
        desk.cells(session)
        assert desk.watch() == []
    desk.cells(DAY)
    assert [message.title for message in desk.watch()] == [f"all-clear: {NAME} {DAY}: late"]


def test_a_failed_run_is_told_at_once_and_not_again_when_the_session_is_due(desk):
    desk.cells(DAY, symbols=MEMBERS[1:])
    desk.report(DAY, red=["batch 1 failed: AuthError: the key was refused"])
    assert desk.until(desk.now + timedelta(minutes=5)) == [f"{NAME} {DAY}: a run failed"]
    assert "AuthError: the key was refused" in desk.inbox[0][1].text
    assert desk.until(DUE + timedelta(hours=2), step=60) == []
    desk.report(DAY, run="one symbol", symbols=1)
    assert desk.watch() == []  # of one symbol, another one is still missing
    desk.cells(DAY)
    assert [message.healed for message in desk.watch()] == [True]


def test_a_refused_session_is_one_message_until_a_person_releases_it(desk):
    desk.cells(DAY, "refused", symbols=MEMBERS[:2], reason="close jumped by 60 %")
    desk.cells(DAY, symbols=MEMBERS[2:])
    desk.report(DAY, red=["session 2024-03-06 was refused: close jumped by 60 %"])
    assert desk.until(DUE + timedelta(hours=1), step=30) == [f"{NAME} {DAY}: a run failed"]
    assert "refused because: close jumped by 60 % (2)" in desk.inbox[0][1].text
    desk.cells(DAY, "released", symbols=MEMBERS[:2], at=desk.now + timedelta(seconds=1))
    desk.report(DAY, run="later")
    assert [message.healed for message in desk.watch()] == [True]


def test_a_refusal_that_concerns_several_sessions_is_one_message_that_names_them(desk):
    """As one of a symbol's year does, which a recent run of several sessions brought."""
    desk.now = new_york(THURSDAY, 20)
    for day in (DAY, THURSDAY):
        desk.cells(day, symbols=MEMBERS[1:])
    run = RunInfo(NAME, "r9", "scheduled", 0, desk.now)
    rows = [
        {"symbol": MEMBERS[0], "session": day, "state": "refused", "reason": f"too few{earlier}"}
        for day, earlier in ((TUESDAY, f"; {EARLIER_VALUE}"), (DAY, ""), (THURSDAY, ""))
    ]
    write_cells(
        desk.lake, FEED.dataset, "polygon", run, "b", CELLS.empty_table().from_pylist(rows, schema=CELLS), recorded_at=desk.now
    )
    desk.report(TUESDAY, THURSDAY, red=[f"{MEMBERS[0]}/2024 was refused: too few"])
    (message,) = desk.watch()
    assert message.title == f"{NAME} {THURSDAY}: a run failed"
    assert f"The same refusal concerns {TUESDAY}, {DAY}" in message.text
    assert desk.until(new_york(date(2024, 3, 8), 9), step=60) == []
    desk.cells(date(2024, 3, 8), symbols=MEMBERS[1:], at=new_york(date(2024, 3, 8), 20))
    desk.cells(date(2024, 3, 8), "refused", symbols=MEMBERS[:1], reason="another one", at=new_york(date(2024, 3, 8), 20))
    assert desk.until(new_york(date(2024, 3, 8), 21), step=60) == [f"{NAME} 2024-03-08: refused"]
    desk.cells(THURSDAY, "released", symbols=MEMBERS[:1], at=desk.now)
    titles = desk.until(desk.now + timedelta(minutes=5))
    assert titles == [f"all-clear: {NAME} {THURSDAY}: a run failed", f"{NAME} {DAY}: a run failed"]


def refuse_year(desk, days, symbol=MEMBERS[0]):
    """Record cells as a run does whose symbol-year is refused."""
    run = RunInfo(NAME, "year", "manual", 0, desk.now)
    rows = [{"symbol": symbol, "session": day, "state": "refused", "reason": "too few"} for day in days]
    write_cells(
        desk.lake, FEED.dataset, "polygon", run, "y", CELLS.empty_table().from_pylist(rows, schema=CELLS), recorded_at=desk.now
    )


def test_a_session_that_lacks_more_than_a_refusal_elsewhere_has_its_own_message(desk):
    desk.now = new_york(THURSDAY, 20)
    desk.cells(DAY, symbols=MEMBERS[2:])
    desk.cells(THURSDAY, symbols=MEMBERS[1:])
    refuse_year(desk, (DAY, THURSDAY))
    assert {message.title for message in desk.watch()} == {f"{NAME} {DAY}: refused", f"{NAME} {THURSDAY}: refused"}


def test_sessions_that_were_reported_stay_open_when_one_refusal_is_left_of_both(desk):
    assert desk.until(new_york(date(2024, 3, 8), 9), step=60) == [f"{NAME} {day}: late" for day in (DAY, THURSDAY)]
    for day in (DAY, THURSDAY):
        desk.cells(day, symbols=MEMBERS[1:])
    refuse_year(desk, (DAY, THURSDAY))
    assert desk.watch() == []


def test_no_message_on_holidays_weekends_and_complete_early_closes(desk):
    black_friday = date(2024, 11, 29)
    desk.feeds = (replace(FEED, start_date=black_friday),)
    desk.now = new_york(date(2024, 11, 28), 9)
    assert desk.until(new_york(black_friday, 12), step=60) == []  # Thanksgiving has no session to be late
    desk.now = new_york(black_friday, 14)
    desk.cells(black_friday)
    assert desk.until(new_york(date(2024, 12, 2), 15), step=240) == []
    assert desk.until(new_york(date(2024, 12, 3), 7, 5), step=240) == [f"{NAME} 2024-12-02: late"]


def test_an_early_close_is_due_the_next_morning_too(desk):
    black_friday = date(2024, 11, 29)
    desk.feeds = (replace(FEED, start_date=black_friday),)
    desk.now = new_york(black_friday, 14)
    assert desk.until(new_york(date(2024, 11, 30), 6, 59), step=60) == []
    assert desk.until(new_york(date(2024, 11, 30), 7, 0)) == [f"{NAME} {black_friday}: late"]


def test_futures_are_due_on_a_holiday_of_the_stock_exchange(tmp_path):
    presidents_day = date(2024, 2, 19)
    feed = replace(feed_of("ib_ohlcv_5m"), universe="es_mes_vix", due="07:00", start_date=presidents_day)
    desk = Desk(tmp_path, feed)
    desk.now = new_york(date(2024, 2, 20), 6, 50)
    desk.cells(presidents_day, symbols=["ES.c.0"])
    assert desk.until(new_york(date(2024, 2, 20), 7, 0)) == [f"{feed.dag_id} {presidents_day}: late"]
    assert "1 of 2 cells missing: MES.c.0" in desk.inbox[0][1].text  # VIX has no session on that day


@pytest.mark.parametrize("due", [None, "07:00"])
def test_a_feed_that_nobody_uses_is_late_only_if_it_has_a_due_time(tmp_path, due):
    desk = Desk(tmp_path, replace(FEED, due=due))
    assert desk.until(DUE + timedelta(hours=1), step=30) == ([f"{NAME} {TUESDAY}: late", f"{NAME} {DAY}: late"] if due else [])


def test_a_failed_backfill_of_years_is_one_message(desk):
    for year in (2015, 2016):
        for month in (1, 2):
            desk.report(date(year, month, 1), date(year, month, 28), run=f"b{year}{month}", red=[f"batch {month} failed"])
    assert {message.title for message in desk.watch()} == {f"{NAME} 2015: 2 runs failed", f"{NAME} 2016: 2 runs failed"}
    assert desk.watch() == []
    desk.now += timedelta(minutes=1)
    desk.report(date(2016, 1, 1), date(2016, 12, 31), run="one symbol", symbols=1)
    desk.report(date(2015, 1, 1), date(2015, 12, 31))
    assert [message.title for message in desk.watch()] == [f"all-clear: {NAME} 2015: 2 runs failed"]


def test_a_failed_run_that_nobody_repeats_does_not_hide_later_ones_and_is_forgotten(desk):
    desk.lake.put_new(KEY, json.dumps({"changed_at": None, "causes": {f"runs/{NAME}/2015": OLD}}).encode())
    old, new = [f"{NAME} 2015: a run failed"] * 2
    desk.report(date(2015, 1, 1), date(2015, 1, 30), run="mistyped", red=["no such symbol: APPL"])
    assert [message.title for message in desk.watch()] == [old]
    assert list(read_state(desk.lake)) == [f"runs/{NAME}/2015/{desk.now:%Y-%m-%d}"]
    for session in (THURSDAY, date(2024, 3, 8)):
        desk.cells(DAY if session is THURSDAY else THURSDAY)
        desk.now = new_york(session, 21)
        desk.cells(session)
        assert desk.watch() == []
    desk.report(date(2015, 6, 1), date(2015, 6, 30), run="another", red=["batch 1 failed"])
    (message,) = desk.watch()
    assert (message.title, "batch 1 failed" in message.text, "APPL" in message.text) == (new, True, False)
    desk.feeds = (replace(FEED, due=None),)
    desk.now += timedelta(days=29)
    assert [message.title for message in desk.watch() if "runs/" in message.id] == []
    desk.now += timedelta(days=3)
    assert [message.title for message in desk.watch() if "runs/" in message.id] == []
    assert not [name for name in read_state(desk.lake) if name.startswith("runs/")]


def test_a_quota_that_is_used_up_is_one_message_of_the_account_for_all_its_feeds(tmp_path):
    minutes = replace(FEED, dataset="ohlcv-1m", due="07:00")
    desk = Desk(tmp_path, FEED, minutes)
    for feed in desk.feeds:
        desk.cells(TUESDAY, feed=feed)
        desk.report(DAY, feed=feed, red=["batch failed"], errors=["QuotaExhausted: all 250 calls are used"])
    assert desk.until(DUE + timedelta(hours=1), step=60) == ["polygon_default: the quota is used up"]
    assert [minutes.dag_id in desk.inbox[0][1].text, NAME in desk.inbox[0][1].text] == [True, True]
    for feed in desk.feeds:
        desk.cells(DAY, feed=feed)
        desk.report(DAY, feed=feed, run="next")
    assert [message.title for message in desk.watch()] == ["all-clear: polygon_default: the quota is used up"]


QUOTA = {"red": ["batch failed"], "errors": ["QuotaExhausted: all 250 calls are used"]}
TYPO = {"run": "typo", "tasks": {"plan": "ParamError: batch_size is 0"}}


def test_a_run_that_requested_nothing_ends_no_message_on_quota_or_clock(desk):
    desk.cells(DAY)
    desk.report(DAY, **QUOTA)
    assert [message.title for message in desk.watch()] == ["polygon_default: the quota is used up"]
    desk.now += timedelta(minutes=5)
    desk.report(TUESDAY, **TYPO)
    assert "all-clear: polygon_default: the quota is used up" not in [message.title for message in desk.watch()]
    desk.now += timedelta(minutes=5)
    desk.report(DAY, run="next")
    assert "all-clear: polygon_default: the quota is used up" in [message.title for message in desk.watch()]
    desk.report(DAY, run="x", tasks={"plan": "ClockError: the clock of host w7 differs by 60 s"})
    assert "a clock is wrong" in [message.title for message in desk.watch()]


def test_a_range_that_a_quota_left_open_is_told_when_the_quota_is_there_again(desk):
    desk.cells(DAY)
    desk.report(date(2015, 1, 1), date(2015, 1, 30), run="backfill", **QUOTA)
    assert [message.title for message in desk.watch()] == ["polygon_default: the quota is used up"]
    desk.now = new_york(THURSDAY, 20)
    desk.cells(THURSDAY)
    desk.report(THURSDAY)
    titles = {message.title for message in desk.watch()}
    assert titles == {"all-clear: polygon_default: the quota is used up", f"{NAME} 2015: a run failed"}
    desk.now += timedelta(minutes=5)
    desk.report(date(2015, 1, 1), date(2015, 1, 30), run="again")
    assert [message.title for message in desk.watch()] == [f"all-clear: {NAME} 2015: a run failed"]


def test_a_run_whose_task_failed_resolves_no_earlier_one(desk):
    desk.cells(DAY)
    desk.report(date(2015, 1, 1), date(2015, 1, 30), run="backfill", red=["batch 1 failed"])
    desk.report(DAY, red=["fetched rows were not loaded"])
    opened = {f"{NAME} 2015: a run failed", f"{NAME} {DAY}: a run failed"}
    assert {message.title for message in desk.watch()} == opened
    desk.now += timedelta(minutes=5)
    desk.report(date(2015, 1, 1), date(2015, 12, 31), **TYPO)
    assert desk.watch() == []
    assert [any("batch 1 failed" in line for line in cause.why) for cause in desk.found.causes if "/2015/" in cause.id] == [True]
    desk.now += timedelta(minutes=5)
    desk.report(DAY, run="again")
    desk.report(date(2015, 1, 1), date(2015, 12, 31), run="again", tasks={"publish": "x"})
    assert [message.title for message in desk.watch()] == [f"all-clear: {NAME} {DAY}: a run failed"]
    desk.report(date(2015, 1, 1), date(2015, 12, 31), run="last")
    assert [message.title for message in desk.watch()] == [f"all-clear: {NAME} 2015: 3 runs failed"]


def test_a_failed_run_heals_when_its_repetition_requests_what_was_missing_only(desk):
    desk.report(date(2015, 1, 1), date(2015, 1, 30), run="backfill", tasks={"publish": "LakeError: the bucket is full"})
    assert [message.title for message in desk.watch()] == [f"{NAME} 2015: a run failed"]
    desk.now += timedelta(minutes=5)
    desk.report(date(2015, 1, 1), date(2015, 1, 30), run="again", requested=2)
    assert [message.healed for message in desk.watch()] == [True]


def test_a_quota_hit_by_a_later_run_does_not_end_the_message_on_an_open_session(desk):
    desk.cells(DAY, "refused", symbols=MEMBERS[:2], reason="close jumped by 60 %")
    desk.cells(DAY, symbols=MEMBERS[2:])
    desk.report(DAY, red=["session 2024-03-06 was refused"], lookback=7)
    assert [message.title for message in desk.watch()] == [f"{NAME} {DAY}: a run failed"]
    desk.now = new_york(THURSDAY, 20, 30)
    desk.report(THURSDAY, red=["batch failed"], errors=["QuotaExhausted: all 250 calls are used"], lookback=7, run="s2")
    assert [message.title for message in desk.watch()] == ["polygon_default: the quota is used up"]
    desk.report(DAY, red=["batch failed"], errors=["QuotaExhausted: all 250 calls are used"], run="by hand")
    assert desk.watch() == []


def test_a_refused_session_is_told_although_its_last_run_hit_the_quota(desk):
    desk.cells(DAY, "refused", symbols=MEMBERS[:2], reason="close jumped by 60 %")
    desk.report(DAY, red=["refused", "batch failed"], errors=["QuotaExhausted: all 250 calls are used"])
    titles = {message.title for message in desk.watch()}
    assert titles == {"polygon_default: the quota is used up", f"{NAME} {DAY}: a run failed"}


def test_a_session_that_a_quota_left_open_is_told_when_the_quota_is_there_again(desk):
    desk.report(DAY, red=["batch failed"], errors=["QuotaExhausted: all 250 calls are used"])
    assert desk.until(DUE + timedelta(hours=1), step=60) == ["polygon_default: the quota is used up"]
    desk.cells(THURSDAY)
    desk.report(THURSDAY, run="s2")
    titles = {message.title for message in desk.watch()}
    assert titles == {"all-clear: polygon_default: the quota is used up", f"{NAME} {DAY}: a run failed"}


def test_amounts_above_their_thresholds_are_told_and_events_have_no_all_clear(tmp_path):
    desk = Desk(tmp_path, alerts=Alerts(Thresholds(quarantined=2, restated=2, spend_usd=5)))
    desk.cells(TUESDAY)
    desk.cells(DAY, symbols=MEMBERS[3:])
    desk.cells(DAY, "quarantined", symbols=MEMBERS[:2])
    desk.report(DAY, restated=[("AAPL", DAY, 2)], cost=5.0)
    assert desk.watch() == []
    desk.now += timedelta(minutes=1)
    desk.cells(DAY, "quarantined", symbols=MEMBERS[:3])
    desk.report(DAY, run="s2", restated=[("AAPL", DAY, 2), ("MSFT", DAY, 1)], cost=0.01)
    assert {message.title for message in desk.watch()} == {
        f"{NAME} 2024-03-06: 3 cells are quarantined",
        f"{NAME}: 3 rows were restated",
        "polygon: 5.01 US dollars in 2024-03",
    }
    assert len(desk.inbox) == 3
    desk.now += timedelta(minutes=1)
    desk.cells(DAY, symbols=MEMBERS[:3])
    assert [message.title for message in desk.watch()] == [f"all-clear: {NAME} 2024-03-06: 3 cells are quarantined"]
    desk.now = new_york(date(2024, 5, 1), 9)
    desk.feeds = (replace(FEED, due=None),)
    assert desk.watch() == []
    assert desk.found.causes == ()


def audited(desk, *rows, symbols=None, days=EVER, **more):
    """Write the report of an audit a minute later."""
    desk.now += timedelta(minutes=1)
    common = {"dataset": "ohlcv-1d", "source": "polygon", "key": None, "detail": "", "first_session": DAY, "last_session": DAY}
    table = pa.Table.from_pylist([{**common, **row} for row in rows], schema=FINDINGS)
    write_report(desk.lake, Audit(Selection(dataset("ohlcv-1d"), "polygon", Layout(), symbols, *days), table, **more), desk.now)


def test_gaps_of_an_audit_are_told_until_an_audit_of_the_whole_finds_none(desk):
    audited(desk, {"symbol": "IBM", "cause": "pending", "repair": "wait"})
    assert desk.watch() == []
    audited(desk, {"symbol": "IBM", "cause": "missing", "repair": "fetch"})
    (message,) = desk.watch()
    assert message.title == "ohlcv-1d of polygon: an audit found gaps"
    assert "IBM 2024-03-06: missing" in message.text
    audited(desk, symbols=("AAPL",))
    assert desk.watch() == []
    audited(desk)
    assert [message.healed for message in desk.watch()] == [True]
    span = {"symbol": "IBM", "first_session": DAY - timedelta(days=2), "cause": "missing", "repair": "fetch"}
    audited(desk, span, {"symbol": "AAPL", "cause": "missing", "repair": "fetch"})
    (message,) = desk.watch()
    assert "2 missing" in message.text
    audited(desk, symbols=("IBM",), days=(DAY - timedelta(days=2), DAY - timedelta(days=1)))
    audited(desk, symbols=("AAPL",))
    assert desk.watch() == []  # the last session of IBM is open
    audited(desk, symbols=("IBM",), days=(DAY, EVER[1]))
    assert [message.healed for message in desk.watch()] == [True]


def test_a_finding_that_needs_reading_heals_by_an_audit_that_read_its_symbol(desk):
    audited(desk, {"symbol": "IBM", "cause": "warehouse changed", "repair": "load"}, share=1)
    assert len(desk.watch()) == 1
    audited(desk, share=0.05, read=("AAPL",))
    assert desk.watch() == []
    audited(desk, share=0.05, read=("AAPL", "IBM"))
    assert [message.healed for message in desk.watch()] == [True]
    audited(desk, {"symbol": "IBM", "cause": "missing", "repair": "fetch"}, share=1)
    assert len(desk.watch()) == 1
    audited(desk, share=0.05, read=())
    assert [message.healed for message in desk.watch()] == [True]  # the ledger shows it


def test_an_audit_heals_nothing_that_it_could_not_look_for(desk):
    audited(desk, *({"symbol": "IBM", "cause": cause, "repair": "load"} for cause in ("missing", "not loaded", "pending")))
    desk.watch()
    audited(desk, unjudged=("missing", "not loaded"))
    assert desk.watch() == []
    assert "1 missing, 1 not loaded" in desk.found.causes[0].why
    audited(desk, unjudged=("not loaded",))
    audited(desk, unjudged=("missing",))
    assert [message.healed for message in desk.watch()] == [True]


def test_an_audit_whose_first_findings_need_nothing_is_told_all_the_same(desk):
    quiet = [{"symbol": f"S{n}", "cause": "pending", "repair": "wait"} for n in range(1000)]
    audited(desk, *quiet, {"symbol": "IBM", "cause": "missing", "repair": "fetch"})
    (message,) = desk.watch()
    assert "repair: 1 fetch" in message.text
    audited(desk, *quiet, {"symbol": "IBM", "cause": "pending", "repair": "wait"})
    assert [message.healed for message in desk.watch()] == [True]


def test_an_audit_with_more_findings_than_its_report_heals_by_the_whole_only():
    finding = {"symbol": "IBM", "key": None, "first_session": DAY, "last_session": DAY, "cause": "missing"}
    first = AuditReport("a", "ohlcv-1d", "polygon", DUE, Scope(), (finding,), {"fetch": 1001}, left_out=True)
    part = AuditReport("b", "ohlcv-1d", "polygon", DUE, Scope(frozenset(["IBM"])), (), {}, left_out=False)
    assert len(list(audit_causes([first, part], ()))) == 1
    assert len(list(audit_causes([replace(first, left_out=False), part], ()))) == 0
    assert len(list(audit_causes([first, replace(part, scope=Scope())], ()))) == 0


def test_a_wrong_clock_is_healed_by_its_own_host_only(desk, monkeypatch):
    def wrong(lake):
        raise ClockError("the clock differs by 60 s")

    monkeypatch.setattr("socket.gethostname", lambda: "one")
    assert [message.title for message in desk.watch(check_clock=wrong)] == ["the clock of host one is wrong"]
    monkeypatch.setattr("socket.gethostname", lambda: "two")
    assert desk.watch(check_clock=lambda lake: None) == []
    monkeypatch.setattr("socket.gethostname", lambda: "one")
    assert [message.healed for message in desk.watch(check_clock=lambda lake: None)] == [True]


def test_wrong_clocks_of_many_hosts_are_one_message_and_one_all_clear(desk, monkeypatch):
    """Each pod of a cluster is a host with a name of its own."""

    def wrong(lake):
        raise ClockError("the clock differs by 60 s")

    def at(host, check, minutes=5):
        monkeypatch.setattr("socket.gethostname", lambda: host)
        desk.now += timedelta(minutes=minutes)
        return [message.title for message in desk.watch(check_clock=check) if message.id == "clock"]

    assert at("one", wrong) == ["the clock of host one is wrong"]
    assert at("two", wrong) == at("three", wrong) == []
    assert at("four", lambda lake: None) == at("one", lambda lake: None) == at("three", lambda lake: None) == []
    assert at("two", lambda lake: None) == ["all-clear: the clock of host two is wrong"]
    assert at("gone", wrong) == ["the clock of host gone is wrong"]
    assert at("two", lambda lake: None, minutes=23 * 60) == []
    assert at("two", lambda lake: None, minutes=2 * 60) == ["all-clear: the clock of host gone is wrong"]
    assert not [name for name in read_state(desk.lake) if name.startswith("clock")]


def test_runs_that_failed_for_a_wrong_clock_are_the_same_message_as_a_host_that_found_it(tmp_path, monkeypatch):
    feeds = FEED, replace(feed_of("mock_ohlcv_1d"), universe="dow30", due="07:00")
    desk = Desk(tmp_path, *feeds)
    for feed in feeds:
        desk.cells(TUESDAY, feed=feed)
        desk.report(DAY, feed=feed, red=["batch failed"], errors=["ClockError: the clock of host w7 differs by 60 s"])
    assert [message.title for message in desk.watch()] == ["a clock is wrong"]
    assert all(feed.dag_id in desk.inbox[0][1].text for feed in feeds)

    def wrong(lake):
        raise ClockError("the clock differs by 60 s")

    assert desk.watch(check_clock=wrong) == []
    for feed in feeds:
        desk.cells(DAY, feed=feed)
        desk.report(DAY, feed=feed, run="next")
    assert [message.healed for message in desk.watch(check_clock=lambda lake: None)] == [True]


def test_a_watcher_with_a_wrong_clock_judges_nothing_else(desk):
    """It does not know what is due."""

    def wrong(lake):
        raise ClockError("the clock differs by 3 days")

    assert desk.until(DUE, step=60) == [f"{NAME} {DAY}: late"]
    now, desk.now = desk.now, DUE + timedelta(days=3)
    assert [message.id for message in desk.watch(check_clock=wrong)] == ["clock"]
    desk.now = now
    desk.cells(DAY)
    assert desk.watch(check_clock=wrong) == []  # nor what has healed
    assert {message.id for message in desk.watch(check_clock=lambda lake: None)} == {f"session/{NAME}/{DAY}", "clock"}


def test_a_watcher_whose_clock_is_a_little_wrong_sends_all_but_the_all_clears(desk):
    def wrong(lake):
        raise ClockError("the clock differs by 300 s", timedelta(minutes=5))

    (first,) = desk.watch(check_clock=wrong)
    desk.now = DUE
    assert "there are no all-clears" in first.text
    assert [message.title for message in desk.watch(check_clock=wrong)] == [f"{NAME} {DAY}: late"]
    desk.cells(DAY)
    assert desk.watch(check_clock=wrong) == []
    assert [message.healed for message in desk.watch(check_clock=lambda lake: None)] == [True, True]

    def far(lake):
        raise ClockError("the clock differs by 301 s", timedelta(minutes=5, seconds=1))

    desk.report(THURSDAY, red=["batch 1 failed"])
    (message,) = desk.watch(check_clock=far)
    assert message.id == "clock"
    assert "watches nothing else meanwhile" in message.text


def test_a_ledger_that_cannot_be_read_is_one_message_and_nothing_counts_as_missing(tmp_path):
    feeds = FEED, replace(FEED, name="twice")
    desk = Desk(tmp_path, *feeds)
    for day in (TUESDAY, DAY):
        desk.cells(day)
        for feed in feeds:
            desk.report(day, feed=feed, run=f"{day}")
    objects = {one.key: desk.lake.get(one.key).body for one in desk.lake.listed("manifest")}
    for key in objects:
        desk.lake.update(key, lambda _: b"x")
    assert desk.until(DUE + timedelta(hours=1), step=30) == ["ohlcv-1d of polygon: the ledger cannot be read"]
    assert all(key in desk.inbox[0][1].text for key in objects)
    for key, body in objects.items():
        desk.lake.update(key, lambda _, body=body: body)
    assert desk.until(DUE + timedelta(hours=2), step=30) == ["all-clear: ohlcv-1d of polygon: the ledger cannot be read"]


def test_a_broken_object_of_the_ledger_heals_no_open_session(desk):
    late(desk)
    assert desk.until(DUE, step=60) == [f"{NAME} {DAY}: late"]
    desk.cells(DAY, symbols=MEMBERS[:2])
    key = next(one.key for one in desk.lake.listed("manifest"))
    whole = desk.lake.get(key).body
    desk.lake.update(key, lambda _: b"x")
    assert [message.title for message in desk.watch()] == ["ohlcv-1d of polygon: the ledger cannot be read"]
    desk.lake.update(key, lambda _: whole)
    assert {message.healed for message in desk.watch()} == {True}
    assert desk.found.causes == ()


def test_a_ledger_that_cannot_be_read_hides_no_failed_run_no_missing_run_and_no_restatement(desk):
    """Run reports need no ledger."""
    desk.report(TUESDAY, run="tuesday")
    desk.lake.update(next(one.key for one in desk.lake.listed("manifest")), lambda _: b"x")
    desk.report(DAY, red=["batch 1 failed"], restated=[("AAPL", DAY, 20)])
    desk.report(date(2015, 1, 1), date(2015, 1, 30), run="old", red=["batch 2 failed"])
    ledger, *others = sorted(desk.watch(), key=lambda one: not one.id.startswith("ledger/"))
    assert {one.title for one in others} == {
        f"{NAME} {DAY}: a run failed", f"{NAME} 2015: a run failed", f"{NAME}: 20 rows were restated"
    }  # fmt: skip
    assert "missing, pending, refused and quarantined cells are not watched, and there are no all-clears" in ledger.text
    desk.now += timedelta(minutes=5)
    desk.report(DAY, run="again")
    assert desk.watch() == []  # no all-clear: nobody knows
    assert desk.until(new_york(date(2024, 3, 8), 7), step=60) == [f"{NAME} {THURSDAY}: late"]
    assert "No run has reported on it" in desk.inbox[-1][1].text


def test_an_object_that_does_not_belong_to_the_ledger_is_a_message_and_blinds_nobody(desk):
    desk.lake.put_new("manifest/ohlcv-1d/provider=polygon/notes.txt", b"x")
    assert [message.id for message in desk.watch()] == ["ledger/ohlcv-1d/polygon"]
    assert desk.until(DUE, step=60) == [f"{NAME} {DAY}: late"]


def test_a_tickers_file_on_s3_is_the_universe_of_the_watch_too(desk):
    desk.feeds = (replace(FEED, params={**FEED.params, "tickers_path": "s3://desk/mine.csv"}),)
    files = {"s3://desk/mine.csv": b"symbol\nAAPL\nIBM\n"}
    desk.more = {"open_s3": files.__getitem__}
    desk.cells(DAY, symbols=["AAPL"])
    assert desk.until(DUE, step=60) == [f"{NAME} {DAY}: late"]
    assert "1 of 2 cells missing: IBM" in desk.inbox[0][1].text


@pytest.mark.parametrize("zone", [UTC, NEW_YORK, ZoneInfo("Asia/Tokyo")])
def test_charges_belong_to_the_month_in_utc_in_which_the_run_started(tmp_path, zone):
    desk = Desk(tmp_path, replace(FEED, due=None), alerts=Alerts(Thresholds(spend_usd=5)))
    for moment, cost in ((datetime(2024, 3, 31, 23, 59, tzinfo=UTC), 100), (datetime(2024, 4, 1, 0, 0, tzinfo=UTC), 3)):
        desk.now = moment
        desk.report(DAY, run=f"r{cost}", cost=cost, started=moment, minutes=120)
    for later in (datetime(2024, 4, 1, 3, tzinfo=UTC), datetime(2024, 4, 30, 23, 30, tzinfo=UTC)):
        desk.now = later.astimezone(zone)
        assert [message for message in desk.watch() if "US dollars" in message.title] == []
    desk.now = datetime(2024, 4, 20, tzinfo=UTC)
    desk.report(DAY, run="r4", cost=2.5, started=desk.now)
    desk.now = datetime(2024, 4, 30, 23, 59, tzinfo=UTC).astimezone(zone)
    assert [message.title for message in desk.watch()] == ["polygon: 5.50 US dollars in 2024-04"]
    desk.now = datetime(2024, 5, 1, 0, 0, tzinfo=UTC).astimezone(zone)
    assert desk.watch() == []
    assert desk.found.causes == ()


def test_a_universe_that_cannot_be_read_is_a_cause_and_heals_nothing(desk, monkeypatch):
    desk.report(TUESDAY, restated=[("AAPL", TUESDAY, 20)])
    desk.until(DUE, step=60)
    assert titles(desk) == [f"{NAME}: 20 rows were restated", f"{NAME} {DAY}: late"]

    def broken(*_):
        raise ConfigError("the file is broken")

    with monkeypatch.context() as patch:
        patch.setattr("market_data.pipeline.run_symbols.universe_of", broken)
        assert [message.title for message in desk.watch()] == [f"{NAME}: the universe cannot be read"]
        desk.now += timedelta(minutes=5)
        desk.report(DAY, red=["the plan failed"])
        assert desk.watch() == []
    assert [message.title for message in desk.watch()] == [f"all-clear: {NAME}: the universe cannot be read"]


def test_looking_sends_and_writes_nothing_of_the_messages(desk):
    found = find(desk.lake, desk.feeds, desk.alerts, DUE)
    assert [cause.id for cause in found.causes] == [f"session/{NAME}/{DAY}"]
    assert desk.lake.get("alerts/state.json") is None


def test_a_record_older_than_the_usual_window_counts_after_a_long_closing(desk, monkeypatch):
    """As in September 2001: the last five sessions may reach far back."""
    closed = ",".join(str(TUESDAY + timedelta(days=n)) for n in range(1, 15) if (TUESDAY + timedelta(days=n)).weekday() < 5)
    monkeypatch.setenv("MARKET_DATA_EXTRA_CLOSURES", closed)
    desk.now = new_york(date(2024, 3, 20), 8)
    keys = [key for key, _ in desk.lake.list("manifest")]
    monkeypatch.setattr(type(desk.lake), "listed", _old(type(desk.lake).listed, keys, new_york(TUESDAY, 20)))
    assert desk.watch() == []


def _old(listed, keys, moment):
    """Return ``listed`` with another time of writing for some objects."""
    return lambda lake, prefix: (one._replace(modified=moment) if one.key in keys else one for one in listed(lake, prefix))
