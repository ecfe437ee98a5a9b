import json
from datetime import UTC, date, datetime

import pendulum
import pytest
from airflow.exceptions import AirflowTimetableInvalid
from airflow.timetables.base import DataInterval, TimeRestriction
from hypothesis import given
from hypothesis import strategies as st

from market_data.airflow.timetable import SessionTimetable
from market_data.core import calendar

TIMETABLE = SessionTimetable()


def utc(text):
    return pendulum.parse(text).in_timezone("UTC")


@pytest.fixture
def clock(monkeypatch):
    """Sets the time that the timetable takes for now."""
    return lambda text: monkeypatch.setattr("market_data.airflow.timetable.pendulum.now", lambda tz: utc(text).in_timezone(tz))


@pytest.fixture
def registered(monkeypatch):
    """The timetable as the plugin registers it."""
    plugins = {"market_data.airflow.timetable.SessionTimetable": SessionTimetable}
    monkeypatch.setattr("airflow.plugins_manager.get_timetables_plugins", lambda: plugins)


@pytest.fixture
def serialized_dag(registered):
    """A DAG as the scheduler and Backfill see it: through Airflow's serialization and back, without a database."""
    from airflow.sdk import DAG
    from airflow.serialization.serialized_objects import DagSerialization

    def make(**arguments):
        dag = DAG("d", schedule=SessionTimetable(), **{"start_date": datetime(2020, 1, 1, tzinfo=UTC), **arguments})
        return DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))

    return make


def next_info(last=None, earliest=None, latest=None, catchup=True, timetable=TIMETABLE):
    interval = last and DataInterval(start=utc(last), end=utc(last).add(hours=25))
    restriction = TimeRestriction(earliest and utc(earliest), latest and utc(latest), catchup)
    return timetable.next_dagrun_info(last_automated_data_interval=interval, restriction=restriction)


def sessions(infos):
    return [info.logical_date.date().isoformat() for info in infos]


@pytest.mark.parametrize(
    ("last", "session", "run_after"),
    [
        ("2026-10-30", "2026-11-02", "2026-11-03T01:30:00Z"),  # Friday in summer time -> Monday in winter time
        ("2026-10-29", "2026-10-30", "2026-10-31T00:30:00Z"),
        ("2026-03-06", "2026-03-09", "2026-03-10T00:30:00Z"),  # winter -> summer
        ("2026-03-05", "2026-03-06", "2026-03-07T01:30:00Z"),
        ("2026-11-25", "2026-11-27", "2026-11-28T01:30:00Z"),  # over Thanksgiving; the early close does not bring it forward
        ("2026-04-02", "2026-04-06", "2026-04-07T00:30:00Z"),  # over Good Friday
        ("2026-07-02", "2026-07-06", "2026-07-07T00:30:00Z"),  # over 4 July observed
        ("2025-01-08", "2025-01-10", "2025-01-11T01:30:00Z"),  # over a day of mourning
        ("2026-12-31", "2027-01-04", "2027-01-05T01:30:00Z"),
        ("2026-11-03T20:30", "2026-11-04", "2026-11-05T01:30:00Z"),  # last run from another schedule
    ],
)
def test_next_run_follows_the_last(last, session, run_after):
    info = next_info(last)
    assert info.logical_date == info.data_interval.start == utc(session)
    assert info.run_after == info.data_interval.end == utc(run_after)
    assert info.run_after.in_timezone("America/New_York").format("YYYY-MM-DD HH:mm") == f"{session} 20:30"


@pytest.mark.parametrize(
    ("run_at", "run_after"),
    [("16:00", "2026-11-03T21:00:00Z"), ("23:59", "2026-11-04T04:59:00Z"), ("19:00", "2026-11-04T00:00:00Z")],
)
def test_run_at_is_new_york_time_of_the_session(run_at, run_after):
    assert next_info("2026-11-02", timetable=SessionTimetable(run_at)).run_after == utc(run_after)


@pytest.mark.parametrize("earliest", ["2000-01-01", "2020-01-01", "2026-11-02", None])
@pytest.mark.parametrize(
    ("now", "session"),
    [
        ("2026-11-20T20:00:00Z", "2026-11-20"),  # during the session of the 20th
        ("2026-11-21T01:29:59Z", "2026-11-20"),  # a second before its time to run
        ("2026-11-21T01:30:00Z", "2026-11-23"),  # its time has come: it is the past
        ("2026-11-22T12:00:00Z", "2026-11-23"),  # a Sunday
        ("2026-11-27T00:00:00Z", "2026-11-27"),  # Thanksgiving evening
    ],
)
def test_switching_on_never_fetches_the_past(clock, now, session, earliest):
    clock(now)
    info = next_info(earliest=earliest, catchup=False)
    assert info.logical_date == utc(session)
    assert info.run_after > utc(now)


