"""Tell hooks what is known beyond a request.

That is what the ledger has of its symbols, and what other tasks of the run have found out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date


class Records:
    """Knows nothing of earlier runs, and remembers for one hook only.

    The pipeline hands in records that read the ledger and the lake.
    """

    def __init__(self) -> None:
        self._found: dict[str, bytes] = {}

    def traded(self, symbols: Sequence[str], day: date) -> tuple[str, ...]:  # noqa: ARG002
        """Return the symbols that traded nearly every session until just before ``day``."""
        return ()

    def untraded(self, symbols: Sequence[str], day: date) -> tuple[str, ...]:  # noqa: ARG002
        """Return the symbols that had no row in the sessions around ``day``, or that have left the universe."""
        return ()

    def exchange(self, symbol: str) -> str:  # noqa: ARG002
        """Return the primary exchange of a stock as the universe tells it; empty where it does not."""
        return ""

    def recall(self, name: str) -> bytes | None:
        """Return what any task of this run has remembered under ``name``, or None."""
        return self._found.get(name)

    def remember(self, name: str, value: bytes) -> None:
        """Remember ``value`` for all tasks of this run."""
        self._found[name] = value
