"""``make migrate`` and ``make query``: the local file, or the warehouse that an environment variable names."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from market_data.warehouse import WarehouseConnection, open_warehouse
from sandbox.stack.environment import LocalError, Paths
from sandbox.stack.warehouse import VARIABLE, migrate, place, query

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def paths(tmp_path):
    return Paths.of(PROJECT, {"MARKET_DATA_LOCAL_DIR": str(tmp_path / "local")})


def said(command, paths, **environ):
    console = Console(file=io.StringIO(), width=200)
    command(paths, environ, console)
    return console.file.getvalue()


def test_migrating_names_what_was_made_and_then_that_nothing_is_missing(paths):
    assert "0003_silver_prices" in said(migrate, paths).splitlines()
    assert said(migrate, paths).splitlines() == [
        "The warehouse has all tables and views of this version.",
        f"The warehouse: duckdb, {paths.warehouse}.",
    ]
    with open_warehouse(WarehouseConnection("duckdb", extra={"path": str(paths.warehouse)})) as warehouse:
        assert warehouse.query("SELECT COUNT(*) AS n FROM silver_prices")["n"].to_pylist() == [0]


def test_a_question_is_answered_as_a_table(paths):
    migrate(paths, {}, Console(file=io.StringIO()))
    answer = said(
        query, paths, SQL="select version, name, null as nothing from schema_version order by version fetch first 1 rows only"
    )
    assert next(line for line in answer.splitlines() if "load_audit" in line).split() == ["│", "1", "│", "load_audit", "│", "│"]
    assert "close_px" in said(query, paths)  # the example


def test_a_place_is_told_without_its_password():
    given = {"conn_type": "oracle", "host": "db", "login": "loader", "password": "hidden", "schema": "MARKET"}
    assert place(WarehouseConnection(**given)) == "oracle, db/MARKET, as loader"
    assert place(WarehouseConnection("oracle", login="me", password="hidden", extra={"dsn": "hidden"})) == "oracle, as me"


@pytest.mark.parametrize(
    ("sql", "words"), [("select nonesuch from load_audit", "nonesuch"), ("drop table load_audit", "a SELECT is needed")]
)
def test_what_cannot_be_asked_says_why(paths, sql, words):
    migrate(paths, {}, Console(file=io.StringIO()))
    with pytest.raises(LocalError, match=words):
        said(query, paths, SQL=sql)


def test_before_the_first_run_there_is_no_warehouse(paths):
    with pytest.raises(LocalError, match="`make run` makes one"):
        said(query, paths)


def test_another_warehouse_is_named_by_its_variable(paths, tmp_path, monkeypatch):
    other = tmp_path / "other.duckdb"
    monkeypatch.setenv(VARIABLE, json.dumps({"conn_type": "duckdb", "extra": {"path": str(other)}}))
    named = {VARIABLE: "see the environment"}
    assert "0001_load_audit" in said(migrate, paths, **named)
    assert other.exists()
    assert not paths.warehouse.exists()
    assert "load_audit" in said(query, paths, SQL="select name from schema_version", **named)
    monkeypatch.setenv(VARIABLE, json.dumps({"conn_type": "sqlite", "host": "x"}))
    with pytest.raises(LocalError, match="conn_type is 'sqlite'; engines"):
        said(migrate, paths, **named)
