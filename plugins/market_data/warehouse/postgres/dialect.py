"""Define the words of PostgreSQL. Its upsert is the MERGE of `warehouse/upsert_sql.py`."""

from __future__ import annotations

from market_data.warehouse.dialects import INFORMATION_SCHEMA, Dialect
from market_data.warehouse.schema import Type

POSTGRES = Dialect(
    types={
        Type.STRING: "VARCHAR({})",
        Type.TIMESTAMP: "TIMESTAMP(6)",
        Type.DATE: "DATE",
        Type.DECIMAL: "NUMERIC(20,8)",
        Type.AMOUNT: "NUMERIC(28,6)",
        Type.INTEGER: "BIGINT",
        Type.SMALL: "INTEGER",
    },
    table_exists=INFORMATION_SCHEMA,
    mark=lambda _: "%s",
    stage=("CREATE TEMPORARY TABLE", " ON COMMIT DROP"),  # nothing is left in a pooler's connection
    view_pins_columns=True,
    widen="ALTER TABLE {table} ALTER COLUMN {column} TYPE {type}",
    recheck=("ALTER TABLE {table} DROP CONSTRAINT {table}_ck, ADD CONSTRAINT {table}_ck CHECK ({check}) NOT VALID",),
    lock="LOCK TABLE {table} IN EXCLUSIVE MODE",
)
