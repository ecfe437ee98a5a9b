"""Choose what to read: the objects of a sample of symbols, and those of which something is suspected."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from market_data.lake.receipts import SMALLEST
from market_data.maintenance.audit.cells import days_of, months_of, symbols_of
from market_data.maintenance.audit.listing import MONTH, YEAR, Numbers, cell_codes
from market_data.maintenance.audit.reading import Wanted
from market_data.maintenance.audit.world import World

AHEAD = 24
"""Months after the present one that a period may end in."""


@dataclass(frozen=True)
class Suspicion:
    """The objects to read, and the findings that need no reading.

    :param lacking: cells of symbols and months without a row in silver.
    :param sample: the symbols of which everything is read; None: all.
    """

    wanted: Wanted
    lacking: Numbers
    sample: Numbers | None = None


def suspect(world: World, share: float) -> Suspicion:
    """Return what to read: everything if ``share`` is 1."""
    nothing = np.empty(0, dtype=np.int64)
    if share >= 1:
        return Suspicion(Wanted(None), nothing)
    months, lacking = _in_silver(world)
    sample = _sample(world, share)
    parts = [months, _all_months(world, sample)]
    if world.dated:
        missing = world.missing.codes
        parts += [_months(missing[world.with_object(missing)]), _months(world.unrecorded_day_files())]
        tiny = world.listing.sizes < SMALLEST
        parts.append(cell_codes(world.symbols[tiny], months_of(world.listing.days[tiny])))
        parts.append(_unrecorded_periods(world))
    else:
        recorded = np.unique(symbols_of(world.recorded.codes))
        parts.append(_all_months(world, np.unique(symbols_of(world.missing.codes))))
        parts.append(_all_months(world, np.setdiff1d(world.symbols, recorded)))
    return Suspicion(Wanted(np.unique(np.concatenate(parts)), 0 if world.daily else 1), lacking, sample)


def _months(codes: Numbers) -> Numbers:
    return cell_codes(symbols_of(codes), months_of(days_of(codes)))


def _unrecorded_periods(world: World) -> Numbers:
    """Return symbols and first months of the month and year files without a recorded cell in their period."""
    listing, recorded = world.listing, world.recorded.codes
    rows = np.flatnonzero(np.isin(listing.periods, [MONTH, YEAR]))
    first = np.searchsorted(recorded, cell_codes(world.symbols[rows], listing.days[rows]))
    last = np.searchsorted(recorded, cell_codes(world.symbols[rows], listing.last_days[rows] + 1))
    rows = rows[first == last]
    return cell_codes(world.symbols[rows], months_of(listing.days[rows]))


def _all_months(world: World, symbols: Numbers) -> Numbers:
    last = np.datetime64(world.now.date(), "M").astype(np.int64) + AHEAD
    return np.asarray(cell_codes(symbols[:, None], np.arange(last)[None, :])).ravel()


def _sample(world: World, share: float) -> Numbers:
    """Return a share of the symbols, at least one; another date chooses others."""
    known = np.union1d(np.unique(world.symbols), np.unique(symbols_of(world.recorded.codes)))
    generator = np.random.default_rng(world.now.date().toordinal())
    count = min(len(known), math.ceil(share * len(known)))
    return np.sort(generator.choice(known, count, replace=False)) if count else known


def _in_silver(world: World) -> tuple[Numbers, Numbers]:
    """Return symbols and months with a suspicious number of rows in silver, and cells that it lacks."""
    nothing = np.empty(0, dtype=np.int64)
    if world.silver is None or not world.silver.exists:
        return nothing, nothing
    counts = world.silver.counts
    stored = cell_codes(world.names.of(counts["symbol"]), counts["month"].to_numpy().astype(np.int64))
    loaded = world.loaded
    if not world.dated:
        ours, theirs = np.unique(symbols_of(loaded)), np.unique(symbols_of(stored))
        return _all_months(world, np.setxor1d(ours, theirs)), nothing
    months, sizes = np.unique(_months(loaded), return_counts=True)
    without = months[~np.isin(months, stored)]
    if not world.daily:
        near = np.concatenate([months - 1, months, months + 1])
        return np.concatenate([without, stored[~np.isin(stored, near)]]), nothing
    order = np.argsort(stored)
    stored, rows = stored[order], counts["row_count"].to_numpy()[order]
    every = np.union1d(months, stored)
    differs = _counted(every, months, sizes) != _counted(every, stored, rows)
    lacking = loaded[np.isin(_months(loaded), without)]
    return np.setdiff1d(every[differs], without), lacking


def _counted(every: Numbers, codes: Numbers, counts: Numbers) -> Numbers:
    found = np.zeros(len(every), dtype=np.int64)
    found[np.searchsorted(every, codes)] = counts
    return found
