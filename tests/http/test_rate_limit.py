"""The limiter on a simulated clock, and the pace of a slot. Real processes and servers are in test_many_hosts.py."""

import contextlib
import itertools
import threading
from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_data.core.capabilities import Quota, Window
from market_data.core.errors import QuotaExhausted, Throttled
from market_data.http.call_state import CallState, Rules, held
from market_data.http.limiter import LONGEST_CALL, Limiter, LimiterError, Reading
from market_data.http.rate_limit import Pacer
from sandbox.call_log import most_in


class Clock:
    """A clock that only sleeping moves; each sleep oversleeps by what ``lateness`` gives next."""

    def __init__(self, lateness=()):
        self.now = 1_000_000.0
        self.lateness = iter(lateness)

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds + next(self.lateness, 0.0)


class Memory:
    """A store of this process. ``fails``: it cannot be used."""

    def __init__(self, clock):
        self.clock, self.text, self.fails = clock, "", False

    def read(self):
        if self.fails:
            raise LimiterError("the store is gone")
        return Reading(self.text, self.clock(), self.clock())

    def swap(self, seen, text):
        if self.fails:
            raise LimiterError("the store is gone")
        found, self.text = self.text, text if self.text == seen.text else self.text
        return found == seen.text

    @property
    def state(self):
        return CallState.parse(self.text)


def limiter(*windows, clock=None, **rules):
    clock = clock or Clock()
    return Limiter(Memory(clock), Rules(windows, **rules), sleep=clock.sleep, clock=clock), clock


windows = st.lists(st.tuples(st.integers(1, 20), st.floats(0.5, 600)), min_size=1, max_size=3)


@settings(deadline=None, max_examples=50)
@given(windows, st.lists(st.floats(0, 5), max_size=30))
def test_no_window_overflows_however_late_a_call_leaves(quotas, lateness):
    limit, clock = limiter(*(Window(*q) for q in quotas), clock=Clock(lateness))
    times = []
    for _ in range(40):
        permit = limit.acquire()
        times.append(clock())
        permit.done()
    for calls, seconds in quotas:
        assert most_in(times, seconds) <= calls


def test_rate_is_used_up_to_the_margin():
    limit, clock = limiter(Window(5, 60))
    start = clock()
    for _ in range(51):
        limit.acquire().done()
    assert clock() - start == pytest.approx(10 * held(60), rel=0.001)
    assert clock() - start <= 50 * 12 * 1.015


def test_a_penalty_holds_everybody_back():
    limit, clock = limiter(Window(10, 1))
    limit.acquire().done()
    Limiter(limit.store, sleep=clock.sleep, clock=clock).penalise(30)
    before = clock()
    limit.acquire()
    assert clock() - before >= 30


def test_a_penalty_reaches_a_slot_that_waits_already():
    limit, clock = limiter(Window(1, 60))
    limit.acquire().done()
    before, sleep = clock(), clock.sleep

    def asleep(seconds):
        limit.sleep = sleep
        limit.penalise(100)
        sleep(seconds)

    limit.sleep, limit.patience = asleep, 100
    limit.acquire()
    assert clock() - before >= 100


def test_a_penalty_beyond_patience_is_left_to_the_task():
    limit, clock = limiter(Window(10, 1))
    limit.penalise(300)
    with pytest.raises(Throttled, match="rate limited: retry in 300 s") as caught:
        limit.acquire()
    assert caught.value.retry_after == pytest.approx(300)
    assert limit.paused() == pytest.approx(300)
    clock.now += 301
    limit.acquire()
    assert limit.paused() == 0


def test_a_shorter_penalty_does_not_cut_a_longer_one():
    limit, clock = limiter(Window(10, 1))
    limit.penalise(30)
    limit.penalise(1)
    before = clock()
    limit.acquire()
    assert clock() - before >= 30


def test_a_daily_quota_may_be_used_in_a_burst_and_then_says_when_it_is_free_again():
    limit, clock = limiter(Window(3, 86_400))
    start = clock()
    for _ in range(3):
        limit.acquire().done()
    assert clock() == start
    with pytest.raises(QuotaExhausted, match="all 3 calls of 86400 s are used") as caught:
        limit.acquire()
    assert caught.value.resets_at.timestamp() == pytest.approx(start + 86_401)
    clock.now += 86_402
    limit.acquire()


def test_own_count_of_a_days_calls_begins_a_minute_after_midnight_utc():
    limit, clock = limiter(Window(2, 86_400), utc_days=True)
    clock.now = datetime(2020, 6, 17, 23, 59, tzinfo=UTC).timestamp()
    limit.acquire().done()
    limit.acquire().done()
    with pytest.raises(QuotaExhausted, match="renewed at 2020-06-18 00:01 UTC") as caught:
        limit.acquire()
    assert caught.value.resets_at == datetime(2020, 6, 18, 0, 1, tzinfo=UTC)
    clock.now += 119
    with pytest.raises(QuotaExhausted):
        limit.acquire()
    clock.now += 1
    limit.acquire()


