"""Load passed partitions into the warehouse in chunks, each in a transaction of its own."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from market_data.core.errors import BrokenObject, DataError, WarehouseError
from market_data.core.intervals import Interval, union
from market_data.core.run import RunInfo
from market_data.core.without_pandas import leave_pandas_out
from market_data.lake.cells import only
from market_data.pipeline.action_differences import action_differences
from market_data.pipeline.decided import confirmed, kept, without
from market_data.pipeline.known_actions import known_actions
from market_data.pipeline.requests import finished_requests, request_rows, staged_rows, staged_sizes
from market_data.pipeline.run_context import RunContext
from market_data.providers.registry import calendar_of_source
from market_data.warehouse.quality_log import LogEntry

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.lake.store import Lake
    from market_data.warehouse.base import Warehouse

log = logging.getLogger(__name__)

HASH_ROWS = 50_000


def load_run(context: RunContext, checked: Mapping[str, Any], warehouse: Warehouse) -> dict[str, Any]:
    """Load the leftovers of earlier runs, then the rows of this run.

    A chunk has at most ``warehouse.chunk_rows`` rows. Leftovers that the warehouse rejects for good are reported in ``leftover_errors``
    and stay in staging; the run's own rows are loaded nevertheless. Rows of a dataset without a table stay in the lake, and the
    warehouse is not opened.

    :returns: for an XCom: ``of``: the verdicts that were applied, ``rows`` given, ``changed`` rows, ``loads`` made, ``already``: loads
        that an earlier try had committed, ``leftover_errors``: number of the leftover in ``checked`` -> error.
        ``differences``, if there are any: sentences on corporate actions on which providers differ.
    """
    done: Counter[str] = Counter(rows=0, changed=0, loads=0, already=0)
    differences: list[str] = []
    errors = {str(n): left["error"] for n, left in enumerate(checked.get("leftovers", ())) if "error" in left}
    if context.dataset.table is None:
        log.info("%s has no table in the warehouse: it stays in the lake", context.dataset.name)
    else:
        leave_pandas_out()
        warehouse.migrate()
        staged = staged_sizes(context)
        for number, left in enumerate(checked.get("leftovers", ())):
            if str(number) in errors:
                continue
            try:
                _load(context, _passed(staged_rows(context, left["keys"], staged), left, context.lake), warehouse, done)
            except (BrokenObject, DataError, WarehouseError) as error:
                if getattr(error, "retriable", False):
                    raise
                log.exception("what %s left in staging cannot be loaded", left["run_id"])
                errors[str(number)] = f"{type(error).__name__}: {error}"
        if checked["passed"]:
            _load(context, _passed(request_rows(context, checked["prefixes"], staged), checked, context.lake), warehouse, done)
        if context.dataset.name == "corporate-actions":
            # Known dates come last: prices are adjusted once their actions are there.
            receipts = finished_requests(context, checked["prefixes"])
            warehouse.know_actions(known_actions(context.lake, context.source, context.run.started, receipts, checked))
            symbols = {symbol for receipt in receipts for symbol in receipt.request.symbols}
            differences = action_differences(warehouse, context.source, symbols)
        found = [entry for part in (checked, *checked.get("leftovers", ())) for entry in part.get("log", ())]
        warehouse.log_quality([LogEntry.from_json(entry) for entry in found])
    return {"of": judged(checked), **done, "leftover_errors": errors, **({"differences": differences} if differences else {})}


def _load(context: RunContext, rows: Iterable[pa.Table], warehouse: Warehouse, done: Counter[str]) -> None:
    for chunk in in_chunks(rows, warehouse.chunk_rows):
        named, given = load_id(context.run, chunk), [chunk]
        del chunk  # the load frees its rows, once it has them in the warehouse's form
        loaded = warehouse.load(context.dataset, given.pop(), named, context.run, calendar_of_source(context.source))
        done.update(rows=loaded.rows_in, changed=loaded.rows_changed, loads=1, already=int(loaded.already))
        earlier = " (by an earlier try)" * loaded.already
        log.info("load %d: %d rows, %d new or changed%s", done["loads"], loaded.rows_in, loaded.rows_changed, earlier)


def refused_partitions(checked: Mapping[str, Any]) -> list[str]:
    """Return the partitions that must not be loaded."""
    return [verdict["partition"] for verdict in checked["refused"]]


def judged(checked: Mapping[str, Any]) -> list[Any]:
    """Return which rows were judged and how; equal where a load would load the same."""
    leftovers = [[left["keys"], left["passed"], refused_partitions(left)] for left in checked.get("leftovers", ())]
    return [checked["prefixes"], checked["passed"], refused_partitions(checked), leftovers]


def _passed(tables: Iterable[pa.Table], checked: Mapping[str, Any], lake: Lake) -> Iterator[pa.Table]:
    from market_data.quality.verdicts import allowed

    decided = kept(lake, checked)
    if decided is not None:
        tables = without(tables, confirmed(decided))
    passed = union(Interval.from_json(interval) for interval in checked["passed"])
    refused = refused_partitions(checked)
    return (allowed(only(table, passed), refused) for table in tables)


def in_chunks(tables: Iterable[pa.Table], most: int) -> Iterator[pa.Table]:
    """Yield the rows in tables of ``most`` rows, the last one shorter; no empty table."""
    import pyarrow as pa

    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        del table
        while sum(map(len, held)) >= most:
            yield _cut(held, most)
    if sum(map(len, held)):
        yield pa.concat_tables(held).combine_chunks()


def _cut(held: list[pa.Table], most: int) -> pa.Table:
    """Return the first ``most`` rows in one piece, and leave the other rows in ``held``.

    A function of its own, so that neither the chunk nor tables without other rows are held while the chunk is loaded.
    """
    import pyarrow as pa

    rows = pa.concat_tables(held)
    held[:] = [rows.slice(most)]
    return rows.slice(0, most).combine_chunks()


def load_id(run: RunInfo, rows: pa.Table) -> str:
    """Return a hash of run, clear number and rows.

    A retry of a load has the same id; a load of a cleared run has a new one.
    """
    digest = hashlib.sha256(f"{run.key} {rows.schema}".encode())
    for batch in rows.to_batches(max_chunksize=HASH_ROWS):
        digest.update(batch.serialize())
    return digest.hexdigest()[:32]
