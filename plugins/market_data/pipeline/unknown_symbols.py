"""Suggest the known symbol that an unknown one was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

SHORTEST = 3
"""Characters of a symbol for which a suggestion makes sense: two letters are one edit away from dozens."""


def did_you_mean(symbol: str, known: Iterable[str]) -> str | None:
    """Return the known symbol closest to ``symbol``, or None if none is close.

    Close is another spelling (``brk-b``), two neighbouring characters swapped, or one changed, added or missing; for longer symbols also
    what ``difflib`` finds. If several are close, the one with the same length and letters is returned.
    """
    candidates = sorted(set(known) - {symbol})
    same = [name for name in candidates if _plain(name) == _plain(symbol)]
    if same:
        return same[0]
    if len(symbol) < SHORTEST:
        return None
    near = [(_distance(symbol.upper(), name.upper()), name) for name in candidates if abs(len(name) - len(symbol)) <= 1]
    ranked = sorted(
        (name for distance, name in near if distance == 1 and len(name) >= SHORTEST),
        key=lambda name: (
            sorted(name.upper()) != sorted(symbol.upper()),  # swapped characters first
            len(name) != len(symbol),
            set(name.upper()) != set(symbol.upper()),
            name[:1].upper() != symbol[:1].upper(),
            name,
        ),
    )
    if ranked:
        return ranked[0]
    return next(iter(difflib.get_close_matches(symbol, candidates, n=1, cutoff=0.8)), None)


def _plain(symbol: str) -> str:
    return "".join(character for character in symbol.upper() if character.isalnum())


def _distance(one: str, other: str) -> int:
    """Return 0 if equal, 1 if one edit or one swap of neighbours apart, else 2."""
    if one == other:
        return 0
    start = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    rest, others = one[start:], other[start:]
    swapped = len(rest) > 1 and len(others) > 1 and rest[:2] == others[1::-1] and rest[2:] == others[2:]
    edited = rest[1:] == others[1:] or rest[1:] == others or rest == others[1:]
    return 1 if swapped or edited else 2
