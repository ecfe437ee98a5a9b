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
WRITERS = 16  # at a time: each has memory of its own to encode in, and 64 need 230 MB for what 16 do with 66, no faster
AHEAD = 8  # reads at a time for one object, of which many are at work


@dataclass(frozen=True, slots=True)
class Landed:
    """Result of ``land``.

    :param rows: the given rows by key as they are now in the lake: the stored row where that one was kept.
    :param written: objects created or replaced.
    :param unchanged: objects that held the same values already.
    :param bytes: size of the written objects.
    :param vanished: stored rows of the given rows' symbols and sessions that have no counterpart among the given ones; they are kept.
    :param objects: the objects that hold ``rows``, schema ``receipts.OBJECTS``.
    """

    rows: pa.Table
    written: int
    unchanged: int
    bytes: int
    vanished: int = 0
    objects: pa.Table = field(default_factory=OBJECTS.empty_table)


def land(lake: Lake, layout: Layout, dataset: Dataset, provider: str, rows: pa.Table, grain: Grain, *, refetch: bool) -> Landed:
    """Write ``rows`` into their objects, each of which is either written whole or left as it was.

    Where the values equal those of the stored row, but for optional values of bars that the new row lacks, the stored row and its
    ``ingest_ts`` are kept. A row that differs replaces the stored one unless that has the newer ``ingest_ts``. Stored rows of other keys
    are kept. The operation is idempotent.

    :param rows: of ``dataset.schema``, no key twice; any order.
    :param refetch: the cells are requested again, and the rows count from now on. Objects are expected to exist and are read first.
        Where the stored row is equal, but the other grain's object holds other values with a newer ``ingest_ts``, which ``read_rows``
        would return, the given row is written with its own ``ingest_ts`` after all, unless the other's is as new. Without ``refetch``,
        creating is tried first and the other grain is not read.
    :raises SchemaDrift: if ``rows`` is of another schema.
    :raises QualityError: if a key occurs twice.
    :raises ParamError: if a symbol cannot be a key.
    :raises LakeError: if the store fails or other writers keep coming between; some objects may be written, each whole.
    """
    if not rows.schema.equals(dataset.schema):
        raise SchemaDrift(f"rows for {dataset.name} have columns {_described(rows.schema)}; allowed: {_described(dataset.schema)}")
    rows = parquet.by_key(rows, dataset.key)
    twice = np.flatnonzero(merge.same_as_next(rows, dataset.key))
    if len(twice):
        first = rows.slice(int(twice[0]), 1).select(dataset.key).to_pylist()[0]
        raise QualityError(f"rows for {dataset.name}: {len(twice)} keys occur twice, the first is {first}")

    def rivals(kept: pa.Table) -> pa.Table:
        return _rivals(lake, layout, dataset, provider, kept, grain)

    def put(part: tuple[str, pa.Table, bytes | None]) -> _Put:
        return _put(lake, dataset, *part, rivals if refetch else None)

    def encoded(key: str, part: pa.Table) -> tuple[str, pa.Table, bytes | None]:
        # Here, in one thread: in each of the many that write, compressors would keep megabytes.
        return key, part, None if refetch else parquet.encode(part)

    parts = list(_keys(layout, dataset, provider, rows, grain))
    tally = _Tally()
    given = (encoded(key, rows.slice(start, stop - start)) for key, start, stop in parts)
    outcomes = lake.each(put, given, concurrency=WRITERS)
    standing = parquet.gather(_standing(rows, parts, tally.count(outcomes)), dataset.schema)
    symbols = rows["symbol"].take(pa.array([start for _, start, _ in parts], pa.int64())) if parts else pa.array([], pa.string())
    columns = [pa.array([key for key, _, _ in parts], pa.string()), symbols, tally.rows, tally.new_rows, tally.hashes]
    objects = pa.table(columns, schema=OBJECTS)
    return Landed(standing, tally.written, len(parts) - tally.written, tally.bytes, tally.vanished, objects)


