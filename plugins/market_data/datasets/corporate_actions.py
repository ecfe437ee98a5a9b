"""Corporate actions: splits and cash dividends, from which adjusted prices are computed.

``ex_date`` is the first day that a share trades without the dividend, or at the new count; ``session`` is the first session on or after
it. A split turns ``split_from`` shares into ``split_to``. ``amount`` is cash per share, in ``currency``, as declared (not adjusted for
later splits). ``action_id`` is the vendor's own id: two dividends can share an ex-date. ``frequency``: dividends per year, 0 for a
special one. ``kind``: the vendor's term (Polygon: CD, SC, LT, ST).

Only two orders of dates are certain: declaration and record date are not after the payment. The ex-date may come after the payment
(large specials, which trade with due bills), and a day before the record date or on it.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from market_data.datasets.base import Dataset, Files, Mask, Received, Rule, required, stored
from market_data.datasets.rules import (
    finite,
    first_session_from,
    not_after,
    of_every_row,
    one_of,
    positive,
    short_text,
    storable,
)

ACTIONS = ("split", "dividend")

RECEIVED = pa.schema(
    [
        required("symbol", pa.string()),
        required("session", pa.date32()),
        required("action", pa.string()),
        required("ex_date", pa.date32()),
        required("action_id", pa.string()),
        pa.field("split_from", pa.float64()),
        pa.field("split_to", pa.float64()),
        pa.field("amount", pa.float64()),
        pa.field("currency", pa.string()),
        pa.field("declaration_date", pa.date32()),
        pa.field("record_date", pa.date32()),
        pa.field("pay_date", pa.date32()),
        pa.field("kind", pa.string()),
        pa.field("frequency", pa.int32()),
    ]
)


def _needs(action: str, field: str) -> Rule:
    def broken(received: Received) -> Mask:
        return pc.and_(pc.equal(received["action"], action), pc.is_null(received[field]))

    return Rule(f"{action}_has_{field}", f"a {action} has {field}", broken, f"{action} without {field}")


AMOUNTS = ("split_from", "split_to", "amount")

RULES = of_every_row(
    RECEIVED,
    one_of("action", ACTIONS),
    _needs("split", "split_from"),
    _needs("split", "split_to"),
    _needs("dividend", "amount"),
    *(finite(field) for field in AMOUNTS),
    *(storable(field) for field in AMOUNTS),
    *(positive(field) for field in AMOUNTS),
    first_session_from("ex_date"),
    not_after("declaration_date", "pay_date"),
    not_after("record_date", "pay_date"),
    short_text("action_id", 128),
    short_text("currency", 16),
    short_text("kind", 32),
)

CORPORATE_ACTIONS = Dataset(
    name="corporate-actions",
    folder="corporate_actions",
    received=RECEIVED,
    schema=stored(RECEIVED),
    key=("symbol", "ex_date", "action", "action_id"),
    values=(
        *("split_from", "split_to", "amount", "currency"),
        *("declaration_date", "record_date", "pay_date", "kind", "frequency"),
    ),
    table="corporate_actions",
    settle_sessions=10,
    grows=True,
    rules=RULES,
    files=Files(year_grain="year"),
)
