"""The failures of a run: nothing is lost when tasks append at once; the breaker opens, lets one try, and closes."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from market_data.core.run import RunInfo
from market_data.lake.failures import COOL_DOWN, PROBE_TIME, Event, Failures, Kind, failed_batches

NOW = datetime(2026, 11, 20, 12, 0, 1, 123457, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def of(lake):
    return Failures.of(lake, "ohlcv-1d", "polygon", RunInfo("polygon_ohlcv_1d", "r1", "manual", 0, NOW))


def failed(batch_id, at=NOW, kind=Kind.FAILED):
    return Event(kind, batch_id, at, "ServerError: down", calls=5, retries=4, bytes=120)


def test_events_come_back_as_they_were_recorded(lake):
    failures, events = of(lake), (failed("b000"), failed("b001", NOW + SECOND, Kind.SINGLE))
    assert failures.read() == ()
    for event in events:
        failures.record(event)
    assert failures.read() == events


def test_tasks_that_record_at_once_lose_nothing(lake):
    failures = of(lake)
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(failures.record, [failed(f"b{n:03d}") for n in range(12)]))
    assert failed_batches(failures.read()) == {f"b{n:03d}" for n in range(12)}


def test_the_breaker_opens_after_that_many_batches_in_a_row_and_no_sooner(lake):
    failures = of(lake)
    for _ in range(9):
        failures.record(failed("b000"))  # one batch may have a reason of its own
    failures.record(failed("b001"))
    failures.record(failed("b002", kind=Kind.SINGLE))
    assert failures.open_until("b003", NOW, 3) is None
    failures.record(failed("b004"))
    assert failures.open_until("b003", NOW + SECOND, 3) == NOW + COOL_DOWN


def test_one_request_that_goes_well_begins_the_count_anew(lake):
    failures = of(lake)
    failures.record(failed("b000"))
    failures.record(failed("b001"))
    failures.recovered("b002", NOW)
    failures.record(failed("b003"))
    assert failures.open_until("b004", NOW, 2) is None


def test_nothing_is_written_where_nothing_failed(lake):
    failures = of(lake)
    failures.recovered("b000", NOW)
    assert failures.open_until("b000", NOW, 1) is None
    assert list(lake.list("failures")) == []


def test_after_the_pause_one_batch_tries_for_all(lake):
    failures = of(lake)
    failures.record(failed("b000"))
    later = NOW + COOL_DOWN
    assert failures.open_until("b001", later, 1) is None
    assert failures.open_until("b002", later + SECOND, 1) == later + PROBE_TIME
    failures.recovered("b001", later + SECOND)
    assert failures.open_until("b002", later + SECOND, 1) is None


def test_a_try_that_fails_begins_the_pause_anew_and_one_that_dies_does_not(lake):
    failures = of(lake)
    failures.record(failed("b000"))
    later = NOW + COOL_DOWN
    assert failures.open_until("b001", later, 1) is None
    assert failures.open_until("b002", later + PROBE_TIME, 1) is None  # b001 said nothing
    failures.record(failed("b002", later + PROBE_TIME + SECOND))
    assert failures.open_until("b003", later + 2 * PROBE_TIME + 2 * SECOND, 1) == later + PROBE_TIME + SECOND + COOL_DOWN
