"""Splits and dividends."""

import math
import random
from datetime import date, timedelta
from typing import ClassVar

import pytest

from market_data.datasets.corporate_actions import contradictions, identify
from market_data.datasets.rules import LIMIT
from market_data.lake import parquet
from market_data.lake.layout import Layout
from tests.contract.dataset import DAY, LATER, PROVIDER, SESSIONS, DatasetContract

SPLIT = {"action": "split", "split_from": 1.0, "split_to": 4.0, "amount": None, "currency": None, "frequency": None, "kind": None}
SPLIT |= dict.fromkeys(("declaration_date", "record_date", "pay_date"))


class TestCorporateActions(DatasetContract):
    name = "corporate-actions"
    correction: ClassVar = {"pay_date": date(2024, 12, 30)}
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
            "symbol": symbol, "session": session, "action": "dividend", "ex_date": session, "action_id": f"{n + 1}250000 USD CD",
            "split_from": None, "split_to": None, "amount": n + 1.25, "currency": "USD", "declaration_date": session - timedelta(13),
            "record_date": session,
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

    # -- what an action is ---------------------------------------------------------------------------------------------------------

    def identified(self, *changes):
        rows = identify(self.received([{**self.row("AAPL", DAY), **change} for change in changes]))
        return rows["action_id"].to_pylist()

    @pytest.mark.parametrize("ratio", [(1, 4), (2, 8), (0.25, 1), (3, 12.0000001)])
    def test_a_split_is_its_ratio_however_it_is_spelled(self, ratio):
        spelled = {**SPLIT, "split_from": float(ratio[0]), "split_to": float(ratio[1])}
        ids = ({"action_id": name} for name in (None, "E1", "E2"))
        assert self.identified(*({**spelled, **change} for change in ids)) == ["40000:10000"]

    def test_a_reverse_split_and_odd_ratios_keep_four_digits(self):
        ratios = [(8, 1), (1, 0.125), (3, 1), (1, 0.333333), (1000, 1281), (1, 1.998), (1, 1.997), (4, 1)]
        found = self.identified(*({**SPLIT, "split_from": float(a), "split_to": float(b)} for a, b in ratios))
        assert found == ["10000:80000", "10000:30000", "12810:10000", "19980:10000", "19970:10000", "10000:40000"]

    def test_a_dividend_is_its_amount_currency_and_kind(self):
        same = [{"amount": 0.24}, {"amount": 0.2400001}, {"amount": 0.24, "currency": None}, {"amount": 0.24, "currency": "usd"},
                {"amount": 0.24, "kind": None}]  # fmt: skip
        assert self.identified(*same) == ["240000 USD CD"]
        others = [{"amount": 0.24}, {"amount": 0.25}, {"amount": 0.24, "currency": "CAD"}, {"amount": 0.24, "kind": "SC"}]
        assert self.identified(*others) == ["240000 USD CD", "250000 USD CD", "240000 CAD CD", "240000 USD SC"]

    def test_rows_without_a_ratio_or_amount_keep_their_ids_and_stay_apart(self):
        odd = [{"amount": None, "action_id": "E1"}, {"amount": math.nan, "action_id": "E1"}, {**SPLIT, "split_to": 0.0}]
        assert self.identified(*odd, {"action": "merger"}) == ["E1", "E1", "1250000 USD CD", "1250000 USD CD"]

    def test_the_row_that_knows_most_is_kept_in_any_order(self):
        rows = [{"pay_date": None, "record_date": None}, {"pay_date": None}, {"frequency": None}, {}]
        for seed in range(8):
            random.Random(seed).shuffle(rows)
            (kept,) = identify(self.received([{**self.row("AAPL", DAY), **row} for row in rows])).to_pylist()
            assert kept == self.row("AAPL", DAY)

    def test_stored_rows_of_an_earlier_version_become_one(self, lake):
        old = [{**self.row("AAPL", DAY), "action_id": name} for name in ("E1", "E2")]
        table = self.landed(old).drop_columns(["withdrawn"])
        key = Layout().object_key(self.dataset, PROVIDER, "AAPL", DAY, "day")
        lake.put_new(key, parquet.encode(table))
        assert self.read(lake).to_pylist() == self.landed([self.row("AAPL", DAY)]).to_pylist()
        assert self.land(lake, self.landed([self.row("AAPL", DAY)], LATER), refetch=True).restated.num_rows == 0

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ([{**SPLIT}, {**SPLIT, "split_to": 5.0}], ["split of 2024-07-03 contradicts itself: 4 for 1, 5 for 1"]),
            ([{"amount": 0.24}, {"amount": 0.25}], ["dividend CD USD of 2024-07-03 contradicts itself: 0.24, 0.25"]),
            (
                [{"amount": 0.24}, {"amount": 0.48}, {"amount": 5.0}],
                ["dividend CD USD of 2024-07-03 contradicts itself: 0.24, 0.48"],
            ),
            ([{"amount": 0.5}, {"amount": 15.0}], []),
            ([{"amount": 0.24}, {"amount": 0.25, "kind": "SC"}], []),
            ([{"amount": 0.24}, {"amount": 0.25, "currency": "CAD"}], []),
            ([{**SPLIT}, {**SPLIT, "split_from": 2.0, "split_to": 8.0}, {"amount": 4.0}], []),
        ],
    )
    def test_versions_of_one_action_are_named(self, changes, named):
        rows = identify(self.received([{**self.row("AAPL", DAY), **change} for change in changes]))
        assert contradictions(rows) == [f"AAPL: {text}; one of them is applied" for text in named]
