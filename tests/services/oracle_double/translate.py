"""Oracle's SQL, as far as this project writes it, as DuckDB's. What both understand stays as it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise

from tests.services.oracle_double.errors import not_done
from tests.services.oracle_double.tokens import Token, closing, split, text, tokens

INTEGERS = {"INTEGER", "INT", "SMALLINT"}
FLOATS = {"FLOAT", "REAL", "BINARY_DOUBLE", "BINARY_FLOAT"}
DECIMALS = {"NUMBER", "NUMERIC", "DECIMAL", "DEC"}
STRINGS = {"VARCHAR2", "NVARCHAR2", "VARCHAR", "CHAR", "NCHAR", "CLOB", "NCLOB"}
UNLIMITED = "DECIMAL(38,10)"
"""A NUMBER without precision: Oracle's has up to 40 digits wherever the point is; DuckDB has no such type."""
NOW = "CAST(now() AT TIME ZONE 'UTC' AS TIMESTAMP)"


def type_name(found: tuple[Token, ...]) -> str:
    """DuckDB's type for the words of Oracle's. A DATE has a clock in Oracle, to the second."""
    word = found[0].upper
    arguments = text(found[2:-1]) if len(found) > 2 and found[1].text == "(" else ""
    if word in DECIMALS:
        precision, _, scale = arguments.partition(",")
        return f"DECIMAL({precision.strip()},{scale.strip() or 0})" if precision.strip().isdigit() else UNLIMITED
    if word in STRINGS:
        return "VARCHAR"
    if word in INTEGERS:
        return "DECIMAL(38,0)"
    if word in FLOATS or [token.upper for token in found] == ["DOUBLE", "PRECISION"]:
        return "DOUBLE"
    if word == "DATE":
        return "TIMESTAMP_S"
    if word == "TIMESTAMP" and "ZONE" not in {token.upper for token in found}:
        return "TIMESTAMP"
    if word in {"RAW", "BLOB"}:
        return "BLOB"
    raise not_done(f"type {text(found)}")


@lru_cache(maxsize=512)
def translate(sql: str, owner: str) -> str:
    """A query or DML, for DuckDB; each bind becomes ``?``.

    :param owner: the user, whose name before a table goes.
    """
    found = tokens(sql)
    changes: dict[tuple[int, int], str] = {}
    _refuse(found)
    for n, token in enumerate(found):
        after = found[n + 1] if n + 1 < len(found) else None
        if token.upper == "CAST" and after and after.text == "(":
            changes |= _cast(found, n + 1)
        elif replacement := _word(found, n, owner):
            changes.setdefault(*replacement)
    if found and found[0].upper == "MERGE":
        changes |= _merge(found)
    return _apply(sql, changes)


def _apply(sql: str, changes: dict[tuple[int, int], str]) -> str:
    out, at = [], 0
    for (start, end), replacement in sorted(changes.items()):
        if start < at:  # inside of what was replaced already
            continue
        out += [sql[at:start], replacement]
        at = end
    return "".join([*out, sql[at:]])


def _refuse(found: tuple[Token, ...]) -> None:
    for one, two in pairwise(found):
        if (one.upper, two.upper) == ("FOR", "UPDATE"):
            raise not_done("FOR UPDATE")
        if (one.upper, two.upper) == ("CONNECT", "BY"):
            raise not_done("CONNECT BY")
        if one.upper == "ROWNUM" or (one.text, two.text) == ("(", "+"):
            raise not_done("ROWNUM and (+)")


def _word(found: tuple[Token, ...], n: int, owner: str) -> tuple[tuple[int, int], str] | None:
    token = found[n]
    after = found[n + 1] if n + 1 < len(found) else None
    where = (token.start, token.end)
    if token.kind == "bind":
        return where, "?"
    if token.text == "''":
        return where, "CAST(NULL AS VARCHAR)"
    if token.upper == "DATE" and after and after.kind == "string":
        return where, "TIMESTAMP_S"
    if token.upper == "MINUS" and token.kind == "word":
        return where, "EXCEPT"
    if token.upper in {"SYSTIMESTAMP", "LOCALTIMESTAMP"}:
        return where, NOW
    if token.upper == "SYSDATE":
        return where, f"CAST({NOW} AS TIMESTAMP_S)"
    if token.upper == owner and after and after.text == "." and not (n and found[n - 1].text == "."):
        return (token.start, after.end), ""
    return None


def _cast(found: tuple[Token, ...], opening: int) -> dict[tuple[int, int], str]:
    end = closing(found, opening)
    for n in range(end - 1, opening, -1):
        if found[n].upper == "AS" and found[n].depth == found[opening].depth + 1:
            kind = found[n + 1 : end]
            return {(kind[0].start, kind[-1].end): type_name(kind)} if kind else {}
    return {}


def _merge(found: tuple[Token, ...]) -> dict[tuple[int, int], str]:
    """DuckDB takes no alias before a column of SET, and has a branch's condition at its head, not at its end."""
    changes: dict[tuple[int, int], str] = {}
    starts = [n for n, token in enumerate(found) if token.upper == "SET" and token.depth == 0]
    for at in starts:
        end = next((n for n in range(at, len(found)) if found[n].upper == "WHEN" and found[n].depth == 0), len(found))
        where = next((n for n in range(at, end) if found[n].upper == "WHERE" and found[n].depth == 0), end)
        for part in split(found[at + 1 : where]):
            if len(part) > 2 and part[1].text == ".":
                changes[part[0].start, part[1].end] = ""
        if where < end:
            if any(token.upper == "DELETE" for token in found[where:end]):
                raise not_done("DELETE in MERGE")
            then = max(n for n in range(at) if found[n].upper == "THEN")
            condition = found[where + 1 : end]
            changes[found[then].start, found[then].start] = f"AND ({text(condition)}) "
            changes[found[where].start, condition[-1].end] = ""
    return changes


def written_table(sql: str) -> str | None:
    """The table that a DML statement writes, in lower case; None for another statement."""
    found = tokens(sql)
    first = found[0].upper if found else ""
    after: dict[str, Callable[[Token], bool]] = {
        "INSERT": lambda token: token.upper == "INTO",
        "MERGE": lambda token: token.upper == "INTO",
        "UPDATE": lambda token: token.upper == "UPDATE",
        "DELETE": lambda token: token.upper in {"FROM", "DELETE"},
    }
    if first not in after:
        return None
    names = [n for n, token in enumerate(found) if token.depth == 0 and after[first](token)]
    at = names[1] if first == "DELETE" and len(names) > 1 and names[1] == 1 else names[0]
    name = found[at + 1]
    if at + 3 < len(found) and found[at + 2].text == ".":
        name = found[at + 3]
    return name.text.strip('"').lower()


PLAIN_INSERT = re.compile(
    r"\s*INSERT\s+(?:/\*.*?\*/\s*)?INTO\s+([\w.\"]+)\s*(?:\(([^()]*)\))?\s*VALUES\s*\((?:\s*:\w+\s*,?)+\)\s*",
    re.IGNORECASE | re.DOTALL,
)
"""An INSERT whose values are binds and nothing else: many rows of it go in at once."""
