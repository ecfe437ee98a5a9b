"""No window is ever over quota, whatever runs: by simulated clocks, and by real processes that get killed."""

import itertools
import json
import multiprocessing
import os
import signal
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_data.core.capabilities import Quota, Window
from market_data.core.errors import QuotaExhausted
from market_data.http.rate_limit import FileLimiter, Pacer


class Clock:
    """A clock that only sleeping moves; each sleep oversleeps by what ``lateness`` gives next."""

    def __init__(self, lateness=()):
        self.now = 1_000_000.0
        self.lateness = iter(lateness)

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds + next(self.lateness, 0.0)


def most_in(times, seconds):
    times = sorted(times)
    return max((sum(t <= u < t + seconds for u in times) for t in times), default=0)


def limiter(tmp_path, *windows, clock=None):
    clock = clock or Clock()
    return FileLimiter(tmp_path / "account.json", windows, clock, clock.sleep), clock


windows = st.lists(st.tuples(st.integers(1, 20), st.floats(0.5, 600)), min_size=1, max_size=3)


@settings(deadline=None, max_examples=50)
@given(windows, st.lists(st.floats(0, 5), max_size=30))
def test_no_window_overflows_however_late_a_call_leaves(tmp_path_factory, quotas, lateness):
    clock = Clock(lateness)
    limit = FileLimiter(tmp_path_factory.mktemp("l") / "a.json", [Window(*q) for q in quotas], clock, clock.sleep)
    times = []
    for _ in range(40):
        limit.acquire()
        times.append(clock())
    for calls, seconds in quotas:
        assert most_in(times, seconds) <= calls


def test_rate_is_used_up_to_the_margin(tmp_path):
    limit, clock = limiter(tmp_path, Window(5, 60))
    start = clock()
    for _ in range(51):
        limit.acquire()
    assert clock() - start == pytest.approx(50 * 12 * 1.015, rel=0.001)


def test_a_penalty_holds_everybody_back(tmp_path):
    limit, clock = limiter(tmp_path, Window(10, 1))
    limit.acquire()
    FileLimiter(tmp_path / "account.json", (), clock, clock.sleep).penalise(30)
    before = clock()
    limit.acquire()
    assert clock() - before >= 30


def test_a_shorter_penalty_does_not_cut_a_longer_one(tmp_path):
    limit, clock = limiter(tmp_path, Window(10, 1))
    limit.penalise(30)
    limit.penalise(1)
    before = clock()
    limit.acquire()
    assert clock() - before >= 30


def test_a_daily_quota_may_be_used_in_a_burst_and_then_says_when_it_is_free_again(tmp_path):
    limit, clock = limiter(tmp_path, Window(3, 86_400))
    start = clock()
    for _ in range(3):
        limit.acquire()
    assert clock() == start
    with pytest.raises(QuotaExhausted, match="all 3 calls of 86400 s are used") as caught:
        limit.acquire()
    assert caught.value.resets_at.timestamp() == pytest.approx(start + 86_401)
    clock.now += 86_402
    limit.acquire()


def test_a_clock_set_back_does_not_stop_calls(tmp_path):
    limit, clock = limiter(tmp_path, Window(5, 60))
    limit.acquire()
    clock.now -= 3600
    before = clock()
    limit.acquire()
    assert clock() - before <= 12.2


def test_a_file_cut_by_a_crash_is_started_afresh(tmp_path):
    limit, _ = limiter(tmp_path, Window(5, 60))
    (tmp_path / "account.json").write_text('{"last": 1')
    limit.acquire()
    assert json.loads((tmp_path / "account.json").read_text())["last"] > 0


class Open:
    def acquire(self):
        pass

    def penalise(self, seconds):
        pass


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
    clock = Clock()

    def gone():
        raise SystemExit("gone")

    with pytest.raises(SystemExit):
        Pacer(Quota(60), Open(), clock, clock.sleep, gone).wait()


def _worker(path, windows, enough, log):
    """Logs the moment that the limiter itself took for each call, since a busy machine may come back here much later."""
    moments = []

    def clock():
        moments.append(time.time())
        return moments[-1]

    limit = FileLimiter(path, windows, clock)
    while not enough.is_set():
        limit.acquire()
        with log.open("a") as out:
            out.write(f"{moments[-1]} {os.getpid()}\n")


def test_real_processes_keep_the_window_while_one_of_them_is_killed(tmp_path):
    windows, log = [Window(20, 2.0)], tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    enough = context.Event()
    workers = [context.Process(target=_worker, args=(tmp_path / "a.json", windows, enough, log)) for _ in range(4)]
    for worker in workers:
        worker.start()

    def lines():
        return [line.split() for line in log.read_text().splitlines()] if log.exists() else []

    def await_(what, condition):
        until = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < until, what
            time.sleep(0.05)

    try:
        await_("not all workers got a turn", lambda: len({pid for _, pid in lines()}) == 4)
        os.kill(workers[0].pid, signal.SIGKILL)
        killed = time.time()
        await_("the others do not go on", lambda: sum(float(moment) > killed + 0.5 for moment, _ in lines()) >= 10)
    finally:
        enough.set()
        for worker in workers:
            worker.join()
    assert most_in([float(moment) for moment, _ in lines()], 2.0) <= 20
