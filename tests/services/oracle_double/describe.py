"""What the client is told of a query's columns, on which the driver's choice of types rests.

Oracle says precision and scale of a NUMBER where the column is a table's or a cast; an expression, an aggregate or a set operation is a
NUMBER without them, which the driver's data frames turn into a double even where exact decimals are asked for. DuckDB gives every
number a precision, so the query itself is read, by DuckDB's parser, for where a column comes from.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import duckdb

from tests.services.oracle_double import codec
from tests.services.oracle_double.database import Database
from tests.services.oracle_double.errors import not_done

UNKNOWN_SCALE = -127
Node = dict[str, Any]
Columns = list[tuple[str, bool]]
"""Names in lower case, and whether precision and scale are known."""


@dataclass(frozen=True)
class ResultColumn:
    """A column of a result.

    :param kind: Oracle's type.
    :param precision, scale: of a NUMBER; (0, -127) where they are not known.
    """

    name: str
    kind: int
    precision: int = 0
    scale: int = 0
    size: int = 22


def describe(database: Database, cursor: duckdb.DuckDBPyConnection, sql: str, description: Any) -> list[ResultColumn]:
    """Oracle's columns for those of DuckDB's result.

    :param sql: the query, translated.
    :param description: the result's, as of DB-API.
    """
    columns = [_column(name, str(kind).upper()) for name, kind, *_ in description]
    if not any(column.precision for column in columns):
        return columns
    try:
        known = _Reading(database, cursor).query(sql)
        return [column if is_known else _unknown(column) for column, (_, is_known) in zip(columns, known, strict=True)]
    except (KeyError, ValueError) as error:
        raise not_done("to say where the columns of this query come from") from error


def _column(name: str, kind: str) -> ResultColumn:
    name = name.upper()
    if found := re.match(r"DECIMAL\((\d+),\s*(\d+)\)", kind):
        return ResultColumn(name, codec.NUMBER, int(found[1]), int(found[2]))
    if "INT" in kind or kind in {"DOUBLE", "FLOAT", "BOOLEAN"}:
        return ResultColumn(name, codec.NUMBER, 0, UNKNOWN_SCALE)
    if kind in {"TIMESTAMP_S", "DATE"}:
        return ResultColumn(name, codec.DATE, size=7)
    if kind.startswith("TIMESTAMP"):
        return ResultColumn(name, codec.TIMESTAMP, scale=6, size=11)
    if kind == "BLOB":
        return ResultColumn(name, codec.RAW, size=2000)
    return ResultColumn(name, codec.VARCHAR, size=4000)


def _unknown(column: ResultColumn) -> ResultColumn:
    return ResultColumn(column.name, codec.NUMBER, 0, UNKNOWN_SCALE) if column.kind == codec.NUMBER else column


class _Reading:
    """Where the columns of queries come from."""

    def __init__(self, database: Database, cursor: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        self._cursor = cursor

    def query(self, sql: str) -> Columns:
        parsed = self._cursor.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()[0][0]
        return self._node(json.loads(parsed)["statements"][0]["node"], {})

    def _node(self, node: Node, named: dict[str, Columns]) -> Columns:
        named = dict(named)
        for entry in node["cte_map"].get("map", []):
            named[entry["key"].lower()] = self._node(entry["value"]["query_node"], named)
        if node["type"] != "SELECT_NODE":
            return [(name, False) for name, _ in self._node(node["children"][0], named)]
        sources = self._sources(node["from_table"], named)
        return [column for item in node["select_list"] for column in _item(item, sources)]

    def _sources(self, table: Node, named: dict[str, Columns]) -> list[tuple[str, Columns]]:
        if table["type"] == "JOIN":
            return self._sources(table["left"], named) + self._sources(table["right"], named)
        if table["type"] == "SUBQUERY":
            return [(table["alias"].lower(), self._node(table["subquery"]["node"], named))]
        name = table["table_name"].lower()
        return [((table["alias"] or name).lower(), self._table(name, named))]

    def _table(self, name: str, named: dict[str, Columns]) -> Columns:
        if name in named:
            return named[name]
        if name in self._database.views:
            return self.query(self._database.views[name])
        if name in self._database.definitions:
            return [(column.name, "," in column.kind or "(" in column.kind) for column in self._database.definitions[name].columns]
        found = self._cursor.execute(f"DESCRIBE {name}").fetchall()  # one of Oracle's own
        return [(row[0].lower(), True) for row in found]


def _item(item: Node, sources: list[tuple[str, Columns]]) -> Columns:
    if item["class"] == "STAR":
        wanted = item["relation_name"].lower()
        return [column for alias, columns in sources if not wanted or alias == wanted for column in columns]
    if item["class"] == "COLUMN_REF":
        *before, name = (part.lower() for part in item["column_names"])
        found = [
            known for alias, columns in sources if not before or before[-1] == alias for column, known in columns if column == name
        ]
        return [((item["alias"] or name).lower(), bool(found) and found[0])]
    return [(item["alias"].lower(), item["class"] == "CAST")]
