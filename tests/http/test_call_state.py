"""No window is ever over its quota, wherever a call is held up: a simulated server counts at any moment between leaving and response."""

import heapq
import itertools
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from market_data.core.capabilities import Window
from market_data.http.call_state import GRAINS, LEASE, SPREAD, CallState, Rules, held
from sandbox.call_log import most_in

START = 1_000_000.0


def simulated(rules, calls, seed, slots=8, delay=lambda draw: draw.uniform(0, 3), dies=0.0):
    """Return when the server counted ``calls`` calls, of slots that all want to call as soon as they may.

    :param delay: seconds from leaving to counting, and as many again to the response, drawn for each call.
    :param dies: share of calls whose process is killed after they left.
    """
    draw, text, counted = random.Random(seed), "", []
    names = itertools.count()
    events = sorted((START + draw.uniform(0, 1), next(names), None) for _ in range(slots))
    while len(counted) < calls:
        now, _, permit = heapq.heappop(events)
        state = CallState.parse(text)
        state.advance(rules, now)
        if permit is not None:
            state.end(permit, now)
            heapq.heappush(events, (now, next(names), None))
        elif wait := state.wait(rules, now):
            heapq.heappush(events, (now + wait, next(names), None))
        else:
            name = str(next(names))
            arrives = state.start(name, rules, now) + delay(draw)
            counted.append(arrives)
            if draw.random() < dies:
                heapq.heappush(events, (now + draw.uniform(0, 1), next(names), None))  # another process in its slot
            else:
                heapq.heappush(events, (arrives + delay(draw), next(names), name))
        text = state.text()
    return counted


windows = st.lists(st.tuples(st.integers(1, 20), st.floats(0.5, 600)), min_size=1, max_size=3)


@settings(max_examples=60)
@given(windows, st.integers(0, 2**32), st.sampled_from([0.01, 1.0, 29.0]), st.sampled_from([0.0, 0.2]))
@example([(5, 60.0)], 1, 1.0, 0.2)
@example([(60, 600.0), (5, 2.0)], 2, 29.0, 0.2)
def test_no_window_is_over_wherever_calls_are_held_up_and_whoever_dies(quotas, seed, longest, dies):
    rules = Rules(tuple(Window(*quota) for quota in quotas))
    counted = simulated(rules, 60, seed, delay=lambda draw: draw.uniform(0, longest), dies=dies)
    for calls, seconds in quotas:
        assert most_in(counted, seconds) <= calls


@pytest.mark.parametrize("latest", [False, True])
def test_a_call_is_held_back_no_longer_than_it_must_be(latest):
    """The bound is reached: the calls that count may all arrive in one window with the next one."""
    rules, state = Rules((Window(3, 10.0),)), CallState()
    state.advance(rules, START)
    for name, moment in (("a", START), ("b", START + 4), ("c", START + 8)):
        assert state.wait(rules, moment) == 0
        state.start(name, rules, moment)
    state.end("a", START + 9)
    state.end("b", START + 9.5)
    assert state.wait(rules, START + 9.5) == pytest.approx(held(10) - 0.5)  # a may have arrived at 9 only
    moment = START + 9 + held(10)
    state.advance(rules, moment - (0 if latest else 0.001))
    assert (state.wait(rules, moment - (0 if latest else 0.001)) == 0) == latest


@pytest.mark.parametrize(
    ("calls", "seconds", "latency", "share"),
    [
        (5, 60, 0.1, 0.997),
        (5, 60, 1.0, 0.982),
        (5, 60, 2.0, 0.966),
        (20, 60, 0.5, 0.991),
        (60, 600, 2.0, 0.996),
        (20, 1, 0.05, 0.951),
        (20, 1, 0.1, 0.908),
        (20, 1, 0.5, 0.666),
        (5, 2, 0.1, 0.951),
    ],
)
def test_the_throughput_is_that_of_the_table_in_the_docs(calls, seconds, latency, share):
    """See docs/reference/rate-limits.md. What may be used up at the start is not part of a rate."""
    counted = sorted(simulated(Rules((Window(calls, seconds),)), 4 * calls, 1, slots=12, delay=lambda _: latency / 2))
    lasted = counted[3 * calls] - counted[calls]
    assert 2 * seconds / lasted == pytest.approx(share, abs=0.001)
    assert lasted == pytest.approx(2 * (held(seconds) + latency), rel=1e-4)


