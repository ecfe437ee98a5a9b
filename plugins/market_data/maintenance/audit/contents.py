"""Read the chosen lake objects and compare their rows with silver."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from market_data.core.errors import DataError
from market_data.lake.reader import newest
from market_data.maintenance.audit.cells import Mask, among, days_of, months_of, symbols_of
from market_data.maintenance.audit.evidence import Evidence
from market_data.maintenance.audit.listing import IN_SESSION, Numbers
from market_data.maintenance.audit.reading import OBJECT, Objects, Wanted, batches, read_objects
from market_data.maintenance.audit.silver import Differences
from market_data.maintenance.audit.world import World

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Contents:
    """The content of the objects that were read.

    :param present: cells with rows, sorted; ``holders``: for each the row of an object that holds it.
    :param differences: None if nothing was compared with silver.
    """

    wanted: Wanted
    evidence: Evidence
    objects: Objects
    present: Numbers
    holders: Numbers
    differences: Differences | None
    symbols_compared: int = 0
    notes: tuple[str, ...] = ()

    def read_for(self, codes: Numbers) -> Mask:
        """Return a mask of the cells of which every object was read."""
        return self.wanted.has(symbols_of(codes), months_of(days_of(codes)))

    def has(self, codes: Numbers) -> Mask:
        """Return a mask of the cells that have rows."""
        return among(codes, self.present)

    def holder(self, codes: Numbers) -> Numbers:
        """Return the row of an object that holds each of the cells, which all have rows."""
        return self.holders[np.searchsorted(self.present, codes)]


def read_contents(world: World, wanted: Wanted, evidence: Evidence) -> Contents:
    """Read the ``wanted`` objects and compare them."""
    rows = np.flatnonzero(wanted.objects(world.listing, world.symbols))
    objects, parts, compared, notes = Objects(), [], 0, []
    silver = world.silver if world.silver is not None and world.silver.exists else None
    loaded = world.loaded
    known = np.union1d(world.symbols, np.unique(symbols_of(world.recorded.codes)))
    if silver:
        known = np.union1d(known, world.names.of(silver.counts["symbol"]))
    others = known if wanted.months is None else np.unique(symbols_of(wanted.months))
    others = others if silver else np.empty(0, dtype=np.int64)
    shared = world.listing.kinds[rows] == IN_SESSION
    for some, numbers in batches(rows, world.symbols[rows], world.listing.sizes[rows], others, shared):
        table = read_objects(world.lake, world.listing, some, world.symbols[some], world.names, evidence, objects)
        if silver is None or not len(numbers):
            continue
        current = newest(table.drop_columns([OBJECT]), world.selection.dataset)
        current = current.filter(pa.array(world.names.of(current["symbol"]) >= 0))
        current = current.filter(pa.array(among(world.names.codes(current), loaded)))
        symbols = [world.names.names[number] for number in numbers.tolist()]
        try:
            parts.append(silver.compare(current, symbols, world.names, wanted.has))
            compared += len(symbols)
        except DataError as error:
            notes.append(f"{symbols[0]} to {symbols[-1]} cannot be compared with the warehouse: {error}")
            log.warning("audit: %s", notes[-1])
    present, holders = objects.present()
    differences = Differences.of(parts) if silver else None
    return Contents(wanted, evidence, objects, present, holders, differences, compared, tuple(notes))
