"""The same actions, reported in any order, under any ids, again and again, withdrawn and restored, end in the same adjusted prices."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_data.core import calendar
from market_data.datasets.bars import OHLCV_1D
from market_data.datasets.corporate_actions import CORPORATE_ACTIONS
from market_data.warehouse import WarehouseConnection
from market_data.warehouse.base import Warehouse
from market_data.warehouse.registry import open_warehouse
from tests.warehouse.rows import bar, dividend, later, midnight, split, table

DAYS = calendar.sessions(date(2024, 1, 2), date(2024, 1, 20))
NUMBERS = itertools.count()
SPELLINGS = ((1, 1), (2, 2), (0.5, 0.5), (10, 10))
"""A ratio of 4:1 is also 8:2, 2:0.5 and 40:10."""


@pytest.fixture(scope="module")
def duck(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    path: Path = tmp_path_factory.mktemp("identity") / "w.duckdb"
    with open_warehouse(WarehouseConnection("duckdb", extra={"path": str(path)})) as warehouse:
        warehouse.migrate()
        yield warehouse


# One split a day, and of each kind amounts that cannot be versions of one dividend.
SPLITS = st.builds(lambda n, ratio: ("split", n, ratio), st.integers(1, 10), st.sampled_from([(1, 4), (8, 1), (2, 3)]))
PAID = st.builds(
    lambda n, amount, kind: ("dividend", n, amount, kind),
    st.integers(1, 10),
    st.sampled_from([0.24, 5.0]),
    st.sampled_from(["CD", "SC"]),
)
ACTIONS = st.lists(st.one_of(SPLITS, PAID), min_size=1, max_size=5, unique_by=lambda a: a[:2] if a[0] == "split" else a)
IDS = st.one_of(st.none(), st.sampled_from(["E1", "E2", "E3"]))


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[Any], list[tuple[int, Any, dict[str, Any]]]]:
    """Actions that hold in the end, and reports of them: when seen, the action, and how it is spelled."""
    actions = draw(ACTIONS)
    reports, holds = [], []
    for action in actions:
        last = None
        for seen in draw(st.lists(st.integers(0, 50), min_size=1, max_size=4, unique=True)):
            how = {
                "action_id": draw(IDS),
                "withdrawn": draw(st.sampled_from([None, None, True])),
                "spelling": draw(st.sampled_from(SPELLINGS)),
            }
            how["noise"] = draw(st.sampled_from([0.0, 1e-7, -1e-7]))
            reports.append((seen, action, how))
            if last is None or seen > last[0]:
                last = (seen, how)
        if last and not last[1]["withdrawn"]:
            holds.append(action)
    return holds, draw(st.permutations(reports))


def row_of(symbol: str, action: Any, how: dict[str, Any] | None = None, seen: int = 0) -> dict[str, Any]:
    how = how or {"action_id": "only", "withdrawn": None, "spelling": (1, 1), "noise": 0.0}
    more = {"action_id": how["action_id"], "withdrawn": how["withdrawn"], "ingest_ts": later(seen)}
    if action[0] == "split":
        before, after = (part * times for part, times in zip(action[2], how["spelling"], strict=True))
        return split(symbol, DAYS[action[1]], (before, after), **more)
    return dividend(symbol, DAYS[action[1]], action[2] + how["noise"], kind=action[3], **more)


def factors(warehouse: Warehouse, symbol: str) -> list[float]:
    found = warehouse.query("SELECT adj_factor FROM gold_adjusted_prices WHERE symbol = ? ORDER BY bar_time", [symbol])
    return [float(factor) for factor in found["adj_factor"].to_pylist()]


@settings(max_examples=8, deadline=None)
@given(story=stories())
def test_the_end_depends_on_the_actions_alone(duck: Warehouse, story: tuple[list[Any], list[Any]]) -> None:
    check_end(duck, story)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(story=stories())
def test_the_end_of_many_stories_depends_on_the_actions_alone(duck: Warehouse, story: tuple[list[Any], list[Any]]) -> None:
    check_end(duck, story)


def check_end(duck: Warehouse, story: tuple[list[Any], list[Any]]) -> None:
    holds, reports = story
    told, plain = (f"S{next(NUMBERS)}" for _ in range(2))
    closes = [bar(symbol, midnight(day), close=100.0) for symbol in (told, plain) for day in DAYS]
    duck.load(OHLCV_1D, table(*closes), f"bars {told}")
    for n, (seen, action, how) in enumerate(reports):
        row = row_of(told, action, how, seen)
        for time in ("once", "again"):
            duck.load(CORPORATE_ACTIONS, table(row, dataset=CORPORATE_ACTIONS), f"{told} {n} {time}")
    duck.know_actions([(plain, "polygon", DAYS[0], DAYS[-1] + timedelta(1))])
    if holds:
        duck.load(CORPORATE_ACTIONS, table(*(row_of(plain, action) for action in holds), dataset=CORPORATE_ACTIONS), f"{plain}")
    assert factors(duck, told) == pytest.approx(factors(duck, plain), rel=1e-6)


@pytest.mark.parametrize(
    ("close", "reports", "adjusted"),
    [
        (400.0, [split(ratio=(1, 4), action_id=name) for name in (None, "E1", "E2")], 100.0),  # applied three times: 6.25
        (1.0, [split(ratio=(15, 1), action_id=name) for name in ("E1", "E2")], 15.0),  # twice: 225
        (40.0, [dividend(amount=0.5, action_id=name) for name in ("E1", "E2")], 39.5),  # twice: 39.0
        (40.0, [dividend(amount=0.25), dividend(amount=0.4, kind="SC", action_id="E2")], 39.35),  # a special one beside the regular
        (40.0, [dividend(amount=0.25), dividend(amount=0.25, kind="SC", action_id="E2")], 39.5),
    ],
)
def test_an_action_is_applied_once_whatever_its_ids_on_every_engine(
    warehouse: Warehouse, close: float, reports: list[dict[str, Any]], adjusted: float
) -> None:
    ex_date = reports[0]["ex_date"]
    before = calendar.previous_session(ex_date)
    warehouse.load(OHLCV_1D, table(bar(day=midnight(before), close=close), bar(day=midnight(ex_date))), "bars")
    for n, report in enumerate(reports):
        warehouse.load(CORPORATE_ACTIONS, table({**report, "ingest_ts": later(n)}, dataset=CORPORATE_ACTIONS), f"actions {n}")
    warehouse.know_actions([("AAPL", "polygon", before, ex_date)])
    found = warehouse.query("SELECT adj_close_px FROM gold_adjusted_prices ORDER BY bar_time").to_pylist()
    assert float(found[0]["adj_close_px"]) == pytest.approx(adjusted, rel=1e-9)
