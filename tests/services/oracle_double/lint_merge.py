"""The lint's rules for MERGE."""

from __future__ import annotations

from collections.abc import Iterator

from tests.services.oracle_double.tokens import Token, closing, split
from tests.services.oracle_double.words import RESERVED

Found = tuple[Token, ...]


def rules(found: Found) -> Iterator[str]:
    """What is wrong with a MERGE."""
    if found[0].upper != "MERGE":
        return
    outer = [n for n, token in enumerate(found) if token.depth == 0]
    on = next((n for n in outer if found[n].upper == "ON"), None)
    head = found[: on if on is not None else len(found)]
    if any(token.upper == "AS" and token.depth == 0 for token in head):
        yield "ORA-00969: missing ON keyword: no AS before a table's alias"
    if on is None:
        yield "ORA-00969: missing ON keyword"
        return
    if found[on + 1].text != "(":
        yield "ORA-00906: missing left parenthesis after ON"
        return
    whens = [n for n in outer if found[n].upper == "WHEN"]
    for at in whens:
        yield from _branch(found, at)
    heads = [tuple(token.upper for token in found[at : at + 2]) for at in whens]
    if len(set(heads)) < len(heads):
        yield "ORA-00933: SQL command not properly ended: each branch of MERGE once"
    yield from _updated(found, on)


def _branch(found: Found, at: int) -> Iterator[str]:
    head = [token.upper for token in found[at : at + 6]]
    matched = head[:3] == ["WHEN", "MATCHED", "THEN"]
    if not matched and head[:4] != ["WHEN", "NOT", "MATCHED", "THEN"]:
        yield f"ORA-00905: missing keyword (near {' '.join(head[:4])})"
        return
    action = head[3:] if matched else head[4:]
    if action[:1] != (["UPDATE"] if matched else ["INSERT"]) or (matched and action[1:2] != ["SET"]):
        yield f"ORA-00905: missing keyword (near THEN {' '.join(action[:1])})"
    elif not matched and action[1:2] == ["("]:
        names = found[at + 5 : closing(found, at + 5)]
        yield from (f"ORA-01747: invalid column specification: {t.text}" for t in names if t.upper in RESERVED)


def _updated(found: Found, on: int) -> Iterator[str]:
    """Columns of the target that ON compares may not be updated."""
    table = 4 if len(found) > 4 and found[3].text == "." else 2
    alias = found[table + 1].upper if found[table + 1].upper != "USING" else found[table].upper
    condition = found[on + 1 : closing(found, on + 1)]
    compared = {
        condition[n + 2].upper for n in range(len(condition) - 2) if condition[n].upper == alias and condition[n + 1].text == "."
    }
    setting = next((n for n in range(on, len(found)) if found[n].upper == "SET" and found[n].depth == 0), None)
    if setting is None:
        return
    end = next(
        (n for n in range(setting, len(found)) if found[n].upper in {"WHEN", "WHERE", "DELETE"} and found[n].depth == 0), len(found)
    )
    for part in split(found[setting + 1 : end]):
        target = part[2] if len(part) > 2 and part[1].text == "." else part[0]
        if target.upper in compared:
            yield f'ORA-38104: Columns referenced in the ON Clause cannot be updated: "{target.upper}"'
        if target.upper in RESERVED:
            yield f"ORA-01747: invalid column specification: {target.text}"
