"""Format parts of messages: show values safely, shorten long lists."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import date
from difflib import get_close_matches

MAX_PROBLEMS = 20


def shortened(problems: Sequence[str]) -> list[str]:
    """Return the first :data:`MAX_PROBLEMS`, and the number of further ones."""
    more = len(problems) - MAX_PROBLEMS
    return [*problems[:MAX_PROBLEMS], *([f"and {more:,} more"] if more > 0 else [])]


def shown(value: object, width: int = 60) -> str:
    """Return a value as printable text of at most ``width`` characters."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = value.isoformat() if isinstance(value, date) else ascii(value)
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
