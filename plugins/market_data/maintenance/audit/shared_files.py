"""Read which symbols have rows in each session file: the names of other objects tell that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from market_data.core.errors import BrokenObject
from market_data.lake import session_files
from market_data.lake.layout import ALL_SYMBOLS
from market_data.lake.receipts import SMALLEST
from market_data.maintenance.audit.listing import IN_SESSION, Listing, Numbers, cell_codes

if TYPE_CHECKING:
    from market_data.lake.store import Lake
    from market_data.maintenance.audit.cells import Names

PARALLEL = 16


@dataclass(frozen=True)
class Shares:
    """The cells with rows in session files.

    :param names: the symbols, each once; ``numbers`` has a position in it for each cell.
    :param days: of each cell, in days since 1970.
    """

    names: tuple[str, ...]
    numbers: Numbers
    days: Numbers

    def codes(self, names: Names) -> Numbers:
        """Return the codes of the cells, sorted; ``names`` has all symbols."""
        numbers = names.of(self.names)[self.numbers] if len(self.numbers) else self.numbers
        return np.unique(cell_codes(numbers, self.days))


def read_shares(lake: Lake, listing: Listing) -> Shares:
    """Read the symbols of the listed session files; of a selection, only its symbols.

    A file that cannot be read, or was deleted in the meantime, has none.
    """
    files = np.flatnonzero((listing.kinds == IN_SESSION) & (listing.sizes >= SMALLEST))
    wanted = listing.selection.symbols

    def one(row: int) -> list[str]:
        try:
            return session_files.symbols_in(lake, listing.key(row), wanted) or []
        except BrokenObject:
            return []

    numbers: dict[str, int] = {}
    parts = [np.empty(0, dtype=np.int32)]
    for symbols in lake.each(one, files.tolist(), concurrency=PARALLEL):
        known = (numbers.setdefault(symbol, len(numbers)) for symbol in symbols if symbol != ALL_SYMBOLS)
        parts.append(np.fromiter(known, dtype=np.int32))
    days = np.repeat(listing.days[files], [len(part) for part in parts[1:]])
    return Shares(tuple(numbers), np.concatenate(parts), days)
