"""The dates whose corporate actions are loaded, for loads by hand."""

from __future__ import annotations

from datetime import date

import pyarrow as pa

EVER = (date(1900, 1, 1), date(9999, 12, 31))


def whole_lives(rows: pa.Table) -> list[tuple[str, str, date, date]]:
    """Return the coverage of symbols whose actions were loaded by hand: ``rows`` count as all there are."""
    found = rows.group_by(["symbol", "provider"]).aggregate([])
    return [
        (symbol, provider, *EVER)
        for symbol, provider in zip(*found.select(["symbol", "provider"]).to_pydict().values(), strict=True)
    ]
