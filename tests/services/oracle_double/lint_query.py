"""The lint's rules for queries, wherever they stand, and for INSERT, UPDATE and DELETE."""

from __future__ import annotations

from collections.abc import Iterator

from tests.services.oracle_double.lint_define import bad_type
from tests.services.oracle_double.tokens import Token, closing
from tests.services.oracle_double.words import AFTER_FROM, NAME_ONLY, PSEUDO_COLUMNS, RESERVED, SET_OPERATORS

Found = tuple[Token, ...]
CHANGES = {"INSERT", "UPDATE", "DELETE", "MERGE"}
READ = CHANGES | {"SELECT", "WITH", "(", "CREATE", "EXPLAIN"}
OPERATORS = {"+", "-", "*", "/", "=", "<", ">", "<=", ">=", "<>", "!=", "^=", "||"}
BEFORE_VALUE = OPERATORS | {
    "SELECT",
    "DISTINCT",
    ",",
    "(",
    "WHERE",
    "AND",
    "OR",
    "BY",
    "WHEN",
    "THEN",
    "ELSE",
    "NOT",
    "BETWEEN",
    "HAVING",
}
AFTER_VALUE = OPERATORS | {
    ",",
    ")",
    "FROM",
    "AS",
    "AND",
    "OR",
    "THEN",
    "ELSE",
    "END",
    "ASC",
    "DESC",
    "IS",
    "IN",
    "LIKE",
    "BETWEEN",
    "NOT",
}
AFTER_ALIAS = AFTER_FROM | {"ON", "JOIN", "LEFT", "RIGHT", "INNER", "FULL", "CROSS", "NATURAL"}
TYPES = {"DATE", "NUMBER", "CHAR", "FLOAT", "INTEGER", "DECIMAL", "LONG", "RAW", "SMALLINT", "VARCHAR", "VARCHAR2"}


def rules(found: Found) -> Iterator[str]:
    """What is wrong with the queries in a statement."""
    if found[0].upper not in READ:
        return
    for n, token in enumerate(found):
        if token.kind == "word":
            yield from _phrase(found, n)
            yield from _name(found, n)
        if token.upper == "SELECT":
            yield from _select(found, n)
        if token.upper == "FROM" and not _inside_function(found, n):
            yield from _from(found, n)
        if token.upper == "CAST":
            yield from _cast(found, n)
    yield from _change(found)
    yield from _with(found)


def _word(found: Found, n: int) -> str:
    return found[n].upper if 0 <= n < len(found) else ""


def _kind(found: Found, n: int) -> str:
    return found[n].kind if 0 <= n < len(found) else ""


# --- words of others --------------------------------------------------------------------------------------------------------------


def _phrase(found: Found, n: int) -> Iterator[str]:
    """A clause that 19c does not have, recognised by what stands around its first word."""
    word, before, after, then = found[n].upper, _word(found, n - 1), _word(found, n + 1), _word(found, n + 2)
    kind = _kind(found, n + 1)
    row_limit = kind in {"number", "bind"} or after == "ALL"
    names = {
        "LIMIT": (933, row_limit),
        "TOP": (923, before == "SELECT" and kind == "number"),
        "OFFSET": (905, row_limit and then not in {"ROW", "ROWS"}),
        "ILIKE": (920, kind in {"string", "bind", "word"} and before not in {",", ".", "SELECT"}),
        "RLIKE": (920, kind in {"string", "bind"}),
        "SIMILAR": (920, after == "TO"),
        "CONFLICT": (933, before == "ON"),
        "IS": (908, after == "DISTINCT" or (after, then) == ("NOT", "DISTINCT")),
        "WINDOW": (933, then == "AS" and _word(found, n + 3) == "("),
        "OVER": (905, kind == "word" and before == ")"),
        "QUALIFY": (933, before not in {",", ".", "SELECT"} and (after == "(" or (kind == "word" and after not in AFTER_ALIAS))),
        "FILTER": (923, before == ")" and (after, then) == ("(", "WHERE")),
        "EXCEPT": (933, after in {"SELECT", "ALL"} or (after, then) == ("(", "SELECT")),
        "UNION": (928, after == "DISTINCT"),
        "INTERSECT": (928, after in {"ALL", "DISTINCT"}),
        "MINUS": (928, after in {"ALL", "DISTINCT"}),
        "DISTINCT": (936, (after, then) == ("ON", "(")),
        "BY": (936, before in {"GROUP", "ORDER"} and after == "ALL"),
        "GROUPS": (907, after in {"BETWEEN", "UNBOUNDED", "CURRENT"}),
        "BETWEEN": (936, after in {"SYMMETRIC", "ASYMMETRIC"}),
    }
    number, is_wrong = names.get(word, (0, False))
    if is_wrong:
        yield f"ORA-{number:05d}: not in Oracle 19c: {word} {after}"


def _name(found: Found, n: int) -> Iterator[str]:
    """A reserved word where somebody's name is due."""
    word, before, after = found[n].upper, _word(found, n - 1), _word(found, n + 1)
    if word not in RESERVED or word in PSEUDO_COLUMNS:
        return
    if before == ".":
        yield f"ORA-01747: invalid user.table.column, table.column, or column specification: {word}"
    elif before in {"FROM", "JOIN"} and word in NAME_ONLY:
        yield f"ORA-00903: invalid table name: {word}"
    elif word in NAME_ONLY and after in AFTER_VALUE and before in BEFORE_VALUE:
        yield f"ORA-00936: missing expression (near {word}, which is reserved)"
    elif word in NAME_ONLY - TYPES and after in {",", "FROM"} and before not in {"CHECK", "FOR", "IN"}:
        yield f"ORA-00923: FROM keyword not found where expected (near {word}, which is reserved)"


