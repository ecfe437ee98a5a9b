"""Compute one row of metrics per symbol and year, for the suite ``bars.years``.

The metrics show faults that no single session can show.

All bars lie on one axis of cells, by symbol and then by session; every metric is a few passes of numpy over it. The axis holds each
bar, and each planned session between a symbol's first and last stored bar (its life in the run). Holes and runs of equal bars that
cross the end of a year count in full in every year that they touch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from market_data.datasets.bars import PRICES
from market_data.quality.metric_rules import MetricRule, Thresholds

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BEFORE = 0
"""The year given to bars before the run."""

PART_ROWS = 100_000
"""Bars that are measured at a time, about: each takes some 200 bytes meanwhile."""


@dataclass(frozen=True, slots=True)
class _Cells:
    """The axis: one item per cell.

    :param symbols: sorted; ``symbol``: places in them.
    :param session: ``datetime64[D]``.
    :param rows: rows of the cell, 0 where it has no bar.
    :param prices: NaN where there is no bar, or no price above 0; of repeated rows, those of one.
    :param before: place of the symbol's previous bar, or the cell's own where there is none; ``after``: likewise for the next bar.
    :param starts: places where a symbol-year begins; ``years``: their years.
    """

    symbols: list[str]
    symbol: Ints
    session: NDArray[np.datetime64]
    rows: Ints
    prices: Mapping[str, Floats]
    before: Ints
    after: Ints
    starts: Ints
    years: Ints

    def worst(self, scores: Ints | Floats) -> Ints:
        """Return the place of the greatest score per symbol-year, the first of equal ones."""
        sizes = np.diff(self.starts, append=len(scores))
        greatest = np.flatnonzero(scores == np.repeat(np.maximum.reduceat(scores, self.starts), sizes))
        return greatest[np.searchsorted(greatest, self.starts)]


@dataclass(frozen=True, slots=True)
class _Runs:
    """Per cell, the length of its run (0 outside of any) and the places of the run's first and last cell."""

    length: Ints
    first: Ints
    last: Ints


def measure_years(
    bars: pa.Table, planned: Mapping[date, int], limits: Thresholds, *, requested: Mapping[date, Collection[str]] | None = None
) -> pa.Table:
    """Return the metrics of each symbol-year of the planned sessions, by symbol and year.

    Only sessions within the symbol's life count. Columns, beside ``partition``, ``symbol`` and ``year``:

    * ``expected`` sessions, those ``present``, and ``present_ratio``, which is null if few are expected or the symbol is thin.
    * ``rows`` and ``repeated_rows``.
    * ``hole``: consecutive sessions without a bar.
    * ``level``: a close over the previous one, or the reverse, at least 1.
    * ``spike``: the same for a close and both its neighbours, if these agree.
    * ``range``: a high over its low. ``flat``: consecutive bars with equal prices.

    The last five are the greatest of the year; further columns hold their dates and values.

    :param bars: ``symbol``, ``session`` (date32), ``open``, ``high``, ``low``, ``close``, in any order: of planned sessions; and of
        sessions before the first of them, which are compared with and not judged.
    :param planned: session -> number of symbols planned.
    :param requested: session -> the symbols planned, where known; else all symbols with a stored bar.
    """
    table = pa.concat_tables(_measured(part, planned, limits, requested or {}) for part in _parts(bars))
    table = table.filter(pc.not_equal(table["year"], BEFORE))
    return table.add_column(0, "partition", pc.binary_join_element_wise(table["symbol"], table["year"].cast(pa.string()), "/"))


