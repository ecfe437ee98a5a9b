"""Generate daily bars.

The level of a symbol is a sum of smooth noises of different periods, each interpolated between hashed values, plus a daily noise.
"""

from __future__ import annotations

import math

import numpy as np

from market_data.datasets.generated.numbers import Floats, Ints, Keys, normal, uniform

LOWEST, HIGHEST = 15.0, 450.0  # dollars, the middle of each symbol's prices
WAVES = ((8, 0.03), (40, 0.10), (200, 0.25), (1000, 0.45))  # period in days, amplitude of the log price
DAILY = 0.008  # standard deviation of the daily noise of the log price

_LEVEL, _DAILY, _OPEN, _HIGH, _LOW, _SIZE, _VOLUME, _WAVE = range(8)  # streams; one for each wave from _WAVE on


def columns(keys: Keys, days: Ints, price: Floats | float = 1.0, size: Floats | float = 1.0) -> tuple[Floats, ...]:
    """Return open, high, low, close, volume and vwap, each with a row per symbol and a column per day.

    :param keys: values of `numbers.key`, one row per symbol.
    :param days: proleptic ordinals of dates.
    :param price: factor of all prices. ``size``: factor of the volume. Each a number, or one row per symbol.
    """
    close = closes(keys, days) * price
    open_ = closes(keys, days - 1) * price * np.exp(0.003 * normal(keys, days, _OPEN))
    high = np.maximum(open_, close) * (1 + 0.004 * np.abs(normal(keys, days, _HIGH)))
    low = np.minimum(open_, close) * (1 - 0.004 * np.abs(normal(keys, days, _LOW)))
    usual = np.exp(13 + 3.5 * uniform(keys, np.zeros_like(days), _SIZE))
    volume = usual * size * np.exp(0.25 * normal(keys, days, _VOLUME))
    prices = [np.round(column, 2) for column in (open_, high, low, close)]
    vwap = np.round(sum(prices) / 4, 4)
    return (*prices, np.ceil(volume), vwap)


def closes(keys: Keys, days: Ints) -> Floats:
    """Return unrounded closing prices for every calendar day.

    An open can then follow the previous evening's close.
    """
    level = math.log(LOWEST) + math.log(HIGHEST / LOWEST) * uniform(keys, np.zeros_like(days), _LEVEL)
    for number, (period, amplitude) in enumerate(WAVES):
        knot, step = np.divmod(days, period)
        before, after = (2 * uniform(keys, knot + offset, _WAVE + number) - 1 for offset in (0, 1))
        share = step / period
        level = level + amplitude * (before + (after - before) * share * share * (3 - 2 * share))
    return np.exp(level + DAILY * normal(keys, days, _DAILY))