# --- SELECT -----------------------------------------------------------------------------------------------------------------------


def _end(found: Found, n: int, stops: frozenset[str]) -> int:
    """Where what begins at ``n`` ends: at a stop, or where its parentheses close."""
    depth = found[n].depth
    for m in range(n + 1, len(found)):
        if found[m].depth < depth or (found[m].depth == depth and found[m].upper in stops and found[m].kind == "word"):
            return m
    return len(found)


def _select(found: Found, n: int) -> Iterator[str]:
    end = _end(found, n, SET_OPERATORS)
    depth = found[n].depth
    start = next((m for m in range(n, end) if found[m].upper == "FROM" and found[m].depth == depth), None)
    if start is None:
        yield "ORA-00923: FROM keyword not found where expected"
        return
    for m in range(n + 1, start):
        if found[m].depth != depth:
            continue
        word, before, after = found[m].upper, _word(found, m - 1), _word(found, m + 1)
        if word == "AS" and after in RESERVED:
            yield f"ORA-00923: FROM keyword not found where expected (near {after}, which is reserved)"
        if word == "," and after in {"FROM", ","}:
            yield f"ORA-00936: missing expression (near {after})"
        if word == "*" and before in {"SELECT", "DISTINCT", ",", "ALL", "UNIQUE"} and (after != "FROM" or before == ","):
            yield f"ORA-00923: FROM keyword not found where expected (near * {after})"


def _inside_function(found: Found, n: int) -> bool:
    """Whether this FROM is that of EXTRACT or TRIM."""
    opening = next((m for m in range(n, -1, -1) if found[m].text == "(" and found[m].depth == found[n].depth - 1), 0)
    return found[n].depth > 0 and _word(found, opening - 1) in {"EXTRACT", "TRIM"}


def _from(found: Found, n: int) -> Iterator[str]:
    for m in range(n + 1, _end(found, n, AFTER_FROM)):
        if found[m].depth == found[n].depth and found[m].upper == "AS" and _word(found, m + 1) != "OF":
            yield f"ORA-00933: SQL command not properly ended: no AS before a table's alias ({_word(found, m + 1)})"
        if found[m].upper == "VALUES" and _word(found, m - 1) == "(":
            yield "ORA-00903: invalid table name: VALUES is no table"


def _cast(found: Found, n: int) -> Iterator[str]:
    if _word(found, n + 1) != "(":
        return
    end = closing(found, n + 1)
    at = max((m for m in range(n, end) if found[m].upper == "AS" and found[m].depth == found[n].depth + 1), default=None)
    if at is None:
        yield "ORA-00905: missing keyword (AS)"
    else:
        yield from bad_type(found[at + 1 : end])


def _with(found: Found) -> Iterator[str]:
    if found[0].upper != "WITH" and not (found[0].upper == "CREATE" and "WITH" in {token.upper for token in found}):
        return
    for n, token in enumerate(found):
        after = _word(found, n + 1)
        if token.upper == "WITH" and after == "RECURSIVE":
            yield "ORA-00905: missing keyword: WITH knows no RECURSIVE"
        if token.upper == "AS" and (after == "MATERIALIZED" or (after, _word(found, n + 2)) == ("NOT", "MATERIALIZED")):
            yield "ORA-00906: missing left parenthesis (near MATERIALIZED)"
        if found[0].upper == "WITH" and token.depth == 0 and token.upper in CHANGES:
            yield "ORA-00928: missing SELECT keyword"


# --- INSERT, UPDATE, DELETE -------------------------------------------------------------------------------------------------------


def _change(found: Found) -> Iterator[str]:
    first = found[0].upper
    if first not in CHANGES:
        return
    outer = [(n, token.upper) for n, token in enumerate(found) if token.depth == 0]
    placed = {word: n for n, word in reversed(outer)}
    if "RETURNING" in placed and "INTO" not in [word for n, word in outer if n > placed["RETURNING"]]:
        yield "ORA-00925: missing INTO keyword after RETURNING"
    if first == "UPDATE":
        yield from _update(found, placed)
    if first == "DELETE" and "USING" in placed:
        yield "ORA-00933: SQL command not properly ended (near USING)"
    if first == "INSERT":
        yield from _insert(found, placed)


def _update(found: Found, placed: dict[str, int]) -> Iterator[str]:
    if "FROM" in placed:
        yield "ORA-00933: SQL command not properly ended (near FROM)"
    if "AS" in placed:
        yield "ORA-00971: missing SET keyword: no AS before a table's alias"


def _insert(found: Found, placed: dict[str, int]) -> Iterator[str]:
    if found[1].upper not in {"INTO", "ALL", "FIRST"}:
        yield f"ORA-00925: missing INTO keyword (near {found[1].text})"
        return
    if "DEFAULT" in placed and _word(found, placed["DEFAULT"] + 1) == "VALUES":
        yield "ORA-00926: missing VALUES keyword"
    if "VALUES" in placed and _word(found, placed["VALUES"] + 1) == "(":
        end = closing(found, placed["VALUES"] + 1)
        if _word(found, end + 1) == ",":
            yield "ORA-00933: SQL command not properly ended: one row of VALUES only"
    opening = next((n for n in range(2, min(6, len(found))) if found[n].text == "("), None)
    if found[1].upper == "INTO" and opening and _word(found, opening + 1) != "SELECT" and _word(found, opening - 1) != "VALUES":
        names = (token.upper for token in found[opening : closing(found, opening)] if token.kind == "word")
        yield from (f"ORA-01747: invalid column specification: {name}" for name in names if name in RESERVED)
    if _word(found, 3) == "AS":
        yield "ORA-00926: missing VALUES keyword: no AS before a table's alias"
