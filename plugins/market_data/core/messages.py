"""Format parts of messages: show values safely, shorten long lists."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import date

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
