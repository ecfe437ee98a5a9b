"""Changes of symbols.

From ``effective_date`` on, a company trades as ``new_symbol``; until then it traded as ``old_symbol``.

``symbol`` is the one that was requested, either of the two or a later name of the company: one change may be there under several. The
company is followed by ``core/symbol_changes.py``.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from market_data.datasets.base import Dataset, Files, Rule, required, stored
from market_data.datasets.rules import first_session_from, of_every_row, short_text

RECEIVED = pa.schema(
    [
        required("symbol", pa.string()),
        required("session", pa.date32()),
        required("effective_date", pa.date32()),
        required("old_symbol", pa.string()),
        required("new_symbol", pa.string()),
        pa.field("issuer", pa.string()),
    ]
)

CHANGED = Rule(
    "new_symbol_differs",
    "new_symbol is not old_symbol",
    lambda received: pc.equal(received["old_symbol"], received["new_symbol"]),
    "new_symbol {new_symbol} equals old_symbol",
)

SYMBOL_CHANGES = Dataset(
    name="symbol-changes",
    folder="symbol_changes",
    received=RECEIVED,
    schema=stored(pa.schema([*RECEIVED, pa.field("withdrawn", pa.bool_())])),
    key=("symbol", "effective_date", "old_symbol", "new_symbol"),
    values=("issuer", "withdrawn"),
    withdrawn="withdrawn",
    table="symbol_changes",
    settle_sessions=10,
    grows=True,
    rules=of_every_row(
        RECEIVED,
        first_session_from("effective_date"),
        CHANGED,
        short_text("old_symbol", 32),
        short_text("new_symbol", 32),
        short_text("issuer", 128),
    ),
    files=Files(year_grain="year"),
)
