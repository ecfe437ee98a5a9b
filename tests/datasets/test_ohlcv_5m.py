"""Bars of five minutes."""

from tests.contract.dataset import DAY
from tests.datasets.bar_contract import IntradayContract


class TestFiveMinuteBars(IntradayContract):
    name = "ohlcv-5m"
    minutes = 5
    grid = "5 minutes"

    def test_a_whole_minute_is_not_enough(self):
        (reason,) = self.at(9, 31)
        assert reason == f"bar_time {DAY}T13:31:00.000000Z not a whole 5 minutes"
