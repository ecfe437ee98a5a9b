"""Oracle's SQL in PostgreSQL's, by sqlglot."""

from __future__ import annotations

import itertools
import re
from functools import lru_cache

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError

from tests.services.oracle_double.errors import OraError, not_done

QUOTED_OR_BIND = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/|:\w+", re.DOTALL)
MODIFY = re.compile(r"\s*ALTER TABLE (\w+) MODIFY \((\w+) ([^()]+(?:\([^()]*\))?)\)\s*", re.IGNORECASE)
UNREAD = re.compile(r"(\s*ALTER TABLE \w+ ADD CONSTRAINT .*) ENABLE NOVALIDATE\s*", re.IGNORECASE | re.DOTALL)
LACKING = (exp.Command, exp.Connect, exp.CurrentTimestamp, exp.Localtimestamp, exp.Systimestamp)
KEEPS_DIGITS = (exp.Case, exp.Coalesce, exp.Greatest, exp.Least)
"""Expressions whose precision PostgreSQL tells and Oracle does not."""
TEXTS = {exp.DataType.Type[name] for name in ("VARCHAR", "NVARCHAR", "CHAR", "NCHAR", "TEXT")}
WHOLE = {exp.DataType.Type[name] for name in ("INT", "SMALLINT")}


@lru_cache(maxsize=1024)
def parse(sql: str, owner: str) -> exp.Expression:
    """Read a statement, and put it into PostgreSQL's words. Do not change the result.

    :param owner: the user, whose name may stand before a table.
    :raises OraError: 900, it is not SQL; 3001, the double lacks something in it.
    """
    if found := MODIFY.fullmatch(sql):
        kind = exp.DataType.build(found[3], dialect="oracle")
        sql = f"ALTER TABLE {found[1]} ALTER COLUMN {found[2]} TYPE {kind.sql('postgres')}"
    if unread := UNREAD.fullmatch(sql):  # rows that are there are not held to it
        sql = f"{unread[1]} NOT VALID"
    marks = itertools.count(1)
    numbered = QUOTED_OR_BIND.sub(lambda found: f":b{next(marks)}" if found[0][0] == ":" else found[0], sql)
    try:
        tree = sqlglot.parse_one(numbered, read="postgres" if found or unread else "oracle", error_level=ErrorLevel.RAISE)
    except SqlglotError as error:
        raise OraError(900, f"invalid SQL statement [{str(error).splitlines()[0]}]") from error
    if lacking := tree.find(*LACKING):
        raise not_done(lacking.sql("oracle")[:60])
    return tree.transform(_node, owner.lower())


def text(tree: exp.Expression) -> str:
    """Write a statement for PostgreSQL."""
    try:
        return tree.sql("postgres", identify=True, comments=False, unsupported_level=ErrorLevel.RAISE)
    except SqlglotError as error:
        raise not_done(str(error)) from error


@lru_cache(maxsize=1024)
def translate(sql: str, owner: str) -> str:
    """Put a query or a change into PostgreSQL's words; see ``parse``."""
    return text(parse(sql, owner))


def words(sql: str) -> list[str]:
    """List the words of ``sql`` outside of quotes and comments, in lower case."""
    return re.findall(r"[a-z_]\w*", QUOTED_OR_BIND.sub(" ", sql).lower())


def _node(node: exp.Expression, owner: str) -> exp.Expression | None:
    if isinstance(node, exp.Identifier):
        return exp.to_identifier(node.name.lower(), quoted=True)
    if isinstance(node, exp.Placeholder):
        return exp.Parameter(this=exp.Literal.number(node.name.removeprefix("b")))
    if isinstance(node, exp.Literal) and node.is_string and not node.name:
        return exp.cast(exp.null(), "VARCHAR")
    if isinstance(node, exp.Hint):
        return None
    if isinstance(node, exp.DataType):
        return _type(node)
    if isinstance(node, exp.DateStrToDate | exp.StrToTime):
        kind = exp.DataType.Type.DATE if isinstance(node, exp.DateStrToDate) else exp.DataType.Type.TIMESTAMP
        return exp.Cast(this=node.this, to=exp.DataType(this=kind))
    if isinstance(node, exp.Div):  # of whole numbers too: PostgreSQL would drop the rest
        exact = exp.Mul(this=exp.paren(node.this), expression=exp.Literal.number("1.0"))
        return exp.Div(this=exact, expression=node.expression, typed=True)
    if isinstance(node, exp.Table) and node.db.lower() == owner:
        node.set("db", None)
    if isinstance(node, exp.Select):
        in_set = isinstance(node.parent, exp.SetOperation)
        node.set("expressions", [_shown(item, in_set=in_set) for item in node.expressions])
    return node


def _shown(item: exp.Expression, *, in_set: bool) -> exp.Expression:
    """Make a column of a result forget its digits where Oracle's does."""
    inner = item.unalias()
    if isinstance(inner, KEEPS_DIGITS) or (in_set and isinstance(inner, exp.Column) and not inner.is_star):
        return exp.alias_(exp.func("computed", inner.copy()), item.alias_or_name or None, quoted=True)
    return item


def _type(node: exp.DataType) -> exp.DataType:
    lengths = [exp.DataTypeParam(this=length.this) for length in node.find_all(exp.DataTypeParam)]
    if node.this == exp.DataType.Type.DATE:  # has a clock; a type of its own in PostgreSQL, so that MAX of it is one too
        return exp.DataType.build("TIMESTAMPTZ(0)", dialect="postgres")
    if node.this in WHOLE:
        return exp.DataType.build("DECIMAL(38)", dialect="postgres")
    if node.this in TEXTS:
        return exp.DataType(this=exp.DataType.Type.VARCHAR if lengths else exp.DataType.Type.TEXT, expressions=lengths)
    return node
