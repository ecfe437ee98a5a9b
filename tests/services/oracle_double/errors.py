"""Oracle's errors, and what of PostgreSQL's becomes which of them."""

from __future__ import annotations

import re

import psycopg


class OraError(Exception):
    """An error that the client gets as ``ORA-number: text``.

    Texts tell names and values, as those of Oracle 23ai do: a test that looks for leaks has something to find.
    """

    def __init__(self, number: int, text: str) -> None:
        super().__init__(f"ORA-{number:05d}: {text}")
        self.number = number


class DropConnection(Exception):
    """The connection is to be cut, or was."""


class Break(Exception):
    """The client interrupts the call under way: its ``call_timeout`` is over."""


UNKNOWN = re.compile(r'column "?(?:\w+\.)?(\w+)"? (?:of relation .* )?does not exist|missing FROM-clause entry.*"(\w+)"')
NUMBERS = {
    "21000": (30926, "unable to get a stable set of rows in the source tables"),
    "22003": (1438, "value larger than specified precision allowed for this column"),
    "22007": (1861, "literal does not match format string"),
    "22008": (1861, "literal does not match format string"),
    "22012": (1476, "divisor is equal to zero"),
    "2201E": (1428, "argument is out of range"),
    "22P02": (1722, "invalid number"),
    "25006": (1456, "may not perform insert/delete/update operation inside a READ ONLY transaction"),
    "40001": (8177, "can't serialize access for this transaction"),
    "40P01": (60, "deadlock detected while waiting for resource"),
    "42601": (900, "invalid SQL statement"),
    "42701": (1430, "column being added already exists in table"),
    "42704": (2443, "cannot drop constraint - nonexistent constraint"),
    "42710": (2264, "name already used by an existing constraint"),
    "42702": (918, "column ambiguously defined"),
    "42803": (979, "not a GROUP BY expression"),
    "42804": (932, "inconsistent datatypes"),
    "42883": (904, "invalid identifier"),
    "42P01": (942, "table or view does not exist"),
    "42P07": (955, "name is already used by an existing object"),
    "55P03": (54, "resource busy and acquire with NOWAIT specified or timeout expired"),
}
"""By PostgreSQL's SQLSTATE; the others of it are below."""


def not_done(what: str) -> OraError:
    """Make the error for what Oracle can do and the double cannot: loud, so that no test passes by accident."""
    return OraError(3001, f"unimplemented feature (of the double): {what}")


def from_postgres(error: psycopg.Error, owner: str) -> OraError:
    """Say PostgreSQL's ``error`` in Oracle's words.

    :param owner: the user, in capitals.
    """
    said, state = error.diag, error.sqlstate or ""
    primary = said.message_primary or str(error)
    values = f" [{said.message_detail}]"
    if state == "23505":
        return OraError(1, f"unique constraint ({owner}.{str(said.constraint_name).upper()}) violated{values}")
    if state == "23514":
        return OraError(2290, f"check constraint ({owner}.{str(said.constraint_name).upper()}) violated{values}")
    if state == "23502":
        column = ".".join(f'"{part}"'.upper() for part in (owner, said.table_name, said.column_name))
        return OraError(1400, f"cannot insert NULL into ({column}){values}")
    if state == "22001":
        return OraError(12899, f"value too large for column ({primary})")
    if found := UNKNOWN.search(primary):
        return OraError(904, f'"{(found[1] or found[2]).upper()}": invalid identifier')
    if state == "42601" and (found := re.search("more (expressions|target columns)", primary)):
        return OraError(913, "too many values") if found[1] == "expressions" else OraError(947, "not enough values")
    number, text = NUMBERS.get(state, (600, "internal error code"))
    return OraError(number, f"{text} [{primary}]")
