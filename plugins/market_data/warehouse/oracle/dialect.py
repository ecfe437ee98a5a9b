"""Oracle's SQL."""

from __future__ import annotations

from market_data.warehouse.dialects import Dialect
from market_data.warehouse.schema import Type

ORACLE = Dialect(
    types={
        Type.STRING: "VARCHAR2({} CHAR)",
        Type.TIMESTAMP: "TIMESTAMP(6)",
        Type.DATE: "DATE",
        Type.DECIMAL: "NUMBER(20,8)",
        Type.AMOUNT: "NUMBER(28,6)",
        Type.INTEGER: "NUMBER(19)",
        Type.SMALL: "NUMBER(10)",
    },
    table_exists=(  # not of user_tables: the login may be another than the owner
        "SELECT COUNT(*) AS tables FROM all_tables WHERE owner = SYS_CONTEXT('USERENV', 'CURRENT_SCHEMA') AND table_name = UPPER(?)"
    ),
    mark=lambda n: f":{n}",
    stage=("CREATE GLOBAL TEMPORARY TABLE", " ON COMMIT DELETE ROWS"),
    stage_is_migrated=True,
    replaces_views=True,
    double="BINARY_DOUBLE",  # DOUBLE PRECISION is a decimal NUMBER there, and its logarithms are slow
    widen="ALTER TABLE {table} MODIFY ({column} {type})",
    recheck=(
        "ALTER TABLE {table} DROP CONSTRAINT {table}_ck",
        "ALTER TABLE {table} ADD CONSTRAINT {table}_ck CHECK ({check}) ENABLE NOVALIDATE",
    ),
    lock="LOCK TABLE {table} IN EXCLUSIVE MODE WAIT 600",
    position="INSTR({text}, {part})",
)
