"""Changes to prices, made by tests."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

from sandbox.market.bars import DailyBar

PRICES = ("open", "high", "low", "close", "vwap")


@dataclass(frozen=True, slots=True)
class Change:
    """Another value of a session's bars.

    :param symbol: whose, or None for all symbols.
    :param multiply: what ``fields`` are multiplied with.
    :param replace: field -> value put in its place; None makes a blank.
    """

    symbol: str | None
    multiply: float = 1.0
    fields: tuple[str, ...] = PRICES
    replace: Mapping[str, float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        allowed = (*PRICES, "volume")
        for name in (*self.fields, *self.replace):
            if name not in allowed:
                raise ValueError(f"field is {name!r}; allowed: {', '.join(allowed)}")

    def apply(self, bar: DailyBar) -> DailyBar:
        if self.symbol not in (None, bar.symbol):
            return bar
        values = {name: getattr(bar, name) for name in self.fields}
        products = {name: round(value * self.multiply, 4) for name, value in values.items() if value is not None}
        return bar._replace(**{**products, **self.replace})


class Edits:
    """Altered prices, and symbols hidden from a session."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changes: dict[date, tuple[Change, ...]] = {}
        self._hidden: dict[date, frozenset[str]] = {}

    def alter(self, session: date, change: Change) -> None:
        with self._lock:
            self._changes[session] = (*self._changes.get(session, ()), change)

    def hide(self, session: date, symbols: Collection[str]) -> None:
        with self._lock:
            self._hidden[session] = self._hidden.get(session, frozenset()) | set(symbols)

    def clear_changes(self) -> None:
        with self._lock:
            self._changes = {}

    def clear_hidden(self) -> None:
        with self._lock:
            self._hidden = {}

    def apply(self, bars: Iterable[DailyBar]) -> list[DailyBar]:
        result = []
        for bar in bars:
            if bar.symbol in self._hidden.get(bar.session, ()):
                continue
            edited = bar
            for change in self._changes.get(bar.session, ()):
                edited = change.apply(edited)
            result.append(edited)
        return result
