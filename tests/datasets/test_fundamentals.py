"""Statements, a row an item."""

import math
from datetime import UTC, date, datetime, timedelta
from typing import ClassVar

import pytest

from market_data.datasets.fundamentals import LARGEST
from market_data.lake.layout import Layout
from tests.contract.dataset import DAY, LATER, SESSIONS, DatasetContract

ITEMS = ("revenue", "netIncome", "eps")
END = date(2024, 3, 31)


class TestFundamentals(DatasetContract):
    name = "fundamentals"
    correction: ClassVar = {"value": 4.2e9}
    bad: ClassVar = {
        "unknown statement": ({"statement": "equity"}, "statement equity not one of income, balance_sheet, cash_flow"),
        "unknown period": ({"period": "H1"}, "period H1 not one of FY, Q1, Q2, Q3, Q4"),
        "filed before it ended": (
            {"period_end": date(2024, 7, 4), "fiscal_year": 2024},
            "period_end 2024-07-04 after filing_date 2024-07-03",
        ),
        "known too early": (
            {"filing_date": date(2024, 7, 4)},
            "session 2024-07-03 not the first one on or after filing_date 2024-07-04",
        ),
        "known too late": (
            {"filing_date": date(2024, 7, 2)},
            "session 2024-07-03 not the first one on or after filing_date 2024-07-02",
        ),
        "another decade": ({"fiscal_year": 2014}, "fiscal_year 2014 not near period_end 2024-03-31"),
        "no number": ({"value": math.nan}, "value is nan"),
        "an amount that no number tells": ({"value": -LARGEST}, "value -1e+16 not below 1e+16"),
        "no item": ({"item": ""}, "item '' does not have 1 to 128 characters"),
        "a sentence for a currency": ({"currency": "US dollars, millions"}, "currency 'US dollars, millions' does not have 1 to 16 "
                                      "characters"),
    }  # fmt: skip
    fine: ClassVar = {
        "a bank's balance sheet in rupiah": {"statement": "balance_sheet", "value": 2.4e15},
        "a loss": {"value": -1.5e10},
        "not reported": {"value": None, "accepted_at": None, "currency": None},
        "a fiscal year ahead of the calendar": {"fiscal_year": 2025, "period": "Q1"},
        "a fiscal year behind it": {"fiscal_year": 2023, "period": "Q4"},
    }
    slipped: ClassVar = {
        "item_present": {"item": None},
        "statement_known": {"statement": "equity"},
        "period_known": {"period": "TTM"},
        "value_storable": {"value": LARGEST},
        "session_follows_filing_date": {"session": DAY - timedelta(1)},
        "provider": {"provider": "other"},
    }

    def row(self, symbol, session, n=0):
        return {
            "symbol": symbol, "session": session, "statement": "income", "period": "Q1", "fiscal_year": 2024,
            "period_end": END if session == DAY else session - timedelta(60), "filing_date": session,
            "accepted_at": datetime(session.year, session.month, session.day, 20, 31, 7, tzinfo=UTC), "currency": "USD",
            "item": f"item{n}", "value": 1e9 + n,
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("filed", "session"),
        [
            (date(2024, 7, 4), date(2024, 7, 5)),  # a holiday
            (date(2024, 7, 6), date(2024, 7, 8)),  # a Saturday
            (date(2024, 11, 1), date(2024, 11, 1)),
        ],
    )
    def test_the_session_is_when_the_market_could_know(self, filed, session):
        row = {**self.row("AAPL", DAY), "filing_date": filed, "session": session}
        assert self.judge([row]).bad.num_rows == 0

    def test_a_filing_that_the_calendar_does_not_reach_belongs_to_no_session(self):
        row = {**self.row("AAPL", DAY), "filing_date": date(1994, 1, 26), "period_end": date(1993, 12, 31), "fiscal_year": 1993}
        assert self.judge([row]).bad["reasons"].to_pylist() == [
            "session 2024-07-03 not the first one on or after filing_date 1994-01-26"
        ]

    def test_each_statement_lies_in_a_file_of_its_own(self, lake):
        rows = [
            {**self.row("BRK.B", DAY), "statement": statement, "period": period, "item": item}
            for statement in ("income", "balance_sheet")
            for period in ("FY", "Q4")
            for item in ITEMS
        ]
        assert self.land(lake, self.landed(rows)).written == 2
        assert [key for key, _ in lake.list("raw")] == [
            f"raw/fundamentals/provider=mock/type={kind}/symbol=BRK.B/year=2024/docdate=2024-03-31/BRK.B-2024-03-31.parquet"
            for kind in ("balance_sheet", "income")
        ]
        assert self.read(lake, DAY, 1).num_rows == 12

    def test_a_file_is_written_once_whichever_periods_end_together(self):
        ends = (END, END - timedelta(91))
        rows = [{**self.row("BRK.B", DAY), "period": period, "period_end": end} for period in ("FY", "Q4") for end in ends]
        assert len(self.parts(rows)) == len(ends)

    def test_a_restated_statement_replaces_the_first_one_and_is_known_from_its_own_filing_on(self, lake):
        first = self.row("AAPL", DAY)
        again = {**first, "filing_date": SESSIONS[4], "session": SESSIONS[4], "value": 2e9}
        self.land(lake, self.landed([first]))
        assert self.land(lake, self.landed([again], LATER), refetch=True).written == 1
        assert self.read(lake, DAY, 1).num_rows == 0
        assert self.read(lake, SESSIONS[4], 1)["value"].to_pylist() == [2e9]

    def test_reading_a_session_finds_periods_that_ended_years_before(self, lake):
        late = {**self.row("AAPL", DAY), "period_end": date(2021, 12, 31), "fiscal_year": 2021}
        self.land(lake, self.landed([late]))
        assert self.read(lake, DAY, 1).num_rows == self.read(lake).num_rows == 1
        (key,) = [key for key, _ in lake.list("raw")]
        assert Layout().parse(key).docdate == date(2021, 12, 31)
