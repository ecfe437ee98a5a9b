"""Oracle's errors, and what of DuckDB's becomes which of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.services.oracle_double.catalog import TableDefinition


class OraError(Exception):
    """An error that the client gets as ``ORA-number: text``. Texts tell names and values, as those of Oracle 23ai do: a test that
    looks for leaks has something to find."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(f"ORA-{number:05d}: {text}")
        self.number = number


class DropConnection(Exception):
    """The connection is to be cut, or was."""


class Break(Exception):
    """The client interrupts the call under way: its ``call_timeout`` is over, or ``cancel`` was called."""


NOT_DONE = 3001


def not_done(what: str) -> OraError:
    """For what Oracle can do and the double cannot: loud, so that no test passes by accident."""
    return OraError(NOT_DONE, f"unimplemented feature (of the double): {what}")


@dataclass(frozen=True)
class _Failure:
    """What DuckDB said, of which table, and whose it is."""

    found: re.Match[str]
    text: str
    target: TableDefinition | None
    owner: str

    def name(self, *parts: str) -> str:
        """A name as Oracle writes it."""
        return ".".join(f'"{part.upper()}"' for part in (self.owner, *parts))


def from_duckdb(error: Exception, target: TableDefinition | None = None, owner: str = "") -> OraError:
    """DuckDB's ``error`` in Oracle's words.

    :param target: the table that the statement writes.
    :param owner: the user.
    """
    text = str(error)
    if found := re.search(r"(\d+) columns but (\d+) values", text):
        return OraError(913, "too many values") if int(found[2]) > int(found[1]) else OraError(947, "not enough values")
    for pattern, number, says in _RULES:
        if found := re.search(pattern, text, re.IGNORECASE | re.DOTALL):
            return OraError(number, says if isinstance(says, str) else says(_Failure(found, text, target, owner)))
    return OraError(600, f"internal error code, arguments: [{text.splitlines()[0]}]")


def _key(failure: _Failure) -> str:
    name = failure.target.key_name if failure.target else "?"
    return f"unique constraint ({failure.owner}.{name.upper()}) violated [{failure.text.splitlines()[0]}]"


def _check(failure: _Failure) -> str:
    name = failure.target.check_name if failure.target else "?"
    return f"check constraint ({failure.owner}.{name.upper()}) violated"


def _not_null(failure: _Failure) -> str:
    return f"cannot insert NULL into ({failure.name(failure.found[1], failure.found[2])})"


def _too_long(failure: _Failure) -> str:
    column = failure.name(failure.target.name if failure.target else "?", failure.found[1])
    return f"value too large for column {column} (maximum: {failure.found[2]})"


def _identifier(failure: _Failure) -> str:
    return f'"{failure.found[1].upper()}": invalid identifier'


def _syntax(failure: _Failure) -> str:
    return f"invalid SQL statement [{failure.text.splitlines()[0]}]"


_RULES: list[tuple[str, int, str | Callable[[_Failure], str]]] = [
    (r"cannot affect the same target row", 30926, "unable to get a stable set of rows in the source tables"),
    (r"UNIQUE constraint|duplicate key", 1, _key),
    (r"NOT NULL constraint failed: \"?(\w+)\"?\.\"?(\w+)", 1400, _not_null),
    (r'CHECK constraint.*?(?:length|strlen)\("?(\w+)"?\) <= (\d+)\) AND \(12899 = 12899', 12899, _too_long),
    (r"CHECK constraint", 2290, _check),
    (
        r"Table with name .* already exists|View with name .* already exists|Index with name .* already exists",
        955,
        "name is already used by an existing object",
    ),
    (r"(?:Table|View) with name .* does not exist", 942, "table or view does not exist"),
    (r"Existing object (\w+) is of type", 942, "table or view does not exist"),
    (
        r"(?:Referenced (?:update )?column|Referenced table|Function with name) \"?(\w+)\"? ",
        904,
        _identifier,
    ),
    (r"does not have a column (?:named|with name) \"(\w+)\"", 904, _identifier),
    (r"must appear in the GROUP BY", 979, "not a GROUP BY expression"),
    (r"cannot contain aggregates", 934, "group function is not allowed here"),
    (r"Ambiguous reference", 918, "column ambiguously defined"),
    (
        r"value is out of range|does not fit|Could not cast value .* to DECIMAL|out of range!.*DECIMAL",
        1438,
        "value larger than specified precision allowed for this column",
    ),
    (r"Could not convert string .* to (?:DECIMAL|INT|DOUBLE|BIGINT)", 1722, "invalid number"),
    (
        r"date field value out of range|timestamp field value out of range|invalid (?:date|timestamp) field",
        1861,
        "literal does not match format string",
    ),
    (r"Out of Range Error", 1426, "numeric overflow"),
    (r"Conversion Error", 1722, "invalid number"),
    (r"conflict", 8177, "can't serialize access for this transaction"),
    (r"No function matches", 932, "inconsistent datatypes"),
    (r"Parser Error", 900, _syntax),
]
