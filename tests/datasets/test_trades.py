"""Trades."""

from tests.datasets.tick_contract import TradeContract


class TestTrades(TradeContract):
    name = "trades"

    def values(self):
        return {"price": 10.5, "size": 100.0, "side": "A", "venue": "XNAS", "conditions": "@ I"}
