"""Splits and dividends."""

import math
from datetime import date, timedelta
from typing import ClassVar

import pytest

from market_data.datasets.rules import LIMIT
from tests.contract.dataset import DAY, SESSIONS, DatasetContract

SPLIT = {"action": "split", "split_from": 1.0, "split_to": 4.0, "amount": None, "currency": None, "frequency": None, "kind": None}
SPLIT |= dict.fromkeys(("declaration_date", "record_date", "pay_date"))


class TestCorporateActions(DatasetContract):
    name = "corporate-actions"
    correction: ClassVar = {"amount": 0.26}
    bad: ClassVar = {
        "unknown action": ({"action": "merger"}, "action merger not one of split, dividend"),
        "a dividend of nothing": ({"amount": 0.0}, "amount 0 below 1e-08"),
        "a dividend without amount": ({"amount": None}, "dividend without amount"),
        "no number": ({"amount": math.nan}, "amount is nan"),
        "an amount that no table holds": ({"amount": LIMIT}, "amount 1e+12 not below 1e+12"),
        "half a split": ({**SPLIT, "split_to": None}, "split without split_to"),
        "a split from nothing": ({**SPLIT, "split_from": 0.0}, "split_from 0 below 1e-08"),
        "paid before it was declared": ({"pay_date": date(2024, 6, 1), "record_date": None},
                                        "declaration_date 2024-06-20 after pay_date 2024-06-01"),
        "paid before holders were recorded": ({"record_date": date(2024, 7, 19)}, "record_date 2024-07-19 after pay_date 2024-07-18"),
        "the session before": ({"ex_date": DAY + timedelta(1)}, "session 2024-07-03 not the first one on or after ex_date 2024-07-04"),
        "no id": ({"action_id": ""}, "action_id '' does not have 1 to 128 characters"),
    }  # fmt: skip
    fine: ClassVar = {
        "a split": SPLIT,
        "a reverse split": {**SPLIT, "split_from": 10.0, "split_to": 1.0},
        "odd parts": {**SPLIT, "split_from": 10_000.0, "split_to": 10_371.25},
        "due bills: paid before the ex-date": {"pay_date": DAY - timedelta(1), "record_date": DAY - timedelta(2)},
        "recorded the day after": {"record_date": DAY + timedelta(1)},
        "no dates but the ex-date": dict.fromkeys(("declaration_date", "record_date", "pay_date")),
    }
    slipped: ClassVar = {
        "action_id_present": {"action_id": None},
        "action_known": {"action": "merger"},
        "amount_positive": {"amount": -1.0},
        "record_date_not_after_pay_date": {"record_date": date(2024, 8, 1)},
        "session_follows_ex_date": {"session": DAY - timedelta(1)},
        "provider": {"provider": "other"},
    }

    def row(self, symbol, session, n=0):
        return {
            "symbol": symbol, "session": session, "action": "dividend", "ex_date": session, "action_id": f"E{n}", "split_from": None,
            "split_to": None, "amount": 0.25, "currency": "USD", "declaration_date": session - timedelta(13), "record_date": session,
            "pay_date": session + timedelta(15), "kind": "CD", "frequency": 4,
        }  # fmt: skip

    @pytest.mark.parametrize("ex_date", [date(2024, 7, 4), date(2024, 7, 5)])
    def test_an_ex_date_off_the_calendar_belongs_to_the_next_session(self, ex_date):
        row = {**self.row("AAPL", date(2024, 7, 5)), "ex_date": ex_date}
        assert self.judge([row]).bad.num_rows == 0

    def test_a_split_and_two_dividends_of_one_day_share_a_file(self, lake):
        rows = [self.row("AAPL", DAY, 0), {**self.row("AAPL", DAY, 1), "kind": "SC"}, {**self.row("AAPL", DAY, 2), **SPLIT}]
        assert self.judge(rows).good.num_rows == 3
        assert self.land(lake, self.landed(rows)).written == 1
        assert self.read(lake, DAY, 1)["action"].to_pylist() == ["dividend", "dividend", "split"]

    def test_a_file_is_written_once_whatever_happened_on_its_day(self):
        rows = [{**self.row("AAPL", day), **change} for day in SESSIONS for change in (SPLIT, {})]
        assert len(self.parts(rows)) == len(SESSIONS)
        assert len(self.parts(rows, "year")) == 1

    def test_a_year_is_one_file(self, lake):
        assert self.land(lake, self.landed(self.rows(symbols=["AAPL"])), "year").written == 1
        assert [key for key, _ in lake.list("raw")] == [
            "raw/corporate_actions/provider=mock/symbol=AAPL/year=2024/AAPL-2024.parquet"
        ]
