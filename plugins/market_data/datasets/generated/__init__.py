"""Generate market data: a pure function of seed, symbol and date, whatever the order of requests.

`daily` generates daily bars; `intraday` the data inside them (minute bars, trades with quotes, statistics); `actions` splits and
dividends; `statements` the figures of companies. The numbers are hashes of counters (`numbers`), not successive random draws.
"""

from market_data.datasets.generated.actions import GeneratedDividend, GeneratedSplit, dividends, splits, symbol_changes
from market_data.datasets.generated.daily import HIGHEST, LOWEST, columns
from market_data.datasets.generated.intraday import (
    STATISTICS,
    Cells,
    Minutes,
    Statistics,
    Trades,
    cells,
    fold,
    minutes,
    statistics,
    trades,
)
from market_data.datasets.generated.numbers import key
from market_data.datasets.generated.statements import STATEMENTS, Statement, statements

__all__ = [
    "HIGHEST",
    "LOWEST",
    "STATEMENTS",
    "STATISTICS",
    "Cells",
    "GeneratedDividend",
    "GeneratedSplit",
    "Minutes",
    "Statement",
    "Statistics",
    "Trades",
    "cells",
    "columns",
    "dividends",
    "fold",
    "key",
    "minutes",
    "splits",
    "statements",
    "statistics",
    "symbol_changes",
    "trades",
]  # fmt: skip
