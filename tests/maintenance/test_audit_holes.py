"""Holes seeded at random are all found, each with its cause and repair, and nothing else is found."""

from datetime import date

import pytest

from market_data.maintenance.audit import audit
from tests.maintenance.holes import Holes, expanded
from tests.maintenance.worlds import NOW, make_world


def check(world, holes):
    found = audit(world.lake, world.warehouse, world.feed, world.selection, NOW, world.universe, share=1)
    cells = list(expanded(found.findings))
    assert len(cells) == len(dict(cells)), "a cell has one finding"
    differing = {key: (dict(cells).get(key), what) for key, what in holes.expected.items() if dict(cells).get(key) != what}
    assert not differing, f"{len(differing)} of {len(holes.expected)}: {list(differing.items())[:5]}"
    assert dict(cells) == holes.expected


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_every_hole_is_found_with_its_cause_and_nothing_else(tmp_path, seed):
    world = make_world(tmp_path, 16, seed)
    assert not audit(world.lake, world.warehouse, world.feed, world.selection, NOW, world.universe, share=1)
    holes = Holes(world, seed)
    holes.make(40, ledger_objects=2)
    assert len(holes.made) == 13
    check(world, holes)


def test_an_unreadable_day_file_beside_an_unreadable_year_file_keeps_its_cell(tmp_path):
    world = make_world(tmp_path, 2)
    for session in (date(2023, 6, 1), date(2023, 12, 12)):
        (world.root / world.key("S001", session)).write_bytes(b"<html>503</html>")
    found = audit(world.lake, None, world.feed, world.selection, NOW, world.universe, share=1).findings.to_pylist()
    own = [row for row in found if row["first_session"] <= date(2023, 12, 12) <= row["last_session"]]
    assert [row["key"] for row in own] == [world.key("S001", date(2023, 12, 12))]
    assert {row["cause"] for row in found} == {"object unreadable"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_five_hundred_holes_in_two_years_of_505_symbols(tmp_path):
    world = make_world(tmp_path, 505)
    holes = Holes(world, 3)
    holes.make(500, ledger_objects=4)
    check(world, holes)
