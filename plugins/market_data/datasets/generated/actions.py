"""Generate splits and cash dividends.

Generated prices ignore them: they neither jump at a split nor fall at a dividend.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import date, timedelta
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from market_data.core import calendar
from market_data.datasets.generated.daily import closes
from market_data.datasets.generated.numbers import Ints, Keys, uniform

PAYERS = 0.75  # share of the symbols that pay a dividend each quarter
SPECIALS = 0.03  # share of their years that end with a special dividend, on the ex-date of the regular one
SPLITS = 0.2  # chance of a split, each year
RATIOS = ((1, 2), (1, 2), (1, 3), (1, 4), (2, 3), (1, 10), (10, 1))  # shares before, shares after
SETTLED_NEXT_DAY = date(2024, 5, 28)  # from then on the record date is the ex-date (SEC rule 15c6-1, T+1)

_SPLIT, _SPLIT_DAY, _RATIO, _PAYER, _YIELD, _DAY, _SPECIAL, _RENAMED = range(32, 40)


class GeneratedSplit(NamedTuple):
    """``split_from`` shares became ``split_to`` on the exchange date ``ex_date``."""

    symbol: str
    ex_date: date
    split_from: int
    split_to: int
    action_id: str


class GeneratedDividend(NamedTuple):
    """A cash dividend of ``amount`` US dollars.

    ``kind``: CD regular, SC special. ``frequency``: payments per year, 0 for a special one.
    """

    symbol: str
    ex_date: date
    amount: float
    declaration_date: date
    record_date: date
    pay_date: date
    kind: str
    frequency: int
    action_id: str


def splits(keys: Mapping[str, int], start: date, end: date) -> list[GeneratedSplit]:
    """Return the splits from ``start`` (inclusive) to ``end`` (exclusive), by symbol and date.

    :param keys: symbol -> `numbers.key`.
    """
    rows, years = _rows(keys), _years(start, end)
    happens = uniform(rows, years, _SPLIT) < SPLITS
    days = (uniform(rows, years, _SPLIT_DAY) * 360).astype(int)
    ratios = (uniform(rows, years, _RATIO) * len(RATIOS)).astype(int)
    symbols, found = list(keys), []
    for row, column in np.argwhere(happens):
        ex_date = _session(date(int(years[column]), 1, 1), int(days[row, column]))
        if start <= ex_date < end:
            before, after = RATIOS[ratios[row, column]]
            found.append(GeneratedSplit(symbols[row], ex_date, before, after, _id(symbols[row], ex_date, "split")))
    return found


def dividends(keys: Mapping[str, int], start: date, end: date) -> list[GeneratedDividend]:
    """Return the dividends with an ex-date from ``start`` (inclusive) to ``end`` (exclusive).

    Sorted by symbol and date.

    :param keys: symbol -> `numbers.key`.
    """
    rows, years = _rows(keys), _years(start, end)
    pays = uniform(rows, np.zeros(1, np.int64), _PAYER)[:, 0] < PAYERS
    rate = 0.001 + 0.008 * uniform(rows, np.zeros(1, np.int64), _YIELD)
    amounts = np.maximum(np.round(closes(rows, _january(years)) * rate, 2), 0.01)
    days = 20 + (uniform(rows, np.arange(4), _DAY) * 50).astype(int)
    specials = uniform(rows, years, _SPECIAL) < SPECIALS
    found = []
    for row, symbol in enumerate(keys):
        for column, year in enumerate(years if pays[row] else ()):
            amount = float(amounts[row, column])
            for quarter in range(4):
                ex_date = _session(date(int(year), 3 * quarter + 1, 1), int(days[row, quarter]))
                found.append(_dividend(symbol, ex_date, amount, "CD", 4))
            if specials[row, column]:
                found.append(_dividend(symbol, ex_date, round(5 * amount, 2), "SC", 0))
    return [dividend for dividend in found if start <= dividend.ex_date < end]


def symbol_changes(keys: Mapping[str, int], start: date, end: date) -> list[tuple[str, date, str]]:
    """Return symbol, effective date and the symbol before.

    From ``start`` (inclusive) to ``end`` (exclusive).

    :param keys: symbol -> `numbers.key`.
    """
    rows, years = _rows(keys), _years(start, end)
    found = []
    for half in range(2):  # a new symbol in each half of a year
        days = 180 * half + (uniform(rows, 2 * years + half, _RENAMED) * 180).astype(int)
        for row, symbol in enumerate(keys):
            for column, year in enumerate(years.tolist()):
                day = _session(date(year, 1, 1), int(days[row, column]))
                found.append((symbol, day, f"{symbol}.{year}.{half + 1}"))
    return [change for change in found if start <= change[1] < end]


def _dividend(symbol: str, ex_date: date, amount: float, kind: str, frequency: int) -> GeneratedDividend:
    return GeneratedDividend(symbol, ex_date, amount, *_dates(ex_date), kind, frequency, _id(symbol, ex_date, kind))


@lru_cache(maxsize=16_384)
def _dates(ex_date: date) -> tuple[date, date, date]:
    """Return declaration date, record date and pay date."""
    record = ex_date if ex_date >= SETTLED_NEXT_DAY else calendar.next_session(ex_date)
    return calendar.previous_session(ex_date - timedelta(days=15)), record, calendar.next_session(record + timedelta(days=13))


def _rows(keys: Mapping[str, int]) -> Keys:
    return np.array(list(keys.values()), np.uint64).reshape(-1, 1)


def _years(start: date, end: date) -> Ints:
    return np.arange(start.year, (end - timedelta(days=1)).year + 1)


def _january(years: Ints) -> Ints:
    return np.array([date(int(year), 1, 1).toordinal() for year in years], np.int64)


@lru_cache(maxsize=16_384)
def _session(day: date, later: int) -> date:
    """Return the first session on or after the date ``later`` days after ``day``."""
    return calendar.next_session(day + timedelta(days=later - 1))


def _id(*parts: object) -> str:
    return "E" + hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()
