"""What Oracle 19c refuses and DuckDB takes: a strict reader in front of the double, and of every statement that is shipped.

It knows no tables, so it finds what the text alone gives away: other databases' words, newer versions' clauses, and the places where
Oracle is stricter. It must let through all that Oracle 19c takes, with one exception, which is a setting: names of 31 to 128 bytes,
which need 12.2 and ``COMPATIBLE`` of at least that. PL/SQL is not read at all.

Error numbers are those that Oracle gives as far as they are documented; where its parser could stop at more than one place, one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.services.oracle_double import lint_define, lint_merge, lint_query
from tests.services.oracle_double.tokens import Token, closing, split, tokens
from tests.services.oracle_double.words import FIRST_WORDS, LITERAL_TYPES, LOCK_MODES, OTHER_FUNCTIONS, UNITS

LONGEST_NAME = 30
"""Bytes of a name in Oracle before 12.2."""
Found = tuple[Token, ...]
Rule = Callable[[Found], Iterator[str]]
PLSQL_OBJECTS = {"FUNCTION", "PROCEDURE", "PACKAGE", "TRIGGER", "TYPE", "LIBRARY", "JAVA"}


def problems(sql: str, *, longest_name: int = LONGEST_NAME) -> list[str]:
    """What is wrong with one statement, as ``ORA-00933: ...``; nothing if Oracle 19c would take its text.

    :param longest_name: bytes that a name may have; 128 for a database that is 12.2 in every respect.
    """
    found = tokens(sql)
    if not found or found[0].upper not in FIRST_WORDS:
        return [_says(900, "invalid SQL statement")]
    if _is_plsql(found):
        return []
    named = [token for token in found if token.kind in {"word", "quoted"} and len(token.text.strip('"').encode()) > longest_name]
    report = [_says(972, f"identifier is too long: {token.text}") for token in named]
    return report + [problem for rule in _RULES for problem in rule(found)]


def _is_plsql(found: Found) -> bool:
    first = found[0].upper
    if first == "BEGIN":
        return len(found) > 1 and found[1].upper not in {"TRANSACTION", "WORK", ";"}
    return first in {"DECLARE", "CALL"} or (first == "CREATE" and any(token.upper in PLSQL_OBJECTS for token in found[1:5]))


def _says(number: int, text: str) -> str:
    return f"ORA-{number:05d}: {text}"


def _pairs(found: Found) -> Iterator[tuple[int, Token, Token]]:
    for n in range(len(found) - 1):
        yield n, found[n], found[n + 1]


# --- signs ------------------------------------------------------------------------------------------------------------------------


def _signs(found: Found) -> Iterator[str]:
    model = any(token.upper == "MODEL" for token in found)
    for token in found:
        if token.text == ";":
            yield _says(933, "SQL command not properly ended (near ';')")
        elif token.text in {"::", "==", "->", "->>"}:
            yield _says(936, f"missing expression (near '{token.text}')")
        elif token.text == "'" or token.text == '"':
            yield _says(1756, "quoted string not properly terminated")
        elif token.kind == "op" and (token.text in "?%&|~`$#\\{}" or (token.text in "[]" and not model)):
            yield _says(911, f"invalid character {token.text!r}")
        elif token.kind == "word" and not token.text[0].isalpha():
            yield _says(911, f"invalid character, at the beginning of {token.text!r}")


def _parentheses(found: Found) -> Iterator[str]:
    depth = 0
    for token in found:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth < 0:
            yield _says(933, "SQL command not properly ended (near ')')")
            return
    if depth:
        yield _says(907, "missing right parenthesis")


# --- literals and functions -------------------------------------------------------------------------------------------------------


def _literals(found: Found) -> Iterator[str]:
    for n, one, two in _pairs(found):
        if one.kind == "string" and two.kind == "string":
            yield _says(923, f"two literals in a row: {one.text} {two.text}")
        if two.kind == "string" and one.upper in LITERAL_TYPES and one.kind == "word" and (n == 0 or found[n - 1].upper != "AS"):
            yield _says(936, f"missing expression (near {one.text} {two.text}): no such literal")
        if one.upper == "INTERVAL" and two.kind in {"string", "number", "bind"}:
            yield from _interval(found[n : n + 5])
        if one.upper in _MOMENTS and two.kind == "string" and not _MOMENTS[one.upper](two.text):
            yield _says(1861, f"literal does not match format string: {one.text} {two.text}")


def _interval(found: Found) -> Iterator[str]:
    text = found[1].text.strip("'")
    if found[1].kind != "string" or len(found) < 3 or found[2].upper not in UNITS:
        yield _says(30089, f"missing or invalid <datetime field> (near {found[1].text})")
    elif text.lstrip("+-").isdigit() and len(text.lstrip("+-")) > 2 and (len(found) < 4 or found[3].text != "("):
        yield _says(1873, f"the leading precision of the interval is too small: {text}")


def _is_date(text: str) -> bool:
    parts = text.strip("'").split("-")
    return len(parts) == 3 and all(part.strip().isdigit() for part in parts)


def _is_timestamp(text: str) -> bool:
    day, _, clock = text.strip("'").strip().partition(" ")
    return _is_date(day) and len(clock.split(" ")[0].split(":")) >= 3


_MOMENTS = {"DATE": _is_date, "TIMESTAMP": _is_timestamp}


def _functions(found: Found) -> Iterator[str]:
    for n, one, two in _pairs(found):
        if two.text != "(" or one.kind != "word":
            continue
        before = found[n - 1] if n else None
        if before and (
            before.kind == "string" or before.upper in {".", "INTO", "TABLE", "VIEW", "ON", "WITH", "INTERVAL", "TO", "AS"}
        ):
            continue
        arguments = split(found[n + 2 : closing(found, n + 1)])
        if one.upper in OTHER_FUNCTIONS:
            yield _says(904, f'"{one.upper}": invalid identifier')
        elif (one.upper == "CONCAT" and len(arguments) > 2) or (one.upper == "LOG" and len(arguments) == 1):
            yield _says(909, f"invalid number of arguments for {one.upper}")


def _booleans(found: Found) -> Iterator[str]:
    for n, token in enumerate(found):
        if token.kind != "word" or token.upper not in {"TRUE", "FALSE"}:
            continue
        before, after = (found[m].upper if 0 <= m < len(found) else "" for m in (n - 1, n + 1))
        if before not in {".", "AS"} and after not in {".", "ON"}:  # a column so named, or JSON's TRUE ON ERROR
            yield _says(904, f'"{token.upper}": invalid identifier')


# --- statements -------------------------------------------------------------------------------------------------------------------


def _controls(found: Found) -> Iterator[str]:
    first, rest = found[0].upper, [token.upper for token in found[1:]]
    if first == "BEGIN":
        yield _says(900, "invalid SQL statement: transactions begin by themselves")
    if first == "SET" and rest[:1] not in (["TRANSACTION"], ["ROLE"], ["CONSTRAINT"], ["CONSTRAINTS"]):
        yield _says(922, "missing or invalid option")
    if first == "EXPLAIN" and rest[:1] != ["PLAN"]:
        yield _says(905, "missing keyword (PLAN)")
    if first == "LOCK":
        yield from _lock(rest)


def _lock(rest: list[str]) -> Iterator[str]:
    if rest[:1] != ["TABLE"] or "IN" not in rest or "MODE" not in rest:
        yield _says(905, "missing keyword")
        return
    begin, end = rest.index("IN"), rest.index("MODE")
    if " ".join(rest[begin + 1 : end]) not in LOCK_MODES:
        yield _says(1737, "valid modes: [ROW] SHARE, [[SHARE] ROW] EXCLUSIVE, SHARE UPDATE")
    after = rest[end + 1 :]
    if after not in ([], ["NOWAIT"]) and not (len(after) == 2 and after[0] == "WAIT" and after[1].isdigit()):
        yield _says(933, "SQL command not properly ended")


_RULES: tuple[Rule, ...] = (
    _signs,
    _parentheses,
    _controls,
    lint_define.rules,
    lint_merge.rules,
    lint_query.rules,
    _booleans,
    _literals,
    _functions,
)
