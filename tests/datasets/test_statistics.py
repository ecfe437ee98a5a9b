"""The venues' statistics."""

import math
from typing import ClassVar

from market_data.datasets.rules import LIMIT
from tests.contract.dataset import DAY, new_york
from tests.datasets.tick_contract import TickContract, nanos


class TestStatistics(TickContract):
    name = "statistics"
    bad: ClassVar = {
        "neither price nor quantity": ({"price": None}, "neither price nor quantity is there"),
        "no number": ({"price": math.nan}, "price is nan"),
        "a quantity that no table holds": ({"quantity": LIMIT}, "quantity 1e+12 not below 1e+12"),
        "a name too long": ({"stat_type": "x" * 65}, f"stat_type '{'x' * 65}' does not have 1 to 64 characters"),
        "ordinal below 0": ({"ordinal": -1}, "ordinal -1 below 0"),
    }
    fine: ClassVar = {
        "a quantity": {"price": None, "quantity": 0.0, "stat_type": "open_interest"},
        "withdrawn": {"price": None, "update_action": "delete"},
        "a settlement below 0": {"price": -37.63},
        "published the day after": {"ts_event": nanos(new_york(DAY, 7, days=1)), "ts_ref": nanos(new_york(DAY, 0))},
    }
    slipped: ClassVar = {
        "stat_type_present": {"stat_type": None},
        "price_storable": {"price": LIMIT},
        "quantity_storable": {"quantity": -2e12},
        "sequence_not_negative": {"sequence": -1},
    }

    def values(self):
        return {
            "stat_type": "settlement_price",
            "ts_ref": None,
            "price": 10.5,
            "quantity": None,
            "update_action": "new",
            "venue": "GLBX",
        }
