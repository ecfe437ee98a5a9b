"""What is DuckDB's own: its settings, the lock on its file, its errors."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import string
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from market_data.airflow.warehouse_connections import from_airflow
from market_data.core.errors import ConfigError, WarehouseError
from market_data.datasets.bars import OHLCV_1D
from market_data.warehouse import WarehouseConnection, base, migrations, open_warehouse
from market_data.warehouse.base import Loaded, Warehouse
from market_data.warehouse.duckdb import DUCKDB, DuckDBWarehouse
from market_data.warehouse.schema import TABLES
from tests.warehouse.rows import bars, later


def at(path: Path, **extra: Any) -> Warehouse:
    return open_warehouse(WarehouseConnection("duckdb", extra={"path": str(path), **extra}))


@pytest.mark.parametrize("value", ["postgres://me:s3cret@host/db", "md:?motherduck_token=s3cret", "me:s3cret@host"])
def test_a_path_that_may_hold_a_password_is_not_shown(value: str) -> None:
    with pytest.raises(ConfigError, match="extra.path is a URL; an absolute path") as caught:
        at(value)  # type: ignore[arg-type]
    assert "s3cret" not in str(caught.value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A migrated warehouse of three rows."""
    file = tmp_path / "warehouse.duckdb"
    with at(file) as warehouse:
        warehouse.migrate()
        warehouse.load(OHLCV_1D, bars("AAPL", 3), "one")
    return file


def rows(path: Path) -> int:
    with at(path, lock_timeout=30) as warehouse:
        return warehouse.query("SELECT COUNT(*) AS n FROM silver_prices")["n"][0].as_py()


