"""Generate minute bars and trades that fold to the daily bars, quotes at these trades, and statistics.

The columns are flat: one entry per minute bar or trade, ordered by cell and then by time; ``cell`` is the number of the daily bar that
the entry belongs to. A session has regular hours only: 390 minutes from 09:30 New York, 210 on early closes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, time
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_data.core import calendar
from market_data.datasets.generated.daily import columns
from market_data.datasets.generated.numbers import Floats, Ints, Keys, uniform

MINUTE = 60_000_000_000  # in nanoseconds
WIDTH = 390
THIN = 2_000_000  # shares a day; below it, about one minute in 40 has no trade
STATISTICS = ("opening_price", "trading_session_high_price", "trading_session_low_price", "settlement_price", "close_price",
              "cleared_volume")  # fmt: skip

_GAP, _WEIGHT, _STEP, _HIGH, _LOW, _TIME, _FILLS, _SIDE, _SPREAD, _SIZES, _COUNTS = range(16, 27)


class Cells(NamedTuple):
    """Daily bars: `numbers.key` of the symbol, session, prices, volume in shares (above 0)."""

    keys: Keys
    sessions: Sequence[date]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats


class Minutes(NamedTuple):
    """Bars of one minute (`minutes`), or of several (`fold`); minutes without a trade have none.

    :param time: the bar's open, nanoseconds UTC.
    :param volume: in shares. ``trades``: number of trades.
    """

    cell: Ints
    time: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    vwap: Floats
    trades: Ints


class Trades(NamedTuple):
    """Trades, and the best bid and offer right before each.

    :param time: nanoseconds UTC; fills of one order have equal ``time`` and ``sequence``.
    :param side: of the aggressor: ``A`` sold at the bid, ``B`` bought at the ask, ``N`` unknown, between the two.
    :param bid_sz, ask_sz: shares. ``bid_ct``, ``ask_ct``: number of orders.
    """

    cell: Ints
    time: Ints
    sequence: Ints
    price: Floats
    size: Floats
    side: NDArray[np.str_]
    bid_px: Floats
    ask_px: Floats
    bid_sz: Floats
    ask_sz: Floats
    bid_ct: Ints
    ask_ct: Ints


class Statistics(NamedTuple):
    """Statistics of sessions.

    :param time: of publication, nanoseconds UTC. ``kind``: number in ``STATISTICS``.
    :param price, quantity: one of them is NaN.
    """

    cell: Ints
    time: Ints
    sequence: Ints
    kind: Ints
    price: Floats
    quantity: Floats


def cells(keys: Sequence[int], sessions: Sequence[date]) -> Cells:
    """Return the generated daily bars: all sessions of the first key, then those of the next."""
    rows = np.array(keys, np.uint64).reshape(-1, 1)
    bars = columns(rows, np.array([session.toordinal() for session in sessions], np.int64))
    repeated = np.repeat(rows.ravel(), len(sessions))
    return Cells(repeated, list(sessions) * len(keys), *(column.ravel() for column in bars[:5]))


def minutes(cells: Cells) -> Minutes:
    """Return one-minute bars that fold to the daily bars: open, high, low and close match, volumes add up."""
    begins, lengths = np.hsplit(_spans(cells), 2)
    times = begins + np.arange(WIDTH) * MINUTE
    keys, counters = cells.keys[:, None], times // MINUTE
    open_, high, low, close, daily_volume = (np.asarray(column, np.float64)[:, None] for column in cells[2:])

    volume = _volumes(keys, counters, lengths, daily_volume)
    traded = volume > 0
    path = _path(keys, counters, lengths, open_, high, low, close)
    opens, closes = path[:, :-1].copy(), path[:, 1:].copy()
    each, first, last = np.arange(len(begins)), traded.argmax(1), WIDTH - 1 - traded[:, ::-1].argmax(1)
    opens[each, first], closes[each, last] = open_[:, 0], close[:, 0]
    top, bottom, wick = np.maximum(opens, closes), np.minimum(opens, closes), 0.05 * (high - low)
    highs = np.maximum(top, np.minimum(np.round(top + wick * uniform(keys, counters, _HIGH), 2), high))
    lows = np.minimum(bottom, np.maximum(np.round(bottom - wick * uniform(keys, counters, _LOW), 2), low))
    highs[each, np.where(traded, highs, -np.inf).argmax(1)] = high[:, 0]
    lows[each, np.where(traded, lows, np.inf).argmin(1)] = low[:, 0]

    cell, minute = np.nonzero(traded)
    opens, highs, lows, closes, volume = (column[cell, minute] for column in (opens, highs, lows, closes, volume))
    vwap = np.round((opens + highs + lows + closes) / 4, 4)
    count = volume.astype(np.int64) // 120 + 1
    return Minutes(cell, times[cell, minute], opens, highs, lows, closes, volume, vwap, count)


def _volumes(keys: Keys, counters: Ints, lengths: Ints, daily_volume: Floats) -> Floats:
    """Return the shares of each minute, more at both ends of the session, 0 without trades.

    The last minute takes the fractions.
    """
    minute = np.arange(WIDTH)
    inside, edge = minute < lengths, (minute == 0) | (minute == lengths - 1)
    quiet = (daily_volume < THIN) & (uniform(keys, counters, _GAP) < 1 / 40) & ~edge
    valley = 0.5 + 2 * (2 * minute / lengths - 1) ** 2
    weight = np.where(inside & ~quiet, valley * (0.5 + uniform(keys, counters, _WEIGHT)), 0.0)
    reached = np.cumsum(weight, axis=1)
    volume = np.diff(np.floor(daily_volume * (reached / reached[:, -1:])), axis=1, prepend=0.0)
    volume[np.arange(len(volume)), lengths[:, 0] - 1] += (daily_volume - np.floor(daily_volume))[:, 0]
    return volume


def _path(keys: Keys, counters: Ints, lengths: Ints, open_: Floats, high: Floats, low: Floats, close: Floats) -> Floats:
    """Return prices at the ends of the minutes: a bridge from open to close between low and high."""
    point = np.minimum(np.arange(WIDTH + 1), lengths)
    steps = np.where(np.arange(WIDTH) < lengths, uniform(keys, counters, _STEP) - 0.5, 0.0)
    walk = np.concatenate([np.zeros((len(steps), 1)), np.cumsum(steps, axis=1)], axis=1)
    bridge = walk - walk[:, -1:] * point / lengths
    bridge /= np.maximum(np.abs(bridge).max(axis=1, keepdims=True), 1e-9)
    path = open_ + (close - open_) * point / lengths + 0.45 * (high - low) * bridge
    return np.minimum(np.maximum(np.round(path, 2), low), high)


def fold(minutes: Minutes, size: int) -> Minutes:
    """Fold minute bars to bars of ``size`` minutes, aligned to multiples of ``size``."""
    if not len(minutes.cell):
        return minutes
    bucket = minutes.time // (size * MINUTE)
    starts = np.flatnonzero(np.diff(bucket, prepend=-1) | np.diff(minutes.cell, prepend=-1))
    ends = np.append(starts[1:], len(bucket)) - 1
    volume = np.add.reduceat(minutes.volume, starts)
    return Minutes(
        minutes.cell[starts],
        bucket[starts] * (size * MINUTE),
        minutes.open[starts],
        np.maximum.reduceat(minutes.high, starts),
        np.minimum.reduceat(minutes.low, starts),
        minutes.close[ends],
        volume,
        np.round(np.add.reduceat(minutes.vwap * minutes.volume, starts) / volume, 4),
        np.add.reduceat(minutes.trades, starts),
    )


def trades(cells: Cells) -> Trades:
    """Return a trade at each minute's close, and trades at the daily open, high and low.

    A few closes are two fills. The trades of a minute fold to its bar, those of a session to its daily bar.
    """
    bars = minutes(cells)
    keys, counters = cells.keys[bars.cell][:, None], (bars.time // MINUTE)[:, None]
    prices = np.column_stack([bars.open, bars.high, bars.low, bars.close, bars.close])
    present = np.column_stack(
        [
            np.diff(bars.cell, prepend=-1) > 0,
            _first(bars.cell, bars.high == cells.high[bars.cell]),
            _first(bars.cell, bars.low == cells.low[bars.cell]),
            np.ones(len(bars.cell), bool),
            uniform(keys, counters, _FILLS)[:, 0] < 1 / 16,
        ]
    )
    shared = np.floor(bars.volume / present.sum(axis=1))[:, None] * present
    shared[:, 3] += bars.volume - shared.sum(axis=1)
    slot = np.array([0, 1, 2, 3, 3])  # the last two are fills of one order
    entries = counters * 8 + slot
    within = (slot + 0.8 * uniform(keys, entries, _TIME)) / 4
    bar, place = np.nonzero(present & (shared > 0))
    time = bars.time[bar] + (within[bar, place] * MINUTE).astype(np.int64)
    return _quoted(cells.keys[bars.cell[bar]], entries[bar, place], bars.cell[bar], time, prices[bar, place], shared[bar, place])


def _quoted(keys: Keys, entries: Ints, cell: Ints, time: Ints, price: Floats, size: Floats) -> Trades:
    luck = uniform(keys, entries, _SIDE)
    side = np.where(luck < 0.45, "A", np.where(luck < 0.9, "B", "N"))
    spread = np.round(0.01 + 0.04 * uniform(keys, entries, _SPREAD), 2)
    bid = np.round(price - np.where(side == "A", 0, np.where(side == "B", spread, 0.01)), 4)
    ask = np.round(price + np.where(side == "B", 0, np.where(side == "A", spread, 0.01)), 4)
    sizes = [np.floor(1 + 20 * uniform(keys, entries * 2 + end, _SIZES)) * 100 for end in (0, 1)]
    counts = [np.floor(1 + 8 * uniform(keys, entries * 2 + end, _COUNTS)).astype(np.int64) for end in (0, 1)]
    sequence = entries % (1440 * 8)  # grows within the day
    return Trades(cell, time, sequence, price, size, side, bid, ask, sizes[0], sizes[1], counts[0], counts[1])


def _first(cell: Ints, found: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask of the first entry of each cell among those in ``found``."""
    places = np.flatnonzero(found)
    _, first = np.unique(cell[places], return_index=True)
    result = np.zeros(len(cell), bool)
    result[places[first]] = True
    return result


