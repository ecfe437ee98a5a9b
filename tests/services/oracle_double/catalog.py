"""Tables as Oracle defines them: what DuckDB needs to know of them, and what it cannot keep."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from tests.services.oracle_double.errors import OraError, not_done
from tests.services.oracle_double.tokens import Token, closing, split, text, tokens
from tests.services.oracle_double.translate import STRINGS, type_name

CONSTRAINTS = {"CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"}
RULE_WORDS = {"NOT", "NULL", "DEFAULT", "PRIMARY", "UNIQUE", "CHECK", "CONSTRAINT", "REFERENCES"}


@dataclass(frozen=True)
class ColumnDefinition:
    """A column.

    :param kind: Oracle's type, as written.
    :param rules: what follows the type, e.g. ``NOT NULL``.
    """

    name: str
    kind: str
    rules: str = ""

    @classmethod
    def parse(cls, found: tuple[Token, ...]) -> Self:
        rules = next(
            (n for n, token in enumerate(found) if n and token.depth == found[0].depth and token.upper in RULE_WORDS), len(found)
        )
        return cls(found[0].text.strip('"').lower(), text(found[1:rules]), text(found[rules:]))

    def duckdb(self) -> list[str]:
        """DuckDB's definition, and a check of the length, which DuckDB leaves open. The odd equation marks the check as the double's
        own, in the text of DuckDB's error."""
        lines = [f"{self.name} {type_name(tokens(self.kind))} {self.rules.replace('SYSTIMESTAMP', 'now()')}"]
        found = tokens(self.kind)
        if found[0].upper in STRINGS and len(found) > 3:
            length = "length" if found[3].upper == "CHAR" else "strlen"
            lines.append(f"CHECK ({length}({self.name}) <= {found[2].text} AND 12899 = 12899)")
        return lines


@dataclass(frozen=True)
class TableDefinition:
    """A table.

    :param constraints: as written.
    :param on_commit: ``DELETE`` or ``PRESERVE`` rows, for a global temporary table; empty for another.
    """

    name: str
    columns: tuple[ColumnDefinition, ...]
    constraints: tuple[str, ...] = ()
    on_commit: str = ""

    @classmethod
    def parse(cls, sql: str) -> Self:
        """From a CREATE TABLE.

        :raises OraError: 3001, it is of a kind that the double lacks.
        """
        found = tokens(sql)
        at = next(n for n, token in enumerate(found) if token.upper == "TABLE")
        before = [token.upper for token in found[1:at]]
        opening = next((n for n, token in enumerate(found) if token.text == "("), len(found))
        end = closing(found, opening)
        if before not in ([], ["GLOBAL", "TEMPORARY"]) or end >= len(found) or any(t.upper == "AS" for t in found[at:opening]):
            raise not_done("this kind of CREATE TABLE")
        parts = split(found[opening + 1 : end])
        columns = tuple(ColumnDefinition.parse(part) for part in parts if part[0].upper not in CONSTRAINTS)
        constraints = tuple(_constraint(part) for part in parts if part[0].upper in CONSTRAINTS)
        rest = [token.upper for token in found[end + 1 :]]
        on_commit = ("PRESERVE" if "PRESERVE" in rest else "DELETE") if before else ""
        return cls(found[opening - 1].text.strip('"').lower(), columns, constraints, on_commit)

    def duckdb(self) -> str:
        """DuckDB's CREATE TABLE; a temporary table of the session for a global temporary one."""
        lines = [line for column in self.columns for line in column.duckdb()]
        return f"CREATE {'TEMPORARY ' if self.on_commit else ''}TABLE {self.name} ({', '.join([*lines, *self.constraints])})"

    def modified(self, column: ColumnDefinition) -> Self:
        """With another type for a column, or another rule if one is given.

        :raises OraError: 904, there is no such column.
        """
        old = next((c for c in self.columns if c.name == column.name), None)
        if old is None:
            raise OraError(904, f'"{column.name.upper()}": invalid identifier')
        new = replace(old, kind=column.kind or old.kind, rules=column.rules or old.rules)
        return replace(self, columns=tuple(new if c is old else c for c in self.columns))

    def added(self, column: ColumnDefinition) -> Self:
        """With one more column.

        :raises OraError: 1430, it has one of that name.
        """
        if any(c.name == column.name for c in self.columns):
            raise OraError(1430, "column being added already exists in table")
        return replace(self, columns=(*self.columns, column))

    @property
    def key_name(self) -> str:
        return self._name("PRIMARY KEY") or f"{self.name}_pk"

    @property
    def check_name(self) -> str:
        return self._name("CHECK") or f"{self.name}_ck"

    def _name(self, kind: str) -> str | None:
        named = (c.split() for c in self.constraints if f" {kind}" in c.upper() and c.upper().startswith("CONSTRAINT"))
        return next((words[1] for words in named), None)


def _constraint(found: tuple[Token, ...]) -> str:
    """Without what says where Oracle keeps the index."""
    end = next((n for n, token in enumerate(found) if token.upper == "USING" and token.depth == found[0].depth), len(found))
    return text(found[:end])