@dataclass(slots=True)
class _Put:
    """:param replaced: ``rows`` are not the given ones.
    :param vanished: see ``Landed``.
    :param new_rows: of ``rows``, those with the ``ingest_ts`` of the given ones.
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


def _standing(rows: pa.Table, parts: Sequence[tuple[str, int, int]], outcomes: Iterator[_Put]) -> Iterator[pa.Table]:
    """``rows`` in as few pieces as can be: nearly always, nothing of them stood there before, and they are not to be copied."""
    since = 0
    for (_, start, stop), outcome in zip(parts, outcomes, strict=True):
        if outcome.replaced:
            yield rows.slice(since, start - since)
            yield outcome.rows
            since = stop
    yield rows.slice(since)


def _keys(layout: Layout, dataset: Dataset, provider: str, rows: pa.Table, grain: Grain) -> Iterator[tuple[str, int, int]]:
    """Object key, first row (inclusive) and last row (exclusive) of each run of sorted ``rows`` that share an object."""
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
    lake: Lake, dataset: Dataset, key: str, rows: pa.Table, fresh: bytes | None, rivals: Callable[[pa.Table], pa.Table] | None
) -> _Put:
    """:param fresh: ``rows`` encoded, where that was done already.
    :param rivals: see ``_rivals``; None: no refetch.
    """
    outcome = _Put(rows)

    def revise(body: bytes | None) -> bytes | None:
        outcome.rows = rows
        if body is None:
            created = fresh or parquet.encode(rows)
            outcome.hash = _short_hash(created)
            return created
        standing = parquet.decode(body, key, dataset.schema)
        merged, outcome.rows, changed = merge.merge(
            standing,
            rows,
            key=dataset.key,
            values=dataset.values,
            stamp=STAMP,
            optional=dataset.optional,
            published=dataset.published,
        )
        renewed = _outshone(dataset, outcome.rows, rows, rivals) if rivals else rows.slice(0, 0)
        if len(renewed):
            # With the stamp among the values, a row that is only newer counts as another one.
            renew = partial(merge.merge, new=renewed, key=dataset.key, values=[*dataset.values, STAMP], stamp=STAMP)
            merged, outcome.rows, changed = renew(merged)[0], renew(outcome.rows)[0], True
        if dataset.published:  # what was published later is of another session, and no answer for this one
            outcome.rows = outcome.rows.filter(pc.is_in(outcome.rows["session"], pc.unique(rows["session"])))
        outcome.vanished = _of_sessions(merged, rows) - _of_sessions(outcome.rows, rows)
        revised = parquet.encode(merged) if changed else None
        outcome.hash = _short_hash(revised or body)
        return revised

    outcome.bytes = lake.update(key, revise, new=rivals is None)
    outcome.replaced = outcome.rows is not rows
    outcome.new_rows = len(rows)
    if outcome.replaced:
        outcome.new_rows = pc.sum(pc.is_in(outcome.rows[STAMP], pc.unique(rows[STAMP])), min_count=0).as_py()
    return outcome


def _short_hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]


def _of_sessions(found: pa.Table, rows: pa.Table) -> int:
    """How many of ``found`` are of the sessions of ``rows``."""
    return int(pc.sum(pc.is_in(found["session"], pc.unique(rows["session"])), min_count=0).as_py())


def _outshone(dataset: Dataset, answers: pa.Table, rows: pa.Table, rivals: Callable[[pa.Table], pa.Table]) -> pa.Table:
    """Of ``rows``, those whose equal standing row in ``answers`` gives way to other, newer values in the other grain's objects."""
    equal = merge.same(answers, rows, dataset.values) & pc.less(answers[STAMP], rows[STAMP]).to_numpy()
    kept, rows = answers.filter(pa.array(equal)), rows.filter(pa.array(equal))
    if not len(kept):
        return rows
    _, counting, _ = merge.merge(rivals(kept), kept, key=dataset.key, values=dataset.values, stamp=STAMP)
    lost = ~merge.same(counting, kept, dataset.values) & pc.less(counting[STAMP], rows[STAMP]).to_numpy()
    return rows.filter(pa.array(lost))


def _rivals(lake: Lake, layout: Layout, dataset: Dataset, provider: str, kept: pa.Table, grain: Grain) -> pa.Table:
    """What the objects of the other grain hold for the sessions of ``kept``, rows that share an object of ``grain``; and more."""
    if dataset.files.year_grain == "day":
        return kept.slice(0, 0)
    symbol, sessions = kept["symbol"][0].as_py(), kept["session"].unique().to_pylist()
    keys = [layout.object_key(dataset, provider, symbol, sessions[0], "year")]
    if grain == "year":
        folder = keys[0].rpartition("/")[0]  # the day files of its sessions lie beside or below a year's or month's file
        days = {layout.object_key(dataset, provider, symbol, session, "day") for session in sessions}
        keys = [key for key, _ in lake.list(folder) if key in days]
    found = zip(keys, lake.get_many(keys, concurrency=AHEAD), strict=True)
    return parquet.gather((parquet.decode(stored.body, key, dataset.schema) for key, stored in found if stored), dataset.schema)


def _described(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
