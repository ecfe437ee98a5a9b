"""Changes of symbols."""

from datetime import date, timedelta
from typing import ClassVar

from tests.contract.dataset import DAY, DatasetContract


class TestSymbolChanges(DatasetContract):
    name = "symbol-changes"
    correction: ClassVar = {"issuer": "Meta Platforms, Inc."}
    bad: ClassVar = {
        "the session before": ({"effective_date": DAY + timedelta(1)},
                               "session 2024-07-03 not the first one on or after effective_date 2024-07-04"),
        "no old symbol": ({"old_symbol": ""}, "old_symbol '' does not have 1 to 32 characters"),
        "no change": ({"old_symbol": "META", "new_symbol": "META"}, "new_symbol META equals old_symbol"),
    }  # fmt: skip
    fine: ClassVar = {"no name": {"issuer": None}}
    slipped: ClassVar = {
        "new_symbol_present": {"new_symbol": None},
        "session_follows_effective_date": {"session": DAY - timedelta(1)},
        "provider": {"provider": "other"},
    }

    def row(self, symbol, session, n=0):
        return {
            "symbol": symbol, "session": session, "effective_date": session, "old_symbol": f"OLD{n}", "new_symbol": symbol,
            "issuer": "Facebook",
        }  # fmt: skip

    def test_a_change_of_a_weekend_belongs_to_the_next_session(self):
        row = {**self.row("AAPL", date(2024, 7, 5)), "effective_date": date(2024, 7, 4)}
        assert self.judge([row]).bad.num_rows == 0
