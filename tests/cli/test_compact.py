"""market-data compact: dry run, parts, selection."""

from datetime import UTC, date, datetime

import pytest

from market_data.cli.main import main
from market_data.core.run import RunInfo
from market_data.lake.coverage import CELLS
from market_data.lake.ledger import write_cells
from market_data.lake.store import Lake
from tests.maintenance.lakes import contents, day_files, fill, read

DAY = date(2024, 1, 2)


class Deployment:
    def __init__(self, lake):
        self._lake = lake

    def lake(self):
        return self._lake


@pytest.fixture
def lake(tmp_path):
    found = Lake.open(f"file://{tmp_path}/lake")
    fill(found, [("day", {("A", DAY): 1, ("BRK.B", DAY): 2}, 0, False)])
    cells = [{"symbol": s, "session": DAY, "state": "have", "reason": ""} for s in ("A", "BRK.B")]
    run = RunInfo("polygon_ohlcv_1d", "r", "manual", 0, datetime(2024, 9, 17, tzinfo=UTC))
    table = CELLS.empty_table().from_pylist(cells, schema=CELLS)
    write_cells(found, "ohlcv-1d", "polygon", run, "b1", table, recorded_at=datetime(2024, 9, 17, tzinfo=UTC))
    return found


def test_a_dry_run_shows_and_changes_nothing(lake, capsys):
    before = contents(lake)
    assert main(["compact", "--dry-run", "--part", "files", "--part", "ledger", "--part", "retention"], Deployment(lake)) == 0
    shown = capsys.readouterr().out
    assert "2 day files of 2 symbols can be folded into 2 files" in shown
    assert "1 objects can be folded" in shown
    assert "retention: objects past their age: none" in shown
    assert contents(lake) == before


def test_files_and_ledger_are_folded(lake, capsys):
    rows = read(lake)
    assert main(["compact"], Deployment(lake)) == 0
    shown = capsys.readouterr().out
    assert "2 written; 2 day files deleted" in shown
    assert "2 records of 1 objects are folded, 1 objects deleted" in shown
    assert "retention" not in shown
    assert read(lake).equals(rows)


def test_deletes_can_wait_for_a_later_command(lake, capsys):
    for deletes, left in (("none", 2), ("earlier", 0)):
        assert main(["compact", "polygon_ohlcv_1d", "--part", "files", "--deletes", deletes], Deployment(lake)) == 0
        assert len(day_files(lake)) == left
    assert "0 written; 2 day files deleted" in capsys.readouterr().out


def test_symbols_limit_the_files(lake):
    assert main(["compact", "polygon_ohlcv_1d", "--symbols", "A", "--part", "files"], Deployment(lake)) == 0
    assert len(day_files(lake)) == 1


def test_an_unknown_source_is_a_wrong_argument(lake, capsys):
    assert main(["compact", "polygon_ohlcv_1d", "--source", "alpaca"], Deployment(lake)) == 2
    assert "source is 'alpaca'" in capsys.readouterr().err


def test_a_lake_without_the_feed_says_so(lake, capsys):
    assert main(["compact", "mock_ohlcv_1d"], Deployment(lake)) == 0
    assert "there is nothing to fold" in capsys.readouterr().out
