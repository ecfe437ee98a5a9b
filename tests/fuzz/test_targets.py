"""Every target of the fuzzer takes its seeds, and what is made of them at random. The fuzzer itself runs by `make fuzz`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS
from tests.providers.bodies import bodies


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_takes_its_seeds_and_damaged_ones(name):
    target = TARGETS[name]
    assert target.seeds
    for body in target.seeds:
        for damaged in (body, body[: len(body) // 2], body.replace(b"1", b"-", 1), body + b"\0", b"\xff" + body):
            target(damaged)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
def test_a_target_takes_any_body(name, data):
    target = TARGETS[name]
    target(data.draw(bodies(target.seeds)))