def statistics(cells: Cells) -> Statistics:
    """Return six rows per session, as in ``STATISTICS``.

    The open follows the opening; the others come in the minutes after the close.
    """
    n, kinds = len(cells.sessions), len(STATISTICS)
    kind = np.tile(np.arange(kinds), n)
    begins, lengths = np.repeat(_spans(cells), kinds, axis=0).T
    blank = np.full(n, np.nan)
    price = np.column_stack([cells.open, cells.high, cells.low, cells.close, cells.close, blank]).ravel()
    quantity = np.column_stack([blank] * 5 + [cells.volume]).ravel()
    time = np.where(kind == 0, begins + MINUTE // 60, begins + (lengths + kind) * MINUTE)
    return Statistics(np.repeat(np.arange(n), kinds), time, kind + 1, kind, price, quantity)


def _spans(cells: Cells) -> Ints:
    return np.array([hours(session) for session in cells.sessions], np.int64).reshape(-1, 2)


@lru_cache(maxsize=65_536)
def hours(session: date) -> tuple[int, int]:
    """Return 09:30 New York in nanoseconds UTC, and the number of minutes to the close."""
    begin = int(calendar.at(session, time(9, 30)).timestamp()) * 1_000_000_000
    return begin, 210 if calendar.is_early_close(session) else WIDTH
