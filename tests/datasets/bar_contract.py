"""What bars of every timeframe have in common, and what is theirs within the day."""

import math
from datetime import date, timedelta
from typing import ClassVar

import pyarrow as pa
import pytest

from market_data.core import calendar
from market_data.datasets.rules import LIMIT
from market_data.quality import session_bars
from market_data.quality.checkpoint import Scope, run_checkpoint
from tests.contract.dataset import DAY, EXCHANGE, PROVIDER, SESSIONS, DatasetContract, new_york

CLEAN = {"open": 10.0, "high": 11.0, "low": 9.5, "close": 10.5, "adj_close": None, "volume": 1000.5, "vwap": 10.2, "trade_count": 7}


class BarContract(DatasetContract):
    correction: ClassVar = {"close": 10.75}
    bad: ClassVar = {
        "no close": ({"close": None}, "close is null"),
        "no number": ({"open": math.nan}, "open is nan"),
        "high below low": ({"high": 9.75, "low": 9.875, "open": 9.75, "close": 9.75}, "high 9.75 below low 9.875; open 9.75 below low "
                           "9.875; close 9.75 below low 9.875"),
        "close above high": ({"close": 11.25}, "close 11.25 above high 11"),
        "price of nothing": ({"low": 0.0}, "low 0 below 1e-08"),
        "volume below 0": ({"volume": -1.0}, "volume -1 below 0"),
        "volume that no table holds": ({"volume": LIMIT}, "volume 1e+12 not below 1e+12"),
    }  # fmt: skip
    fine: ClassVar = {
        "no volume": {"volume": None, "vwap": None, "trade_count": None},
        "no move": dict.fromkeys(("open", "high", "low", "close"), 10.0),
        "part of a share": {"volume": 0.5},
    }
    slipped: ClassVar = {
        "close_present": {"close": None},
        "open_not_above_high": {"open": 11.5},
        "low_positive": {"low": -1.0},
        "vwap_storable": {"vwap": -2e12},
        "volume_not_negative": {"volume": -0.5},
        "timeframe": {"timeframe": "1h"},
        "provider": {"provider": "other"},
    }


