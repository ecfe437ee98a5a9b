"""Format parts of messages: show values safely, shorten long lists."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import date
from difflib import get_close_matches
from reprlib import Repr

MAX_PROBLEMS = 20
MOST_BITS = 256
"""Bits of a whole number that is written out: Python takes seconds for millions of digits, or refuses."""


class _Inside(Repr):
    """Look only at what fits into a message: through aliases, a small YAML file can hold an endless list."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxtuple = self.maxlist = self.maxdict = self.maxset = 20
        self.maxstring = self.maxother = 80

    def repr_int(self, x: int, level: int) -> str:  # noqa: ARG002 - reprlib's signature
        return repr(x) if x.bit_length() <= MOST_BITS else f"a number of about {x.bit_length() * 30_103 // 100_000 + 1:,} digits"


_INSIDE = _Inside()


def shortened(problems: Sequence[str]) -> list[str]:
    """Return the first :data:`MAX_PROBLEMS`, and the number of further ones."""
    more = len(problems) - MAX_PROBLEMS
    return [*problems[:MAX_PROBLEMS], *([f"and {more:,} more"] if more > 0 else [])]


def shown(value: object, width: int = 60) -> str:
    """Return a value as printable text of at most ``width`` characters."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, date):
        text = value.isoformat()
    elif isinstance(value, str):
        text = ascii(value if len(value) <= width else value[:width] + value[-1])
    else:
        text = _INSIDE.repr(value).encode("ascii", "backslashreplace").decode()
    return text if len(text) <= width else f"{text[: width - 4]}...{text[-1]}"


def some(names: Iterable[str], most: int = 10) -> str:
    """Return the first ``most`` of ``names``, each once, and the number of further ones."""
    unique = list(dict.fromkeys(names))
    more = f" and {len(unique) - most:,} more" if len(unique) > most else ""
    return ", ".join(unique[:most]) + more


def suggestion(name: object, known: Iterable[str]) -> str:
    """Return `` (did you mean NAME?)`` with the nearest of ``known``, or nothing if none is near."""
    found = get_close_matches(name[:64], list(known), n=1, cutoff=0.75) if isinstance(name, str) else []
    return f" (did you mean {found[0]}?)" if found else ""


def dollars(amount: float) -> str:
    """Return an amount with two digits after the point; below a cent, with its first two digits."""
    return f"{amount:,.2f} US dollars" if amount >= 0.01 or not amount else f"{amount:.2g} US dollars"


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, such as ``1 call`` or ``2 batches``."""
    return f"{count:,} {noun}{'' if count == 1 else 'es' if noun.endswith('ch') else 's'}"
