"""Write rows into lake objects: create, or read and merge. Equal values cause no write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from market_data.core.dates import dates_of, microseconds
from market_data.core.errors import ConfigError, QualityError, SchemaDrift
from market_data.core.key_order import is_ascending, run_starts
from market_data.core.run import Grain
from market_data.datasets.base import Dataset
from market_data.lake import merge, parquet
from market_data.lake.layout import Layout, escape, file_period
from market_data.lake.object_writer import CELL, How, Put, Refetch
from market_data.lake.object_writer import encoded as encode_object
from market_data.lake.object_writer import put as put_object
from market_data.lake.other_grains import OtherGrains
from market_data.lake.receipts import OBJECTS
from market_data.lake.store import Lake

STAMP = "ingest_ts"
WRITERS = 16  # in parallel; each needs memory to encode: 64 writers take 230 MB, 16 take 66 MB and are as fast
LARGE = 2  # session files within the day in parallel: the minutes of 523 symbols are 200,000 rows


@dataclass(frozen=True, slots=True)
class Landed:
    """Result of ``land``.

    :param rows: the given rows, sorted by key, as they are now in the lake: the stored row if that one was kept.
    :param written: objects created or replaced.
    :param unchanged: objects that held the same values already.
    :param size: bytes of the written objects.
    :param missing: stored rows of the same symbols and sessions without a counterpart in the given rows; they are kept.
    :param objects: the objects that hold ``rows``, schema ``receipts.OBJECTS``.
    :param restated: ``symbol`` and ``session`` of each row that replaced a stored row with other values.
    :param broken: a sentence per stored object that could not be read.
    :param body: the object that holds ``rows``, where there is one only, new and without other rows.
    """

    rows: pa.Table
    written: int
    unchanged: int
    size: int
    missing: int = 0
    objects: pa.Table = field(default_factory=OBJECTS.empty_table)
    restated: pa.Table = field(default_factory=CELL.empty_table)
    broken: tuple[str, ...] = ()
    body: bytes | None = None


def land(
    lake: Lake, layout: Layout, dataset: Dataset, provider: str, rows: pa.Table, grain: Grain, *, refetch: bool | Refetch
) -> Landed:
    """Write ``rows`` into their objects. Each object is either replaced as a whole or not changed.

    A stored row with equal values is kept with its ``ingest_ts``; optional values that the new row lacks are ignored. A row that differs
    replaces the stored row, unless that one has the newer ``ingest_ts``. Stored rows of other keys are kept. The operation is
    idempotent.

    :param rows: of ``dataset.schema``, no key twice; any order.
    :param refetch: the cells were requested again, so that the new rows must become the current ones. Objects are expected to exist
        and are read first. Another grain's object may hold different values with a newer ``ingest_ts``, which ``read_rows`` would
        return: then a row is written with its own ``ingest_ts`` even if the stored row is equal. Without ``refetch``, objects are
        created first and the other grains are not read.
    :raises ClockError: if a stored row of the same key has a stamp in the future.
    :raises SchemaDrift: if ``rows`` is of another schema.
    :raises ConfigError: if the dataset has no files of ``grain``.
    :raises QualityError: if a key occurs twice.
    :raises ParamError: if a symbol cannot be a key.
    :raises LakeError: if the store fails or concurrent writers keep winning; some objects may have been written, each as a whole.
    """
    if grain not in dataset.files.grains:
        raise ConfigError(f"file_grain is {grain!r}; for {dataset.name} allowed: {', '.join(dataset.files.grains)}")
    if not rows.schema.equals(dataset.schema):
        raise SchemaDrift(f"rows for {dataset.name} have columns {_described(rows.schema)}; allowed: {_described(dataset.schema)}")
    if not is_ascending(rows, dataset.key):
        rows = _sorted(rows, dataset)
    terms = refetch if isinstance(refetch, Refetch) else Refetch(again=refetch, mend=refetch)
    moment = microseconds(terms.now()) if terms.now else None
    how = How(terms, moment, OtherGrains(lake, layout, dataset, provider, grain).rows, grain)

    def put(part: tuple[str, pa.Table, bytes | None]) -> Put:
        return put_object(lake, dataset, *part, how)

    def encoded(key: str, part: pa.Table) -> tuple[str, pa.Table, bytes | None]:
        # Encode in this thread: a compressor keeps megabytes in every thread that uses it.
        return key, part, None if terms.again else encode_object(part, grain)

    if grain == "session":  # the sort is stable: within a session, rows stay in the order of the key
        rows = parquet.by_key(rows, ["session"])
    parts = list(_keys(layout, dataset, provider, rows, grain))
    tally = _Tally(by_symbol=grain == "session")
    given = (encoded(key, rows.slice(start, stop - start)) for key, start, stop in parts)
    writers = LARGE if grain == "session" and dataset.timeframe != "1d" else WRITERS
    # A folder takes a new object in less time than another thread takes to begin.
    outcomes = lake.each(put, given, concurrency=1 if lake.root is not None and not terms.again else writers)
    current = parquet.gather(_current(rows, parts, tally.count(outcomes)), dataset.schema)
    objects = _objects(rows, parts, tally)
    if grain == "session":
        current = parquet.by_key(current, dataset.key)
    unchanged, restated = len(parts) - tally.written, pa.concat_tables([CELL.empty_table(), *tally.restated])
    body = tally.body if len(parts) == 1 else None
    return Landed(current, tally.written, unchanged, tally.size, tally.missing, objects, restated, tuple(tally.broken), body)


def _sorted(rows: pa.Table, dataset: Dataset) -> pa.Table:
    """Return ``rows`` by key.

    :raises QualityError: if a key occurs twice.
    """
    rows = parquet.by_key(rows, dataset.key)
    twice = np.flatnonzero(merge.same_as_next(rows, dataset.key))
    if len(twice):
        first = rows.slice(int(twice[0]), 1).select(dataset.key).to_pylist()[0]
        raise QualityError(f"rows for {dataset.name}: {len(twice)} keys occur twice, the first is {first}")
    return rows


@dataclass(slots=True)
class _Tally:
    written: int = field(default=0)
    size: int = field(default=0)
    missing: int = field(default=0)
    rows: list[int] = field(default_factory=list)
    new_rows: list[int] = field(default_factory=list)
    symbols: list[pa.Table] = field(default_factory=list)
    by_symbol: bool = False
    hashes: list[str] = field(default_factory=list)
    restated: list[pa.Table] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    body: bytes | None = None

    def count(self, outcomes: Iterator[Put]) -> Iterator[Put]:
        for outcome in outcomes:
            self.written += outcome.size > 0
            self.size += outcome.size
            self.missing += outcome.missing
            self.rows.append(len(outcome.rows))
            self.new_rows.append(outcome.new_rows)
            if self.by_symbol:
                self.symbols.append(_by_symbol(outcome))
            self.hashes.append(outcome.hash)
            if outcome.restated is not None and len(outcome.restated):
                self.restated.append(outcome.restated)
            self.broken += filter(None, [outcome.broken])
            self.body = outcome.body
            yield outcome


def _current(rows: pa.Table, parts: Sequence[tuple[str, int, int]], outcomes: Iterator[Put]) -> Iterator[pa.Table]:
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
    if grain == "session":
        yield from _session_keys(layout, dataset, provider, rows)
        return
    files, unit = dataset.files, file_period(dataset, grain)[0].upper()
    of_object = ["symbol", files.kind] if files.kind else ["symbol"]
    runs = run_starts(rows, [*of_object, files.date])
    first_rows = np.arange(len(rows)) if runs is None else runs
    rest = rows.select([*of_object, files.date]).take(first_rows)  # few of the rows, where a date has many
    periods = rest[files.date].to_numpy().astype(f"datetime64[{unit}]")
    cuts = np.flatnonzero((periods[1:] != periods[:-1]) | ~merge.same_as_next(rest, of_object)) + 1
    heads = rest.take(np.concatenate([[0], cuts]))
    stops = [*first_rows[cuts].tolist(), len(rows)]
    symbols, days = heads["symbol"].to_pylist(), dates_of(heads[files.date])
    kinds = heads[files.kind].to_pylist() if files.kind else [None] * len(heads)
    for symbol, day, kind, start, stop in zip(symbols, days, kinds, [0, *stops[:-1]], stops, strict=True):
        yield layout.object_key(dataset, provider, symbol, day, grain, kind), start, stop


def _session_keys(layout: Layout, dataset: Dataset, provider: str, rows: pa.Table) -> Iterator[tuple[str, int, int]]:
    """Yield as ``_keys`` does, for rows that are sorted by session."""
    for symbol in rows["symbol"].unique().to_pylist():
        escape(symbol)  # a symbol that cannot be a key is an error in every grain
    cuts = np.flatnonzero(~merge.same_as_next(rows, ["session"])) + 1
    starts = [0, *cuts.tolist()]
    for session, start, stop in zip(dates_of(rows["session"].take(starts)), starts, [*starts[1:], len(rows)], strict=True):
        yield layout.session_key(dataset, provider, session), start, stop


def _by_symbol(outcome: Put) -> pa.Table:
    """Return ``symbol``, ``rows`` and ``new_rows`` of each symbol in an object."""
    new = pa.array(np.ones(len(outcome.rows), dtype=bool) if outcome.taken is None else outcome.taken).cast(pa.int64())
    rows = pa.table({"symbol": outcome.rows["symbol"], "new_rows": new})
    found = rows.group_by("symbol", use_threads=False).aggregate([("new_rows", "count"), ("new_rows", "sum")])
    return pa.table([found[name] for name in ("symbol", "new_rows_count", "new_rows_sum")], names=["symbol", "rows", "new_rows"])


def _objects(rows: pa.Table, parts: Sequence[tuple[str, int, int]], tally: _Tally) -> pa.Table:
    """Return the objects that hold the rows, of schema ``receipts.OBJECTS``."""
    keys = [key for key, _, _ in parts]
    if not tally.by_symbol:
        symbols = (
            rows["symbol"].take(pa.array([start for _, start, _ in parts], pa.int64())) if parts else pa.array([], pa.string())
        )
        return pa.table([pa.array(keys, pa.string()), symbols, tally.rows, tally.new_rows, tally.hashes], schema=OBJECTS)
    tables = [OBJECTS.empty_table()]
    for key, found, digest in zip(keys, tally.symbols, tally.hashes, strict=True):
        columns = [
            pa.repeat(key, len(found)),
            *(found[name] for name in ("symbol", "rows", "new_rows")),
            pa.repeat(digest, len(found)),
        ]
        tables.append(pa.table(columns, schema=OBJECTS))
    return pa.concat_tables(tables).combine_chunks()


def _described(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
