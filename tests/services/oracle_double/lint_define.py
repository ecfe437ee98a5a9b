"""The lint's rules for types and for what defines: CREATE, ALTER, DROP."""

from __future__ import annotations

from collections.abc import Iterator

from tests.services.oracle_double.tokens import Token, closing, split
from tests.services.oracle_double.words import NEEDS_LENGTH, OTHER_TYPES, RESERVED

Found = tuple[Token, ...]
TABLE_KINDS = {"GLOBAL", "PRIVATE", "TEMPORARY", "SHARDED", "DUPLICATED", "IMMUTABLE", "BLOCKCHAIN"}
CONSTRAINTS = {"CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN", "SUPPLEMENTAL", "SCOPE", "REF", "PERIOD"}
UNTYPED = {
    "AS",
    "GENERATED",
    "DEFAULT",
    "NOT",
    "NULL",
    "CONSTRAINT",
    "PRIMARY",
    "UNIQUE",
    "CHECK",
    "REFERENCES",
    "VISIBLE",
    "INVISIBLE",
}
LENGTHS = {"VARCHAR2": (4000, 910), "VARCHAR": (4000, 910), "NVARCHAR2": (4000, 910), "CHAR": (2000, 910), "RAW": (2000, 910)}
PRECISION, SCALE, FRACTION = range(1, 39), range(-84, 128), range(10)


def rules(found: Found) -> Iterator[str]:
    """What is wrong with a statement that defines."""
    first = found[0].upper
    if first not in {"CREATE", "ALTER", "DROP", "TRUNCATE"}:
        return
    words = [token.upper for token in found]
    for n, word in enumerate(words):
        if word == "IF" and (words[n + 1 : n + 2] == ["EXISTS"] or words[n + 1 : n + 3] == ["NOT", "EXISTS"]):
            yield "ORA-00933: SQL command not properly ended: no IF EXISTS before 23ai"
    if any(token.kind == "bind" for token in found):
        yield "ORA-01027: bind variables not allowed for data definition operations"
    if first == "CREATE":
        yield from _create(found, words)
    if first == "ALTER" and words[1:2] == ["TABLE"]:
        yield from _alter(found, words)
    if first == "DROP" and words[-1] in {"CASCADE", "RESTRICT"}:
        yield f"ORA-00905: missing keyword after {words[-1]}"


def bad_type(found: Found) -> Iterator[str]:
    """What is wrong with a type's words. A name that is nobody's type may be one of the user's own."""
    if not found:
        yield "ORA-00902: invalid datatype"
        return
    word = found[0].upper
    sized = len(found) > 1 and found[1].text == "("
    if word in OTHER_TYPES or (word == "DOUBLE" and [token.upper for token in found[1:2]] != ["PRECISION"]):
        yield f"ORA-00902: invalid datatype {word}"
    elif word in NEEDS_LENGTH and not sized:
        yield f"ORA-00906: missing left parenthesis: {word} needs a length"
    elif sized:
        yield from _sizes(word, found[2 : closing(found, 1)])


def _sizes(word: str, found: Found) -> Iterator[str]:
    text = "".join(token.text if token.kind != "word" else "" for token in found)
    sizes = [int(part) for part in text.split(",") if part.lstrip("-").isdigit()]
    if not sizes:
        return
    longest, number = LENGTHS.get(word, (0, 0))
    if longest and not 1 <= sizes[0] <= longest:
        yield f"ORA-{number:05d}: specified length too long for its datatype: {word}({sizes[0]})"
    if word in {"NUMBER", "NUMERIC", "DECIMAL"}:
        if sizes[0] not in PRECISION:
            yield f"ORA-01727: numeric precision specifier is out of range (1 to 38): {sizes[0]}"
        if len(sizes) > 1 and sizes[1] not in SCALE:
            yield f"ORA-01728: numeric scale specifier is out of range (-84 to 127): {sizes[1]}"
    if word == "TIMESTAMP" and sizes[0] not in FRACTION:
        yield f"ORA-30088: datetime/interval precision is out of range: {sizes[0]}"


def _create(found: Found, words: list[str]) -> Iterator[str]:
    what = next((n for n, word in enumerate(words) if word in {"TABLE", "VIEW", "INDEX"}), None)
    if what is None or words[what] == "INDEX":
        return
    before = words[1:what]
    if (words[what] == "TABLE" and not set(before) <= TABLE_KINDS) or before[:1] == ["TEMPORARY"] or "TEMP" in before:
        yield f"ORA-00901: invalid CREATE command: {' '.join(words[: what + 1])}"
    if words[what + 1 : what + 2] and words[what + 1] in RESERVED:
        yield f"ORA-00903: invalid table name: {words[what + 1]}"
    if words[what] == "TABLE":
        yield from _columns(found, what)
        for n, word in enumerate(words):
            if words[n : n + 3] == ["ON", "COMMIT", "DROP"] and words[n + 3 : n + 4] != ["DEFINITION"]:
                yield f"ORA-00905: missing keyword after {word} COMMIT DROP"


def _columns(found: Found, what: int) -> Iterator[str]:
    opening = next((n for n in range(what, min(what + 5, len(found))) if found[n].text == "("), None)
    if opening is None:
        return
    for part in split(found[opening + 1 : closing(found, opening)]):
        yield from _column(part)


def _column(part: Found) -> Iterator[str]:
    if not part:
        yield "ORA-00904: : invalid identifier (a comma too many)"
        return
    name = part[0]
    if name.upper in CONSTRAINTS:
        return
    if name.upper in RESERVED:
        yield f'ORA-00904: "{name.upper}": invalid identifier, it is reserved'
    if len(part) > 1 and part[1].upper not in UNTYPED:
        rules_at = next(
            (n for n, token in enumerate(part) if n and token.depth == name.depth and token.upper in UNTYPED), len(part)
        )
        yield from bad_type(part[1:rules_at])
    words = [token.upper for token in part if token.depth == name.depth]
    if "DEFAULT" in words and "NULL" in words[: words.index("DEFAULT")]:
        yield "ORA-00907: missing right parenthesis: DEFAULT comes before NOT NULL"
    if {"AUTO_INCREMENT", "AUTOINCREMENT"} & set(words):
        yield "ORA-00907: missing right parenthesis (near AUTO_INCREMENT)"


def _alter(found: Found, words: list[str]) -> Iterator[str]:
    if "ALTER" in words[1:]:
        yield "ORA-01735: invalid ALTER TABLE option: ALTER COLUMN is MODIFY"
    at = next((n for n, word in enumerate(words) if word in {"ADD", "MODIFY"}), None)
    if at is None or at + 1 >= len(found) or words[at + 1] in CONSTRAINTS | {"PARTITION", "SUBPARTITION", "LOB"}:
        return
    columns = split(found[at + 2 : closing(found, at + 1)]) if found[at + 1].text == "(" else [found[at + 1 :]]
    for column in columns:
        yield from _column(column)
