"""Find cells whose object does not exist, without reading an object."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from market_data.core.dates import microseconds
from market_data.lake.layout import ALL_SYMBOLS
from market_data.maintenance.audit.cells import among, days_of, symbols_of
from market_data.maintenance.audit.evidence import Evidence, object_codes
from market_data.maintenance.audit.listing import DAY, IN_SESSION, MONTH, YEAR, Numbers, day_of
from market_data.maintenance.audit.world import World, starts

if TYPE_CHECKING:
    from market_data.core.run import Grain


def without_object_of(world: World, evidence: Evidence) -> Numbers:
    """Return the loaded cells whose object is missing.

    Cells that were recorded after the objects were listed are left out.
    """
    if not world.dated:
        return np.empty(0, dtype=np.int64)
    recorded = world.recorded
    codes = recorded.codes[recorded.loaded & (recorded.stamps <= microseconds(world.now))]
    codes = codes[~among(codes, world.staged)]
    return np.union1d(codes[~world.with_object(codes)], without_day_file(world, evidence, codes))


def without_day_file(world: World, evidence: Evidence, codes: Numbers) -> Numbers:
    """Return the cells whose day file was written, does not exist, and was not folded since."""
    codes = codes[~world.in_day_files(codes)]
    written = evidence.moment(_objects(DAY, codes))
    folded = np.maximum(
        evidence.moment(_objects(MONTH, starts(codes, "M")), compacted=True),
        evidence.moment(_objects(YEAR, starts(codes, "Y")), compacted=True),
    )
    return codes[written > folded]


def missing_keys(world: World, evidence: Evidence, codes: Numbers) -> list[str]:
    """Return the keys of the objects that should hold cells.

    These are the ones that receipts name, else those of the feed's ``file_grain``.
    """
    options = (
        _objects(DAY, codes),
        session_objects(world, days_of(codes)),
        _objects(MONTH, starts(codes, "M")),
        _objects(YEAR, starts(codes, "Y")),
    )
    moments = np.stack([evidence.moment(objects) for objects in options])
    own: list[Grain] = ["day", "session", "year", "year"]
    usual = own.index(world.feed.params.get("file_grain", "day"))
    places = np.where(moments.max(axis=0) < 0, usual, moments.argmax(axis=0))
    chosen, kinds = world.selection, world.selection.dataset.files.kinds
    names = [world.names.names[symbol] for symbol in symbols_of(codes).tolist()]
    days = [day_of(day) for day in days_of(codes).tolist()]
    grains = [own[place] for place in places.tolist()]
    kind = kinds[0] if kinds else None
    return [
        chosen.layout.object_key(chosen.dataset, chosen.source, name, day, grain, kind)
        for name, day, grain in zip(names, days, grains, strict=True)
    ]


def session_objects(world: World, days: Numbers) -> Numbers:
    """Return the codes of the session files of ``days``."""
    zero = np.zeros(len(days), dtype=np.int64)
    return object_codes(zero + world.names.of([ALL_SYMBOLS])[0], zero + DAY, days, zero + IN_SESSION)


def _objects(period: int, first: Numbers) -> Numbers:
    zero = np.zeros(len(first), dtype=np.int64)
    return object_codes(symbols_of(first), zero + period, days_of(first), zero)
