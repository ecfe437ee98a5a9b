"""SQL text as tokens, for the translation to DuckDB."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?\*/)
      | (?P<string>[nN]?'(?:[^']|'')*'
          |[nN]?[qQ]'\[.*?\]'|[nN]?[qQ]'\{.*?\}'|[nN]?[qQ]'\(.*?\)'|[nN]?[qQ]'<.*?>'|[nN]?[qQ]'(?P<mark>\S).*?(?P=mark)')
      | (?P<quoted>"[^"]+")
      | (?P<number>(?:\d+(?:\.(?!\.)\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?:[fFdD](?!\w))?)
      | (?P<bind>:(?:\d+|[A-Za-z][\w$\#]*|"[^"]+"))
      | (?P<word>[^\W\d][\w$\#]*)
      | (?P<op><>|!=|\^=|<=|>=|\|\||:=|=>|::|\*\*|==|->>|->|\.\.|.)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a statement.

    :param kind: ``word``, ``quoted``, ``string``, ``number``, ``bind`` or ``op``.
    :param text: as written.
    :param upper: in capitals, if a word; else as written.
    :param start, end: where it is, the end exclusive.
    :param depth: how many parentheses are open around it; a parenthesis has the depth of what is around it.
    """

    kind: str
    text: str
    upper: str
    start: int
    end: int
    depth: int


@lru_cache(maxsize=512)
def tokens(sql: str) -> tuple[Token, ...]:
    """The tokens of ``sql``, without space and comments. A quote that nobody closes is an ``op``."""
    found: list[Token] = []
    depth = 0
    for match in _TOKEN.finditer(sql):
        kind = "string" if match["string"] is not None else str(match.lastgroup)
        if kind == "space":
            continue
        text = match[0]
        if text == ")":
            depth -= 1
        found.append(Token(kind, text, text.upper() if kind == "word" else text, match.start(), match.end(), depth))
        if text == "(":
            depth += 1
    return tuple(found)


def words(sql: str) -> set[str]:
    """The words of ``sql``, in capitals."""
    return {token.upper for token in tokens(sql) if token.kind == "word"}


def closing(found: tuple[Token, ...], at: int) -> int:
    """Where the parenthesis that opens at ``at`` closes; the end, if nowhere."""
    for n in range(at + 1, len(found)):
        if found[n].text == ")" and found[n].depth == found[at].depth:
            return n
    return len(found)


def split(found: tuple[Token, ...]) -> list[tuple[Token, ...]]:
    """``found`` parted at its outermost commas."""
    if not found:
        return []
    parts: list[tuple[Token, ...]] = []
    start = 0
    for n, token in enumerate(found):
        if token.text == "," and token.depth == found[0].depth:
            parts.append(found[start:n])
            start = n + 1
    return [*parts, found[start:]]


def text(found: tuple[Token, ...]) -> str:
    """Tokens as text again."""
    return " ".join(token.text for token in found)
