"""The coverage ledger: the recorded state of every cell (symbol x session) of a dataset and provider.

One object per run and batch, each cell with the moment it was recorded; the latest record of a cell counts. Maintenance folds them into
one object per month, see `FOLDED_FOLDER`.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.errors import BrokenObject
from market_data.core.outcome import State
from market_data.core.run import RunInfo
from market_data.lake import merge, parquet
from market_data.lake.broken import keep_aside
from market_data.lake.coverage import CELLS, ENCODED, KEY, REPEATING, SCHEMA, STAMP, UNKNOWN, VALUES, Coverage
from market_data.lake.layout import manifest_prefix, recorded_source
from market_data.lake.store import Lake, Stored

log = logging.getLogger(__name__)

_NAME = re.compile(r"run=[^/]+/[^/]+\.parquet")

FOLDED_FOLDER = "run=folded"
"""Folder of the folded objects: ``run=folded/2024-09.parquet`` has the records made in that month. None of them is ever deleted, and each
is written before the objects that it replaces are deleted."""

OBJECT = pa.field("object", pa.string(), nullable=False)
"""A further column of folded objects: the name of the object that had the record, ``run=.../....parquet``."""

_STATES = frozenset({*map(str, State), UNKNOWN})

SMALL = 20_000
"""Records up to which an object is compressed for quick reading. A ledger has thousands of such objects before it is folded."""
AT_A_TIME = 64
DECODERS = 2
"""Threads that decode: more only compete for the interpreter."""


def write_cells(
    lake: Lake,
    dataset: str,
    provider: str,
    run: RunInfo,
    batch_id: str,
    cells: pa.Table,
    *,
    recorded_at: datetime | None = None,
    compared: bool = False,
) -> bool:
    """Record ``cells`` of a batch. Call it when their objects are in the lake.

    Cells that the batch has recorded already with the same state and reason keep their record; others are replaced or added.
    No record is dropped.

    :param cells: of schema ``CELLS``, no cell twice; none is fine. ``UNKNOWN`` as the state makes a cell missing.
    :param recorded_at: UTC; None: now.
    :param compared: the cells are those that differ from the ledger (``Coverage.changed``), so records of the batch that were folded
        need not be looked up.
    :return: True if anything was written.
    """
    if not len(cells):
        return False
    stamp = pa.scalar(recorded_at or datetime.now(UTC), SCHEMA.field(STAMP).type)
    added = [pa.repeat(value, len(cells)) for value in (stamp, run.run_id, batch_id)]
    rows = parquet.by_key(pa.table([*cells.cast(CELLS).columns, *added], schema=SCHEMA), KEY)
    folder, name = manifest_prefix(dataset, provider), f"run={run.key}/{batch_id}.parquet"
    key = f"{folder}/{name}"

    def revise(body: bytes | None) -> bytes | None:
        # The object was read first: if it is folded after that, it is gone when it is to be replaced, and both are read again.
        folded = SCHEMA.empty_table() if compared else _folded_records(lake, folder, name)
        stored, broken = SCHEMA.empty_table(), False
        if body is not None:
            try:
                stored = parquet.decode(body, key, SCHEMA)
            except BrokenObject as error:
                keep_aside(lake, key, body, error)
                broken = True
        if not broken and not len(folded) and not len(stored):
            return _encoded(rows)
        known = _latest(pa.concat_tables([folded, stored])) if len(folded) else stored
        found = merge.merge_rows(known, rows, key=KEY, values=VALUES, stamp=STAMP)
        if not found.changed:
            return _encoded(stored) if broken else None
        if not len(folded):
            return _encoded(found.rows)
        taken = found.current.filter(pa.array(found.taken))
        return _encoded(merge.merge_rows(stored, taken, key=KEY, values=VALUES, stamp=STAMP).rows)

    return lake.update(key, revise, new=compared) > 0


def _encoded(records: pa.Table) -> bytes:
    return parquet.encode(records, compression="snappy" if len(records) <= SMALL else "zstd")


def _folded_records(lake: Lake, folder: str, name: str) -> pa.Table:
    """Return the records in folded objects that the object ``name`` had, of schema ``SCHEMA``."""
    found = [SCHEMA.empty_table()]
    keys = [key for key, _ in lake.list(f"{folder}/{FOLDED_FOLDER}")]
    for key, stored in zip(keys, lake.get_many(keys), strict=True):
        try:
            records = parquet.decode(stored.body, key, dictionary=(*REPEATING, OBJECT.name)) if stored else None
            if records is not None:
                with parquet.readable(key):
                    own = pc.equal(records[OBJECT.name].cast(pa.string()), name)
                    found.append(records.filter(own).select(SCHEMA.names).cast(SCHEMA))
        except BrokenObject as error:
            log.warning("%s; its records are not known", error)
    return pa.concat_tables(found)


def _latest(records: pa.Table) -> pa.Table:
    """Return the latest record of each cell, by key."""
    order = [(name, "ascending") for name in KEY] + [(STAMP, "descending")]
    records = records.take(pc.sort_indices(records, sort_keys=order))
    first = np.ones(len(records), dtype=bool)
    first[1:] = ~merge.same_as_next(records, KEY)
    return records.filter(pa.array(first))


def sources(lake: Lake, dataset: str) -> list[str]:
    """Return the providers in the ledger of a dataset, sorted, e.g. ``alpaca~iex``, ``polygon``."""
    found = {recorded_source(key) for key, _ in lake.list(manifest_prefix(dataset, "x").rpartition("/")[0])}
    return sorted(found - {""})


def read_coverage(lake: Lake, dataset: str, provider: str, since: datetime | None = None) -> Coverage:
    """Return the records of a dataset and provider; empty if nothing was recorded.

    :param since: read only objects that were written at this moment or later, by the store's clock: all records made since then, and
        some earlier ones.

    Objects that do not belong to the ledger, and those that cannot be read, are named in ``Coverage.unreadable`` and logged.
    """
    folder = manifest_prefix(dataset, provider)
    listed = _written(lake, folder, since)
    known = [key for key in listed if _NAME.fullmatch(key.removeprefix(f"{folder}/"))]
    unreadable = [f"lake object {key} does not belong to the coverage ledger" for key in sorted({*listed} - {*known})]
    records, broken = [ENCODED.empty_table()], []
    # The folded objects are listed and read last: they have the records of those that were deleted in the meantime.
    for keys in (own_objects(folder, known), folded_objects(lake, folder, since)):
        for one in read_objects(lake, keys):
            records += [one.records] if one.records is not None else []
            broken += [one.problem] if one.problem else []
    for sentence in (unreadable := [*unreadable, *broken]):
        log.warning("%s; it is left out", sentence)
    coverage = Coverage(pa.concat_tables(records))
    coverage.unreadable, coverage.broken = tuple(unreadable), tuple(broken)
    return coverage


class Object(NamedTuple):
    """An object of the ledger as it was read.

    :param etag: its version tag; None: it does not exist any more.
    :param records: as ``decode_records`` returns them; None without an object, and if it cannot be read: ``problem`` says why.
    """

    key: str
    etag: str | None = None
    records: pa.Table | None = None
    problem: str = ""


def read_objects(lake: Lake, keys: Sequence[str]) -> Iterator[Object]:
    """Yield the objects in the order of ``keys``; the next ones are read and decoded meanwhile."""
    found = zip(keys, lake.get_many(keys), strict=True)
    for part in lake.each(_decoded, iter(lambda: list(islice(found, AT_A_TIME)), []), concurrency=DECODERS):
        yield from part


def _decoded(found: Sequence[tuple[str, Stored | None]]) -> list[Object]:
    return [Object(key) if stored is None else _object(key, stored) for key, stored in found]


def _object(key: str, stored: Stored) -> Object:
    try:
        return Object(key, stored.etag, decode_records(stored.body, key))
    except BrokenObject as error:
        return Object(key, stored.etag, problem=str(error))


def read_error(body: bytes, key: str) -> BrokenObject | None:
    """Return the error of reading an object of the ledger; None if it can be read."""
    try:
        decode_records(body, key)
    except BrokenObject as error:
        return error
    return None


def write_rebuilt(lake: Lake, dataset: str, provider: str, cells: pa.Table, moments: pa.Array) -> str:
    """Record cells as receipts and objects tell, each at a moment of its own, and return the object's key.

    A record that was made later counts. Equal cells have one object.

    :param cells: of schema ``CELLS``, no cell twice. ``moments``: UTC, when the response of each arrived.
    """
    names = [pa.repeat("rebuilt", len(cells))] * 2
    rows = pa.table([*cells.cast(CELLS).columns, moments.cast(SCHEMA.field(STAMP).type), *names], schema=SCHEMA)
    body = parquet.encode(parquet.by_key(rows, KEY))
    key = f"{manifest_prefix(dataset, provider)}/run=rebuilt/{hashlib.sha256(body).hexdigest()[:16]}.parquet"
    lake.put_new(key, body)
    return key


def own_objects(folder: str, keys: Sequence[str]) -> list[str]:
    """Return those of ``keys`` that belong to a run and batch, without folded ones and foreign ones."""
    return [
        key for key in keys if _NAME.fullmatch(name := key.removeprefix(f"{folder}/")) and not name.startswith(f"{FOLDED_FOLDER}/")
    ]


def folded_objects(lake: Lake, folder: str, since: datetime | None = None) -> list[str]:
    """Return the keys of the folded objects below the ledger's ``folder``.

    :param since: only those that were written at this moment or later.
    """
    return [key for key in _written(lake, f"{folder}/{FOLDED_FOLDER}", since) if _NAME.fullmatch(key.removeprefix(f"{folder}/"))]


def _written(lake: Lake, folder: str, since: datetime | None) -> list[str]:
    if since is None:
        return [key for key, _ in lake.list(folder)]
    return sorted(one.key for one in lake.listed(folder) if one.modified >= since)


def decode_records(body: bytes, key: str) -> pa.Table:
    """Return the records of an object, its strings dictionary-encoded.

    :raises BrokenObject: if it holds something else.
    """
    found = parquet.decode(body, key, dictionary=REPEATING, columns=SCHEMA.names)
    with parquet.readable(key):
        if found.schema.equals(ENCODED) and all(_STATES.issuperset(c.dictionary.to_pylist()) for c in found["state"].chunks):
            parquet.check_dates(found, ("session", STAMP))
            return found  # as it was written; thousands of objects are read at once
        found = found.select(ENCODED.names).cast(ENCODED)
        parquet.check_dates(found, ("session", STAMP))
        if any(column.null_count for column in found.columns):
            raise ValueError("a record has a null")
        for state in found["state"].unique().to_pylist():
            if state != UNKNOWN:
                State(state)
    return found
