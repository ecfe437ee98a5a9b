"""Find the cells of documents: objects, such as statements, that are not named by sessions.

The receipts tell it: each names its objects, and the cells that have rows.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.outcome import State
from market_data.lake.cells import table_of
from market_data.maintenance.audit.cells import days_of, symbols_of
from market_data.maintenance.audit.evidence import Evidence, folders_of, object_codes
from market_data.maintenance.audit.listing import DOCUMENT, Numbers, day_of
from market_data.maintenance.audit.world import World


def missing_documents(world: World, evidence: Evidence) -> dict[str, Numbers]:
    """Return key -> cells of each document that receipts name and the lake lacks."""
    if world.dated:
        return {}
    objects = np.unique(evidence.objects)
    objects = objects[((objects >> 3) & 3) == DOCUMENT]
    listing = world.listing
    listed = object_codes(world.symbols, listing.periods, listing.days, listing.kinds)
    missing = objects[~np.isin(objects, listed)]
    if world.selection.symbols is not None:
        missing = missing[np.isin(symbols_of(missing >> 5), world.names.of(world.selection.symbols))]
    return cells_of_documents(world, [_key(world, int(code)) for code in missing])


def cells_of_documents(world: World, keys: list[str]) -> dict[str, Numbers]:
    """Return key -> cells with rows of the requests that wrote each document."""
    from market_data.lake import receipts

    found = {key: np.empty(0, dtype=np.int64) for key in keys}
    if not keys:
        return found
    wanted = pa.array(keys, pa.string())
    for stored_ones in receipts.read(world.lake, folders_of(world.lake, world.selection), ("key", "symbol")):
        for stored in stored_ones:
            named = stored.objects.filter(pc.is_in(stored.objects["key"].cast(pa.string()), wanted))
            if not len(named):
                continue
            cells = table_of(run for run in stored.receipt.cells if run.with_rows or run.state == State.HAVE)
            for key, symbol in zip(named["key"].to_pylist(), named["symbol"].to_pylist(), strict=True):
                own = cells.filter(pc.equal(cells["symbol"], symbol))
                found[key] = np.union1d(found[key], world.names.codes(own))
    return {key: codes[world.recorded.are_loaded(codes)] for key, codes in found.items()}


def _key(world: World, code: int) -> str:
    chosen, kinds = world.selection, world.selection.dataset.files.kinds
    cell = np.array([code >> 5])
    kind = kinds[code & 7] if kinds else None
    name, day = world.names.names[int(symbols_of(cell)[0])], day_of(days_of(cell)[0])
    return chosen.layout.object_key(chosen.dataset, chosen.source, name, day, "day", kind)
