"""``make query`` and ``make migrate`` run ``market-data`` on the local file, or on the warehouse that an environment variable names."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.stack.command import WAREHOUSE_VARIABLE, arguments
from sandbox.stack.environment import LocalError, Paths

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def paths(tmp_path):
    return Paths.of(PROJECT, {"MARKET_DATA_LOCAL_DIR": str(tmp_path / "local")})


def stack(command, paths, **environ):
    """Run the command that the make target of that name runs."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MARKET_DATA", "SQL"))}
    env |= {"MARKET_DATA_LOCAL_DIR": str(paths.local), **environ}
    argv = [sys.executable, "-m", "sandbox.stack", command]
    return subprocess.run(argv, cwd=PROJECT, env=env, capture_output=True, text=True, check=False)


def test_make_targets_run_these_commands():
    for target in ("query", "migrate"):
        done = subprocess.run(["make", "-n", target], cwd=PROJECT, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == f".venv/bin/python -m sandbox.stack {target}"


def test_migrate_creates_tables_that_query_reads(paths):
    assert "0003_silver_prices" in stack("migrate", paths).stdout.splitlines()
    again = stack("migrate", paths)
    assert (again.returncode, again.stdout) == (0, "the warehouse has all tables and views of this version\n")
    sql = "select version, name from schema_version order by version fetch first 1 rows only"
    found = stack("query", paths, SQL=sql)
    assert found.returncode == 0, found.stderr
    assert ["1", "load_audit"] in [line.split() for line in found.stdout.splitlines()]
    example = stack("query", paths)
    assert example.returncode == 0, example.stderr
    refused = stack("query", paths, SQL="drop table load_audit")
    assert (refused.returncode, "a SELECT is needed" in refused.stderr) == (1, True)


def test_query_takes_options(paths):
    stack("migrate", paths)
    found = stack("query", paths, SQL="select version from schema_version where version = 1", ARGS="--csv")
    assert (found.returncode, found.stdout) == (0, "version\n1\n")
    unknown = stack("query", paths, ARGS="--cvs")
    assert (unknown.returncode, "unrecognized arguments: --cvs" in unknown.stderr) == (2, True)
    broken = stack("query", paths, ARGS="'--csv")
    assert (broken.returncode, "ARGS is" in broken.stderr) == (1, True)


def test_query_before_the_first_run_names_make_run(paths):
    done = stack("query", paths)
    assert done.returncode == 1
    assert "`make run` creates it" in done.stderr
    assert not paths.warehouse.exists()
    with pytest.raises(LocalError, match="there is no warehouse at"):
        arguments("query", paths, {"SQL": "select 1"})


def test_the_environment_variable_names_another_warehouse(paths, tmp_path):
    other = tmp_path / "other.duckdb"
    named = {WAREHOUSE_VARIABLE: json.dumps({"conn_type": "duckdb", "extra": {"path": str(other)}})}
    assert "0001_load_audit" in stack("migrate", paths, **named).stdout
    assert other.exists()
    assert not paths.warehouse.exists()
    assert "load_audit" in stack("query", paths, SQL="select name from schema_version", **named).stdout
    wrong = stack("migrate", paths, **{WAREHOUSE_VARIABLE: json.dumps({"conn_type": "sqlite", "host": "x"})})
    assert wrong.returncode == 1
    assert "conn_type is 'sqlite'; engines" in wrong.stderr


def test_a_statement_may_begin_with_a_comment(paths):
    environ = {WAREHOUSE_VARIABLE: "given", "SQL": "-- a comment\nselect 1"}
    assert arguments("query", paths, environ) == ["query", "--", "-- a comment\nselect 1"]
    assert arguments("migrate", paths, {**environ, WAREHOUSE_VARIABLE: ""}) == ["migrate", "--duckdb", str(paths.warehouse)]
