"""Corporate actions: splits and cash dividends, from which adjusted prices are computed.

``ex_date`` is the first day that a share trades without the dividend, or at the new count; ``session`` is the first session on or after
it. A split turns ``split_from`` shares into ``split_to``. ``amount`` is cash per share, in ``currency``, as declared (not adjusted for
later splits). ``frequency``: dividends per year, 0 for a special one. ``kind``: CD for a regular dividend, SC for a special one, LT and
ST for capital gains of more and less than a year (Polygon's terms); other terms are the vendor's.

``action_id`` identifies an action within its symbol and ex-date: a split by its ratio, a dividend by amount, currency and kind. So an
action has the same id whoever reports it, and however often. The vendor's own id is not kept: vendors give new ones to old actions. The
SQL of ``warehouse/action_ids.py`` and of the lake makes the same text.

``withdrawn`` is true for an action that a later whole response no longer held, else null.

Only two orders of dates are certain: declaration and record date are not after the payment. The ex-date may come after the payment
(large specials, which trade with due bills), and a day before the record date or on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from market_data.datasets.base import Dataset, Files, Mask, Received, Rule, required, stored
from market_data.datasets.rules import (
    LIMIT,
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


RATIO_UNITS, AMOUNT_UNITS = 10_000, 1_000_000
"""An id counts a ratio in ten thousandths and an amount in millionths: 4:1, 8:2 and a ratio of 0.25 are one split."""
MOST_RATIO = 1e9
SPECIAL_KINDS = ("SC", "LT", "ST")


def identify(rows: pa.Table) -> pa.Table:
    """Return ``rows`` with their ``action_id`` made of their values, each action once.

    If rows have one id, the one seen last is kept (``ingest_ts``, where it is there); if they are equally new, the one with the fewest
    nulls. Rows without a usable ratio or amount keep the id they have.
    """
    if not len(rows):
        return rows
    made = _ids(rows)
    place = rows.schema.get_field_index("action_id")
    rows = rows.set_column(place, rows.schema.field(place), pc.coalesce(made, rows["action_id"].combine_chunks()))
    repeated = _repeated(rows, made)
    return rows if repeated is None else rows.filter(pa.array(~repeated))


def _ids(rows: pa.Table) -> pa.Array:
    """Return the id of each row, null where its values do not make one."""

    def numbers(name: str) -> NDArray[np.float64]:
        return pc.fill_null(rows[name].cast(pa.float64()), np.nan).to_numpy()

    before, after, amount = (numbers(name) for name in AMOUNTS)
    kinds, currencies, actions = (rows[name].to_pylist() for name in ("kind", "currency", "action"))
    with np.errstate(all="ignore"):
        ratio = np.where(after >= before, after / before, before / after)
    parts, cash = _units(ratio, RATIO_UNITS, 6), _units(amount, AMOUNT_UNITS, 3)

    def made(row: int) -> str | None:
        if actions[row] == "split" and before[row] > 0 and after[row] > 0 and ratio[row] < MOST_RATIO:
            return f"{parts[row]}:{RATIO_UNITS}" if after[row] >= before[row] else f"{RATIO_UNITS}:{parts[row]}"
        if actions[row] == "dividend" and 0 <= amount[row] < LIMIT:
            return f"{cash[row]} {(currencies[row] or 'USD').upper()} {kinds[row] if kinds[row] in SPECIAL_KINDS else 'CD'}"
        return None

    return pa.array([made(row) for row in range(len(rows))], pa.string())


def _units(values: NDArray[np.float64], units: int, digits: int) -> NDArray[np.int64]:
    """Count ``values`` in parts of a unit; halves up, after the noise of floats is rounded away."""
    counted = np.floor(np.round(np.nan_to_num(values, posinf=0.0, neginf=0.0) * units, digits) + 0.5)
    return np.clip(counted, -9e18, 9e18).astype(np.int64)


def _repeated(rows: pa.Table, made: pa.Array) -> NDArray[np.bool_] | None:
    """Return a mask of the rows whose action another row is kept for, or None where each comes once."""
    keys = list(zip(*(rows[name].to_pylist() for name in IDENTITY if name in rows.column_names), strict=True))
    known = made.is_valid().to_pylist()
    if len(set(keys)) == len(keys):
        return None
    content = rows.to_pylist()

    def rank(row: int) -> tuple[Any, ...]:
        values = content[row]
        lacking = sum(value is None for value in values.values())
        seen = values.get("ingest_ts")
        return (-seen.timestamp() if seen else 0.0, lacking, repr(values))

    best: dict[tuple[Any, ...], int] = {}
    for row, key in enumerate(keys):
        if known[row] and (key not in best or rank(row) < rank(best[key])):
            best[key] = row
    return np.array([known[row] and best[key] != row for row, key in enumerate(keys)])


def contradictions(rows: pa.Table) -> list[str]:
    """Return a sentence for each action that ``rows`` hold in more than one version.

    Only one of them can be true.

    A symbol splits once on a day. Its dividends of a day may be several, but similar amounts of one kind and currency (`SIMILAR`) are
    versions of one dividend: corrected, gross and net, or converted. The view ``gold_corporate_actions`` applies the same rule.
    """
    slots: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows.to_pylist():
        if row["action"] == "split" and row["split_from"] and row["split_to"]:
            slot, text, amount = "split", f"{row['split_to']:g} for {row['split_from']:g}", 0.0
        elif row["action"] == "dividend" and row["amount"] is not None:
            slot, text, amount = f"dividend {row['kind'] or 'CD'} {row['currency'] or 'USD'}", f"{row['amount']:g}", row["amount"]
        else:
            continue
        slots.setdefault((row["symbol"], slot, str(row["ex_date"])), {})[row["action_id"]] = (amount, text)
    found = []
    for (symbol, slot, ex_date), actions in sorted(slots.items()):
        versions: list[str] = []
        previous = None
        for amount, text in [*sorted(actions.values()), (np.inf, "")]:
            if previous is not None and amount > SIMILAR * previous:
                if len(versions) > 1:
                    found.append(f"{symbol}: {slot} of {ex_date} contradicts itself: {', '.join(versions)}; one of them is applied")
                versions = []
            versions.append(text)
            previous = amount
    return found


SIMILAR = 2
"""Two amounts are versions of one dividend if the larger is at most so many times the smaller."""
IDENTITY = ("symbol", "provider", "action", "ex_date", "action_id")


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
    schema=stored(pa.schema([*RECEIVED, pa.field("withdrawn", pa.bool_())])),
    key=("symbol", "ex_date", "action", "action_id"),
    values=(
        *("split_from", "split_to", "amount", "currency"),
        *("declaration_date", "record_date", "pay_date", "kind", "frequency", "withdrawn"),
    ),
    withdrawn="withdrawn",
    identify=identify,
    contradictions=contradictions,
    table="corporate_actions",
    settle_sessions=10,
    grows=True,
    rules=RULES,
    files=Files(year_grain="year"),
)
