"""Load: what passed, into the warehouse, in chunks, a transaction each. A dataset without a table stays in the lake."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from market_data.core.intervals import Interval, union
from market_data.core.run import RunInfo
from market_data.lake.cells import only
from market_data.pipeline.run_context import Job

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.warehouse.base import Warehouse

log = logging.getLogger(__name__)

HASH_ROWS = 50_000


def load_run(job: Job, checked: Mapping[str, Any], warehouse: Warehouse) -> dict[str, Any]:
    """Load what passed, in chunks of at most ``warehouse.chunk_rows`` rows. It is not opened for a dataset that stays in the lake.

    :returns: for an XCom: ``of``: what of the checkpoint's word was loaded, ``rows`` given, ``changed`` of them, ``loads`` made,
        ``already``: loads that an earlier try had committed.
    """
    rows = changed = loads = already = 0
    if job.dataset.table is None:
        log.info("%s has no table in the warehouse: it stays in the lake", job.dataset.name)
    else:
        warehouse.migrate()
        for chunk in _chunks(job, checked, warehouse.chunk_rows):
            loaded = warehouse.load(job.dataset, chunk, _load_id(job.run, chunk), job.run)
            rows, changed, loads, already = (
                rows + loaded.rows_in,
                changed + loaded.rows_changed,
                loads + 1,
                already + loaded.already,
            )
            log.info(
                "load %d: %d rows, %d new or changed%s",
                loads,
                loaded.rows_in,
                loaded.rows_changed,
                " (by an earlier try)" * loaded.already,
            )
    return {"of": judged(checked), "rows": rows, "changed": changed, "loads": loads, "already": already}


def refused_partitions(checked: Mapping[str, Any]) -> list[str]:
    return [verdict["partition"] for verdict in checked["refused"]]


def judged(checked: Mapping[str, Any]) -> list[Any]:
    """What the checkpoint said of what: equal for equal words."""
    return [checked["prefixes"], checked["passed"], refused_partitions(checked)]


def _chunks(job: Job, checked: Mapping[str, Any], most: int) -> Iterator[pa.Table]:
    import pyarrow as pa

    from market_data.lake.receipts import read
    from market_data.quality.verdicts import allowed

    passed = union(Interval.from_json(interval) for interval in checked["passed"])
    if not passed:
        return
    refused, held = refused_partitions(checked), []
    for prefix in checked["prefixes"]:
        for stored in read(job.lake, prefix):
            held.append(allowed(only(stored.rows, passed), refused))
            while sum(map(len, held)) >= most:
                rows = pa.concat_tables(held)
                yield rows.slice(0, most).combine_chunks()
                held = [rows.slice(most)]
    if sum(map(len, held)):
        yield pa.concat_tables(held).combine_chunks()


def _load_id(run: RunInfo, rows: pa.Table) -> str:
    """A hash of run, clear number and content: a retry of the same load has the same one, a cleared run's correction another."""
    digest = hashlib.sha256(f"{run.key} {rows.schema}".encode())
    for batch in rows.to_batches(max_chunksize=HASH_ROWS):
        digest.update(batch.serialize())
    return digest.hexdigest()[:32]
