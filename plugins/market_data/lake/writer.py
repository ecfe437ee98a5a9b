"""Bars into lake objects: create, or read and merge; equal values cause no write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from market_data.datasets.base import Dataset
from market_data.errors import QualityError, SchemaDrift
from market_data.lake import tables
from market_data.lake.layout import Grain, Layout
from market_data.lake.store import Lake

STAMP = "ingest_ts"


@dataclass(frozen=True, slots=True)
class Landed:
    """What ``land`` did.

    :param rows: the given rows by key as they now stand in the lake: where a standing row was kept, that one.
    :param written: objects created or replaced.
    :param unchanged: objects that held the same values already.
    :param bytes: size of the written objects.
    """

    rows: pa.Table
    written: int
    unchanged: int
    bytes: int


def land(lake: Lake, layout: Layout, dataset: Dataset, provider: str, rows: pa.Table, grain: Grain, *, refetch: bool) -> Landed:
    """Brings ``rows`` into their objects, each of which is either written whole or left as it was.

    A row whose values equal the standing row's keeps that row and its ``ingest_ts``; a differing one replaces it unless the
    standing one has the newer ``ingest_ts``. Standing rows of other keys stay. Doing it again changes nothing.

    :param rows: of ``dataset.schema``, no key twice; any order.
    :param refetch: objects are expected to stand: read first. Otherwise creating is tried first. The outcome is the same.
    :raises SchemaDrift: if ``rows`` is of another schema.
    :raises QualityError: if a key occurs twice.
    :raises ParamError: if a symbol cannot be a key.
    :raises LakeError: if the store fails or other writers keep coming between; some objects may be written, each whole.
    """
    if not rows.schema.equals(dataset.schema):
        raise SchemaDrift(f"rows for {dataset.name} have columns {_described(rows.schema)}; allowed: {_described(dataset.schema)}")
    rows = tables.by_key(rows, dataset.key)
    twice = np.flatnonzero(tables.same_as_next(rows, dataset.key))
    if len(twice):
        first = rows.slice(int(twice[0]), 1).select(dataset.key).to_pylist()[0]
        raise QualityError(f"rows for {dataset.name}: {len(twice)} keys occur twice, the first is {first}")

    tally = _Tally()

    def put(part: tuple[str, pa.Table]) -> _Put:
        return _put(lake, dataset, *part, refetch=refetch)

    parts = list(_keys(layout, dataset, provider, rows, grain))
    outcomes = lake.each(put, ((key, rows.slice(start, stop - start)) for key, start, stop in parts))
    standing = tables.gather(tally.count(outcomes), dataset.schema)
    return Landed(standing, tally.written, len(parts) - tally.written, tally.bytes)


@dataclass(slots=True)
class _Put:
    rows: pa.Table
    bytes: int = 0


@dataclass(slots=True)
class _Tally:
    written: int = field(default=0)
    bytes: int = field(default=0)

    def count(self, outcomes: Iterator[_Put]) -> Iterator[pa.Table]:
        for outcome in outcomes:
            self.written += outcome.bytes > 0
            self.bytes += outcome.bytes
            yield outcome.rows


def _keys(layout: Layout, dataset: Dataset, provider: str, rows: pa.Table, grain: Grain) -> Iterator[tuple[str, int, int]]:
    """Object key, first row (inclusive) and last row (exclusive) of each run of sorted ``rows`` that share an object."""
    if not len(rows):
        return
    unit = "D" if grain == "day" else "Y" if dataset.timeframe == "1d" else "M"
    periods = rows["session"].to_numpy().astype(f"datetime64[{unit}]")
    cuts = np.flatnonzero((periods[1:] != periods[:-1]) | ~tables.same_as_next(rows, ["symbol"])) + 1
    starts = np.concatenate([[0], cuts])
    symbols, sessions = rows["symbol"].take(starts).to_pylist(), rows["session"].take(starts).to_pylist()
    for symbol, session, start, stop in zip(symbols, sessions, starts.tolist(), [*cuts.tolist(), len(rows)], strict=True):
        yield layout.bar_key(dataset, provider, symbol, session, grain), start, stop


def _put(lake: Lake, dataset: Dataset, key: str, rows: pa.Table, *, refetch: bool) -> _Put:
    outcome = _Put(rows)

    def revise(body: bytes | None) -> bytes | None:
        outcome.rows = rows
        if body is None:
            return tables.encode(rows)
        standing = tables.decode(body, key, dataset.schema)
        merged, outcome.rows, changed = tables.merge(standing, rows, key=dataset.key, values=dataset.values, stamp=STAMP)
        return tables.encode(merged) if changed else None

    outcome.bytes = lake.update(key, revise, new=not refetch)
    return outcome


def _described(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
