"""Write rows into lake objects: create, or read and merge. Equal values cause no write."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.errors import QualityError, SchemaDrift
from market_data.core.run import Grain
from market_data.datasets.base import Dataset
from market_data.lake import merge, parquet
from market_data.lake.layout import Layout, file_period
from market_data.lake.receipts import OBJECTS
from market_data.lake.store import Lake

STAMP = "ingest_ts"
WRITERS = 16  # in parallel; each needs memory to encode: 64 writers take 230 MB, 16 take 66 MB and are as fast
AHEAD = 8  # parallel reads per writer


@dataclass(frozen=True, slots=True)
class Landed:
    """Result of ``land``.

    :param rows: the given rows, sorted by key, as they are now in the lake: the stored row if that one was kept.
    :param written: objects created or replaced.
    :param unchanged: objects that held the same values already.
    :param bytes: size of the written objects.
    :param vanished: stored rows of the same symbols and sessions without a counterpart in the given rows; they are kept.
    :param objects: the objects that hold ``rows``, schema ``receipts.OBJECTS``.
    """

    rows: pa.Table
    written: int
    unchanged: int
    bytes: int
    vanished: int = 0
    objects: pa.Table = field(default_factory=OBJECTS.empty_table)


def land(lake: Lake, layout: Layout, dataset: Dataset, provider: str, rows: pa.Table, grain: Grain, *, refetch: bool) -> Landed:
    """Write ``rows`` into their objects. Each object is either replaced as a whole or not changed.

    A stored row with equal values is kept with its ``ingest_ts``; optional values that the new row lacks are ignored. A row that differs
    replaces the stored row, unless that one has the newer ``ingest_ts``. Stored rows of other keys are kept. The operation is
    idempotent.

    :param rows: of ``dataset.schema``, no key twice; any order.
    :param refetch: the cells were requested again, so that the new rows must become the current ones. Objects are expected to exist
        and are read first. The other grain's object may hold different values with a newer ``ingest_ts``, which ``read_rows`` would
        return: then a row is written with its own ``ingest_ts`` even if the stored row is equal. Without ``refetch``, objects are
        created first and the other grain is not read.
    :raises SchemaDrift: if ``rows`` is of another schema.
    :raises QualityError: if a key occurs twice.
    :raises ParamError: if a symbol cannot be a key.
    :raises LakeError: if the store fails or concurrent writers keep winning; some objects may have been written, each as a whole.
    """
    if not rows.schema.equals(dataset.schema):
        raise SchemaDrift(f"rows for {dataset.name} have columns {_described(rows.schema)}; allowed: {_described(dataset.schema)}")
    rows = parquet.by_key(rows, dataset.key)
    twice = np.flatnonzero(merge.same_as_next(rows, dataset.key))
    if len(twice):
        first = rows.slice(int(twice[0]), 1).select(dataset.key).to_pylist()[0]
        raise QualityError(f"rows for {dataset.name}: {len(twice)} keys occur twice, the first is {first}")

    def conflicting(kept: pa.Table) -> pa.Table:
        return _conflicting(lake, layout, dataset, provider, kept, grain)

    def put(part: tuple[str, pa.Table, bytes | None]) -> _Put:
        return _put(lake, dataset, *part, conflicting if refetch else None)

    def encoded(key: str, part: pa.Table) -> tuple[str, pa.Table, bytes | None]:
        # Encode in this thread: a compressor keeps megabytes in every thread that uses it.
        return key, part, None if refetch else parquet.encode(part)

    parts = list(_keys(layout, dataset, provider, rows, grain))
    tally = _Tally()
    given = (encoded(key, rows.slice(start, stop - start)) for key, start, stop in parts)
    outcomes = lake.each(put, given, concurrency=WRITERS)
    current = parquet.gather(_current(rows, parts, tally.count(outcomes)), dataset.schema)
    symbols = rows["symbol"].take(pa.array([start for _, start, _ in parts], pa.int64())) if parts else pa.array([], pa.string())
    columns = [pa.array([key for key, _, _ in parts], pa.string()), symbols, tally.rows, tally.new_rows, tally.hashes]
    objects = pa.table(columns, schema=OBJECTS)
    return Landed(current, tally.written, len(parts) - tally.written, tally.bytes, tally.vanished, objects)


@dataclass(slots=True)
class _Put:
    """:param replaced: ``rows`` are not the given ones.
    :param vanished: see ``Landed``.
    :param new_rows: number of ``rows`` with the ``ingest_ts`` of the given rows.
    :param hash: see ``receipts.OBJECTS``.
    """

    rows: pa.Table
    bytes: int = 0
    replaced: bool = False
    vanished: int = 0
    new_rows: int = 0
    hash: str = ""


@dataclass(slots=True)
class _Tally:
    written: int = field(default=0)
    bytes: int = field(default=0)
    vanished: int = field(default=0)
    rows: list[int] = field(default_factory=list)
    new_rows: list[int] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)

    def count(self, outcomes: Iterator[_Put]) -> Iterator[_Put]:
        for outcome in outcomes:
            self.written += outcome.bytes > 0
            self.bytes += outcome.bytes
            self.vanished += outcome.vanished
            self.rows.append(len(outcome.rows))
            self.new_rows.append(outcome.new_rows)
            self.hashes.append(outcome.hash)
            yield outcome


def _current(rows: pa.Table, parts: Sequence[tuple[str, int, int]], outcomes: Iterator[_Put]) -> Iterator[pa.Table]:
    """Yield the current rows in few pieces. Most runs write new cells only; then ``rows`` are not copied."""
    since = 0
    for (_, start, stop), outcome in zip(parts, outcomes, strict=True):
        if outcome.replaced:
            yield rows.slice(since, start - since)
            yield outcome.rows
            since = stop
    yield rows.slice(since)


def _keys(layout: Layout, dataset: Dataset, provider: str, rows: pa.Table, grain: Grain) -> Iterator[tuple[str, int, int]]:
    """Yield object key, first and last row (exclusive) of the sorted ``rows`` that share an object."""
    if not len(rows):
        return
    files, unit = dataset.files, file_period(dataset, grain)[0].upper()
    dates = rows[files.date]
    periods = dates.to_numpy().astype(f"datetime64[{unit}]")
    other = ~merge.same_as_next(rows, ["symbol", files.kind] if files.kind else ["symbol"])
    cuts = np.flatnonzero((periods[1:] != periods[:-1]) | other) + 1
    starts = np.concatenate([[0], cuts])
    symbols, days = rows["symbol"].take(starts).to_pylist(), dates.take(starts).to_pylist()
    kinds = rows[files.kind].take(starts).to_pylist() if files.kind else [None] * len(starts)
    for symbol, day, kind, start, stop in zip(symbols, days, kinds, starts.tolist(), [*cuts.tolist(), len(rows)], strict=True):
        yield layout.object_key(dataset, provider, symbol, day, grain, kind), start, stop


def _put(
    lake: Lake, dataset: Dataset, key: str, rows: pa.Table, fresh: bytes | None, conflicting: Callable[[pa.Table], pa.Table] | None
) -> _Put:
    """:param fresh: the encoded ``rows`` if available.
    :param conflicting: see ``_conflicting``; None: no refetch.
    """
    outcome = _Put(rows)

    def revise(body: bytes | None) -> bytes | None:
        outcome.rows = rows
        if body is None:
            created = fresh or parquet.encode(rows)
            outcome.hash = _short_hash(created)
            return created
        stored = parquet.decode(body, key, dataset.schema)
        merged, outcome.rows, changed = merge.merge(
            stored,
            rows,
            key=dataset.key,
            values=dataset.values,
            stamp=STAMP,
            optional=dataset.optional,
            published=dataset.published,
        )
        renewed = _superseded(dataset, outcome.rows, rows, conflicting) if conflicting else rows.slice(0, 0)
        if len(renewed):
            # With the stamp among the values, a row that is only newer counts as different.
            renew = partial(merge.merge, new=renewed, key=dataset.key, values=[*dataset.values, STAMP], stamp=STAMP)
            merged, outcome.rows, changed = renew(merged)[0], renew(outcome.rows)[0], True
        if dataset.published:  # a row that was published later belongs to another session
            outcome.rows = outcome.rows.filter(pc.is_in(outcome.rows["session"], pc.unique(rows["session"])))
        outcome.vanished = _of_sessions(merged, rows) - _of_sessions(outcome.rows, rows)
        revised = parquet.encode(merged) if changed else None
        outcome.hash = _short_hash(revised or body)
        return revised

    outcome.bytes = lake.update(key, revise, new=conflicting is None)
    outcome.replaced = outcome.rows is not rows
    outcome.new_rows = len(rows)
    if outcome.replaced:
        outcome.new_rows = pc.sum(pc.is_in(outcome.rows[STAMP], pc.unique(rows[STAMP])), min_count=0).as_py()
    return outcome


def _short_hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]


def _of_sessions(found: pa.Table, rows: pa.Table) -> int:
    """Count the rows of ``found`` with a session of ``rows``."""
    return int(pc.sum(pc.is_in(found["session"], pc.unique(rows["session"])), min_count=0).as_py())


def _superseded(dataset: Dataset, current: pa.Table, rows: pa.Table, conflicting: Callable[[pa.Table], pa.Table]) -> pa.Table:
    """Return the ``rows`` whose equal current row is superseded by newer values of the other grain."""
    equal = merge.same(current, rows, dataset.values) & pc.less(current[STAMP], rows[STAMP]).to_numpy()
    kept, rows = current.filter(pa.array(equal)), rows.filter(pa.array(equal))
    if not len(kept):
        return rows
    _, winning, _ = merge.merge(conflicting(kept), kept, key=dataset.key, values=dataset.values, stamp=STAMP)
    superseded = ~merge.same(winning, kept, dataset.values) & pc.less(winning[STAMP], rows[STAMP]).to_numpy()
    return rows.filter(pa.array(superseded))


def _conflicting(lake: Lake, layout: Layout, dataset: Dataset, provider: str, kept: pa.Table, grain: Grain) -> pa.Table:
    """Return the rows of the other grain's objects for the sessions of ``kept``, among others.

    :param kept: rows that share an object of ``grain``.
    """
    if dataset.files.year_grain == "day":
        return kept.slice(0, 0)
    symbol, sessions = kept["symbol"][0].as_py(), kept["session"].unique().to_pylist()
    keys = [layout.object_key(dataset, provider, symbol, sessions[0], "year")]
    if grain == "year":
        folder = keys[0].rpartition("/")[0]  # day files are beside or below the file of their year or month
        days = {layout.object_key(dataset, provider, symbol, session, "day") for session in sessions}
        keys = [key for key, _ in lake.list(folder) if key in days]
    found = zip(keys, lake.get_many(keys, concurrency=AHEAD), strict=True)
    return parquet.gather((parquet.decode(stored.body, key, dataset.schema) for key, stored in found if stored), dataset.schema)


def _described(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
