"""Seeded prices: a bar is a pure function of seed, symbol and date.

The same bar comes whatever range is asked, in whatever order. The level of a symbol is a sum of smooth noises of different periods, each
interpolated between hashed values; a daily noise comes on top.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Keys = NDArray[np.uint64]
Days = NDArray[np.int64]

LOWEST, HIGHEST = 15.0, 450.0  # dollars, the middle of each symbol's prices
WAVES = ((8, 0.03), (40, 0.10), (200, 0.25), (1000, 0.45))  # period in days, amplitude of the log price
DAILY = 0.008  # standard deviation of the daily noise of the log price

_LEVEL, _DAILY, _OPEN, _HIGH, _LOW, _SIZE, _VOLUME, _WAVE = range(8)  # streams of hashed numbers; one for each wave from _WAVE on
_ROOM = 1 << 40  # counters between two streams


def columns(keys: Keys, days: Days, price: Floats | float = 1.0, size: Floats | float = 1.0) -> tuple[Floats, ...]:
    """open, high, low, close, volume and vwap: one row a symbol and one column a day each.

    :param keys: of :func:`key`, one row a symbol.
    :param days: proleptic ordinals of dates.
    :param price: factor of all prices. ``size``: factor of the volume. Each for all symbols, or one row a symbol.
    """
    close = _closes(keys, days) * price
    open_ = _closes(keys, days - 1) * price * np.exp(0.003 * _normal(keys, days, _OPEN))
    high = np.maximum(open_, close) * (1 + 0.004 * np.abs(_normal(keys, days, _HIGH)))
    low = np.minimum(open_, close) * (1 - 0.004 * np.abs(_normal(keys, days, _LOW)))
    usual = np.exp(13 + 3.5 * _uniform(keys, np.zeros_like(days), _SIZE))
    volume = usual * size * np.exp(0.25 * _normal(keys, days, _VOLUME))
    prices = [np.round(column, 2) for column in (open_, high, low, close)]
    vwap = np.round(sum(prices) / 4, 4)
    return (*prices, np.ceil(volume), vwap)


def _closes(keys: Keys, days: Days) -> Floats:
    """Closing prices, defined on every calendar day, so that an open can follow the evening before."""
    level = math.log(LOWEST) + math.log(HIGHEST / LOWEST) * _uniform(keys, np.zeros_like(days), _LEVEL)
    for number, (period, amplitude) in enumerate(WAVES):
        knot, step = np.divmod(days, period)
        before, after = (2 * _uniform(keys, knot + offset, _WAVE + number) - 1 for offset in (0, 1))
        share = step / period
        level = level + amplitude * (before + (after - before) * share * share * (3 - 2 * share))
    return np.exp(level + DAILY * _normal(keys, days, _DAILY))


def _normal(keys: Keys, days: Days, stream: int) -> Floats:
    """About standard normal numbers, within -3..3."""
    first, second, third = (_uniform(keys, days * 3 + draw, stream) for draw in range(3))
    return 2 * (first + second + third) - 3


def _uniform(keys: Keys, counters: Days, stream: int) -> Floats:
    """Numbers in [0, 1), one for each pair of key and counter: splitmix64 at a counter instead of in a row."""
    bits = keys + (counters + stream * _ROOM).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    uniform: Floats = (bits >> np.uint64(11)) / 2.0**53
    return uniform


def key(seed: int, symbol: str) -> int:
    """What makes a symbol's prices its own."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{symbol}".encode(), digest_size=8).digest())
