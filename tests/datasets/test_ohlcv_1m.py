"""Minute bars."""

from tests.datasets.bar_contract import IntradayContract


class TestMinuteBars(IntradayContract):
    name = "ohlcv-1m"
    minutes = 1
    grid = "minute"
