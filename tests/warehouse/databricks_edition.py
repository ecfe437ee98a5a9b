"""The Databricks edition, run on DuckDB: sqlglot puts its statements into DuckDB's dialect, and ``update`` plays Auto Loader."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import sqlglot
from sqlglot import exp

FOLDER = Path(__file__).resolve().parents[2] / "include" / "sql" / "databricks"
FILES = ("landing", "tables", "sessions", "merge", "gold")
EXPECTATION = " EXPECT (_rescued_data IS NULL) ON VIOLATION FAIL UPDATE"
"""Not known to sqlglot: the action. The clause is taken out before the parse, and counted."""
ZONE = "SET TIME ZONE 'UTC'"
"""The one statement that sqlglot takes as it is."""


def text(name: str) -> str:
    """A file without its comments."""
    return re.sub(r"(?m)^--.*\n", "", (FOLDER / f"{name}.sql").read_text("utf-8"))


@cache
def statements(name: str) -> list[exp.Expression]:
    shown = text(name)
    if name == "landing":
        assert shown.count(EXPECTATION) == 2
        shown = shown.replace(EXPECTATION, " CHECK (_rescued_data IS NULL)")
    return [statement for statement in sqlglot.parse(shown, read="databricks") if statement is not None]


def of_kind(name: str, kind: type[exp.Expression]) -> list[Any]:
    return [statement for statement in statements(name) if isinstance(statement, kind)]


def source(create: exp.Create) -> tuple[str, dict[str, Any]]:
    """The path and the options of the one ``STREAM read_files`` of a statement."""
    (reader,) = [f for f in create.find_all(exp.Func) if f.name.lower() == "read_files" or f.sql_name() == "READ_FILES"]
    assert re.search(r"FROM STREAM READ_FILES\(", create.sql("databricks"), re.IGNORECASE)
    path, *options = reader.expressions
    values = {option.this.name: option.expression for option in options}
    return path.name, {name: v.this if isinstance(v, exp.Boolean) else v.name for name, v in values.items()}


class Databricks:
    """The edition on DuckDB, over a lake in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seen: dict[Path, int] = {}
        self.connection = duckdb.connect()
        self.connection.execute("SET TimeZone = 'UTC'")
        for create in of_kind("landing", exp.Create):
            name = create.find(exp.Table).name
            schema = ", ".join(
                f"NULL::{kind} AS {column}" for column, kind in (pair.split() for pair in source(create)[1]["schema"].split(", "))
            )
            rows = self._landing(create, f"SELECT {schema}, NULL AS _rescued_data, {{'file_path': ''}} AS _metadata")
            self.connection.execute(f"CREATE TABLE {name} AS {rows} LIMIT 0")
        self.run("tables")
        self.run("sessions")
        self.run("gold")

    def run(self, name: str) -> None:
        for statement in statements(name):
            if not isinstance(statement, exp.Use | exp.Command):
                self.connection.execute(statement.sql("duckdb"))

    def update(self) -> None:
        """What the job does: files that are new or were replaced land, then all is merged."""
        for create in of_kind("landing", exp.Create):
            folder = self.root / source(create)[0].replace("${market_data.raw}", "raw")
            times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
            changed = [str(path) for path, at in times.items() if self.seen.get(path) != at]
            self.seen |= times
            if changed:
                files = (
                    "SELECT *, NULL AS _rescued_data, {'file_path': filename} AS _metadata "
                    f"FROM read_parquet({changed}, filename = true, union_by_name = true, hive_partitioning = false)"
                )
                self.connection.execute(f"INSERT INTO {create.find(exp.Table).name} {self._landing(create, files)}")
        self.run("merge")

    def _landing(self, create: exp.Create, files: str) -> str:
        shown, count = re.subn(r"STREAM READ_FILES\(.*\)$", f"({files})", create.expression.sql("duckdb"), flags=re.DOTALL)
        assert count == 1
        return shown

    def rows(self, select: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(select).fetchall()