def _parts(bars: pa.Table) -> Iterator[pa.Table]:
    """Yield the bars of some symbols at a time, about ``PART_ROWS``; no metric depends on other symbols."""
    symbols = pc.unique(bars["symbol"]).sort()
    size = max(1, len(symbols) * PART_ROWS // max(1, len(bars)))
    if size >= len(symbols):
        yield bars
        return
    for start in range(0, len(symbols), size):
        yield bars.filter(pc.is_in(bars["symbol"], symbols.slice(start, size)))


def _measured(
    bars: pa.Table, planned: Mapping[date, int], limits: Thresholds, requested: Mapping[date, Collection[str]]
) -> pa.Table:
    cells = _cells(bars, planned, requested)
    return pa.table({**_counts(cells, limits), **_moves(cells, limits), **_ranges(cells), **_flats(cells)})


def reason(rule: MetricRule, row: Mapping[str, Any]) -> str:
    """Return the reason for a symbol-year that breaks ``rule``.

    :param row: its metrics by name.
    """
    return rule.says.format(**row, present_percent=f"{100 * (row['present_ratio'] or 0):.3g} %")


# -- the axis --------------------------------------------------------------------------------------------------------------------


def _cells(bars: pa.Table, planned: Mapping[date, int], requested: Mapping[date, Collection[str]]) -> _Cells:
    names = pc.unique(bars["symbol"]).sort()
    symbols: list[str] = names.to_pylist()
    sessions = np.array(sorted(planned), dtype="datetime64[D]")
    stored = bars["session"].to_numpy()
    axis = np.union1d(sessions, stored)
    # The cell of each row in a grid of all symbols and dates.
    cell = pc.index_in(bars["symbol"], names).to_numpy().astype(np.int64) * len(axis) + np.searchsorted(axis, stored)
    cells_with_bar, row, rows = np.unique(cell, return_index=True, return_counts=True)
    there = np.zeros((len(symbols), len(axis)), dtype=bool)
    there.flat[cells_with_bar] = True
    judged = np.searchsorted(axis, sessions)
    there[:, judged] |= _life(there[:, judged]) & _planned(symbols, planned, requested)

    places = np.flatnonzero(there)
    symbol, when = np.divmod(places, max(1, len(axis)))
    with_bar = np.searchsorted(places, cells_with_bar)
    count = np.zeros(len(places), dtype=np.int64)
    count[with_bar] = rows
    prices = {name: _price(bars[name].to_numpy()[row], with_bar, len(places)) for name in PRICES}
    before, after = _neighbours(symbol, count > 0)
    years = axis.astype("datetime64[Y]").astype(np.int64) + 1970
    year = np.where(axis < np.datetime64(min(planned, default=date.max)), BEFORE, years)[when]
    starts = np.flatnonzero(_new(symbol) | _new(year))
    return _Cells(symbols, symbol, axis[when], count, prices, before, after, starts, year[starts])


def _planned(symbols: Sequence[str], planned: Mapping[date, int], requested: Mapping[date, Collection[str]]) -> Bools:
    """Return a mask of the requested cells: symbols x sessions in order."""
    masks: dict[frozenset[str], Bools] = {}
    cells = np.zeros((len(symbols), len(planned)), dtype=bool)
    for place, session in enumerate(sorted(planned)):
        if session not in requested:
            cells[:, place] = planned[session] > 0
            continue
        wanted = frozenset(requested[session])
        if wanted not in masks:
            masks[wanted] = np.array([symbol in wanted for symbol in symbols], dtype=bool)
        cells[:, place] = masks[wanted]
    return cells


def _life(stored: Bools) -> Bools:
    """Return a mask from the first to the last stored bar of each symbol: symbols x sessions."""
    return np.logical_or.accumulate(stored, axis=1) & np.logical_or.accumulate(stored[:, ::-1], axis=1)[:, ::-1]


def _price(values: Floats, places: Ints, cells: int) -> Floats:
    price = np.full(cells, np.nan)
    price[places] = np.where((values > 0) & np.isfinite(values), values, np.nan)
    return price


def _neighbours(symbol: Ints, has_bar: Bools) -> tuple[Ints, Ints]:
    """Return per cell the places of its symbol's previous and next bars; its own place if there is none."""
    own, none = np.arange(len(symbol)), len(symbol)
    before = np.concatenate([[-1], np.maximum.accumulate(np.where(has_bar, own, -1))])[:-1]
    after = np.concatenate([np.minimum.accumulate(np.where(has_bar, own, none)[::-1])[::-1], [none]])[1:]
    known_before = (before >= 0) & (symbol[before] == symbol)
    known_after = (after < none) & (symbol[np.minimum(after, none - 1)] == symbol)
    return np.where(known_before, before, own), np.where(known_after, after, own)


def _new(values: NDArray[Any]) -> Bools:
    """Return a mask of the values that differ from the previous one."""
    return np.concatenate([[True] * bool(len(values)), values[1:] != values[:-1]]).astype(bool)


def _runs(inside: Bools) -> _Runs:
    """Return the runs of cells.

    A symbol's first cell must be outside of any, so that no run extends to another symbol.
    """
    first = np.flatnonzero(_new(inside))
    sizes = np.diff(first, append=len(inside))
    length = np.where(inside[first], sizes, 0)
    return _Runs(np.repeat(length, sizes), np.repeat(first, sizes), np.repeat(first + sizes - 1, sizes))


# -- the metrics -----------------------------------------------------------------------------------------------------------------


def _counts(cells: _Cells, limits: Thresholds) -> dict[str, pa.Array]:
    holes = _runs(cells.rows == 0)
    expected = np.add.reduceat(~_not_listed(holes, cells, limits), cells.starts, dtype=np.int64)
    present = np.add.reduceat(cells.rows > 0, cells.starts, dtype=np.int64)
    rows = np.add.reduceat(cells.rows, cells.starts)
    worst = cells.worst(holes.length)
    regular = np.array([not limits.is_thin(symbol) for symbol in cells.symbols], dtype=bool)[cells.symbol[cells.starts]]
    any_hole = (holes.length[worst] > 0) & regular
    return {
        "symbol": pa.array(cells.symbols, pa.string()).take(pa.array(cells.symbol[cells.starts])),
        "year": pa.array(cells.years),
        "expected": pa.array(expected),
        "present": pa.array(present),
        "present_ratio": _where(regular & (expected >= limits.min_year_sessions), present / np.maximum(expected, 1)),
        "rows": pa.array(rows),
        "repeated_rows": pa.array(rows - present),
        "hole": _where(regular, holes.length[worst]),
        "hole_from": _where(any_hole, cells.session[holes.first[worst]]),
        "hole_to": _where(any_hole, cells.session[holes.last[worst]]),
    }


def _not_listed(holes: _Runs, cells: _Cells, limits: Thresholds) -> Bools:
    """Return the cells of long holes that neither begin nor end where a symbol-year does.

    See ``Thresholds.listing_hole_sessions``.
    """
    begins, ends = np.zeros(len(cells.rows), dtype=bool), np.zeros(len(cells.rows), dtype=bool)
    begins[cells.starts] = True
    ends[cells.starts - 1] = True
    return (holes.length > limits.listing_hole_sessions) & ~begins[holes.first] & ~ends[holes.last]


def _moves(cells: _Cells, limits: Thresholds) -> dict[str, pa.Array]:
    close = cells.prices["close"]
    log = np.log(close)
    since, ahead = np.nan_to_num(log - log[cells.before]), np.nan_to_num(log[cells.after] - log)
    back = np.abs(since + ahead) < np.log(limits.jump_factor)
    spikes = np.where(back, np.minimum(np.abs(since), np.abs(ahead)), 0)
    level, spike = cells.worst(np.abs(since)), cells.worst(spikes)
    moved, spiked = since[level] != 0, spikes[spike] > 0
    return {
        "level": pa.array(np.exp(np.abs(since[level]))),
        "level_on": _where(moved, cells.session[level]),
        "level_close": _where(moved, close[level]),
        "level_from": _where(moved, cells.session[cells.before[level]]),
        "level_before": _where(moved, close[cells.before[level]]),
        "spike": pa.array(np.exp(spikes[spike])),
        "spike_on": _where(spiked, cells.session[spike]),
        "spike_close": _where(spiked, close[spike]),
        "spike_before": _where(spiked, close[cells.before[spike]]),
        "spike_after": _where(spiked, close[cells.after[spike]]),
    }


def _ranges(cells: _Cells) -> dict[str, pa.Array]:
    high, low = cells.prices["high"], cells.prices["low"]
    spread = np.nan_to_num(high / low, nan=0)
    worst = cells.worst(spread)
    known = spread[worst] > 0
    return {
        "range": _where(known, spread[worst]),
        "range_on": _where(known, cells.session[worst]),
        "range_high": _where(known, high[worst]),
        "range_low": _where(known, low[worst]),
    }


def _flats(cells: _Cells) -> dict[str, pa.Array]:
    again = cells.before != np.arange(len(cells.before))
    for price in cells.prices.values():
        again &= price == price[cells.before]
    runs = _runs(again)
    worst = cells.worst(runs.length)
    flat = runs.length[worst] > 0
    return {
        "flat": pa.array(runs.length[worst] + 1),  # the bar before the run, which it repeats, counts as well
        "flat_from": _where(flat, cells.session[cells.before[runs.first[worst]]]),
        "flat_to": _where(flat, cells.session[runs.last[worst]]),
    }


def _where(known: Bools, values: NDArray[Any]) -> pa.Array:
    """Return ``values``, null where unknown."""
    return pa.array(values, mask=~known)
