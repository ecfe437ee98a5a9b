"""Accounts with many calls: a process takes permits ahead and notes ends later. On a simulated clock."""

import os
import random
from itertools import pairwise

import pytest

from market_data.core.capabilities import Window
from market_data.http.bundle import Bundle
from market_data.http.call_state import LEASE, CallState, Rules
from market_data.http.limiter import Limiter, LimiterError
from sandbox.call_log import most_in
from tests.http.test_rate_limit import Clock, Memory
from tests.tiers import tiers

FAST = Rules((Window(1000, 10.0),))


class Counted(Memory):
    """A store that counts."""

    def __init__(self, clock):
        super().__init__(clock)
        self.reads = self.swaps = 0

    def read(self):
        self.reads += 1
        return super().read()

    def swap(self, seen, text):
        self.swaps += 1
        return super().swap(seen, text)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limit(clock):
    return Limiter(Counted(clock), FAST, sleep=clock.sleep, clock=clock)


def use(limit, clock, calls, seconds=0.02):
    """Make calls one after the other."""
    for _ in range(calls):
        permit = limit.acquire()
        clock.sleep(seconds)
        permit.arrived()
        permit.done()


def test_a_fast_account_takes_few_steps(limit, clock):
    use(limit, clock, 200)
    assert limit.store.swaps < 0.7 * 200  # two for each call otherwise
    slow = Limiter(Counted(clock), Rules((Window(999, 10.0),)), sleep=clock.sleep, clock=clock)
    use(slow, clock, 50)
    assert slow.store.swaps == 100


@pytest.mark.parametrize("seed", tiers(range(3), 0))
def test_no_window_is_over_whenever_a_call_arrives(seed):
    """Three processes, calls of up to 2 s that the server counts anywhere in between, one process killed now and then."""
    draw, clock = random.Random(seed), Clock()
    store = Memory(clock)
    limits = [Limiter(store, FAST, sleep=clock.sleep, clock=clock) for _ in range(3)]
    counted, running = [], []
    for _ in range(2500):
        if draw.random() < 0.01:  # with what it holds
            limits[draw.randrange(3)] = Limiter(store, FAST, sleep=clock.sleep, clock=clock)
        permit = draw.choice(limits).acquire()
        length = draw.choice([0.001, draw.uniform(0, 2)])
        counted.append(clock() + draw.choice([0.0, 0.5, 1.0]) * length)
        running.append((clock() + length, permit))
        for ended in [entry for entry in running if entry[0] <= clock()]:
            running.remove(ended)
            ended[1].arrived()
            ended[1].done()
    assert 950 <= most_in(counted, 10.0) <= 1000


def test_an_end_that_is_noted_later_counts_from_the_response(limit, clock):
    permit = limit.acquire()
    permit.arrived()
    arrived = clock()
    permit.done()
    assert list(CallState.parse(limit.store.text).running) == [permit.name]
    clock.sleep(5)
    limit.acquire()
    assert CallState.parse(limit.store.text).ended[10.0] == [(arrived, 1)]


def test_closing_notes_ends_and_gives_back_what_was_taken_ahead(limit, clock):
    use(limit, clock, 30)
    limit.close()
    state = CallState.parse(limit.store.text)
    assert state.running == {}
    assert sum(calls for _, calls in state.ended[10.0]) == 30
    swaps = limit.store.swaps
    limit.close()
    assert limit.store.swaps == swaps


def test_ends_outlast_a_store_that_fails(limit, clock):
    use(limit, clock, 1)
    limit.store.fails = True
    with pytest.raises(LimiterError):
        limit.penalise(1)
    limit.store.fails = False
    limit.close()
    assert CallState.parse(limit.store.text).running == {}


def held(limit):
    """Use a limiter until it holds permits; return them."""
    while not (found := limit.bundle.unused()):
        use(limit, limit.clock, 1)
    limit.bundle.add(found)
    return found


def test_a_pause_holds_permits_back_that_were_taken_before(limit, clock):
    held(limit)
    clock.sleep(0.2)
    Limiter(limit.store, FAST, sleep=clock.sleep, clock=clock).penalise(30)
    before = clock()
    limit.acquire()
    assert clock() - before >= 29.9


def test_a_permit_that_was_held_too_long_is_given_back(limit, clock):
    found = held(limit)
    clock.sleep(LEASE / 2)
    assert limit.acquire().name not in {grant.name for grant in found}
    assert not {grant.name for grant in found} & set(CallState.parse(limit.store.text).running)


def test_a_child_process_has_nothing_of_its_parents(limit, monkeypatch):
    found = held(limit)
    limit.bundle.ended("of the parent", 0.0)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert limit.bundle.next() is None
    assert limit.bundle.ends() == []
    assert limit.acquire().name not in {grant.name for grant in found}


def test_a_process_takes_as_many_as_it_used_of_late():
    bundle, rules = Bundle(), Rules((Window(10_000, 60.0),))
    taken = [bundle.wanted(rules, moment) for moment in (0.0, 0.1, 0.6, 1.1, 21.1)]
    assert taken == [1, 5, 5, 5, 1]
    assert all(bundle.wanted(rules, 21.1 + step / 1000) <= 20 for step in range(100))


def test_calls_are_spread_all_the_same(limit, clock):
    left = []
    for _ in range(100):
        limit.acquire().done()
        left.append(clock())
    gaps = [later - sooner for sooner, later in pairwise(left)]
    assert min(gaps) >= 0.9 * FAST.gap


def test_nothing_is_taken_ahead_of_a_days_quota():
    """A call that outlives its lease counts twice: of a day's quota that would be lost for a day."""
    rules = Rules((Window(3_000, 60.0), Window(5_000, 86_400.0)))
    assert not rules.many
    assert [Bundle().wanted(rules, moment) for moment in (0.0, 0.1, 0.2)] == [1, 1, 1]