def test_each_missed_session_has_a_run_of_its_own(clock):
    clock("2026-11-21T12:00:00Z")
    infos, last = [], "2026-11-05"
    while (info := next_info(last, earliest="2012-01-01", catchup=False)).run_after <= utc("2026-11-21T12:00:00Z"):
        infos.append(info)
        last = info.logical_date.isoformat()
    assert sessions(infos) == [day.isoformat() for day in calendar.sessions(date(2026, 11, 6), date(2026, 11, 21))]
    assert sessions([info]) == ["2026-11-23"]


@pytest.mark.parametrize(("most", "first"), [(1, "2026-11-20"), (2, "2026-11-19"), (30, "2026-10-12")])
def test_at_most_the_last_sessions_are_caught_up(clock, most, first):
    clock("2026-11-21T12:00:00Z")
    timetable = SessionTimetable(catch_up_sessions=most)
    info = next_info("2012-01-03", earliest="2012-01-01", catchup=False, timetable=timetable)
    assert info.logical_date == utc(first)
    assert len(calendar.sessions(date.fromisoformat(first), date(2026, 11, 21))) == most


def test_without_catchup_a_later_start_date_is_waited_for(clock):
    clock("2026-11-21T12:00:00Z")
    assert next_info(earliest="2026-12-25", catchup=False).logical_date == utc("2026-12-28")


def test_with_catchup_every_session_is_listed_from_the_start_date_on():
    infos, last = [], None
    while (info := next_info(last, earliest="2026-11-14", latest="2026-12-01")) is not None:
        infos.append(info)
        last = info.logical_date.isoformat()
    expected = calendar.sessions(date(2026, 11, 14), date(2026, 12, 2))
    assert [info.logical_date.date() for info in infos] == list(expected)
    assert sessions(infos)[0] == "2026-11-16"
    assert "2026-11-26" not in sessions(infos)


@pytest.mark.parametrize(
    ("earliest", "session"),
    [
        ("2026-11-02T00:00:00Z", "2026-11-02"),  # inclusive
        ("2026-11-02T00:00:01Z", "2026-11-03"),
        ("2026-11-01T19:00:00-05:00", "2026-11-02"),  # the same moment, elsewhere
        ("2026-11-02T00:00:00-05:00", "2026-11-03"),
        ("2026-11-07T00:00:00Z", "2026-11-09"),
        ("1970-01-01T00:00:00Z", "2000-01-03"),  # where the calendar starts
    ],
)
def test_no_run_has_a_logical_date_before_the_start_date(earliest, session):
    assert next_info(earliest=earliest).logical_date == utc(session)


def test_without_start_date_nothing_can_be_caught_up():
    assert next_info() is None


def test_the_end_date_is_inclusive():
    assert next_info("2026-11-03", latest="2026-11-04T00:00:00Z").logical_date == utc("2026-11-04")
    assert next_info("2026-11-03", latest="2026-11-03T23:59:59Z") is None


@pytest.mark.parametrize(
    ("moment", "session"),
    [
        ("2026-11-04T01:30:00Z", "2026-11-03"),  # 20:30 New York
        ("2026-11-04T01:29:59Z", "2026-11-02"),
        ("2026-11-03T15:00:00Z", "2026-11-02"),  # what the trigger form fills in during a session
        ("2026-11-08T12:00:00Z", "2026-11-06"),  # a Sunday
        ("2026-11-27T23:00:00Z", "2026-11-25"),  # early close: not before run_at
        ("2026-11-03T00:00:00Z", "2026-11-03"),  # a session's own logical date
        ("2026-11-02T19:00:00-05:00", "2026-11-03"),  # the same moment, elsewhere
        ("2026-11-03T00:00:00.000001Z", "2026-10-30"),  # 19:00 of the 2nd in New York, not yet 20:30
        ("2026-11-07T00:00:00Z", "2026-11-05"),  # a Saturday's midnight is not yet 20:30 of Friday in New York
        ("2026-11-08T00:00:00Z", "2026-11-06"),
    ],
)
def test_interval_of_a_manual_run(moment, session):
    interval = TIMETABLE.infer_manual_data_interval(run_after=pendulum.parse(moment))
    assert interval.start == utc(session)
    assert interval == next_info(calendar.previous_session(date.fromisoformat(session)).isoformat()).data_interval


