"""What trades, and trades with quotes, have in common. Their moments are in nanoseconds, which Python's datetime does not hold."""

import math
from typing import ClassVar

import pyarrow as pa
import pytest

from market_data.core import calendar
from market_data.datasets.base import UTC_NANOS
from market_data.datasets.rules import LIMIT
from market_data.quality.checkpoint import Scope, run_checkpoint
from tests.contract.dataset import DAY, PROVIDER, SESSIONS, SYMBOLS, DatasetContract, new_york

HANDFUL = len(SYMBOLS)


def nanos(moment, more=0):
    """``moment`` and ``more`` nanoseconds, as a row has it."""
    return pa.scalar(int(moment.timestamp()) * 10**9 + more, pa.int64()).cast(UTC_NANOS).as_py()


class TickContract(DatasetContract):
    correction: ClassVar = {"price": 10.75}
    opening: ClassVar = (9, 30)

    def row(self, symbol, session, n=0):
        moment = nanos(new_york(session, *self.opening), 1_001 * n + 7)
        return {"symbol": symbol, "session": session, "ts_event": moment, "sequence": 100 + n, "ordinal": 0, **self.values()}

    def values(self):
        raise NotImplementedError

    def test_time_stamps_keep_their_nanoseconds(self, lake):
        rows = self.landed([self.row("AAPL", DAY, n) for n in range(3)])
        self.land(lake, rows)
        found = self.read(lake)["ts_event"].cast(pa.int64()).to_pylist()
        assert [value % 1_000_000 for value in found] == [7, 1_008, 2_009]

    def test_rows_with_one_time_stamp_differ_by_ordinal(self, lake):
        rows = [{**self.row("AAPL", DAY), "ordinal": n} for n in range(3)]
        assert self.judge(rows).good.to_pylist() == rows
        assert self.land(lake, self.landed(rows)).written == 1
        assert self.read(lake)["ordinal"].to_pylist() == [0, 1, 2]

    def told(self, sessions, planned=HANDFUL, **others):
        """Session -> verdict and reasons, where there are some."""
        return {v.partition: (v.passed, v.reasons) for v in self.check(sessions, planned, **others).verdicts if v.reasons}

    def test_something_for_one_symbol_is_enough(self):
        assert self.told(SESSIONS) == self.told(SESSIONS, 5000) == {}

    @pytest.mark.parametrize("brought", [SESSIONS[1:], SESSIONS[:2] + SESSIONS[3:], SESSIONS[:-1], []])
    def test_sessions_without_rows_of_a_handful_of_symbols_cause_a_warning(self, brought):
        newest = max(brought, default="none")
        words = f"warning: row count: no rows, 19 symbols planned; the newest session with rows is {newest}"
        assert self.told(brought, 19) == {str(day): (True, (words,)) for day in SESSIONS if day not in brought}

    @pytest.mark.parametrize("brought", [SESSIONS[1:], SESSIONS[:2] + SESSIONS[3:], SESSIONS[:-1], []])
    def test_sessions_without_rows_of_many_symbols_are_refused(self, brought):
        words = "row count: no rows, 20 symbols planned"
        assert self.told(brought, 20) == {str(day): (False, (words,)) for day in SESSIONS if day not in brought}

    def test_cells_requested_again_may_have_no_rows(self):
        day = str(SESSIONS[1])
        others = [one for one in SESSIONS if str(one) != day]
        assert self.told(others, 60, **{day: 29})[day][0]
        assert not self.told(others, 60, **{day: 30})[day][0]
        assert self.told(others, 60, **{day: 0}) == {}

    def check(self, sessions, planned=HANDFUL, **others):
        """A run over ``SESSIONS`` that brought something for one symbol in ``sessions``; ``others`` plan another number of symbols."""
        return run_checkpoint(
            self.dataset,
            Scope({day: others.get(str(day), planned) for day in SESSIONS}, pa.table({}), provider=PROVIDER, grain="year"),
            [self.landed(self.rows(sessions, ["BRK.B"]))],
            run_name="test",
        )


class TradeContract(TickContract):
    bad: ClassVar = {
        "no price": ({"price": None}, "price is null"),
        "no number": ({"price": math.inf}, "price is inf"),
        "a price that no table holds": ({"price": -LIMIT}, "price -1e+12 not below 1e+12"),
        "no size": ({"size": None}, "size is null"),
        "size below 0": ({"size": -1.0}, "size -1 below 0"),
        "unknown side": ({"side": "S"}, "side S not one of A, B, N"),
        "ordinal below 0": ({"ordinal": -1}, "ordinal -1 below 0"),
        "empty venue": ({"venue": ""}, "venue '' does not have 1 to 32 characters"),
        "long conditions": ({"conditions": "@" * 129}, f"conditions '{'@' * 129}' does not have 1 to 128 characters"),
        "before the evening of the session before": ({"ts_event": nanos(new_york(DAY, 16, 59, 59, days=-1))},
                           "ts_event 2024-07-02T20:59:59.000000000Z outside the trading day of session 2024-07-03"),
        "the day after": ({"ts_event": nanos(new_york(DAY, 0, days=1))},
                          "ts_event 2024-07-04T04:00:00.000000000Z outside the trading day of session 2024-07-03"),
    }  # fmt: skip
    fine: ClassVar = {
        "a spread below 0": {"price": -37.63},
        "a spread at 0": {"price": 0.0},
        "no size to speak of": {"size": 0.0},
        "part of a share": {"size": 0.001},
        "nothing but price and size": {"side": None, "venue": None, "conditions": None},
        "a future in the evening before": {"ts_event": nanos(new_york(DAY, 18, days=-1))},
        "the last moment": {"ts_event": nanos(new_york(DAY, 23, 59, 59), 999_999_999)},
    }
    slipped: ClassVar = {
        "price_present": {"price": None},
        "price_storable": {"price": LIMIT},
        "size_not_negative": {"size": -1.0},
        "ordinal_not_negative": {"ordinal": -1},
        "side_known": {"side": "X"},
        "provider": {"provider": "other"},
    }

    @pytest.mark.parametrize("day", SESSIONS)
    def test_the_trading_day_follows_the_clocks(self, day):
        first, last = nanos(new_york(calendar.previous_session(day), 17)), nanos(new_york(day, 23, 59, 59), 999_999_999)
        assert self.judge([{**self.row("AAPL", day), "ts_event": moment} for moment in (first, last)]).bad.num_rows == 0

    def test_prices_and_sizes_that_repeat_take_little_room(self):
        from market_data.lake import parquet

        rows = [{**self.row("AAPL", DAY, n), "price": 100 + n * 7 % 40 / 100, "size": 100.0 + n * 13 % 17} for n in range(2000)]
        assert len(parquet.encode(self.landed(rows))) < 12 * len(rows)