@pytest.mark.parametrize("skew", [-59, 0, 59])
@pytest.mark.parametrize("before", [0, 3])
def test_a_day_has_no_more_calls_than_its_quota_although_the_hosts_clock_is_wrong(skew, before):
    """Three calls in the morning or none, then as many as the limiter lets go in the minutes around the vendor's midnight."""
    limit, clock = limiter(Window(3, 86_400), utc_days=True)
    midnight = datetime(2020, 6, 18, tzinfo=UTC).timestamp()
    clock.now, counted = midnight - 40_000 + skew, []
    for _ in range(before):
        limit.acquire().done()
        counted.append(clock() - skew)
    for second in range(-200, 200, 5):
        clock.now = midnight + second + skew
        with contextlib.suppress(QuotaExhausted):
            limit.acquire().done()
            counted.append(clock() - skew)
    days = Counter(moment // 86_400 for moment in counted)
    assert max(days.values()) == 3
    assert len(counted) >= 3 + before / 3


def test_a_window_of_an_hour_does_not_begin_anew_at_midnight():
    limit, clock = limiter(Window(2, 3600), utc_days=True)
    clock.now = datetime(2020, 6, 17, 23, 50, tzinfo=UTC).timestamp()
    limit.acquire().done()
    limit.acquire().done()
    clock.now += 1200
    with pytest.raises(QuotaExhausted, match="the next is free at 2020-06-18 00:50"):
        limit.acquire()


def test_a_call_over_midnight_counts_for_the_new_day():
    limit, clock = limiter(Window(2, 86_400), utc_days=True)
    clock.now = datetime(2020, 6, 17, 23, 59, 50, tzinfo=UTC).timestamp()
    over_midnight = limit.acquire()
    clock.now += 15
    over_midnight.done()
    limit.acquire().done()
    clock.now += 60
    with pytest.raises(QuotaExhausted, match="the next is free at 2020-06-19 00:00:06 UTC"):
        limit.acquire()


def test_a_window_of_an_hour_ends_before_the_day_does():
    limit, clock = limiter(Window(1, 3600), utc_days=True)
    clock.now = datetime(2020, 6, 17, 9, tzinfo=UTC).timestamp()
    limit.acquire().done()
    with pytest.raises(QuotaExhausted, match=r"all 1 calls of 3600 s are used; the next is free at 2020-06-17 10:00:01 UTC"):
        limit.acquire()


def test_a_clock_set_back_does_not_stop_calls():
    limit, clock = limiter(Window(5, 60))
    limit.acquire().done()
    clock.now -= 3600
    before = clock()
    limit.acquire()
    assert clock() - before <= 12.2


# departures that are booked


def test_slots_that_wait_at_the_same_time_leave_one_after_the_other():
    limit, clock = limiter(Window(1000, 60))
    begun, left = clock(), []
    others = iter(range(5))

    def asleep(seconds):  # meanwhile the next one comes
        leaves = clock.now + seconds
        if next(others, None) is not None:
            limit.acquire()
        left.append(leaves)
        clock.now = max(clock.now, leaves)

    limit.sleep = asleep
    limit.acquire()
    limit.acquire()
    assert sorted(left) == pytest.approx([begun + place * limit.rules.gap for place in range(1, 7)])
    assert len(limit.store.state.running) == 7


def test_a_call_that_is_paused_before_its_departure_gives_its_permit_back():
    limit, clock = limiter(Window(60, 60))
    limit.acquire().done()
    sleep = clock.sleep

    def asleep(seconds):
        limit.sleep = sleep
        limit.penalise(300)
        sleep(seconds)

    limit.sleep = asleep
    with pytest.raises(Throttled):
        limit.acquire()
    assert limit.store.state.running == {}


def test_a_task_stopped_before_its_departure_gives_its_permit_back():
    limit, _ = limiter(Window(60, 60))
    limit.acquire().done()

    def stopped(_):
        raise KeyboardInterrupt

    limit.sleep = stopped
    with pytest.raises(KeyboardInterrupt):
        limit.acquire()
    assert limit.store.state.running == {}


# permits


def test_a_call_counts_from_its_response_on_not_from_the_end_of_its_body():
    limit, clock = limiter(Window(1, 60))
    with limit.acquire() as permit:
        clock.now += 2
        permit.arrived()
        clock.now += 20
    before = clock()
    limit.acquire()
    assert clock() - before == pytest.approx(held(60) - 20)


def test_a_call_without_a_known_response_counts_from_its_end_on():
    limit, clock = limiter(Window(1, 60))
    with contextlib.suppress(OSError), limit.acquire():
        clock.sleep(20)
        raise OSError("failed")
    before = clock()
    limit.acquire()
    assert clock() - before == pytest.approx(held(60))


def test_a_permit_that_is_given_back_does_not_count():
    limit, clock = limiter(Window(1, 60))
    limit.acquire().cancel()
    clock.now += 54  # two calls are spread all the same
    before = clock()
    limit.acquire()
    assert clock() == before


def test_a_call_that_lasts_keeps_its_lease():
    limit, clock = limiter(Window(1, 60), lease=0.03)
    with limit.acquire():
        first = limit.store.state.running
        renewed = threading.Event()
        clock.now += 0.02

        def swap(seen, text, swap=limit.store.swap):
            done = swap(seen, text)
            renewed.set()
            return done

        limit.store.swap = swap
        assert renewed.wait(60)
        assert next(iter(limit.store.state.running.values())) > next(iter(first.values()))


def test_a_lease_is_not_extended_for_ever():
    limit, clock = limiter(Window(1, 60), lease=0.03)
    before = set(threading.enumerate())
    with limit.acquire():
        [keeper] = set(threading.enumerate()) - before
        clock.now += LONGEST_CALL
        keeper.join(60)
        assert not keeper.is_alive()


def test_a_lease_is_extended_again_after_the_store_failed(caplog):
    limit, _ = limiter(Window(1, 60), lease=0.003)
    failed, renewed = threading.Event(), threading.Event()
    read = limit.store.read

    def fails_once():
        limit.store.read = lambda: (renewed.set(), read())[1]
        failed.set()
        raise OSError("the disk is gone")

    with limit.acquire():
        limit.store.read = fails_once
        assert failed.wait(60)
        assert renewed.wait(60)
    assert "the lease of a call is not extended, so it counts until its lease of 0.003 s is over: the disk is gone" in caplog.text


def test_a_permit_is_not_used_that_came_so_late_that_its_lease_may_be_over():
    limit, clock = limiter(Window(5, 60))
    swap = limit.store.swap

    def late(seen, text):
        limit.store.swap = swap
        done = swap(seen, text)
        clock.now += 25  # the host was frozen
        return done

    limit.store.swap = late
    limit.acquire()
    (end,) = limit.store.state.running.values()
    assert end == clock() + limit.rules.lease


def test_a_store_that_fails_at_the_end_of_a_call_makes_no_error_of_it(caplog):
    limit, clock = limiter(Window(1, 60))
    with limit.acquire():
        limit.store.fails = True
    assert "counts until its lease of 30 s is over: the store is gone" in caplog.text
    with pytest.raises(LimiterError):
        limit.acquire()
    limit.store.fails = False
    before = clock()
    limit.acquire()
    assert clock() - before == pytest.approx(30 + held(60))


def test_without_windows_nothing_is_counted():
    limit, _ = limiter()
    with limit.acquire():
        pass
    assert limit.store.text == ""


def test_of_two_at_once_one_begins_again():
    limit, clock = limiter(Window(1, 60))
    swap = limit.store.swap

    def overtaken(seen, text):
        limit.store.swap = swap
        Limiter(limit.store, limit.rules, clock=clock).acquire().done()
        return swap(seen, text)

    limit.store.swap = overtaken
    before = clock()
    limit.acquire()
    assert clock() - before == pytest.approx(held(60))


# the pace of a slot


class Open:
    def __init__(self):
        self.cancelled = 0

    def acquire(self):
        return self

    def cancel(self):
        self.cancelled += 1


def test_a_slot_waits_a_full_gap_before_its_first_call_too():
    clock = Clock()
    pacer = Pacer(Quota(5), Open(), clock, clock.sleep)
    start = clock()
    pacer.wait()
    assert clock() - start >= 12
    pacer.wait()
    assert clock() - start == pytest.approx(2 * 12 * 1.015)


def test_attempts_of_one_slot_one_after_the_other_keep_the_gap():
    clock, times = Clock(), []
    for _ in range(4):  # four attempts, each a new task that fails after two calls
        pacer = Pacer(Quota(60), Open(), clock, clock.sleep)
        for _ in range(2):
            pacer.wait()
            times.append(clock())
    assert min(b - a for a, b in itertools.pairwise(times)) >= 1


def test_a_task_whose_supervisor_is_gone_makes_no_call():
    clock, limit = Clock(), Open()

    def gone():
        raise SystemExit("gone")

    with pytest.raises(SystemExit):
        Pacer(Quota(60), limit, clock, clock.sleep, gone).wait()
    assert limit.cancelled == 1  # the account has its call back