@given(st.datetimes(datetime.fromisoformat("2000-01-10"), datetime.fromisoformat("2040-12-20"), timezones=st.just(UTC)))
def test_a_manual_run_takes_the_last_session_that_was_due(moment):
    moment = pendulum.instance(moment)
    interval = TIMETABLE.infer_manual_data_interval(run_after=moment)
    own = interval.start == moment
    following = calendar.at(calendar.next_session(interval.start.date()), TIMETABLE._clock)
    assert own or interval.end <= moment < following


def test_a_manual_run_outside_the_calendar_is_a_value_error():
    with pytest.raises(ValueError, match="outside the XNYS calendar, which holds 2000-01-01 to 2040-12-31"):
        TIMETABLE.infer_manual_data_interval(run_after=utc("1995-06-01"))


def test_backfill_lists_exactly_the_sessions_of_its_dates(serialized_dag):
    from airflow.models.backfill import _get_info_list

    dag = serialized_dag(catchup=False)
    days = {"from_date": utc("2012-11-02"), "to_date": utc("2012-11-23"), "dag": dag}
    expected = [day.isoformat() for day in calendar.sessions(date(2012, 11, 2), date(2012, 11, 24))]
    assert expected[0] == "2012-11-02"
    assert expected[-1] == "2012-11-23"
    assert sessions(_get_info_list(**days, reverse=False)) == expected
    assert sessions(_get_info_list(**days, reverse=True)) == expected[::-1]


def test_backfill_leaves_aside_a_session_that_is_not_over(serialized_dag):
    from airflow.models.backfill import _get_info_list

    now = pendulum.now("UTC")
    infos = _get_info_list(from_date=now.subtract(days=30), to_date=now.add(days=30), reverse=False, dag=serialized_dag())
    assert infos[-1].logical_date.date() == calendar.last_completed_session(now, TIMETABLE._clock)


def test_dates_given_to_clear_hold_exactly_their_sessions(serialized_dag):
    infos = serialized_dag().iter_dagrun_infos_between(utc("2026-11-02"), utc("2026-11-05"))
    assert sessions(infos) == ["2026-11-02", "2026-11-03", "2026-11-04", "2026-11-05"]


def test_the_scheduler_asks_for_the_next_run(serialized_dag, clock):
    clock("2026-11-21T12:00:00Z")
    dag = serialized_dag(catchup=False)
    first = dag.next_dagrun_info(last_automated_run_info=None)
    assert first.logical_date == utc("2026-11-23")
    assert dag.next_dagrun_info(last_automated_run_info=first).logical_date == utc("2026-11-24")


@pytest.fixture
def runs():
    """Make runs of a DAG in a database that holds runs alone."""
    from airflow.models.dagrun import DagRun
    from sqlalchemy import create_engine, text
    from sqlalchemy.orm import Session

    engine = create_engine("sqlite://")
    columns = ", ".join(f"{column.name} TEXT" for column in DagRun.__table__.columns if column.name != "id")
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE dag_run (id INTEGER PRIMARY KEY, {columns})"))
        connection.execute(text("CREATE TABLE dag (dag_id TEXT PRIMARY KEY, next_dagrun TEXT)"))
        connection.execute(text("INSERT INTO dag VALUES ('d', '2026-11-10 00:00:00.000000')"))
    with Session(engine) as session, session.no_autoflush:

        def make(run_type, day, dag_id="d", run_id=None):
            interval = TIMETABLE._interval(date.fromisoformat(day))
            values = {
                "dag_id": dag_id,
                "run_id": run_id or f"{run_type}__{day}",
                "run_type": run_type,
                "state": "success",
                "logical_date": interval.start.strftime("%Y-%m-%d 00:00:00.000000"),
                "id": len(made) + 1,
            }
            session.execute(
                text(f"INSERT INTO dag_run ({', '.join(values)}) VALUES ({', '.join(f':{name}' for name in values)})"), values
            )
            run = DagRun(
                dag_id=dag_id,
                run_id=values["run_id"],
                run_type=run_type,
                logical_date=interval.start,
                run_after=interval.end,
                data_interval=interval,
            )
            session.add(run)
            made.append(run)
            return run

        made = []
        yield make