class IntradayContract(BarContract):
    """Bars within the day: 09:30 New York and on, ``minutes`` apart."""

    minutes: ClassVar[int]
    grid: ClassVar[str]

    def row(self, symbol, session, n=0):
        moment = new_york(session, 9, 30) + n * timedelta(minutes=self.minutes)
        return {"symbol": symbol, "bar_time": moment, "session": session, **CLEAN}

    def at(self, *clock, **kwargs):
        """The reasons for a bar of ``DAY`` at a time on New York's clocks."""
        row = {**self.row("AAPL", DAY), "bar_time": new_york(DAY, *clock, **kwargs)}
        return self.judge([row]).bad["reasons"].to_pylist()

    @pytest.mark.parametrize("day", SESSIONS)
    def test_a_trading_day_is_from_the_evening_of_the_session_before_to_midnight(self, day):
        def reasons(moment):
            return self.judge([{**self.row("AAPL", day), "bar_time": moment}]).bad["reasons"].to_pylist()

        evening, midnight = new_york(calendar.previous_session(day), 17), new_york(day, 0, days=1)
        step = timedelta(minutes=self.minutes)
        assert (
            reasons(evening) == reasons(new_york(day, 18, days=-1)) == reasons(new_york(day, 4)) == reasons(midnight - step) == []
        )
        for outside in (evening - step, midnight):
            assert reasons(outside) == [f"bar_time {outside:%Y-%m-%dT%H:%M:%S}.000000Z outside the trading day of session {day}"]

    def test_trades_of_futures_on_a_holiday_belong_to_the_next_session(self):
        thanksgiving, friday = date(2024, 11, 28), date(2024, 11, 29)
        for moment in (new_york(thanksgiving, 18, days=-1), new_york(thanksgiving, 10)):
            assert self.judge([{**self.row("AAPL", friday), "bar_time": moment}]).bad.num_rows == 0
        early = new_york(thanksgiving, 16, 55, days=-1)
        assert self.judge([{**self.row("AAPL", friday), "bar_time": early}]).bad.num_rows == 1

    def test_a_session_that_no_calendar_has_is_a_reason_and_no_error(self):
        for day in (date(1, 1, 1), date(1999, 12, 31), date(2041, 1, 2), date(9999, 12, 31)):
            assert self.judge([{**self.row("AAPL", DAY), "session": day}]).bad["reasons"].to_pylist() == [
                f"session {day} outside the request"
            ]

    def test_the_day_of_the_clocks_change_has_its_own_midnight(self):
        # On Monday 2024-03-11 New York is 4 hours behind UTC, on the Friday before 5.
        summer, winter = SESSIONS[1], SESSIONS[0]
        assert new_york(summer, 0).hour == 4
        assert new_york(winter, 0).hour == 5
        last = {**self.row("AAPL", summer), "bar_time": new_york(summer, 0, days=1) - timedelta(minutes=self.minutes)}
        assert self.judge([last]).bad.num_rows == 0
        assert last["bar_time"].hour == 3

    def test_a_bar_begins_on_the_grid(self):
        assert self.at(9, 30) == []
        (reason,) = self.at(9, 30, 1)
        assert reason == f"bar_time {new_york(DAY, 9, 30, 1):%Y-%m-%dT%H:%M:%S}.000000Z not a whole {self.grid}"
        (reason,) = self.at(9, 30 + self.minutes - 1, 60 - 1)
        assert "not a whole" in reason

    # -- folded to sessions ------------------------------------------------------------------------------------------------------

    def session(self, symbol, session, closes, volume=10.0):
        """Bars of a session from 09:30 on with these closes."""
        return [
            {
                **self.row(symbol, session, n),
                "open": close - 1,
                "high": close + n + 1,
                "low": close - 2,
                "close": close,
                "volume": volume,
            }
            for n, close in enumerate(closes)
        ]

    @pytest.mark.parametrize("cut", [1, 2, 7, 100])
    def test_a_session_is_folded_to_one_bar_however_it_is_cut(self, cut):
        rows = [row for s in ("A", "B") for day in SESSIONS[:2] for row in self.session(s, day, [50.0, 54.0, 40.0, 44.0])]
        table = self.landed(rows)
        order = [(n * 7) % len(table) for n in range(len(table))]  # rows of a session in several pieces, out of order
        shuffled = table.take(pa.array(order))
        pieces = [session_bars.folded(shuffled.slice(at, cut)) for at in range(0, len(table), cut)]
        found = (
            session_bars.folded(pa.concat_tables(pieces))
            .select(session_bars.BARS.names)
            .sort_by([("symbol", "ascending"), ("session", "ascending")])
        )
        one = {"open": 49.0, "high": 56.0, "low": 38.0, "close": 44.0, "volume": 40.0, "bars": 4.0}
        assert found.to_pylist() == [{"symbol": s, "session": day, **one} for s in ("A", "B") for day in SESSIONS[:2]]

    def test_unknown_volumes_are_not_summed(self):
        rows = self.session("A", DAY, [50.0, 51.0], volume=None) + self.session("B", DAY, [50.0, 51.0])
        rows[-1]["volume"] = None
        assert session_bars.folded(self.landed(rows))["volume"].to_numpy().tolist()[1] == 10.0
        assert math.isnan(session_bars.folded(self.landed(rows))["volume"].to_numpy()[0])

    DAYS: ClassVar = [day for day in EXCHANGE if day >= SESSIONS[3]][:4]
    MANY: ClassVar = [f"S{n:02d}" for n in range(24)]

    def check(self, change=lambda row: row, *, grain="day", previous=None):
        """A run of four sessions of 24 symbols, 30 bars each; ``change`` gives each row as it is to be, or None."""
        rows = [
            row
            for n, symbol in enumerate(self.MANY)
            for k, day in enumerate(self.DAYS)
            for row in self.session(symbol, day, [100.0 + n + k + bar / 10 for bar in range(30)], volume=100.0 + k)
        ]
        table = self.landed([changed for row in rows if (changed := change(row))])
        nothing = pa.table({name: pa.array([], kind) for name, kind in zip(("symbol", "session", "close", "volume"),
                            (pa.string(), pa.date32(), pa.float64(), pa.float64()), strict=True)})  # fmt: skip
        return run_checkpoint(
            self.dataset,
            Scope(dict.fromkeys(self.DAYS, len(self.MANY)), previous or nothing, provider=PROVIDER, grain=grain),
            [table.slice(0, 1111), table.slice(1111)],
            run_name="test",
        )

    def test_sessions_are_judged_like_daily_bars(self):
        day = self.DAYS[2]

        def change(row):
            if row["session"] != day:
                return row
            return {**row, **{name: row[name] * 10 for name in ("open", "high", "low", "close")}}

        assert self.check().success
        (refused,) = [v for v in self.check(change).verdicts if not v.passed]
        assert refused.partition == str(day)
        assert refused.reasons[0].startswith("price jump: 24 of 24 symbols (100 %)")
        short = self.check(lambda row: None if row["session"] == day and row["symbol"] < "S04" else row)
        assert [(v.partition, v.reasons) for v in short.verdicts if not v.passed] == [
            (str(day), ("row count: 20 of 24 expected symbols (83.3 %), at least 90 % needed",))
        ]
        assert short.statistics["rows"] == (4 * 24 - 4) * 30

    def test_a_session_with_few_bars_of_a_symbol_causes_a_warning(self):
        day = self.DAYS[1]
        early = new_york(day, 9, 30) + 7 * timedelta(minutes=self.minutes)
        cut = self.check(lambda row: None if row["session"] == day and row["symbol"] == "S03" and row["bar_time"] >= early else row)
        told = {v.partition: v.reasons for v in cut.verdicts if v.reasons}
        assert told == {
            str(day): (
                f"warning: few bars: S03 7 after 30, less than 25 % of those on {self.DAYS[0]}; a halt, or a truncated response",
            )
        }

    def test_few_bars_of_the_first_session_are_found_from_the_warehouses_counts(self):
        size = len(self.MANY)
        before = pa.table(
            {
                "symbol": self.MANY,
                "session": pa.array([EXCHANGE[EXCHANGE.index(self.DAYS[0]) - 1]] * size, pa.date32()),
                "close": [101.0 + n for n in range(size)],
                "volume": [3000.0] * size,
                "bars": [30 if n else 390 for n in range(size)],
            }
        )
        told = {v.partition: v.reasons for v in self.check(previous=before).verdicts if v.reasons}
        assert list(told) == [str(self.DAYS[0])]
        assert told[str(self.DAYS[0])][0].startswith("warning: few bars: S00 30 after 390,")

    @pytest.mark.parametrize(("cut", "refused"), [(4, False), (5, True), (24, True)])
    def test_a_session_thin_in_more_than_a_fifth_of_its_symbols_is_refused(self, cut, refused):
        day, early = self.DAYS[1], new_york(self.DAYS[1], 9, 30) + 12 * timedelta(minutes=self.minutes)
        thin = self.MANY[:cut]
        found = self.check(
            lambda row: None if row["session"] == day and row["symbol"] in thin and row["bar_time"] >= early else row
        )
        assert [v.partition for v in found.verdicts if not v.passed] == [str(day)] * refused
        if refused:
            (reason,) = next(v.reasons for v in found.verdicts if not v.passed)
            assert reason == (
                f"few bars: {cut} of 24 symbols ({100 * cut / 24:.3g} %) have less than 50 % of their usual bars"
                f" (those on {self.DAYS[0]}), at most 20 % allowed"
            )

    def test_half_of_a_session_is_an_early_close(self):
        day = self.DAYS[1]
        early = new_york(day, 9, 30) + 16 * timedelta(minutes=self.minutes)
        found = self.check(lambda row: None if row["session"] == day and row["bar_time"] >= early else row)
        assert not any(verdict.reasons for verdict in found.verdicts)

    def test_by_symbol_year_one_symbols_fault_is_its_own(self):
        day = self.DAYS[1]
        found = self.check(
            lambda row: {**row, "close": None} if (row["symbol"], row["session"]) == ("S05", day) else row, grain="year"
        )
        (refused,) = [v for v in found.verdicts if not v.passed]
        assert (refused.partition, refused.reasons) == ("S05/2024", (f"close_present: 30 rows ({day})",))
