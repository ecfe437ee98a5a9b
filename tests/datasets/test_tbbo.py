"""Trades with the quote that stood before them."""

import math
from typing import ClassVar

from tests.datasets.tick_contract import TradeContract


class TestQuotedTrades(TradeContract):
    name = "tbbo"
    bad: ClassVar = {
        **TradeContract.bad,
        "no number for a bid": ({"bid_px": math.nan}, "bid_px is nan"),
        "ask that no table holds": ({"ask_px": 2e12}, "ask_px 2e+12 not below 1e+12"),
        "size of a bid below 0": ({"bid_sz": -1.0}, "bid_sz -1 below 0"),
        "orders below 0": ({"ask_ct": -1}, "ask_ct -1 below 0"),
    }
    fine: ClassVar = {
        **TradeContract.fine,
        "crossed": {"bid_px": 10.52, "ask_px": 10.5},
        "locked": {"bid_px": 10.5, "ask_px": 10.5},
        "one side alone": {"bid_px": None, "bid_sz": None, "bid_ct": None},
        "a spread's quote below 0": {"bid_px": -0.5, "ask_px": -0.25},
    }
    slipped: ClassVar = {
        **TradeContract.slipped,
        "bid_px_storable": {"bid_px": 1e12},
        "ask_sz_not_negative": {"ask_sz": -1.0},
        "bid_ct_not_negative": {"bid_ct": -1},
    }

    def values(self):
        trade = {"price": 10.5, "size": 100.0, "side": "B", "venue": "XNAS", "conditions": None}
        return {**trade, "bid_px": 10.49, "ask_px": 10.51, "bid_sz": 300.0, "ask_sz": 200.0, "bid_ct": 3, "ask_ct": 2}
