"""The tries of a call and the waits between them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.core.retry_policy import RetryPolicy, retry_problems


@given(st.floats(0.1, 3600), st.floats(1, 10), st.floats(0.1, 3600), st.floats(0, 1), st.integers(1, 10_000), st.floats(0, 1))
def test_no_wait_exceeds_the_longest_or_becomes_shorter(base, factor, longest, jitter, failures, random):
    policy = RetryPolicy(20, base, factor, longest, jitter)
    wait = policy.delay(failures, random)
    assert 0 <= wait <= longest * (1 + jitter) * (1 + 1e-9)
    assert policy.delay(failures + 1, random) >= wait * (1 - 1e-9)
    calm = RetryPolicy(20, base, factor, longest, 0)
    assert calm.delay(failures, random) == calm.delay(failures, 0.0)
    if failures < 50 and base * factor**failures < longest:
        assert math.isclose(calm.delay(failures + 1, 0), base * factor**failures, rel_tol=1e-9)


def test_the_usual_waits() -> None:
    policy = RetryPolicy(jitter=0)
    assert policy.attempts == 5
    assert [policy.delay(failures, 0.5) for failures in range(1, 8)] == [1, 2, 4, 8, 16, 20, 20]
    assert [RetryPolicy(base_delay=3, factor=1, jitter=0.5).delay(9, random) for random in (0, 0.5, 1)] == [1.5, 3, 4.5]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"attempt": 5}, "retry.attempt is unknown (did you mean attempts?)"),
        ({1: 5}, "retry.1 is unknown"),
        ({"attempts": 0}, "retry.attempts is 0; a whole number from 1 to 20 is needed"),
        ({"attempts": 2.5}, "retry.attempts is 2.5; a whole number from 1 to 20 is needed"),
        ({"attempts": True}, "retry.attempts is true; a whole number from 1 to 20 is needed"),
        ({"base_delay": "1"}, "retry.base_delay is '1'; a number from 0.1 to 3600 is needed"),
        ({"factor": math.inf}, "retry.factor is inf; a number from 1 to 10 is needed"),
        ({"longest_delay": math.nan}, "retry.longest_delay is nan; a number from 0.1 to 3600 is needed"),
        ({"jitter": 1.1}, "retry.jitter is 1.1; a number from 0 to 1 is needed"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(given, problem):
    assert retry_problems(given)[0].startswith(problem)


def test_good_values_have_no_problem():
    assert retry_problems({"attempts": 20, "base_delay": 1, "factor": 1, "longest_delay": 0.1, "jitter": 0}) == []
