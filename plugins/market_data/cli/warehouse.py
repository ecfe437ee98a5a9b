"""``market-data query``, ``migrate`` and ``rebuild-warehouse``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from market_data.core.errors import ConfigError, LakeError, WarehouseError

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.config.feeds import Feed
    from market_data.lake.store import Lake
    from market_data.warehouse.base import Warehouse

LATEST = (
    "SELECT symbol, provider, timeframe, bar_time, open_px, high_px, low_px, close_px, volume FROM silver_prices"
    " ORDER BY bar_time DESC, symbol, provider FETCH FIRST 10 ROWS ONLY"
)
"""The statement of ``market-data query`` without one."""
WAIT = 30
"""Seconds to wait for a DuckDB file that a load has open."""
TABLES = (
    "SELECT table_name AS name FROM information_schema.tables WHERE table_schema NOT IN ('information_schema', 'pg_catalog')",
    "SELECT table_name AS name FROM user_tables UNION ALL SELECT view_name FROM user_views",
)
"""Lists of tables and views: the standard's, then Oracle's."""
_NAMED = re.compile(r"\b(?:FROM|JOIN)\s+([A-Za-z_][A-Za-z0-9_.]*)", re.IGNORECASE)
_WITH = re.compile(r"(?:\bWITH\s+|,\s*)([A-Za-z_]\w*)\s+AS\s*\(", re.IGNORECASE)


def duckdb_file(path: str) -> Warehouse:
    """Return the warehouse in a DuckDB file, without any Airflow connection."""
    from market_data.warehouse import WarehouseConnection, open_warehouse

    return open_warehouse(WarehouseConnection("duckdb", extra={"path": str(Path(path).absolute()), "lock_timeout": WAIT}))


def query(warehouse: Warehouse, statement: str | None) -> pa.Table:
    """Return the rows of one SELECT.

    :raises ConfigError: it names a table that does not exist; lists those that do.
    :raises WarehouseError: the engine refuses it.
    """
    wanted = statement or LATEST
    try:
        return warehouse.query(wanted)
    except WarehouseError:
        names = {name.lower() for name in _NAMED.findall(wanted)} - {name.lower() for name in _WITH.findall(wanted)}
        there = tables(warehouse)
        missing = sorted(name for name in names if name.rpartition(".")[2] not in there) if there is not None else []
        if not missing:
            raise
        known = ", ".join(sorted(there or ())) or "none yet; `market-data migrate` creates them"
        raise ConfigError(f"there is no table {', '.join(missing)}; tables and views: {known}") from None


def tables(warehouse: Warehouse) -> set[str] | None:
    """Return the warehouse's tables and views in lower case, or None if it cannot be opened."""
    for statement in TABLES:
        with suppress(WarehouseError):
            return {str(name).lower() for name in warehouse.query(statement)["name"].to_pylist()}
    return None


def rebuild(
    lake: Lake,
    warehouse: Warehouse,
    feeds: Sequence[Feed] | None,
    source: str | None,
    symbols: Sequence[str] | None,
    span: tuple[date | None, date | None],
    *,
    dry_run: bool,
) -> Iterator[str]:
    """Rebuild the tables of several feeds from the lake, and yield one line per feed and source.

    :param feeds: None: every feed whose dataset has a table, with all its variants.
    :param source: one variant; None: the feed's own and every variant that the ledger has.
    :param span: first and last session, both inclusive; None: unlimited.
    :raises ParamError: if ``source`` is not one of the feed's provider.
    :raises LakeError: at the end, if an object could not be read. Everything else is loaded.
    """
    from market_data.config.feeds import load_feeds
    from market_data.datasets.registry import dataset
    from market_data.pipeline.rebuild import rebuild_warehouse
    from market_data.pipeline.selection import selections

    wanted = feeds if feeds is not None else [feed for feed in load_feeds() if dataset(feed.dataset).table]
    unreadable: list[str] = []
    for feed, selection in selections(lake, wanted, source, symbols, span, named=feeds is not None):
        done = rebuild_warehouse(lake, warehouse, selection, dry_run=dry_run)
        unreadable += done.unreadable
        what = f"{feed.dataset} of {selection.source}: {done.symbols:,} symbols, {done.objects:,} objects"
        if dry_run:
            yield f"{what}; nothing was loaded (dry run)"
        else:
            yield (
                f"{what}, {done.rows:,} rows loaded, {done.changed:,} new or changed,"
                f" {done.left_out:,} left out (not recorded as loaded)"
            )
    if unreadable:
        raise LakeError(
            "; ".join(unreadable)
            + ". Nothing was loaded for their dates. To do: run the feed for these symbols and dates with force"
        )
