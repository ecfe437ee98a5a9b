"""The DAG maintain_lake: what it shows, what it does, and when."""

from datetime import UTC, date, datetime
from types import SimpleNamespace

import pytest

from market_data.airflow.maintain import lake as job
from market_data.core.errors import ParamError
from market_data.core.run import RunInfo
from market_data.lake.coverage import CELLS
from market_data.lake.ledger import write_cells
from market_data.lake.store import Lake
from market_data.maintenance.journal import entries
from tests.maintenance.lakes import contents, day_files, fill, read

NOW = datetime(2024, 11, 20, 12, tzinfo=UTC)
PARAMS = {"feeds": [], "symbols": [], "start_date": None, "end_date": None, "retention": True}
DAY = date(2024, 1, 2)


@pytest.fixture
def lake(tmp_path, monkeypatch):
    monkeypatch.setenv("MARKET_DATA_LAKE", f"file://{tmp_path}/lake")
    monkeypatch.setattr(job, "_now", lambda: NOW)
    found = Lake.open(f"file://{tmp_path}/lake")
    fill(found, [("day", {("A", DAY): 1, ("BRK.B", DAY): 2}, 0, False)])
    run = RunInfo("polygon_ohlcv_1d", "r", "manual", 0, NOW)
    cells = CELLS.empty_table().from_pylist(
        [{"symbol": s, "session": DAY, "state": "have", "reason": ""} for s in ("A", "BRK.B")], schema=CELLS
    )
    write_cells(found, "ohlcv-1d", "polygon", run, "b1", cells, recorded_at=datetime(2024, 9, 17, tzinfo=UTC))
    return found


def lines(part, dry_run=False, **params):
    return list(job.run_part(part, PARAMS | params, dry_run=dry_run, by="maintain_lake, run 1"))


def test_each_part_shows_first_and_changes_nothing(lake):
    before = contents(lake)
    found = [line for part in ("fold", "ledger", "retention") for line in lines(part, dry_run=True)]
    assert found[0] == "ohlcv-1d of polygon: 2 day files of 2 symbols can be folded into 2 files; nothing was changed (dry run)"
    assert found[1] == "coverage ledger of ohlcv-1d, polygon: 1 objects can be folded; nothing was changed (dry run)"
    assert "nothing was deleted (dry run)" in found[2]
    assert contents(lake) == before


def test_day_files_are_deleted_by_the_task_after_the_wait(lake):
    rows = read(lake)
    assert lines("fold")[0].endswith("2 files, 2 written; 0 day files deleted")
    assert len(day_files(lake)) == 2
    assert read(lake).equals(rows)
    assert lines("delete")[0].endswith("2 files, 0 written; 2 day files deleted")
    assert day_files(lake) == []
    assert read(lake).equals(rows)
    assert lines("ledger")[0].endswith("2 records of 1 objects are folded, 1 objects deleted")
    assert [entry.by for entry in entries(lake)] == ["maintain_lake, run 1"] * 3


def test_only_what_is_selected_is_folded(lake):
    lines("fold", symbols=["A"])
    lines("delete", symbols=["A"], start_date="2024-01-01", end_date="2024-01-31")
    assert len(day_files(lake)) == 1
    assert lines("fold", feeds=["mock_ohlcv_1d"]) == []
    with pytest.raises(ParamError, match="feeds has x_1d; feeds: polygon_ohlcv_1d"):
        lines("fold", feeds=["x_1d"])


@pytest.mark.parametrize(
    ("run_type", "dry_run", "acts"), [("scheduled", True, True), ("manual", True, False), ("manual", False, True)]
)
def test_scheduled_runs_act_and_triggered_ones_show_first(run_type, dry_run, acts):
    assert job.acts({"dag_run": SimpleNamespace(run_type=run_type), "params": {"dry_run": dry_run}}) is acts


def test_the_dag_is_weekly_and_a_dry_run_by_default():
    dag = job.maintain_lake()
    assert (dag.schedule, dag.params["dry_run"], dag.max_active_runs) == ("0 10 * * 6", True, 1)
    assert {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks} == {
        "show": [],
        "fold": ["show"],
        "readers": ["fold"],
        "delete": ["readers"],
        "ledger": ["delete"],
        "retention": ["ledger"],
    }
