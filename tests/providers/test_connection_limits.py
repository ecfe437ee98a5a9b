"""Quotas of a connection that cannot be meant are named before any call."""

import pytest

from market_data.core.errors import ConfigError
from market_data.providers.base import ProviderConfig
from market_data.providers.registry import provider as hook_class
from market_data.providers.registry import providers

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ({"limits": [{"calls": 0.5, "seconds": 60}]}, "extra.limits is .*whole calls"),
        ({"limits": [{"calls": 5, "seconds": INF}]}, "extra.limits is .*seconds"),
        ({"limits": [{"calls": 5, "seconds": NAN}]}, "extra.limits is "),
        ({"limits": [{"calls": INF, "seconds": 60}]}, "extra.limits is "),
        ({"limits": [{"calls": NAN, "seconds": 60}]}, "extra.limits is "),
        ({"limits": [{"calls": 10**400, "seconds": 60}]}, "extra.limits is "),
        ({"limits": [{"calls": True, "seconds": 60}]}, "extra.limits is "),
        ({"limits": [[1, 2]]}, "extra.limits is "),
        ({"limits": [{"calls": 5, "seconds": 60}] * 1000}, "extra.limits is "),
        ({"limits": {"calls": 5}}, "extra.limits is "),
        ({"calls_per_minute_per_slot": INF}, "extra.calls_per_minute_per_slot is inf"),
        ({"calls_per_minute_per_slot": NAN}, "extra.calls_per_minute_per_slot is nan"),
        ({"calls_per_minute_per_slot": 10**400}, "extra.calls_per_minute_per_slot is a number of about 401 digits"),
        ({"plan": ["basic"]}, r"extra.plan is \['basic'\]; known plans: "),
        ({"plan": {"a": 1}}, "extra.plan is {'a': 1}; known plans: "),
        ({"plan": 1}, "extra.plan is 1; known plans: "),
        ({1: 2}, "extra has the unknown key 1; known keys: "),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("provider", providers())
def test_a_quota_that_cannot_be_meant_is_named(provider, extra, text):
    hook = hook_class(provider)(config=ProviderConfig("conn", "", "login", "db-key", extra))
    with pytest.raises(ConfigError, match=text) as caught:
        hook.validate_config()
    assert len(str(caught.value)) < 1000


ODD = [1, 0.5, True, None, NAN, [], ["x"], {}, {"a": [1]}, "", "x" * 400, "\x00", 10**400]


@pytest.mark.parametrize("provider", providers())
def test_an_extra_of_any_type_is_fine_or_named_shortly(provider):
    hook_of = hook_class(provider)
    for name in ("plan", "calls_per_minute_per_slot", "limits", *hook_of.known_extra):
        for value in ODD:
            hook, said = hook_of(config=ProviderConfig("conn", "", "login", "db-" + "a" * 29, {name: value})), ""
            try:
                hook.validate_config()
            except ConfigError as error:
                said = str(error)
            assert len(said) < 1000
