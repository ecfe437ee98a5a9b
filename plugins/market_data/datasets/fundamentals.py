"""Fundamentals: the statements that companies file, one row per item.

A row is one number of one statement: ``item`` is the vendor's name for it, ``value`` is in whole units of ``currency`` (per share for
items per share). The format is long because items differ between vendors and industries: a new item needs no new schema.
``session`` is the first session on or after ``filing_date``: when the market could know the statement. ``period_end`` is the last day
that the statement covers; ``fiscal_year`` and ``period`` (``FY``, ``Q1`` to ``Q4``) are the company's own names for it.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from market_data.datasets.base import UTC_MICROS, Dataset, Files, Mask, Received, Rule, required, stored
from market_data.datasets.rules import (
    finite,
    first_session_from,
    not_after,
    of_every_row,
    one_of,
    short_text,
    storable,
)

STATEMENTS = ("income", "balance_sheet", "cash_flow")
PERIODS = ("FY", "Q1", "Q2", "Q3", "Q4")
LARGEST = 1e16  # balance sheets in rupiah or won reach 1e15; beyond 2**53, 9e15, a float64 does not tell whole units apart

RECEIVED = pa.schema(
    [
        required("symbol", pa.string()),
        required("session", pa.date32()),
        required("statement", pa.string()),
        required("period", pa.string()),
        required("fiscal_year", pa.int32()),
        required("period_end", pa.date32()),
        required("filing_date", pa.date32()),
        pa.field("accepted_at", UTC_MICROS),
        pa.field("currency", pa.string()),
        required("item", pa.string()),
        pa.field("value", pa.float64()),
    ]
)


def _far_year(received: Received) -> Mask:
    year = pc.year(received["period_end"])
    return pc.greater(pc.abs(pc.subtract(received["fiscal_year"].cast(pa.int64()), year)), 1)


RULES = of_every_row(
    RECEIVED,
    one_of("statement", STATEMENTS),
    one_of("period", PERIODS),
    not_after("period_end", "filing_date"),
    first_session_from("filing_date"),
    # A fiscal year may be named by the calendar year that it begins in, or by that in which it ends.
    Rule(
        "fiscal_year_near_period_end",
        "fiscal_year is the year of period_end, the one before or the one after",
        _far_year,
        "fiscal_year {fiscal_year} not near period_end {period_end}",
    ),
    short_text("currency", 16),
    short_text("item", 128),
    finite("value"),
    storable("value", LARGEST),
)

FUNDAMENTALS = Dataset(
    name="fundamentals",
    folder="fundamentals",
    received=RECEIVED,
    schema=stored(RECEIVED),
    key=("symbol", "statement", "period_end", "period", "item"),
    values=("fiscal_year", "filing_date", "accepted_at", "currency", "value"),
    table="fundamentals",
    # Vendors publish the statements of a filing days or weeks after it, and not all three together.
    settle_sessions=30,
    grows=True,
    published="filing_date",  # fetching an earlier span again returns a statement as it was first filed
    rules=RULES,
    files=Files(date="period_end", kind="statement", kinds=STATEMENTS),
)
