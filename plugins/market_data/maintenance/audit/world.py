"""Read the objects' list, staging, the ledger, the universe, and silver's counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from market_data.core.instruments import CalendarOf
from market_data.lake.layout import ALL_SYMBOLS
from market_data.maintenance.audit.cells import Mask, Names, Recorded, among, days_of, symbols_of
from market_data.maintenance.audit.expected import Missing, missing_cells, not_members, universe_of_feed
from market_data.maintenance.audit.leftovers import staged_cells
from market_data.maintenance.audit.listing import DAY, IN_SESSION, MONTH, YEAR, Listing, Numbers, cell_codes, list_objects
from market_data.maintenance.audit.shared_files import read_shares
from market_data.maintenance.audit.silver import Silver
from market_data.maintenance.findings import OF_WAREHOUSE, Cause
from market_data.pipeline.selection import EVER, Selection

if TYPE_CHECKING:
    from market_data.config.feeds import Feed
    from market_data.config.universes import Universe
    from market_data.lake.coverage import Coverage
    from market_data.lake.store import Lake
    from market_data.warehouse.base import Warehouse

AROUND = timedelta(days=10)
"""Days around a selection whose objects may hold rows with a moment inside it."""


@dataclass(frozen=True)
class World:
    """The state of a selection, as far as it is known without reading lake objects.

    :param symbols: the number of each listed object's symbol.
    :param reset: cells that a person has reset and that no run has requested since, sorted.
    :param staged: cells that wait in staging or are being written, sorted. They are not audited.
    :param left: key and detail of what was left behind in staging.
    :param silver: None without a warehouse or a table.
    :param unjudged: causes that cannot be looked for.
    """

    lake: Lake
    feed: Feed
    selection: Selection
    find: CalendarOf
    listing: Listing
    names: Names
    symbols: Numbers
    coverage: Coverage
    recorded: Recorded
    missing: Missing
    reset: Numbers
    staged: Numbers
    left: list[tuple[str, str]]
    silver: Silver | None
    notes: tuple[str, ...]
    now: datetime
    unjudged: frozenset[Cause]

    @property
    def dated(self) -> bool:
        """True if objects are named by session."""
        return self.selection.dataset.files.date == "session"

    @property
    def daily(self) -> bool:
        """True if each cell has one row, at midnight of its session."""
        return self.selection.dataset.timeframe == "1d"

    @property
    def loaded(self) -> Numbers:
        """The cells whose rows runs have loaded, without staged ones, sorted."""
        codes = self.recorded.codes[self.recorded.loaded]
        return codes[~among(codes, self.staged)]

    @property
    def shared(self) -> bool:
        """True if there are session files."""
        return bool((self.listing.kinds == IN_SESSION).any())

    def with_object(self, codes: Numbers) -> Mask:
        """Return a mask of the cells for which an object may hold rows, by name."""
        return self.in_day_files(codes) | self.in_period_files(codes)

    def in_day_files(self, codes: Numbers) -> Mask:
        """Return a mask of the cells that have a day file."""
        return among(codes, self._codes(DAY))

    def in_period_files(self, codes: Numbers) -> Mask:
        """Return a mask of the cells in whose month or year there is a file of that period."""
        return among(starts(codes, "M"), self._codes(MONTH)) | among(starts(codes, "Y"), self._codes(YEAR))

    def _codes(self, period: int) -> Numbers:
        """Return the codes of the first days of the objects of a period, sorted, as the listing is."""
        chosen = self.listing.periods == period
        return cell_codes(self.symbols[chosen], self.listing.days[chosen])

    def unrecorded_day_files(self) -> Numbers:
        """Return the cells that have a day file and no record."""
        codes = self._codes(DAY)
        return codes[~self.recorded.has(codes) & ~among(codes, self.staged)]


def starts(codes: Numbers, unit: str) -> Numbers:
    """Return the codes of the first days of the cells' months (``M``) or years (``Y``)."""
    days = days_of(codes).astype("datetime64[D]").astype(f"datetime64[{unit}]").astype("datetime64[D]").astype(np.int64)
    return cell_codes(symbols_of(codes), days)


def see(
    lake: Lake,
    warehouse: Warehouse | None,
    feed: Feed,
    selection: Selection,
    now: datetime,
    universe: Universe | None,
    open_s3: Callable[[str], bytes] | None = None,
) -> World:
    """Read the state of a selection."""
    from market_data.lake.ledger import read_coverage
    from market_data.providers.registry import calendar_of_source

    find, dataset = calendar_of_source(selection.source), selection.dataset
    wide = _widened(selection)
    # Objects are listed first and the ledger is read last: a cell that is published meanwhile has a later record.
    listing = list_objects(lake, wide)
    staged, left = staged_cells(lake, selection, now)
    coverage = read_coverage(lake, dataset.name, selection.source)
    shares = read_shares(lake, listing)
    pa.default_memory_pool().release_unused()  # listing and ledger took several times what is kept of them
    notes: tuple[str, ...] = ()
    if universe is None:
        universe, notes = universe_of_feed(lake, feed, open_s3)
    unjudged = {Cause.MISSING} if notes else set[Cause]()
    unjudged |= OF_WAREHOUSE if warehouse is None and dataset.table is not None else set()
    silver = Silver(warehouse, wide, find) if warehouse is not None and dataset.table is not None else None
    if warehouse is not None and dataset.table is None:
        notes += (f"{dataset.name} has no table in the warehouse",)
    recorded_symbols = {*coverage.table["symbol"].unique().to_pylist(), *coverage.reset["symbol"].unique().to_pylist()}
    if universe.symbols and (sentence := not_members(universe, selection)):
        notes += (sentence,)
    known = {ALL_SYMBOLS, *universe.symbols, *listing.names, *shares.names, *recorded_symbols, *(selection.symbols or ())}
    if silver and silver.exists:
        known.update(silver.counts["symbol"].unique().to_pylist())
    if listing.foreign:
        notes += (f"{len(listing.foreign):,} objects are not of the layout, e.g. {listing.foreign[0]}",)
    names = Names(known)
    staged = staged.filter(pa.array(names.of(staged["symbol"]) >= 0))
    staged_codes = np.unique(names.codes(staged))
    recorded = Recorded.of(coverage, names, wide)
    missing = missing_cells(coverage, recorded, names, feed, selection, universe, now)
    missing = replace(missing, codes=missing.codes[~among(missing.codes, staged_codes)])
    reset = coverage.reset.filter(pa.array(names.of(coverage.reset["symbol"]) >= 0))
    reset_codes = np.setdiff1d(names.codes(reset), staged_codes)
    listing = listing.spread(names.names, np.union1d(np.union1d(recorded.codes, missing.codes), shares.codes(names)))
    own = names.of(listing.names)[listing.symbols] if len(listing) else listing.symbols
    return World(
        lake,
        feed,
        selection,
        find,
        listing,
        names,
        own,
        coverage,
        recorded,
        missing,
        reset_codes,
        staged_codes,
        left,
        silver,
        notes,
        now,
        frozenset(unjudged),
    )


def _widened(selection: Selection) -> Selection:
    """Return a selection of all rows whose moments are inside that of the given one."""
    if selection.dataset.files.date != "session":
        return replace(selection, start=EVER[0], end=EVER[1])
    if selection.dataset.timeframe == "1d":
        return selection
    return replace(selection, start=_moved(selection.start, -AROUND), end=_moved(selection.end, AROUND))


def _moved(day: date, by: timedelta) -> date:
    try:
        return day + by
    except OverflowError:
        return day
