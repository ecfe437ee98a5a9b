"""Fold the coverage ledger: the records of many runs and batches go into one object per month.

Records do not change. A folded object is written by a conditional PUT and read back. Then the objects that it replaces are deleted, each
in the version that was read. Killed at any point, the next folding goes on. Writers need not be stopped: see `ledger.write_cells`.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.errors import BrokenObject, LakeError
from market_data.core.messages import shortened
from market_data.lake import conditional, ledger, parquet
from market_data.lake.coverage import SCHEMA, STAMP
from market_data.lake.layout import manifest_prefix
from market_data.lake.store import Lake
from market_data.maintenance import journal

log = logging.getLogger(__name__)

RECENT = timedelta(days=1)
"""Objects with a later record are not folded: their run may still be at work."""

AT_A_TIME = 500_000
"""Records that are held in memory, about."""

TRIES = 8

_ENCODED = pa.dictionary(pa.int32(), pa.string())
_TEXTS = ("symbol", "state", "reason", "run_id", "batch_id", ledger.OBJECT.name)
SCHEMA = pa.schema([pa.field(f.name, _ENCODED if f.name in _TEXTS else f.type, nullable=False) for f in (*SCHEMA, ledger.OBJECT)])
"""Records of a folded object, in memory."""

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FoldedLedger:
    """Result of folding, or of its dry run.

    :param objects: folded, or to fold in a dry run; ``deleted`` of them are deleted.
    :param records: in these objects; 0 in a dry run.
    :param months: folded objects that were created or replaced.
    :param left: a sentence on everything that was left alone, with the reason.
    """

    dataset: str
    source: str
    dry_run: bool
    objects: int = 0
    records: int = 0
    months: int = 0
    deleted: int = 0
    left: tuple[str, ...] = ()

    def sentences(self) -> list[str]:
        """Return the result in words."""
        name = f"coverage ledger of {self.dataset}, {self.source}"
        if self.dry_run:
            total = f"{name}: {self.objects:,} objects can be folded; nothing was changed (dry run)"
        else:
            total = f"{name}: {self.records:,} records of {self.objects:,} objects are folded, {self.deleted:,} objects deleted"
        return [total, *shortened(self.left)]


def fold_ledger(
    lake: Lake, dataset: str, source: str, now: datetime, *, dry_run: bool = False, by: str = "market-data"
) -> FoldedLedger:
    """Fold the ledger of a dataset and source.

    Left alone and named: objects with a record of the last day, those that cannot be read, and those that changed in the meantime. Nothing
    is folded in a store that ignores conditions of a DELETE, as every record would be there twice.

    :param dry_run: count the objects by their keys, recent ones included.
    :param by: who runs it, for the journal.
    :raises ConfigError: if the store ignores conditions of a PUT.
    :raises LakeError: if the store fails, or does not return what was written; no record is lost.
    """
    folder = manifest_prefix(dataset, source)
    keys = ledger.own_objects(folder, [key for key, _ in lake.list(folder)])
    if dry_run or not keys:
        return FoldedLedger(dataset, source, dry_run, len(keys))
    conditional.check_conditional_put(lake)
    if not conditional.honours_conditional_delete(lake):
        return FoldedLedger(
            dataset, source, dry_run, left=(f"the store of {lake.url} ignores conditions of a DELETE: nothing is folded",)
        )
    counts, left = Counter[str](), list[str]()
    try:
        for objects in _settled(lake, folder, keys, now - RECENT, left):
            _fold(lake, folder, objects, counts, left)
    finally:
        if counts["months"] or counts["deleted"]:
            what = {"dataset": dataset, "source": source, **counts, "left": len(left)}
            journal.write(lake, journal.Entry(now, "fold-ledger", by, "records of the ledger were folded", what))
    return FoldedLedger(
        dataset, source, dry_run, counts["objects"], counts["records"], counts["months"], counts["deleted"], tuple(left)
    )


@dataclass(frozen=True)
class _Object:
    """An object of the ledger as it was read; its records have schema ``SCHEMA``."""

    key: str
    etag: str
    records: pa.Table


def _settled(lake: Lake, folder: str, keys: Sequence[str], until: datetime, left: list[str]) -> Iterator[list[_Object]]:
    """Yield the objects without a record since ``until``, about ``AT_A_TIME`` records at a time."""
    found: list[_Object] = []
    recent = size = 0
    latest = pa.scalar(until, SCHEMA.field(STAMP).type)
    for key, etag, records, problem in ledger.read_objects(lake, keys):
        if problem:
            left.append(f"{problem}; it is left alone")
        if etag is None or records is None:
            continue
        if len(records) and pc.any(pc.greater_equal(records[STAMP], latest)).as_py():
            recent += 1
            continue
        name = pa.DictionaryArray.from_arrays(
            pa.repeat(pa.scalar(0, pa.int32()), len(records)), pa.array([key.removeprefix(f"{folder}/")])
        )
        found.append(_Object(key, etag, records.append_column(SCHEMA.field(ledger.OBJECT.name), name)))
        size += len(records)
        if size >= AT_A_TIME:
            yield found
            found, size = [], 0
    if found:
        yield found
    if recent:
        left.append(f"{recent:,} objects are left alone: they have a record of the last {RECENT.total_seconds() / 3600:g} hours")


def _fold(lake: Lake, folder: str, objects: Sequence[_Object], counts: Counter[str], left: list[str]) -> None:
    """Write the records of some objects into those of their months, then delete the objects."""
    records = pa.concat_tables([SCHEMA.empty_table(), *(one.records for one in objects)]).unify_dictionaries().combine_chunks()
    months = pc.strftime(records[STAMP], format="%Y-%m")
    kept: dict[str, str] = {}
    for month in sorted(pc.unique(months).to_pylist()):
        some = records.filter(pc.equal(months, month))
        try:
            counts["months"] += _add(lake, f"{folder}/{ledger.FOLDED_FOLDER}/{month}.parquet", some)
        except BrokenObject as error:
            kept |= dict.fromkeys(some[ledger.OBJECT.name].unique().to_pylist(), str(error))
    by_reason: dict[str, int] = defaultdict(int)
    for why in kept.values():
        by_reason[why] += 1
    left += [f"{why}; it is left alone, and {count:,} objects with it" for why, count in by_reason.items()]
    done = [one for one in objects if one.key.removeprefix(f"{folder}/") not in kept]
    counts["objects"] += len(done)
    counts["records"] += sum(len(one.records) for one in done)
    for one, deleted in zip(done, lake.each(lambda one: lake.delete_if(one.key, one.etag), done), strict=True):
        counts["deleted"] += deleted
        if not deleted:
            left.append(f"{one.key} was replaced while it was folded; the next folding takes it")


def _add(lake: Lake, key: str, records: pa.Table) -> bool:
    """Add ``records`` to a folded object until it reads back with them; return True if it was written.

    :raises BrokenObject: if the object cannot be read.
    :raises LakeError: if the store does not return what was written.
    """
    written = False
    for _ in range(TRIES):
        stored = lake.get(key)
        known = _decoded(stored.body, key) if stored else SCHEMA.empty_table()
        both = pa.concat_tables([known, records]).unify_dictionaries().combine_chunks()
        rows = _latest(both)
        if stored is not None and np.array_equal(rows, np.arange(len(known))):
            return written
        body = parquet.encode(both.take(pa.array(rows)))
        written |= lake.put_if(key, body, stored.etag) if stored else lake.put_new(key, body)
    raise LakeError(f"lake object {key} does not read back as it was written, {TRIES} times; the objects of its records are kept")


def _decoded(body: bytes, key: str) -> pa.Table:
    """Return the records of a folded object, of schema ``SCHEMA``.

    :raises BrokenObject: if it holds something else.
    """
    ledger.decode_records(body, key)
    found = parquet.decode(body, key, dictionary=_TEXTS)
    with parquet.readable(key):
        return found.select(SCHEMA.names).cast(SCHEMA)


def _latest(records: pa.Table) -> Codes:
    """Return the rows with the latest record of each cell and object, by cell, moment and object.

    If moments are equal, the first row counts: the one that is stored already.
    """
    symbols, objects = (_ranks(records[name]) for name in ("symbol", ledger.OBJECT.name))
    sessions = records["session"].cast(pa.int32()).to_numpy().astype(np.int64)
    stamps = records[STAMP].cast(pa.int64()).to_numpy()
    cells = (symbols << 32) + sessions
    order = np.lexsort((-stamps, objects, cells))
    first = np.ones(len(order), dtype=bool)
    first[1:] = (cells[order][1:] != cells[order][:-1]) | (objects[order][1:] != objects[order][:-1])
    rows = order[first]
    sorted_rows: Codes = rows[np.lexsort((objects[rows], stamps[rows], cells[rows]))]
    return sorted_rows


def _ranks(column: pa.ChunkedArray) -> Codes:
    """Return numbers that sort as the strings of a dictionary-encoded column do."""
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    order = pc.array_sort_indices(array.dictionary).to_numpy()
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order))
    found: Codes = ranks[array.indices.to_numpy()]
    return found
