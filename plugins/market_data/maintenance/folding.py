"""Write rows of finer files into a coarser one, and record it.

Compaction deletes the finer files afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.errors import BrokenObject, LakeError
from market_data.lake import merge, parquet
from market_data.lake.layout import ParsedKey, compactions_prefix
from market_data.lake.object_writer import encoded
from market_data.lake.reader import newest
from market_data.lake.receipts import OBJECTS
from market_data.lake.store import Lake
from market_data.maintenance.foldable import Group
from market_data.pipeline.selection import Selection

TRIES = 8
"""Tries to write a file that other writers change at the same time."""


@dataclass
class Done:
    """A period whose file holds the rows of ``days`` (key and version of each), verified."""

    group: Group
    days: list[tuple[str, str]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    written: bool = False
    rows: int = 0
    sha256: str = ""


def merged_into(lake: Lake, selection: Selection, group: Group, tables: Sequence[pa.Table], done: Done) -> Done:
    """Write rows into the file of ``group`` until it reads back as it should be.

    :param tables: rows of finer grains, finest first.
    :param done: with what was read; gets what was written.
    :return: ``done``, or another one without ``days`` if the file was left alone.
    :raises LakeError: if it does not read back.
    """
    dataset, parsed = selection.dataset, selection.layout.parse(group.key)
    for _ in range(TRIES):
        stored = lake.get(group.key)
        try:
            file = parquet.decode_rows(stored.body, group.key, dataset) if stored else None
        except BrokenObject as error:
            return Done(group, left=[*done.left, f"{error}; it is left alone, and {len(tables)} day files with it"])
        if file is not None and not inside(file, parsed):
            words = f"{group.key} holds rows of another symbol or period; it is left alone, and {len(tables)} day files with it"
            return Done(group, left=[*done.left, words])
        # As the reader combines them: day files first, by key. If that changes nothing, the file as stored has every row.
        merged = newest(pa.concat_tables([*tables, file] if file is not None else tables), dataset)
        if stored is not None and file is not None and _equal(file, merged):
            done.rows, done.sha256 = len(file), hashlib.sha256(stored.body).hexdigest()[:16]
            return done
        body = encoded(merged, parsed.grain if parsed else "year")
        done.written |= lake.put_if(group.key, body, stored.etag) if stored else lake.put_new(group.key, body)
    raise LakeError(f"lake object {group.key} does not read back as it was written, {TRIES} times; its day files are kept")


def _equal(stored: pa.Table, rows: pa.Table) -> bool:
    """Return True if both have the same rows in the same order, all columns compared."""
    return len(stored) == len(rows) and bool(merge.same(stored, rows, rows.schema.names).all())


def inside(rows: pa.Table, parsed: ParsedKey | None) -> bool:
    """Return True if all rows belong into the object by its key."""
    if parsed is None:
        return False
    if parsed.grain != "session" and pc.unique(rows["symbol"]).to_pylist() not in ([], [parsed.symbol]):
        return False
    sessions = pc.unique(rows["session"]).to_pylist()
    if parsed.session:
        return sessions in ([], [parsed.session])
    return all(day.year == parsed.year and parsed.month in (None, day.month) for day in sessions)


def record(lake: Lake, selection: Selection, done: Sequence[Done], now: datetime) -> None:
    """Record the content of the files, before anything is deleted that the receipts name."""
    if not done:
        return
    columns = [[one.group.key for one in done], [one.group.symbol for one in done], [one.rows for one in done], [0] * len(done)]
    body = parquet.encode(pa.table([*columns, [one.sha256 for one in done]], schema=OBJECTS))
    name = f"{now.astimezone(UTC):%Y%m%dT%H%M%S.%f}-{hashlib.sha256(body).hexdigest()[:16]}.parquet"
    lake.put_new(f"{compactions_prefix(selection.dataset.name, selection.source)}/{name}", body)
