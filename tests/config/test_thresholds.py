"""The checkpoint's thresholds in feeds.yaml: merged like params, checked like them, documented."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from market_data.config.feeds import Feed, load_feeds
from market_data.config.thresholds import MOST, NAMES, threshold_problems, thresholds_of
from market_data.core.errors import ConfigError
from market_data.quality.metric_rules import Thresholds

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs/reference/checks.md").read_text(encoding="utf-8")


def feed(folder: Path, checks: str, defaults: str = "") -> Feed:
    text = f"""
defaults: {{universe: dow30, start_date: 2020-01-02{defaults}}}
feeds:
  - {{provider: fmp, dataset: ohlcv-1d, checks: {checks}}}
"""
    (folder / "feeds.yaml").write_text(text, encoding="utf-8")
    (found,) = load_feeds(folder / "feeds.yaml")
    return found


def test_a_feeds_thresholds_are_merged_with_the_defaults(tmp_path: Path) -> None:
    found = feed(tmp_path, "{min_year_ratio: 0.2, thin_symbols: [CSRA]}", ", checks: {min_year_ratio: 0.4, spike_factor: 5}")
    assert thresholds_of(found.checks) == Thresholds(min_year_ratio=0.2, spike_factor=5, thin_symbols=("CSRA",))
    assert thresholds_of({}) == Thresholds()


@pytest.mark.parametrize(
    ("checks", "problem"),
    [
        ({"min_year_ration": 0.2}, "checks.min_year_ration is unknown; did you mean min_year_ratio?; checks are: min_compared, "),
        ({"min_year_ratio": 1.2}, "checks.min_year_ratio is 1.2; a number from 0 to 1 is needed"),
        ({"min_year_ratio": -0.1}, "checks.min_year_ratio is -0.1; a number from 0 to 1 is needed"),
        ({"min_year_ratio": "0.5"}, "checks.min_year_ratio is '0.5'; a number from 0 to 1 is needed"),
        ({"min_year_ratio": True}, "checks.min_year_ratio is true; a number from 0 to 1 is needed"),
        ({"min_year_ratio": float("nan")}, "checks.min_year_ratio is nan; a number from 0 to 1 is needed"),
        ({"min_year_ratio": None}, "checks.min_year_ratio is null; a number from 0 to 1 is needed"),
        ({"spike_factor": 1}, "checks.spike_factor is 1; a number above 1, at most 100000, is needed"),
        ({"spike_factor": float("inf")}, "checks.spike_factor is inf; a number above 1, at most 100000, is needed"),
        ({"max_hole_sessions": 2.5}, "checks.max_hole_sessions is 2.5; a whole number from 1 to 100000 is needed"),
        ({"min_compared": 0}, "checks.min_compared is 0; a whole number from 1 to 100000 is needed"),
        ({"thin_symbols": "CSRA"}, "checks.thin_symbols is 'CSRA'; a list of symbols and patterns, such as"),
        ({"thin_symbols": ["CSRA", ""]}, "checks.thin_symbols is ['CSRA', '']; a list of symbols and patterns, such as"),
        ({"thin_symbols": [7]}, "checks.thin_symbols is [7]; a list of symbols and patterns, such as"),
    ],
)
def test_wrong_thresholds_are_named_with_what_is_needed(checks: dict[str, Any], problem: str) -> None:
    (found,) = threshold_problems(checks)
    assert found.startswith(problem) or problem.partition("; ")[0] in found
    assert problem.rpartition("; ")[2].split(",")[0] in found


def test_every_problem_of_a_feed_is_listed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        feed(tmp_path, "{min_year_ratio: 7, level_factor: low}")
    assert "checks.min_year_ratio is 7" in str(caught.value)
    assert "checks.level_factor is 'low'" in str(caught.value)
    with pytest.raises(ConfigError, match="checks is 3; names with values are needed"):
        feed(tmp_path, "3")


def test_every_default_is_allowed() -> None:
    defaults = {field.name: field.default for field in fields(Thresholds)} | {"thin_symbols": []}
    assert threshold_problems(defaults) == []
    assert max(value for value in defaults.values() if isinstance(value, int | float)) < MOST


def test_the_page_has_every_threshold_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", PAGE, re.MULTILINE))
    assert list(rows) == list(NAMES)
    shown = {name: "none" if name == "thin_symbols" else f"{getattr(Thresholds(), name):g}" for name in NAMES}
    assert rows == shown
