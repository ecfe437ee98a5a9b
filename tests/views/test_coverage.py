"""The cells of a feed as pages show them: kinds, expected cells, gaps with causes, one cell's story, and the plan of a repair."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from market_data.config.feeds import Feed
from market_data.config.universes import Member, Universe
from market_data.core import calendar
from market_data.core.errors import ParamError
from market_data.core.outcome import SUSPECTED_GAP
from market_data.core.run import RunInfo
from market_data.datasets.bars import OHLCV_1D
from market_data.lake.coverage import CELLS
from market_data.lake.layout import Layout
from market_data.lake.ledger import write_cells
from market_data.lake.store import Lake
from market_data.maintenance.audit.result import Audit, write_report
from market_data.maintenance.chosen_gaps import read_chosen, write_chosen
from market_data.maintenance.findings import FINDINGS
from market_data.pipeline.selection import Selection
from market_data.providers.base import ProviderConfig
from market_data.providers.mock.hook import MockHook
from market_data.views.audit_gaps import still_open
from market_data.views.cell import cell_of
from market_data.views.coverage import LETTERS, current_grid, grid_of, run_lengths
from market_data.views.gaps import chosen, gaps_of, id_of, plan
from market_data.views.places import Place, place_of

DAYS = calendar.sessions(date(2024, 9, 3), date(2024, 10, 1))  # 3 to 30 September
NOW = datetime(2024, 10, 1, 12, tzinfo=UTC)
FEED = Feed("mock", "ohlcv-1d", "dow30", "20:30", date(2000, 1, 3), conn_id="mock_default")
UNIVERSE = Universe("test", (Member("A"), Member("B"), Member("C", date(2024, 9, 16)), Member("<b>")))


def letters(grid, symbol):
    return "".join(LETTERS[code] for code in grid.codes[grid.symbols.index(symbol)])


def record(lake, states, at, reason=""):
    rows = [{"symbol": s, "session": d, "state": state, "reason": reason} for (s, d), state in states.items()]
    run = RunInfo("mock_ohlcv_1d", f"manual__{at.isoformat()}", "manual", 0, at)
    write_cells(lake, "ohlcv-1d", "mock", run, "b000", pa.Table.from_pylist(rows, schema=CELLS), recorded_at=at)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    lake = Lake.open(f"file://{tmp_path_factory.mktemp('lake')}")
    at = datetime(2024, 9, 30, tzinfo=UTC)
    record(lake, {(symbol, day): "have" for symbol in ("A", "B", "<b>") for day in DAYS[:-1]}, at)
    record(lake, {("C", day): "have" for day in DAYS if day >= date(2024, 9, 17)}, at)
    later = timedelta(minutes=1)
    record(lake, {("A", DAYS[3]): "unknown", ("A", DAYS[4]): "unknown"}, at + later)
    record(lake, {("A", DAYS[6]): "empty"}, at + later * 2, f"{SUSPECTED_GAP}: x; last requested at T+3")
    record(lake, {("A", DAYS[7]): "quarantined"}, at + later * 3, "high below low")
    record(lake, {("A", DAYS[8]): "refused"}, at + later * 4, "too few rows")
    record(lake, {("A", DAYS[9]): "pending"}, at + later * 5, "nothing yet")
    record(lake, {("A", DAYS[10]): "released", ("A", DAYS[11]): "empty"}, at + later * 6, "because")
    return Place(lake, FEED, Selection(OHLCV_1D, "mock", Layout()), ("mock",))


@pytest.fixture(scope="module")
def grid(place):
    return grid_of(place, NOW, UNIVERSE)


def test_every_cell_has_the_letter_of_its_state(grid):
    assert grid.sessions == DAYS
    assert letters(grid, "A") == "hhhmmhsqrple" + "h" * 7 + "m"
    assert letters(grid, "B") == "h" * 19 + "m"
    assert letters(grid, "C") == "........." + "m" + "h" * 10
    assert sum(grid.counts.values()) == grid.codes.size
    found = grid.to_json()
    assert found["rows"][found["symbols"].index("A")].startswith("h3m2h1s1q1r1p1l1e1h7m1")
    assert {one["letter"]: one["count"] for one in found["legend"]}["m"] == 6


@given(arrays.arrays(np.int8, st.tuples(st.integers(0, 4), st.integers(0, 6)), elements=st.integers(0, len(LETTERS) - 1)))
def test_run_lengths_can_be_read_back(codes):
    for row, text in zip(codes, run_lengths(codes), strict=True):
        parts = []
        for char in text:
            if char.isdigit():
                parts[-1][1] += char
            else:
                parts.append([char, ""])
        assert "".join(letter * int(count) for letter, count in parts) == "".join(LETTERS[code] for code in row)
        assert all(one[0] != other[0] for one, other in pairwise(parts))


def test_gaps_are_grouped_and_have_causes_and_repairs(place, grid):
    gaps = gaps_of(place, grid, NOW)
    found = {
        (row["symbol"], row["first_session"], row["last_session"]): (row["cause"], row["repair"]) for row in gaps.table.to_pylist()
    }
    assert found == {
        ("A", DAYS[3], DAYS[4]): ("missing", "fetch"),
        ("A", DAYS[-1], DAYS[-1]): ("missing", "fetch"),
        ("B", DAYS[-1], DAYS[-1]): ("missing", "fetch"),
        ("<b>", DAYS[-1], DAYS[-1]): ("missing", "fetch"),
        ("C", date(2024, 9, 16), date(2024, 9, 16)): ("missing", "fetch"),
        ("A", DAYS[6], DAYS[6]): ("suspected gap", "fetch"),
        ("A", DAYS[7], DAYS[7]): ("quarantined", "decide"),
        ("A", DAYS[8], DAYS[8]): ("refused", "decide"),
        ("A", DAYS[9], DAYS[9]): ("pending", "fetch"),
    }
    details = {row["cause"]: row["detail"] for row in gaps.table.to_pylist()}
    assert details["suspected gap"].endswith("requested by itself at T+10")
    assert details["refused"] == "too few rows"


def test_the_latest_audit_adds_what_only_it_can_know(tmp_path, place, grid):
    lake = Lake.open(f"file://{tmp_path}")
    common = {
        "dataset": "ohlcv-1d",
        "source": "mock",
        "first_session": DAYS[0],
        "last_session": DAYS[0],
        "key": None,
        "detail": "x",
    }
    rows = [
        {**common, "symbol": "A", "cause": "not loaded", "repair": "load"},
        {**common, "symbol": "B", "cause": "missing", "repair": "fetch"},
    ]
    for hour, some in ((1, []), (2, rows)):
        write_report(lake, Audit(place.selection, pa.Table.from_pylist(some, schema=FINDINGS)), NOW + timedelta(hours=hour))
    write_chosen(lake, FEED.dag_id, place.selection, FINDINGS.empty_table(), NOW)
    other = Place(lake, FEED, place.selection, ("mock",))
    gaps = gaps_of(other, grid, NOW)
    assert gaps.audited == NOW + timedelta(hours=2)
    assert len(gaps.table) == 10
    assert "not loaded" in gaps.table["cause"].to_pylist()
    assert ("B", DAYS[0]) not in set(zip(gaps.table["symbol"].to_pylist(), gaps.table["first_session"].to_pylist(), strict=True))


def test_an_audit_of_a_part_replaces_what_it_is_about_and_nothing_else(tmp_path, place, grid):
    lake = Lake.open(f"file://{tmp_path}")
    common = {"dataset": "ohlcv-1d", "source": "mock", "key": None, "detail": "x", "cause": "not loaded", "repair": "load"}
    row = {**common, "first_session": DAYS[0], "last_session": DAYS[4]}
    hours = iter(range(1, 9))

    def audited(rows, share=1.0, read=None, **part):
        selection, table = replace(place.selection, **part), pa.Table.from_pylist(rows, schema=FINDINGS)
        write_report(lake, Audit(selection, table, {}, share, read=read), NOW + timedelta(hours=next(hours)))

    def found():
        rows = gaps_of(Place(lake, FEED, place.selection, ("mock",)), grid, NOW).table.to_pylist()
        keys = ("symbol", "first_session", "last_session")
        return {tuple(row[key] for key in keys) for row in rows if row["cause"] == "not loaded"}

    audited([{**row, "symbol": symbol} for symbol in ("A", "B", None)])
    assert found() == {(symbol, DAYS[0], DAYS[4]) for symbol in ("A", "B", None)}
    audited([], share=0.05, read=())  # it looked at none of them
    assert len(found()) == 3
    audited([{**row, "symbol": "A", "last_session": DAYS[0]}], symbols=("A",))
    assert found() == {("A", DAYS[0], DAYS[0]), ("B", DAYS[0], DAYS[4]), (None, DAYS[0], DAYS[4])}
    audited([], start=DAYS[1], end=DAYS[2])
    cut = {(symbol, *span) for symbol in ("B", None) for span in ((DAYS[0], DAYS[0]), (DAYS[3], DAYS[4]))}
    assert found() == {("A", DAYS[0], DAYS[0]), *cut}
    audited([])
    assert found() == set()


def test_a_finding_that_was_repaired_since_the_audit_is_not_offered_again(tmp_path):
    lake, audited = Lake.open(f"file://{tmp_path}"), datetime(2024, 9, 30, 1, tzinfo=UTC)
    before, after = audited - timedelta(hours=1), audited + timedelta(hours=1)
    record(lake, {(symbol, day): "have" for symbol in ("A", "B", "D") for day in DAYS[:8]}, before)
    record(lake, {("A", DAYS[2]): "have", ("A", DAYS[4]): "empty", ("B", DAYS[0]): "have", ("B", DAYS[1]): "have"}, after)
    record(lake, {("D", DAYS[7]): "unknown", ("E", DAYS[9]): "have"}, after)
    record(lake, {("C", DAYS[0]): "have"}, before - timedelta(days=1))  # rebuilt: the moment is that of the response
    common = {"dataset": "ohlcv-1d", "source": "mock", "key": None, "detail": "x", "cause": "object missing", "repair": "fetch"}
    spans = {"A": (DAYS[1], DAYS[5]), "B": (DAYS[0], DAYS[1]), "D": (DAYS[7], DAYS[7])}
    rows = [{**common, "symbol": name, "first_session": first, "last_session": last} for name, (first, last) in spans.items()]
    rows.append({**rows[1], "cause": "not loaded", "repair": "load"})
    rows += [{**common, "symbol": name, "first_session": None, "last_session": None} for name in ("A", "E", None)]
    recorded = {**common, "symbol": "C", "cause": "not recorded", "repair": "ledger"}
    rows += [{**recorded, "first_session": day, "last_session": day} for day in DAYS[:2]]
    records = Place(lake, FEED, Selection(OHLCV_1D, "mock", Layout()), ("mock",)).records()
    found = still_open(records, "mock", pa.Table.from_pylist(rows, schema=FINDINGS), audited).to_pylist()
    names = ("symbol", "first_session", "last_session", "repair")
    assert {tuple(row[name] for name in names) for row in found} == {
        ("A", DAYS[1], DAYS[1], "fetch"),
        ("A", DAYS[3], DAYS[3], "fetch"),
        ("A", DAYS[5], DAYS[5], "fetch"),
        ("B", DAYS[0], DAYS[1], "load"),
        ("D", DAYS[7], DAYS[7], "fetch"),
        ("A", None, None, "fetch"),
        (None, None, None, "fetch"),
        ("C", DAYS[1], DAYS[1], "ledger"),
    }


def test_exactly_the_chosen_gaps_are_planned_and_reach_the_run(place, grid):
    gaps = gaps_of(place, grid, NOW)
    rows = [row for row in gaps.table.to_pylist() if row["symbol"] == "A" and row["cause"] in ("missing", "suspected gap")]
    findings = chosen(gaps, [id_of(row) for row in rows])
    planned = plan(place, findings, lambda options: MockHook(ProviderConfig("mock_default", ""), options=options), NOW)
    assert planned.fetch.to_pylist() == [{"symbol": "A", "session": DAYS[place]} for place in (3, 4, 6, 19)]
    assert planned.calls >= 1
    assert not planned.problem
    key = write_chosen(place.lake, FEED.dag_id, place.selection, findings, NOW)
    assert key == write_chosen(place.lake, FEED.dag_id, place.selection, findings, NOW)
    read = read_chosen(place.lake, key)
    assert (read.feed, read.source, read.found) == (FEED.dag_id, "mock", NOW)
    assert read.findings.equals(findings)
    others = [id_of(row) for row in gaps.table.to_pylist() if row["repair"] == "decide"]
    for wrong, words in (([], "at least one"), (["0" * 16], "changed since"), (others[:1], "not repaired by a request")):
        with pytest.raises(ParamError, match=words):
            chosen(gaps, wrong)
    for wrong in ("audits/x/chosen/none.parquet", "raw/prices/x.parquet", "audits/../chosen/x.parquet", ""):
        with pytest.raises(ParamError, match="no such list"):
            read_chosen(place.lake, wrong)


@pytest.mark.parametrize(
    ("symbol", "day", "kind", "words"),
    [
        ("A", DAYS[0], "loaded", "Loaded"),
        ("A", DAYS[3], "missing", "No run has recorded"),
        ("A", DAYS[6], "suspected gap", "No rows, although"),
        ("A", DAYS[7], "quarantined", "The gate rejected"),
        ("C", DAYS[0], "not expected", "not a member of test"),
        ("A", date(2024, 9, 2), "not expected", "closed: Labor Day"),
        ("A", date(2024, 9, 7), "not expected", "closed: Saturday"),
        ("ZZZ", DAYS[0], "not expected", "not in test"),
        ("A", date(2024, 8, 30), "not expected", "before the history"),
        ("A", date(2024, 10, 1), "not expected", "not due yet"),
        ("<b>", DAYS[0], "loaded", "Loaded"),
    ],
)
def test_a_cell_says_why(place, grid, symbol, day, kind, words):
    found = cell_of(place, grid, symbol, day, NOW)
    assert (found["kind"], words in found["why"]) == (kind, True), found


def test_an_unknown_name_that_cannot_be_a_symbol_is_rejected(place, grid):
    with pytest.raises(ParamError, match="symbol"):
        cell_of(place, grid, "<i>", DAYS[0], NOW)


def test_a_cell_has_its_history_newest_first(place, grid):
    states = [one["state"] for one in cell_of(place, grid, "A", DAYS[3], NOW)["history"]]
    assert states == ["reset", "have"]
    found = cell_of(place, grid, "A", DAYS[6], NOW)
    assert [one["state"] for one in found["history"]] == ["suspected gap", "have"]
    assert found["next"] == "A scheduled run requests it again at T+10."


def test_cells_are_kept_until_the_ledger_changes(tmp_path):
    lake = Lake.open(f"file://{tmp_path}")
    record(lake, {("AAPL", DAYS[0]): "have"}, NOW)
    place = Place(lake, FEED, Selection(OHLCV_1D, "mock", Layout()), ("mock",))
    first = current_grid(place, NOW)
    assert current_grid(place, NOW + timedelta(seconds=59)) is first
    assert current_grid(place, NOW + timedelta(seconds=60)) is not first


def test_an_empty_ledger_has_no_cells(tmp_path):
    place = place_of(Lake.open(f"file://{tmp_path}"), "mock_ohlcv_1d")
    grid = grid_of(place, NOW)
    assert grid.to_json()["rows"] == []
    assert not len(gaps_of(place, grid, NOW).table)
    with pytest.raises(ParamError, match="did you mean mock_ohlcv_1d"):
        place_of(place.lake, "mock_ohlcv_1dd")
    with pytest.raises(ParamError, match="sources of mock_ohlcv_1d in the lake: mock"):
        place_of(place.lake, "mock_ohlcv_1d", "../x")
