"""``market-data rebuild-warehouse`` over the lake that runs of two feeds left."""

import json
import shutil
from datetime import date

import pytest

from market_data.cli.main import main
from market_data.core import calendar
from market_data.providers.base import ProviderConfig
from market_data.providers.mock.hook import MockHook
from tests.pipeline.runs import World, feed_of

SYMBOLS = ["AAPL", "IBM", "SPY"]
TOTALS = (
    "SELECT provider, timeframe, count(*) AS bars, sum(close_px) AS closes, sum(hash(row_hash)) AS hashes"
    " FROM silver_prices GROUP BY ALL ORDER BY ALL"
)


class Deployment:
    """A lake, and no warehouse but the one that --duckdb names."""

    def __init__(self, lake):
        self.opened = lake

    def lake(self):
        return self.opened


def world_in(folder, name="mock_ohlcv_1d"):
    return World(feed_of(name), folder, lambda: MockHook(ProviderConfig("mock_default", "")))


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """The folder with the lake and the warehouse of the runs."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("mock_ohlcv_1d", "mock_ohlcv_1m"):
        world = world_in(folder, name)
        world.run(calendar.sessions(date(2026, 11, 2), date(2026, 11, 5)), SYMBOLS, world.context())
    return folder


@pytest.fixture
def world(left, tmp_path):
    shutil.copytree(left, tmp_path, dirs_exist_ok=True)
    return world_in(tmp_path)


@pytest.fixture
def rebuild(world, tmp_path, capsys):
    def run(*argv):
        code = main(["rebuild-warehouse", *argv, "--duckdb", str(tmp_path / "new.duckdb")], Deployment(world.lake))
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return run


def totals(path, capsys):
    assert main(["query", TOTALS, "--duckdb", str(path), "--json"], None) == 0
    return json.loads(capsys.readouterr().out)


def test_an_empty_warehouse_gets_what_the_runs_loaded(world, rebuild, tmp_path, capsys):
    code, lines, err = rebuild()
    assert (code, err) == (0, "")
    assert [line.partition(":")[0] for line in lines] == ["ohlcv-1d of mock", "ohlcv-1m of mock"]
    assert lines[0].endswith("3 symbols, 9 objects, 9 rows loaded, 9 new or changed, 0 left out (not recorded as loaded)")
    assert totals(tmp_path / "new.duckdb", capsys) == totals(tmp_path / "warehouse.duckdb", capsys)


def test_a_second_rebuild_changes_nothing(rebuild):
    rebuild()
    assert all(", 0 new or changed" in line for line in rebuild()[1])


def test_feed_symbols_and_dates_limit_it(rebuild):
    _, lines, _ = rebuild("mock_ohlcv_1d", "--symbols", "IBM,SPY", "--start", "2026-11-03", "--end", "2026-11-03")
    assert lines == ["ohlcv-1d of mock: 2 symbols, 2 objects, 2 rows loaded, 2 new or changed, 0 left out (not recorded as loaded)"]


def test_a_dry_run_counts_and_creates_no_warehouse(rebuild, tmp_path):
    _, lines, _ = rebuild("mock_ohlcv_1d", "--dry-run")
    assert lines == ["ohlcv-1d of mock: 3 symbols, 9 objects; nothing was loaded (dry run)"]
    assert not (tmp_path / "new.duckdb").exists()


def test_a_source_that_the_lake_lacks_is_named(rebuild):
    code, _, err = rebuild("mock_ohlcv_1d", "--source", "mock~split")
    assert code == 2
    assert "source is 'mock~split'; sources of mock_ohlcv_1d in the lake: mock" in err


def test_an_object_that_cannot_be_read_ends_in_an_error_after_everything_else_is_loaded(world, rebuild, tmp_path, capsys):
    key = next(key for key, _ in world.lake.list("raw/prices") if "AAPL" in key)
    world.lake.update(key, lambda _: b"")
    code, lines, err = rebuild()
    assert code == 1
    assert len(lines) == 2
    assert f"lake object {key} cannot be read" in err
    assert "run the feed for these symbols and dates with force" in err
    assert {row["provider"] for row in totals(tmp_path / "new.duckdb", capsys)} == {"mock"}
