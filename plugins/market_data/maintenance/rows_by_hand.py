"""Remove rows of the warehouse that somebody put there by hand.

Neither the lake nor any load has them. A copy of the rows is kept in the lake first.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

import pyarrow as pa

from market_data.pipeline.gap_list import PREFIX

if TYPE_CHECKING:
    from market_data.lake.store import Lake
    from market_data.pipeline.selection import Selection
    from market_data.warehouse.base import Warehouse

log = logging.getLogger(__name__)


def remove_rows(lake: Lake, warehouse: Warehouse, selection: Selection, cells: pa.Table) -> int:
    """Delete the rows of ``cells`` that the lake lacks and no load wrote; return their number.

    :param cells: schema ``GAPS``.
    """
    from market_data.lake import parquet
    from market_data.lake.coverage import contains
    from market_data.maintenance.audit.silver import Silver
    from market_data.pipeline.rebuild import rows_to_load
    from market_data.providers.registry import calendar_of_source
    from market_data.warehouse.arrow_rows import to_values

    if selection.dataset.table is None or not len(cells):
        return 0
    silver = Silver(warehouse, selection, calendar_of_source(selection.source))
    if not silver.exists:
        return 0
    rows = silver.never_loaded(sorted(cells["symbol"].unique().to_pylist()))
    rows = rows.filter(pa.array(contains(cells, rows)))
    if not len(rows):
        return 0
    key = [column.name for column in silver.table.key]
    stored = to_values(silver.table, rows_to_load(lake, selection, rows)).select(key)
    numbers = rows.select(key).append_column("row", pa.array(range(len(rows)), pa.int64()))
    rows = rows.take(numbers.join(stored, key, join_type="left anti")["row"].combine_chunks().sort())
    if not len(rows):
        return 0
    body = parquet.encode(rows)
    digest = hashlib.sha256(body).hexdigest()[:16]
    kept = f"{PREFIX}/{selection.dataset.name}/provider={selection.source}/removed-{digest}.parquet"
    lake.put_new(kept, body)
    removed = warehouse.remove(selection.dataset, rows, f"removed-{digest}")
    log.info("repair: %d rows of %s that no load wrote are removed; a copy is kept as %s", removed, silver.table.silver, kept)
    return removed
