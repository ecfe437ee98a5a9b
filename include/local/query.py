"""Ask the local DuckDB warehouse a question: ``make query SQL='select ...'``."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from include.local.environment import LocalError

PATIENCE = 30.0  # seconds; a load holds the file while it writes

EXAMPLE = "select symbol, bar_time::date as session, close_px, volume from silver_prices order by bar_time desc, symbol limit 10"


def query(warehouse: Path, sql: str, console: Console) -> None:
    """Print the rows that ``sql`` gives, as a table. Nothing can be changed.

    :raises LocalError: if there is no warehouse yet, or DuckDB refuses the question.
    """
    import duckdb

    if not warehouse.exists():
        raise LocalError(f"there is no warehouse at {warehouse} yet; `make run` makes one")
    until = time.monotonic() + PATIENCE
    while True:
        try:
            with duckdb.connect(str(warehouse), read_only=True) as connection:
                result = connection.execute(sql or EXAMPLE)
                names, rows = [column[0] for column in result.description or ()], result.fetchall()
            break
        except duckdb.IOException as error:
            if "lock" not in str(error).lower() or time.monotonic() > until:
                raise LocalError(f"DuckDB: {error}") from None
            time.sleep(0.2)
        except duckdb.Error as error:
            raise LocalError(f"DuckDB: {error}") from None
    table = Table(*names)
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    console.print(table)
