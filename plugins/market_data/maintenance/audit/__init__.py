"""Audit a feed's part of the lake: find what is missing, changed or left behind.

Each finding has its cause and its cheapest repair.

Reads only. ``world`` reads the objects' list (``listing``), the ledger, staging (``leftovers``) and the expected cells (``expected``).
``evidence`` reads the receipts. ``suspicion`` chooses the objects to read, ``contents`` reads them (``reading``) and compares them with
``silver``. ``judge`` turns all of it into findings.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from market_data.lake.layout import ALL_SYMBOLS
from market_data.maintenance.audit.cells import Collector
from market_data.maintenance.audit.contents import read_contents
from market_data.maintenance.audit.evidence import read_evidence
from market_data.maintenance.audit.holes import without_object_of
from market_data.maintenance.audit.judge import judge_ledger, judge_objects, judge_silver, judge_states
from market_data.maintenance.audit.leftovers import add_left_behind, unreadable_ledger
from market_data.maintenance.audit.reading import overlapping
from market_data.maintenance.audit.result import Audit, write_report
from market_data.maintenance.audit.suspicion import suspect
from market_data.maintenance.audit.world import see
from market_data.maintenance.findings import OF_WAREHOUSE

if TYPE_CHECKING:
    from market_data.config.feeds import Feed
    from market_data.config.universes import Universe
    from market_data.lake.store import Lake
    from market_data.pipeline.selection import Selection
    from market_data.warehouse.base import Warehouse

__all__ = ["SHARE", "Audit", "audit", "write_report"]

SHARE = 0.05
"""Share of the symbols whose objects are read although nothing is suspected of them."""


def audit(
    lake: Lake,
    warehouse: Warehouse | None,
    feed: Feed,
    selection: Selection,
    now: datetime,
    universe: Universe | None = None,
    *,
    share: float = SHARE,
    open_s3: Callable[[str], bytes] | None = None,
) -> Audit:
    """Return what is wrong in a selection. Reads only; makes no API calls.

    :param warehouse: None: the warehouse is not audited. Nor is it if the dataset has no table.
    :param now: aware; cells are expected up to the last session that the feed should have fetched by then.
    :param universe: the symbols with their dates; None: the feed's. With ``selection.symbols``, only these.
    :param share: read the objects of this share of the symbols, chosen by the date of ``now``, and of all suspected ones. 1: read all.
    :param open_s3: returns the body of an ``s3://`` URL, for the tickers file of the feed; None: there is no access.
    """
    world = see(lake, warehouse, feed, selection, now, universe, open_s3)
    collector = Collector(selection, world.names, world.find)
    evidence = read_evidence(
        lake, selection, world.names, np.union1d(world.missing.codes, world.unrecorded_day_files()), shared=world.shared
    )
    suspicion = suspect(world, share)
    without_object = without_object_of(world, evidence)
    read = read_contents(world, suspicion.wanted, evidence)
    gone = read.objects.gone
    collector.leave(cells for _, cells in overlapping(world.listing, world.symbols, world.recorded.codes, gone))
    broken_ledger = unreadable_ledger(world.coverage, collector)
    judge_objects(world, read, without_object, collector)
    judge_ledger(world, read, broken_ledger, collector)
    judge_silver(world, read, suspicion.lacking, collector)
    judge_states(world, collector)
    add_left_behind(world.left, collector)
    notes = (*world.notes, *read.notes)
    if gone:
        notes += (f"{len(gone):,} objects were deleted while they were read, e.g. {world.listing.key(gone[0])}; audit again",)
    if read.objects.rewritten and read.differences is None:
        keys = sorted({world.listing.key(row) for row in read.objects.rewritten})
        notes += (
            f"{len(keys):,} session files have another hash than their receipts, e.g. {keys[0]}; the warehouse tells which values",
        )
    counts = {
        "symbols": len(set(world.names.names) - {ALL_SYMBOLS}) if selection.symbols is None else len(selection.symbols),
        "cells": world.missing.cells,
        "recorded": len(world.recorded.codes),
        "objects": len(world.listing),
        "objects_read": read.objects.count,
        "receipts": evidence.count,
        "symbols_compared": read.symbols_compared,
        "rows_compared": world.silver.rows if world.silver else 0,
    }
    unjudged = world.unjudged | (OF_WAREHOUSE if read.notes else set())
    sample = None if suspicion.sample is None else tuple(world.names.names[one] for one in suspicion.sample.tolist())
    return Audit(selection, collector.table(), counts, share, notes, sample, tuple(sorted(unjudged)))