def following(timetable, run):
    restriction = TimeRestriction(utc("2012-01-01"), None, False)
    info = timetable.run_info_from_dag_run(dag_run=run)
    return timetable.next_dagrun_info_v2(last_dagrun_info=info, restriction=restriction).logical_date


@pytest.mark.parametrize("run_type", ["backfill", "manual"])
def test_a_backfill_before_the_first_scheduled_run_is_not_caught_up_from(clock, runs, run_type):
    clock("2026-11-21T12:00:00Z")
    runs("scheduled", "2026-11-09", dag_id="another")
    assert following(TIMETABLE, runs(run_type, "2026-11-09")) == utc("2026-11-23")


@pytest.mark.parametrize("run_type", ["backfill", "manual"])
def test_after_a_scheduled_run_the_session_after_a_backfill_is_caught_up(clock, runs, run_type):
    clock("2026-11-21T12:00:00Z")
    runs("scheduled", "2026-11-06")
    assert following(TIMETABLE, runs(run_type, "2026-11-09")) == utc("2026-11-10")


def test_sessions_missed_before_a_backfill_are_caught_up(clock, runs):
    clock("2026-11-21T12:00:00Z")
    runs("scheduled", "2026-11-06")
    runs("backfill", "2026-11-11")
    assert following(TIMETABLE, runs("backfill", "2026-11-12")) == utc("2026-11-09")
    runs("scheduled", "2026-11-09")
    assert following(TIMETABLE, runs("scheduled", "2026-11-10")) == utc("2026-11-11")  # Airflow finds that it exists and asks again
    assert following(TIMETABLE, runs("backfill", "2026-11-11")) == utc("2026-11-13")


def test_a_triggered_run_of_the_session_that_the_dag_waits_for_takes_its_place(clock, runs):
    clock("2026-11-10T12:00:00Z")
    assert following(TIMETABLE, runs("manual", "2026-11-10")) == utc("2026-11-11")


def test_a_scheduled_run_that_a_backfill_took_over_still_counts(clock, runs):
    clock("2026-11-21T12:00:00Z")
    assert following(TIMETABLE, runs("backfill", "2026-11-09", run_id="scheduled__2026-11-09")) == utc("2026-11-10")


@pytest.fixture
def awaited(monkeypatch):
    """What Airflow has stored as the next run of the unpaused DAG `d`."""

    def store(session):
        found = {"d": session and date.fromisoformat(session)}
        monkeypatch.setattr("market_data.airflow.known_runs.awaited_session", found.get)

    return store


@pytest.mark.parametrize(
    ("stored", "session"),
    [
        ("2026-11-20", "2026-11-20"),  # due, and not created yet: the DAG was read again in between
        ("2026-11-19", "2026-11-19"),  # Airflow was down since
        ("2026-11-23", "2026-11-23"),
        ("2025-01-02", "2026-10-12"),  # down for longer than catch_up_sessions
        ("2027-01-04", "2026-11-23"),
        (None, "2026-11-23"),  # paused, or new
    ],
)
def test_an_unpaused_dag_keeps_waiting_for_its_first_run(clock, awaited, stored, session):
    clock("2026-11-21T12:00:00Z")
    awaited(stored)
    assert next_info(earliest="2012-01-01", catchup=False, timetable=SessionTimetable(dag_id="d")).logical_date == utc(session)


@pytest.mark.parametrize("away", ["2026-11-28T12:00:00Z", "2027-11-27T12:00:00Z"])
def test_a_dag_that_never_had_a_scheduled_run_starts_after_any_pause_with_the_next_session(clock, away):
    clock("2026-11-21T12:00:00Z")
    first = next_info(earliest="2012-01-01", catchup=False)
    clock(away)
    again = next_info(earliest="2012-01-01", catchup=False)
    assert again.run_after > utc(away) > first.run_after


def test_a_scheduled_run_is_followed_by_the_next_session(clock, runs):
    clock("2026-11-21T12:00:00Z")
    assert following(TIMETABLE, runs("scheduled", "2026-11-09")) == utc("2026-11-10")


