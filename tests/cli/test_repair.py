"""``market-data repair``, from its arguments to lake, warehouse, output and exit code."""

import json
from datetime import date

import pytest

from market_data.cli.main import main
from market_data.cli.warehouse import duckdb_file
from market_data.lake.store import Lake
from market_data.maintenance import journal
from market_data.providers.base import ProviderConfig
from market_data.providers.mock.hook import MockHook
from tests.pipeline.runs import World, feed_of

DAYS = [date(2026, 11, day) for day in (2, 3, 4, 5, 6)]
ARGUMENTS = ["repair", "mock_ohlcv_1d", "--symbols", "AAPL,MSFT", "--start", "2026-11-02", "--end", "2026-11-06", "--whole"]


class Deployment:
    """A lake in files, a DuckDB file, and the mock provider; ``hooks`` counts how often its hook was opened."""

    def __init__(self, folder):
        self.folder, self.hooks = folder, 0

    def open_s3(self, address):
        raise AssertionError(address)

    def lake(self):
        return Lake.open(f"file://{self.folder}/lake")

    def warehouse(self):
        return duckdb_file(f"{self.folder}/warehouse.duckdb")

    def is_running(self, run):
        return False

    def hook(self, provider, conn_id, options):
        self.hooks += 1
        return MockHook(config=ProviderConfig(conn_id, ""), options=options)


@pytest.fixture
def deployment(tmp_path):
    world = World(feed_of("mock_ohlcv_1d"), tmp_path, lambda: MockHook(config=ProviderConfig("mock_default", ""), options={}))
    world.run(DAYS, ["AAPL", "MSFT"])
    return Deployment(tmp_path)


def delete(deployment):
    lake = deployment.lake()
    (key,) = [key for key, _ in lake.list("raw") if "symbol=AAPL/" in key and key.endswith("2026-11-04.parquet")]
    lake.delete(key)
    return key


def change(deployment, statement):
    with deployment.warehouse() as warehouse, warehouse._transaction():
        warehouse._execute("change", statement)


def test_gaps_are_shown_then_repaired_and_then_there_are_none(deployment, capsys):
    key = delete(deployment)
    change(deployment, "UPDATE silver_prices SET vwap = 1 WHERE symbol = 'MSFT' AND bar_time = TIMESTAMP '2026-11-03 00:00:00'")
    objects = dict(deployment.lake().list(""))
    assert main([*ARGUMENTS, "--dry-run"], deployment) == 0
    shown = capsys.readouterr().out
    assert "ohlcv-1d of mock: 1 cell loaded from the lake, no call" in shown
    assert "ohlcv-1d of mock: 1 cell in 1 call" in shown
    assert "dry run: nothing was changed" in shown
    assert dict(deployment.lake().list("")) == objects
    assert main([*ARGUMENTS, "--by", "Ann", "--reason", "deleted by mistake"], deployment) == 0
    assert deployment.lake().get(key) is not None
    (entry,) = journal.entries(deployment.lake(), "repair")
    assert (entry.by, entry.reason, entry.what["fetch"], entry.what["load"]) == ("Ann", "deleted by mistake", 1, 1)
    capsys.readouterr()
    assert main([*ARGUMENTS, "--dry-run", "--json"], deployment) == 0
    (again,) = json.loads(capsys.readouterr().out)
    assert (again["ledger"], again["load"], again["fetch"], again["calls"]) == (0, 0, 0, 0)


def test_above_the_budget_nothing_is_changed(deployment, capsys):
    key = delete(deployment)
    assert main([*ARGUMENTS, "--max-calls", "0"], deployment) == 1
    assert "above the budget: 1 call, max_calls is 0; nothing was repaired" in capsys.readouterr().err
    assert deployment.lake().get(key) is None
    assert main([*ARGUMENTS, "--max-calls", "0", "--no-fetch"], deployment) == 0
    assert deployment.lake().get(key) is None
    assert main([*ARGUMENTS, "--max-calls", "0", "--yes"], deployment) == 0
    assert deployment.lake().get(key) is not None


def test_a_ledger_that_is_lost_as_a_whole_is_found_and_rebuilt_without_a_call(deployment, capsys):
    lake = deployment.lake()
    for key, _ in lake.list("manifest"):
        lake.delete(key)
    assert main(["audit", "mock_ohlcv_1d", *ARGUMENTS[2:]], deployment) == 1
    assert "10 not recorded" in capsys.readouterr().out
    assert main(ARGUMENTS, deployment) == 0
    assert deployment.hooks == 0
    assert main(["audit", "mock_ohlcv_1d", *ARGUMENTS[2:]], deployment) == 0


def test_a_rebuilt_ledger_that_is_damaged_is_rebuilt_again(deployment):
    lake, folder = deployment.lake(), deployment.folder / "lake"
    for key, _ in lake.list("manifest"):
        lake.delete(key)
    assert main(ARGUMENTS, deployment) == 0
    (key,) = [key for key, _ in lake.list("manifest")]
    body = (folder / key).read_bytes()
    (folder / key).write_bytes(body[:-5])
    assert main(ARGUMENTS, deployment) == 0
    assert (folder / key).read_bytes() == body
    assert deployment.hooks == 0


def test_a_symbol_outside_the_universe_is_named_and_not_requested(deployment, capsys):
    arguments = ["--symbols", "AAPL,TYPO", *ARGUMENTS[4:]]
    assert main(["audit", "mock_ohlcv_1d", *arguments], deployment) == 0
    assert "not in universe dow30, so that missing cells are not found: TYPO" in capsys.readouterr().out
    assert main(["repair", "mock_ohlcv_1d", *arguments, "--dry-run"], deployment) == 0
    assert "nothing to repair" in capsys.readouterr().out