@contextmanager
def python(source: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs ``source`` until it is told to end by a line; it has said ``ready``."""
    process = subprocess.Popen(
        [sys.executable, "-c", source, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert process.stdin
    assert process.stdout
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


HOLD_LOCK = (
    "import fcntl, sys; f = open(sys.argv[1] + '.lock', 'a'); fcntl.flock(f, fcntl.LOCK_EX); print('ready', flush=True); input()"
)
HOLD_FILE = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('ready', flush=True); input()"
HOLD_TRANSACTION = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1])
connection.execute("CREATE TABLE kept (a INTEGER)")
connection.execute("BEGIN TRANSACTION")
connection.execute("DELETE FROM silver_prices")
print("ready", flush=True)
input()
"""

# --- settings -------------------------------------------------------------------------------------------------------------------


def test_the_package_is_light() -> None:
    source = "import sys, market_data.warehouse; print([m for m in ('pyarrow', 'duckdb', 'pandas', 'airflow') if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert run.stdout == "[]\n"


@pytest.mark.parametrize("engine", ["sqlite", ""])
def test_other_engines_are_refused(engine: str) -> None:
    with pytest.raises(ConfigError, match=f"conn_type is '{engine}'; engines in this version: .*duckdb"):
        open_warehouse(WarehouseConnection(engine))


@pytest.mark.parametrize("extra", [{}, {"path": ""}, {"path": "warehouse.duckdb"}, {"path": ":memory:"}, {"path": 7}])
def test_the_path_must_be_absolute(extra: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"extra\.path is .*; an absolute path"):
        open_warehouse(WarehouseConnection("duckdb", extra=extra))


@pytest.mark.parametrize("value", [-1, "soon", None, True])
def test_the_lock_timeout_must_be_seconds(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ConfigError, match=r"extra\.lock_timeout is .*; a number from 0 on"):
        at(tmp_path / "a.duckdb", lock_timeout=value)


def test_a_connection_from_airflow() -> None:
    connection = SimpleNamespace(
        conn_type="duckdb",
        host=None,
        port=None,
        schema=None,
        login=None,
        password="hunter2",
        extra_dejson={"path": "/a", "key": "hunter2"},
    )
    made = from_airflow(connection)
    assert made == WarehouseConnection("duckdb", password="hunter2", extra={"path": "/a", "key": "hunter2"})
    assert "hunter2" not in repr(made)


def test_folders_are_made_and_the_file_only_when_used(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "warehouse.duckdb"
    with at(file) as warehouse:
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(WarehouseError, match="migrate it first") as caught:
            warehouse.query("SELECT 1 AS one")
        assert not caught.value.retriable
        assert not file.exists()
        warehouse.migrate()
    assert rows(file) == 0


def test_a_warehouse_exists_from_its_first_migration(tmp_path: Path) -> None:
    file = tmp_path / "new" / "warehouse.duckdb"
    with at(file) as warehouse:
        assert not warehouse.exists()
        assert not file.exists()
        warehouse.migrate()
        assert warehouse.exists()


def test_a_folder_that_cannot_be_made_is_no_missing_warehouse(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"extra\.path .*file/warehouse\.duckdb cannot be used: "):
        at(tmp_path / "file" / "warehouse.duckdb").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"extra\.path .*file/warehouse\.duckdb cannot be used: "):
        at(tmp_path / "file" / "warehouse.duckdb").migrate()


# --- the lock -------------------------------------------------------------------------------------------------------------------


def test_waiting_ends_at_the_deadline_and_may_be_tried_again(path: Path) -> None:
    with python(HOLD_LOCK, str(path)):
        started = time.monotonic()
        with pytest.raises(WarehouseError, match=r"in use by another process for 0\.3 seconds") as caught:
            at(path, lock_timeout=0.3).load(OHLCV_1D, bars("AAPL", 4), "two")
        assert caught.value.retriable
        assert pickle.loads(pickle.dumps(caught.value)).retriable
        assert 0.3 <= time.monotonic() - started < 60  # it would be 300 seconds by default
    assert rows(path) == 3


def test_who_waits_goes_on_when_the_file_is_free(path: Path) -> None:
    with python(HOLD_LOCK, str(path)) as holder:
        threading.Timer(0.5, holder.kill).start()
        assert at(path, lock_timeout=30).load(OHLCV_1D, bars("AAPL", 4), "two") == Loaded(4, 1)


def test_readers_wait_too(path: Path) -> None:
    with python(HOLD_LOCK, str(path)), pytest.raises(WarehouseError, match="in use"):
        at(path, lock_timeout=0).query("SELECT 1 AS one")


def test_an_opener_that_knows_nothing_of_the_lock(path: Path) -> None:
    with python(HOLD_FILE, str(path)):
        with pytest.raises(WarehouseError, match=r"open failed.*Could not set lock") as caught:
            at(path).load(OHLCV_1D, bars("AAPL", 4), "two")
        assert caught.value.retriable
    assert at(path).load(OHLCV_1D, bars("AAPL", 4), "two") == Loaded(4, 1)


def test_the_file_is_free_between_calls_and_after_an_error(path: Path) -> None:
    with at(path) as warehouse:
        assert rows(path) == 3
        with pytest.raises(WarehouseError):
            warehouse.query("SELECT nonesuch")
        with duckdb.connect(path) as outside:
            assert outside.execute("SELECT COUNT(*) FROM silver_prices").fetchone() == (3,)
        assert warehouse.load(OHLCV_1D, bars("AAPL", 4), "two") == Loaded(4, 1)


def test_a_child_forked_meanwhile_does_not_keep_the_lock(path: Path) -> None:
    with at(path) as warehouse:
        with warehouse._session(write=True):
            child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
            child.start()
        try:
            assert at(path, lock_timeout=0).query("SELECT COUNT(*) AS n FROM load_audit").num_rows == 1
        finally:
            child.kill()
            child.join()


def test_threads_take_turns(path: Path) -> None:
    results: list[Loaded] = []

    def load(number: int) -> None:
        results.append(at(path, lock_timeout=60).load(OHLCV_1D, bars(f"T{number}", 2), f"thread {number}"))

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [Loaded(2, 2)] * 4
    assert rows(path) == 11


def test_a_killed_writer_leaves_what_was_committed(path: Path) -> None:
    with python(HOLD_TRANSACTION, str(path)) as writer:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert path.with_name(path.name + ".wal").exists()
    assert rows(path) == 3
    with at(path) as warehouse:
        assert warehouse.query("SELECT a FROM kept").num_rows == 0
        assert warehouse.load(OHLCV_1D, bars("AAPL", 4), "two") == Loaded(4, 1)


# --- what a load reads ----------------------------------------------------------------------------------------------------------


class Explained(DuckDBWarehouse):
    """Notes the rows that each statement reads from the stored tables."""

    def __init__(self, path: Path) -> None:
        super().__init__(WarehouseConnection("duckdb", extra={"path": str(path)}))
        self.reads: set[tuple[str, str, int]] = set()
        """First word of the statement, table, rows."""

    def _execute(self, kind: str, statement: str, params: Sequence[Any] = ()) -> int:
        """Explaining runs a statement, too."""
        return self._explain(statement, params) if "stage_prices" in statement else super()._execute(kind, statement, params)

    def _fetch(self, kind: str, statement: str, params: Sequence[Any] = ()) -> Any:
        if "stage_prices" in statement:
            self._explain(statement, params)
        return super()._fetch(kind, statement, params)

    def _explain(self, statement: str, params: Sequence[Any]) -> int:
        (found,) = self._connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", list(params)).fetchall()
        self._note(statement, json.loads(found[1])["operator"])
        return 0

    def _note(self, statement: str, operators: list[dict[str, Any]]) -> None:
        for operator in operators:
            name = operator["extra_info"].get("Table", "").rpartition(".")[2]
            if name.endswith("_prices"):
                self.reads.add((statement.split(maxsplit=1)[0], name, operator["intermediate_rows"]))
            self._note(statement, operator.get("children", []))


def test_a_load_reads_no_stored_rows_of_other_symbols(tmp_path: Path) -> None:
    """DuckDB may hold what it reads for a join: memory must not grow with the tables."""
    warehouse, days, versions = Explained(tmp_path / "warehouse.duckdb"), 5, 4

    def seen(after: float, load_id: str, names: str = "KL", **values: Any) -> tuple[pa.Table, str]:
        return pa.concat_tables([bars(name, days, ingest_ts=later(after), **values) for name in names]), load_id

    warehouse.migrate()
    warehouse.load(OHLCV_1D, *seen(0, "all", string.ascii_uppercase))
    warehouse.load(OHLCV_1D, *seen(50, "all confirmed", string.ascii_uppercase))
    warehouse.reads.clear()
    warehouse.load(OHLCV_1D, *seen(20, "overtaken", volume=1.0))
    warehouse.load(OHLCV_1D, *seen(90, "restated", volume=2.0))
    warehouse.restore(OHLCV_1D, *seen(80, "restored", volume=3.0))
    warehouse.load(OHLCV_1D, bars("LA", days), "new")
    assert {read[:2] for read in warehouse.reads} == {
        ("SELECT", "silver_prices"),
        *(("INSERT", name) for name in ("bronze_prices", "silver_prices")),
        ("UPDATE", "silver_prices"),
        *(("DELETE", name) for name in ("bronze_prices", "silver_prices")),
    }
    assert {read for read in warehouse.reads if read[2] > versions * 2 * days} == set()


KEYS = "SELECT table_name FROM duckdb_constraints() WHERE constraint_type = 'PRIMARY KEY' ORDER BY 1"
FIRST_WITHOUT_KEYS = 69


def test_tables_of_rows_lose_their_keys_and_keep_their_rows(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index of a key is held in memory: 435 MB for one session of 6,000 symbols in a table of 3 million rows."""
    old, all_of = tmp_path / "old.duckdb", migrations.migrations
    monkeypatch.setattr(base, "migrations", lambda dialect: [m for m in all_of(dialect) if m.version < FIRST_WITHOUT_KEYS])
    monkeypatch.setattr(DuckDBWarehouse, "dialect", replace(DUCKDB, updates_in_memory=False))  # as loads were then
    with at(old) as warehouse:
        warehouse.migrate()
        warehouse.load(OHLCV_1D, bars("AAPL", 3), "one")
        warehouse.load(OHLCV_1D, bars("AAPL", 3, ingest_ts=later(5)), "two")
        wanted = warehouse.query("SELECT * FROM silver_prices ORDER BY bar_time").to_pylist()
        names = {f"{layer}_{name}" for layer in ("bronze", "silver") for name in TABLES}
        assert names < set(warehouse.query(KEYS)["table_name"].to_pylist())
        schemas = {name: warehouse.query(f"SELECT * FROM {name} LIMIT 0").schema for name in names}
        monkeypatch.undo()
        assert len(warehouse.migrate()) == 4 * 2 * len(TABLES)
        assert {name: warehouse.query(f"SELECT * FROM {name} LIMIT 0").schema for name in names} == schemas
        assert warehouse.query("SELECT * FROM silver_prices ORDER BY bar_time").to_pylist() == wanted
        assert warehouse.load(OHLCV_1D, bars("AAPL", 4, ingest_ts=later(9), volume=3.0), "three") == Loaded(4, 4)
    for file in (old, path):
        with at(file) as warehouse:
            keyed = warehouse.query(KEYS)["table_name"].to_pylist()
            assert [name for name in keyed if name.startswith(("bronze_", "silver_"))] == []
            assert "load_audit" in keyed


# --- errors ---------------------------------------------------------------------------------------------------------------------


def test_a_file_that_is_no_database_is_not_tried_again(tmp_path: Path) -> None:
    file = tmp_path / "warehouse.duckdb"
    file.write_text(json.dumps(["not", "a", "database"]) * 1000)
    with pytest.raises(WarehouseError, match="not a valid DuckDB") as caught:
        at(file).migrate()
    assert not caught.value.retriable


def test_values_stay_out_of_messages(path: Path) -> None:
    with pytest.raises(WarehouseError, match=r"^duckdb: query failed: ConversionException$") as caught:
        at(path).query("SELECT CAST(? AS INTEGER) AS n", ["SECRETIVE"])
    assert not caught.value.retriable
    assert caught.value.__suppress_context__


def test_no_variable_of_the_caller_is_taken_for_a_table(path: Path) -> None:
    statement = bars("AAPL", 1)
    assert statement.num_rows == 1
    with pytest.raises(WarehouseError, match="statement"):
        at(path).query("SELECT * FROM statement")