def test_run_ids_carry_the_date_of_the_session():
    from airflow.utils.types import DagRunType

    interval = TIMETABLE._interval(date(2026, 11, 20))
    ids = [TIMETABLE.generate_run_id(run_type=kind, run_after=interval.end, data_interval=interval) for kind in DagRunType]
    assert "scheduled__2026-11-20" in ids
    assert "backfill__2026-11-20" in ids
    assert "manual__2026-11-21T01:30:00+00:00" in ids  # several a session are possible


def test_serialization_keeps_everything(registered):
    from airflow.serialization.decoders import decode_timetable
    from airflow.serialization.encoders import encode_timetable

    timetable = SessionTimetable(run_at="17:45", catch_up_sessions=7, dag_id="d")
    encoded = json.loads(json.dumps(encode_timetable(timetable)))
    decoded = decode_timetable(encoded)
    assert encoded["__type"] == "market_data.airflow.timetable.SessionTimetable"
    assert (decoded.run_at, decoded.exchange, decoded.catch_up_sessions, decoded.dag_id) == ("17:45", "XNYS", 7, "d")
    assert (decoded.summary, decoded.description) == (timetable.summary, timetable.description)
    assert next_info("2026-11-02", timetable=decoded) == next_info("2026-11-02", timetable=timetable)


def test_summary_and_description_say_when():
    assert TIMETABLE.summary == "XNYS 20:30 New York"
    assert TIMETABLE.description == "After every XNYS session at 20:30 New York time"


@pytest.mark.parametrize("run_at", ["16:00", "17:05", "20:30", "23:59"])
def test_valid_run_at(run_at):
    SessionTimetable(run_at).validate()


@pytest.mark.parametrize(
    "run_at", ["15:59", "09:30", "24:00", "20:60", "8:30", "20:30:00", "2030", "", "noon", "20:30\n", "20:3\u0660", None, 20]
)
def test_wrong_run_at_is_refused(run_at):
    with pytest.raises(AirflowTimetableInvalid, match=r"run_at is .*; allowed: HH:MM, New York time, from '16:00'"):
        SessionTimetable(run_at).validate()


@pytest.mark.parametrize("sessions", [0, -1, 1.5, True, None, "30"])
def test_wrong_catch_up_sessions_are_refused(sessions):
    with pytest.raises(AirflowTimetableInvalid, match="catch_up_sessions is .*; allowed: a whole number from 1"):
        SessionTimetable(catch_up_sessions=sessions).validate()


def test_unknown_exchange_is_refused():
    with pytest.raises(AirflowTimetableInvalid, match="exchange is 'XLON'; allowed: 'XNYS'"):
        SessionTimetable(exchange="XLON").validate()


def test_wrong_extra_closures_are_refused_when_the_dag_is_parsed(monkeypatch):
    monkeypatch.setenv(calendar.EXTRA_CLOSURES, "tomorrow")
    with pytest.raises(AirflowTimetableInvalid, match="MARKET_DATA_EXTRA_CLOSURES holds 'tomorrow'"):
        TIMETABLE.validate()


def test_extra_closures_have_no_run(monkeypatch):
    monkeypatch.setenv(calendar.EXTRA_CLOSURES, "2026-11-03")
    assert next_info("2026-11-02").logical_date == utc("2026-11-04")


def test_a_timetable_of_futures_has_a_run_on_their_holidays(clock):
    timetable = SessionTimetable("20:30", "CMES")
    assert next_info("2026-01-16", timetable=timetable).logical_date == utc("2026-01-19")
    assert next_info("2026-04-02", timetable=timetable).logical_date == utc("2026-04-03")
    assert next_info("2025-04-17", timetable=timetable).logical_date == utc("2025-04-21")
    assert next_info("2026-01-16").logical_date == utc("2026-01-20")
    clock("2026-01-20T02:00Z")
    manual = timetable.infer_manual_data_interval(run_after=utc("2026-01-20T02:00Z"))
    assert manual.start == utc("2026-01-19")
    assert next_info(earliest="2026-01-17", timetable=timetable).logical_date == utc("2026-01-19")
    assert timetable.summary == "CMES 20:30 New York"
    assert SessionTimetable.deserialize(timetable.serialize()).exchange == "CMES"


def test_a_timetable_of_crypto_has_a_run_every_day():
    timetable = SessionTimetable("20:30", "24/7")
    assert next_info("2026-11-20", timetable=timetable).logical_date == utc("2026-11-21")
    assert next_info("2026-11-20", timetable=timetable).run_after == utc("2026-11-22T01:30Z")
