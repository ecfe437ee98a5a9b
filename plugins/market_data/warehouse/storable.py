"""The tables' own checks, in Arrow: to tell before a load which rows they would reject."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.errors import DataError
from market_data.warehouse.schema import CORPORATE_ACTIONS, FUNDAMENTALS, PRICES, SYMBOL_CHANGES, TRADES, Table

Holds = Callable[[pa.Table], pa.ChunkedArray]


def _actions(rows: pa.Table) -> pa.ChunkedArray:
    terms = pc.and_(pc.greater(rows["split_from"], 0), pc.greater(rows["split_to"], 0))
    split = pc.and_(pc.equal(rows["action_type"], "split"), pc.fill_null(terms, False))
    paid = pc.fill_null(pc.greater_equal(rows["cash_amount"], 0), False)
    return pc.or_(split, pc.and_(pc.equal(rows["action_type"], "dividend"), paid))


CHECKS: dict[str, tuple[tuple[str, Holds], ...]] = {
    PRICES.name: (
        ("high is below low", lambda rows: pc.greater_equal(rows["high_px"], rows["low_px"])),
        ("volume is negative", lambda rows: pc.greater_equal(rows["volume"], 0)),
    ),
    TRADES.name: (
        ("size is negative", lambda rows: pc.greater_equal(rows["trade_size"], 0)),
        ("ordinal is negative", lambda rows: pc.greater_equal(rows["ordinal"], 0)),
    ),
    FUNDAMENTALS.name: (
        ("statement is unknown", lambda rows: pc.is_in(rows["statement"], pa.array(["income", "balance_sheet", "cash_flow"]))),
        ("period is unknown", lambda rows: pc.is_in(rows["fiscal_period"], pa.array(["FY", "Q1", "Q2", "Q3", "Q4"]))),
    ),
    CORPORATE_ACTIONS.name: (("its terms are incomplete", _actions),),
    SYMBOL_CHANGES.name: (("old and new symbol are equal", lambda rows: pc.not_equal(rows["old_symbol"], rows["new_symbol"])),),
}
"""Table -> what is wrong if a condition does not hold, and the condition; null holds: the same as ``Table.check``."""


def check_rows(table: Table, rows: pa.Table) -> None:
    """Check what the table itself demands.

    :param rows: from ``to_wire``.
    :raises DataError: if a row does not satisfy it; says why.
    """
    for what, holds in CHECKS[table.name]:
        if not pc.all(pc.fill_null(holds(rows), True), min_count=0).as_py():
            raise DataError(f"the warehouse cannot hold it: {what}")
