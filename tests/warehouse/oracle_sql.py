"""Check by sqlglot that the text of a statement is Oracle 19c's.

sqlglot reads other dialects' words too and writes Oracle's for them: a statement that comes back with other tokens is not Oracle's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError

LONGEST_NAME = 30
"""Bytes of a name before 12.2."""
SAME = {
    r":(?=\d)": ":b",  # sqlglot does not read numbered binds
    r"\bDECIMAL\(": "NUMBER(",
    r"\bBINARY_DOUBLE\b": "DOUBLE PRECISION",
    r"\bINTEGER\b": "INT",
    r"\bROWS UNBOUNDED PRECEDING": "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
    r"TIMESTAMP ('[^']*')": r"TO_TIMESTAMP(\1, 'YYYY-MM-DD HH24:MI:SS.FF6')",
}
"""Text that sqlglot rewrites though Oracle takes both."""


def problems(sql: str) -> list[str]:
    """List what Oracle 19c would refuse in the text of one statement. Tables and columns are not known here."""
    for found, same in SAME.items():
        sql = re.sub(found, same, sql)
    try:
        tree = sqlglot.parse_one(sql, read="oracle")
    except ParseError as error:
        return [str(error)]
    return [*_rewritten(sql, tree), *(problem for node in tree.walk() for problem in _of_node(node))]


def _rewritten(sql: str, tree: exp.Expression) -> Iterator[str]:
    ours, oracles = (_tokens(text) for text in (sql, tree.sql("oracle", comments=False)))
    if ours != oracles:
        yield f"Oracle writes {sorted((oracles - ours).elements())} for {sorted((ours - oracles).elements())}"


def _tokens(sql: str) -> Counter[str]:
    return Counter(word for token in sqlglot.tokenize(sql, read="oracle") for word in token.text.upper().split())


def _of_node(node: exp.Expression) -> Iterator[str]:
    if isinstance(node, exp.Command):
        yield f"unknown statement: {node.sql('oracle')[:40]}"
    elif isinstance(node, exp.Boolean):
        yield "there are no boolean literals"
    elif isinstance(node, exp.Identifier) and len(node.name.encode()) > LONGEST_NAME:
        yield f"name is too long: {node.name}"
    elif isinstance(node, exp.Select) and not node.args.get("from_"):
        yield "FROM is missing"
    elif isinstance(node, exp.Values) and len(node.expressions) > 1:
        yield "VALUES has several rows"
    elif isinstance(node, exp.Merge):
        joined = {column.name for column in node.args["on"].find_all(exp.Column)}
        updated = {equal.this.name for update in node.find_all(exp.Update) for equal in update.expressions}
        yield from (f"MERGE updates {name}, a column of ON" for name in sorted(joined & updated))
