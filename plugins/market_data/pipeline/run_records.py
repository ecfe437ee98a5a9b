"""Records of a run for its hooks: read from the ledger, and remembered in the lake."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime

from market_data.lake.layout import remembered_prefix
from market_data.pipeline.known_lives import KnownLives
from market_data.pipeline.run_context import RunContext
from market_data.providers.records import Records


class LedgerRecords(Records):
    """Records of a run: the same for each of its tasks."""

    def __init__(self, context: RunContext, lives: KnownLives) -> None:
        super().__init__()
        self._lake, self._lives = context.lake, lives
        self._folder, self._calendar_of = _folder(context), context.calendar_of

    def traded(self, symbols: Sequence[str], day: date) -> tuple[str, ...]:
        living = self._lives.living(symbols, day)
        if not living:
            return ()
        near = self._lives.nearby(living, [day], self._calendar_of(living[0]), datetime.now(UTC))
        return tuple(near.those(near.before & near.regular & ~near.gone))

    def untraded(self, symbols: Sequence[str], day: date) -> tuple[str, ...]:
        living = self._lives.living(symbols, day)
        if not living:
            return tuple(symbols)
        near = self._lives.nearby(living, [day], self._calendar_of(living[0]), datetime.now(UTC))
        absent = set(near.those(near.lacked & ~near.before & ~near.after & (near.stored == 0)))
        return tuple(symbol for symbol in symbols if symbol in absent or symbol not in living)

    def exchange(self, symbol: str) -> str:
        return self._lives.exchanges.get(symbol, "")

    def recall(self, name: str) -> bytes | None:
        found = super().recall(name)
        if found is None and (stored := self._lake.get(f"{self._folder}/{name}")) is not None:
            found = stored.body
            super().remember(name, found)
        return found

    def remember(self, name: str, value: bytes) -> None:
        super().remember(name, value)
        self._lake.put_new(f"{self._folder}/{name}", value)


def forget(context: RunContext) -> None:
    """Delete what the tasks of a run have remembered."""
    keys = [key for key, _ in context.lake.list(_folder(context))]
    for _ in context.lake.each(context.lake.delete, keys):
        pass


def _folder(context: RunContext) -> str:
    return remembered_prefix(context.feed.dataset, context.source, context.run.key)
