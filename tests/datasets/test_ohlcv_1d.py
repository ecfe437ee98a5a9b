"""Daily bars."""

from datetime import UTC, datetime
from typing import ClassVar

from tests.contract.dataset import DAY, new_york
from tests.datasets.bar_contract import CLEAN, BarContract


class TestDailyBars(BarContract):
    name = "ohlcv-1d"
    bad: ClassVar = {
        **BarContract.bad,
        "the vendor's stamp": (
            {"bar_time": new_york(DAY, 16)},
            f"bar_time {DAY}T20:00:00.000000Z not 00:00 UTC of session {DAY}",
        ),
    }

    def row(self, symbol, session, n=0):
        return {
            "symbol": symbol,
            "bar_time": datetime(session.year, session.month, session.day, tzinfo=UTC),
            "session": session,
            **CLEAN,
        }
