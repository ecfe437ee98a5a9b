"""Seeded prices for symbols without recorded ones.

They are the mock provider's prices, scaled to continue the recorded ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from itertools import product

import numpy as np

from market_data.datasets import generated
from sandbox.market.bars import DailyBar


class Generator:
    """Bars of ``symbols``, out of ``seed``.

    :param anchors: symbol -> a bar that its generated ones continue: price, adjusted price and volume keep their levels.
    """

    def __init__(self, seed: int, symbols: Sequence[str], anchors: Mapping[str, DailyBar]) -> None:
        self._keys = {symbol: generated.key(seed, symbol) for symbol in symbols}
        self._scales = dict.fromkeys(symbols, (1.0, 1.0))  # of price, of volume
        self._ratios = {symbol: anchor.ratio for symbol, anchor in anchors.items()}
        for symbol, anchor in anchors.items():
            (bar,) = self.bars([symbol], [anchor.session])
            if anchor.close and bar.close and anchor.volume and bar.volume:
                self._scales[symbol] = (anchor.close / bar.close, anchor.volume / bar.volume)

    def bars(self, symbols: Sequence[str], days: Sequence[date]) -> list[DailyBar]:
        """Return a bar per symbol and day: all days of the first symbol, then the next."""
        keys = np.array([[self._keys[symbol]] for symbol in symbols], dtype=np.uint64).reshape(-1, 1)
        ordinals = np.array([day.toordinal() for day in days], dtype=np.int64)
        scales = np.array([self._scales[symbol] for symbol in symbols]).reshape(-1, 2)
        columns = [column.ravel().tolist() for column in generated.columns(keys, ordinals, scales[:, :1], scales[:, 1:])]
        return [
            DailyBar(
                symbol,
                day,
                open_,
                high,
                low,
                close,
                volume,
                "generated",
                self._ratios.get(symbol, 1.0),
                vwap,
                int(volume) // 120 + 1,
            )
            for (symbol, day), open_, high, low, close, volume, vwap in zip(product(symbols, days), *columns, strict=True)
        ]
