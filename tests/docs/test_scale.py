"""The page on large universes is what the planner computes."""

from pathlib import Path

import pytest

from tools import scale_model

PAGE = Path("docs/reference/scale.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_page_is_computed():
    assert scale_model.page() == PAGE, "run tools/scale_model.py"


@pytest.mark.parametrize("size", scale_model.SIZES[:2], ids=lambda size: size.title)
def test_the_sections_of_the_sp500_are_computed(size):
    assert scale_model.section(size) in PAGE, "run tools/scale_model.py"


def test_every_plan_has_a_row_in_every_size_that_it_serves():
    for account in scale_model.ACCOUNTS:
        bars = [size for size in scale_model.SIZES if account.abilities(size.dataset) is not None]
        rows = PAGE.count(f"\n| {account.label} | ") + PAGE.count(f"\n| {account.label} (")
        assert rows == len(bars) >= 4


def test_a_quota_of_250_calls_a_day_is_the_bottleneck_of_fmp():
    basic = next(one for one in scale_model.ACCOUNTS if (one.name, one.plan) == ("fmp", "basic"))
    found = scale_model.row(basic, scale_model.SIZES[0])
    assert (found.calls, found.bottleneck) == (1046, "quota")
    assert found.hours["quota"] == pytest.approx(1046 / 250 * 24)