def test_calls_are_spread_over_a_window():
    counted = sorted(simulated(Rules((Window(10, 60.0),)), 60, 3, delay=lambda _: 0.0))
    assert min(later - earlier for earlier, later in itertools.pairwise(counted)) >= SPREAD * 6


def test_the_call_of_a_process_that_died_counts_until_its_lease_and_a_window_are_over():
    rules, state = Rules((Window(1, 60.0),)), CallState()
    state.start("dead", rules, START)
    state.advance(rules, START + LEASE)
    assert LEASE <= 30
    assert state.running == {}
    assert state.wait(rules, START + LEASE) == pytest.approx(held(60))
    state.advance(rules, START + LEASE + held(60))
    assert state.wait(rules, START + LEASE + held(60)) == 0


def test_a_response_after_the_lease_counts_again():
    rules, state = Rules((Window(2, 60.0),)), CallState()
    state.start("slow", rules, START)
    state.advance(rules, START + LEASE + 5)
    state.end("slow", START + LEASE + 5)
    assert sum(calls for _, calls in state.ended[60.0]) == 2


def test_a_clock_set_back_neither_frees_a_call_nor_stops_calls():
    rules, state = Rules((Window(2, 60.0),)), CallState()
    state.advance(rules, START)
    state.start("a", rules, START)
    state.end("a", START)
    state.start("b", rules, START + 55)
    state.pause(START + 30)
    now = START - 86_400
    state.advance(rules, now)
    assert state.wait(rules, now) > 59
    assert state.wait(rules, now) <= held(60) + 60 / GRAINS + 0.001
    assert state.running["b"] == now + LEASE
    assert state.paused_until <= now + 86_400


def test_many_calls_make_no_long_list_and_none_of_them_counts_too_short():
    window = Window(5000, 60.0)
    rules, state = Rules((window,)), CallState()
    state.advance(rules, START)
    moments = [START + place / 100 for place in range(5000)]
    for moment in moments:
        state.end("", moment)
    assert len(state.text()) < 60_000
    for place in (0, 1000, 4999):
        free = moments[place] + held(60)
        state.advance(rules, free - 0.01)
        assert sum(calls for _, calls in state.ended[60.0]) >= 5000 - place
        late = CallState.parse(state.text())
        late.advance(rules, free + 60 / GRAINS + 0.001)
        assert sum(calls for _, calls in late.ended[60.0]) <= 5000 - place - 1


def test_another_window_in_the_settings_knows_the_calls_of_before():
    old, new = Rules((Window(5, 60.0),)), Rules((Window(3, 50.0), Window(9, 90.0)))
    state = CallState()
    state.advance(old, START)
    for name in "abc":
        state.end(name, START)
    state = CallState.parse(state.text())
    state.advance(new, START + 1)
    assert state.wait(new, START + 1) > 48
    assert {seconds: len(ends) for seconds, ends in state.ended.items()} == {60.0: 3, 50.0: 3, 90.0: 3}


@pytest.mark.parametrize(
    "text",
    ["", "x", "[]", "null", '{"running": 1}', '{"running": {}, "ended": {"a": []}, "last": 0, "paused_until": 0}'],
)
def test_a_damaged_text_is_an_empty_state(text):
    assert CallState.parse(text) == CallState()


@given(windows, st.integers(0, 2**32))
@settings(max_examples=20)
def test_a_state_comes_back_from_its_text(quotas, seed):
    rules, state, draw = Rules(tuple(Window(*quota) for quota in quotas)), CallState(), random.Random(seed)
    state.advance(rules, START)
    for name in range(9):
        state.start(str(name), rules, START + draw.random())
        if draw.random() < 0.5:
            state.end(str(name), START + draw.random())
    assert CallState.parse(state.text()) == state
