"""The findings of an audit.

A row per cell, object or part of a table that is not as it should be, with its cause and its cheapest repair.
"""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa


class Repair(StrEnum):
    """How a finding is repaired, cheapest first where several would do."""

    NONE = "none"  # nothing to do: it is shown so that a person knows
    WAIT = "wait"  # a scheduled run requests it when it is due
    RUN = "run"  # the feed's next run loads or deletes it: what waits in staging
    LEDGER = "ledger"  # write ledger records from lake objects and receipts; no call
    LOAD = "load"  # load from the lake into the warehouse; no call
    REMOVE = "remove"  # delete from the warehouse rows that neither the lake nor any load has; no call
    FETCH = "fetch"  # request from the provider
    DECIDE = "decide"  # a person releases it, or confirms that it is wrong


class Cause(StrEnum):
    """Why something is found."""

    MISSING = "missing"  # a cell without any state
    SUSPECTED_GAP = "suspected gap"
    PENDING = "pending"  # past the time at which it should be final
    QUARANTINED = "quarantined"
    REFUSED = "refused"
    OBJECT_MISSING = "object missing"  # the ledger has the cell, the lake has no object with its rows
    OBJECT_UNREADABLE = "object unreadable"
    OBJECT_CHANGED = "object changed"  # size or hash are not those of the receipt, or rows are lacking
    NOT_RECORDED = "not recorded"  # the lake has rows, the ledger has no record of the cell
    LEDGER_UNREADABLE = "ledger unreadable"  # a ledger object that cannot be read
    STAGING_LEFT = "staging left behind"
    NOT_LOADED = "not loaded"  # the lake has rows that silver lacks
    WAREHOUSE_CHANGED = "warehouse changed"  # silver has other values than the lake
    ONLY_IN_WAREHOUSE = "only in the warehouse"  # silver has rows that the lake lacks


OF_WAREHOUSE = frozenset({Cause.NOT_LOADED, Cause.WAREHOUSE_CHANGED, Cause.ONLY_IN_WAREHOUSE})
"""Causes that an audit without a warehouse does not look for."""

BY_READING = OF_WAREHOUSE | {Cause.OBJECT_MISSING, Cause.OBJECT_UNREADABLE, Cause.OBJECT_CHANGED, Cause.NOT_RECORDED}
"""Causes that an audit may overlook if it does not read all objects of the symbol."""

FINDINGS = pa.schema(
    [
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("symbol", pa.string()),
        pa.field("first_session", pa.date32()),
        pa.field("last_session", pa.date32()),
        pa.field("key", pa.string()),
        pa.field("cause", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("repair", pa.string(), nullable=False),
    ]
)
"""Findings. ``symbol`` and sessions (both inclusive) are null where an object or table part has none; ``key`` is the lake object, if one is
meant. A cell has one row: the cause that its cheapest sufficient repair follows from."""
