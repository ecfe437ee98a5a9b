"""Encode Arrow tables as deterministic Parquet and decode, sort and combine them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from market_data.core.errors import OTHER_FORM, BrokenObject
from market_data.core.key_order import is_ascending
from market_data.datasets.base import UTC_MICROS, Dataset

ROW_GROUP = 122_880
STAMP = "ingest_ts"
STAMPS = {STAMP, "recorded_at", "received_at"}  # one value for many rows
REPEATED = 16  # rows per value from which a dictionary of floats pays: prices and sizes of ticks reach it, those of bars do not
SAMPLE = 16_384
FEW = {"symbol", "timeframe", "provider", "session", STAMP}  # values in an object of rows: to compress their codes only costs time
GATHER = 1024
MAGIC = b"PAR1"
TRAILER = 4 + len(MAGIC)  # after the footer: its size, and the magic number again
DAYS = (date.min.toordinal() - date(1970, 1, 1).toordinal(), date.max.toordinal() - date(1970, 1, 1).toordinal())
MICROS = (-((2**63 - 1) // 1000), (2**63 - 1) // 1000)
"""Since 1970: the first and the last day that is a date, and microsecond that nanoseconds have a number of."""


def encode(
    table: pa.Table,
    metadata: Mapping[str, str] | None = None,
    *,
    compression: str | Mapping[str, str] = "zstd",
    plain: Collection[str] = (),
    row_group: int = ROW_GROUP,
) -> bytes:
    """Return ``table`` as Parquet. Equal tables give equal bytes with the same version of pyarrow.

    Text and stamps are dictionary-encoded, times and integers delta-encoded. Floats are plain unless their values repeat: a dictionary
    of prices that hardly repeat doubles the size. Those of bars are always plain. Columns of rows that compression does not make smaller
    are not compressed: integers, few values, and no values. The Arrow schema is not stored; Parquet's own schema covers all types of
    the lake.

    :param compression: ``zstd``, or ``snappy`` for small objects that are read by the thousand: a zstd reader takes longer to start.
        Or column -> one of them.
    :param plain: columns of text that hardly repeats.
    :param row_group: rows per row group, at most.
    """
    encoder = Encoder(compression=compression, plain=plain, row_group=row_group)
    encoder.add(table)
    return encoder.finish(metadata)


class Encoder:
    """``encode`` for tables that arrive one by one, without holding them all in memory.

    :param sink: binary file for the encoded bytes, writable and readable; None: memory.
    """

    def __init__(
        self,
        sink: IO[bytes] | None = None,
        *,
        compression: str | Mapping[str, str] = "zstd",
        plain: Collection[str] = (),
        row_group: int = ROW_GROUP,
    ) -> None:
        self._file, self._compression, self._plain, self._row_group = sink, compression, plain, row_group
        self._sink = pa.BufferOutputStream() if sink is None else pa.PythonFile(sink, "w")
        self._writer: pq.ParquetWriter | None = None

    def add(self, table: pa.Table) -> None:
        """Append ``table``. The first table, which may be empty, determines the encodings."""
        if self._writer is None:
            self._writer = self._open(table)
        self._writer.write_table(table, self._row_group)

    def finish(self, metadata: Mapping[str, str] | None = None) -> bytes:
        """Return the whole object. No table can be added afterwards."""
        if self._writer is None:
            raise ValueError("no table was added")
        if metadata:
            self._writer.add_key_value_metadata(dict(metadata))
        self._writer.close()
        if self._file is None:
            body: bytes = self._sink.getvalue().to_pybytes()
            return body
        self._file.seek(0)
        return self._file.read()

    def _open(self, table: pa.Table) -> pq.ParquetWriter:
        kinds, codec = _kinds(table.schema), self._compression
        repeating = [name for name in kinds.counted if _repeats(table[name])]
        compressed = [name for name in kinds.compressed if not len(table) or table[name].null_count < len(table)]
        return pq.ParquetWriter(
            self._sink,
            table.schema,
            compression=dict.fromkeys(compressed, codec) if isinstance(codec, str) else dict(codec),
            use_dictionary=[name for name in [*kinds.dictionary, *repeating] if name not in self._plain],
            column_encoding=dict.fromkeys(kinds.differences, "DELTA_BINARY_PACKED"),
            write_statistics=kinds.bounded or False,
            store_schema=False,
        )


def with_metadata(body: bytes, metadata: Mapping[str, str]) -> bytes:
    """Return an object of ``encode`` with ``metadata`` in its footer. Its rows are not encoded again.

    :param body: the object, without metadata.
    """
    about = pq.read_metadata(pa.BufferReader(body))
    empty = pa.BufferOutputStream()
    writer = pq.ParquetWriter(empty, about.schema.to_arrow_schema(), store_schema=False)
    writer.add_key_value_metadata(dict(metadata))
    writer.close()
    footer = pq.read_metadata(pa.BufferReader(empty.getvalue()))
    footer.append_row_groups(about)  # their places are those in ``body``, whose beginning is kept
    sink = pa.BufferOutputStream()
    footer.write_metadata_file(sink)
    return body[: len(body) - about.serialized_size - TRAILER] + memoryview(sink.getvalue())[len(MAGIC) :]


@dataclass(frozen=True, slots=True)
class _Kinds:
    """The columns of a schema by how they are written.

    :param counted: floats that get a dictionary if their values repeat.
    :param bounded: columns whose lowest and highest values are written.
    """

    dictionary: Sequence[str]
    differences: Sequence[str]
    counted: Sequence[str]
    bounded: Sequence[str]
    compressed: Sequence[str]


@lru_cache(maxsize=64)
def _kinds(schema: pa.Schema) -> _Kinds:
    """Return the kinds of a schema's columns.

    They are kept, as a lake has an object per symbol and session.
    """
    dictionary, differences, counted, bounded, compressed = [], [], [], [], []
    of_rows, of_bars = STAMP in schema.names, "timeframe" in schema.names
    for field in schema:
        moment, whole = pa.types.is_temporal(field.type), pa.types.is_integer(field.type)
        if pa.types.is_string(field.type) or pa.types.is_dictionary(field.type) or field.name in STAMPS:
            dictionary.append(field.name)
        elif moment or whole:
            differences.append(field.name)
        elif pa.types.is_floating(field.type) and not of_bars:
            counted.append(field.name)
        if field.name == "symbol" or pa.types.is_timestamp(field.type):
            bounded.append(field.name)
        if not of_rows or (field.name not in FEW and not whole):
            compressed.append(field.name)
    return _Kinds(dictionary, differences, counted, bounded, compressed)


def _repeats(column: pa.ChunkedArray) -> bool:
    """Return true for a column with few distinct values in its first ``SAMPLE`` rows.

    Counting all values of a large column would need its size again in memory. Mostly an eighth of them are too many already.
    """
    rows = min(len(column), SAMPLE)
    if rows > GATHER and REPEATED * pc.count_distinct(column.slice(0, 2 * rows // REPEATED)).as_py() > rows:
        return False
    return 0 < REPEATED * pc.count_distinct(column.slice(0, SAMPLE)).as_py() <= rows


def open_file(source: Any, **options: Any) -> pq.ParquetFile:
    """Open a Parquet file; ``options`` are those of ``pq.ParquetFile``.

    :raises pa.ArrowInvalid: if its row groups have other rows than it declares. Arrow takes memory for a damaged number at once.
    """
    file = pq.ParquetFile(source, **options)
    about = file.metadata
    rows = sum(about.row_group(place).num_rows for place in range(about.num_row_groups))
    if rows != about.num_rows:
        raise pa.ArrowInvalid(f"its row groups have {rows} rows; {about.num_rows} are declared")
    return file


def decode(
    body: bytes, key: str, schema: pa.Schema | None = None, dictionary: Sequence[str] = (), columns: Sequence[str] | None = None
) -> pa.Table:
    """Return the rows of a Parquet object.

    :param key: the object's key, for the error message.
    :param schema: schema of the result. Nullable columns that the file lacks are filled with nulls; other columns are dropped.
        None: as stored.
    :param dictionary: string columns to keep dictionary-encoded (without ``schema``).
    :param columns: the columns to read (without ``schema``); None: all.
    :raises BrokenObject: if the object is not Parquet or lacks a column that must not be null.
    """
    with readable(key):
        # The lake reads many small objects at once: threads within one only cost.
        file = open_file(pa.BufferReader(body), read_dictionary=list(dictionary), pre_buffer=False)
        table = file.read(columns and list(columns), use_threads=False)
        table.validate(full=True)  # text may be none
        if schema is None:
            return table
        found = table if table.schema.equals(schema) else _conform(table, schema)
        check_dates(found)
        return found


def decode_rows(body: bytes, key: str, dataset: Dataset) -> pa.Table:
    """Return the rows of an object of the raw area, of ``dataset.schema``, each key once.

    :raises BrokenObject: see `decode`.
    """
    with readable(key):
        return dataset.identified(decode(body, key, dataset.schema))


def conformed(table: pa.Table, dataset: Dataset) -> pa.Table:
    """Return stored rows as `decode_rows` does.

    :raises ValueError: if they lack a column that must not be null.
    """
    found = table if table.schema.equals(dataset.schema) else _conform(table, dataset.schema)
    check_dates(found)
    return dataset.identified(found)


@contextmanager
def readable(key: str) -> Iterator[None]:
    """Report any error of decoding the object ``key`` as ``BrokenObject``.

    :raises BrokenObject: naming the object, if it is not Parquet or lacks what is read.
    """
    try:
        yield
    except (pa.ArrowException, OSError, *OTHER_FORM) as error:
        reason = (str(error).splitlines() or [""])[0]
        if isinstance(error, KeyError):
            reason = f"{str(error.args[0], 'utf-8') if isinstance(error.args[0], bytes) else error.args[0]} is missing"
        elif isinstance(error, AttributeError | IndexError | TypeError):  # these name the detail only
            reason = f"{type(error).__name__}: {reason}"
        raise BrokenObject(f"lake object {key} cannot be read: {reason}") from error


def check_dates(table: pa.Table, names: Sequence[str] | None = None) -> None:
    """Check the dates and moments of a stored table, which is of a schema of the lake.

    Columns that may be null are left alone: the values of vendors are kept as they came, and so are rejected rows.

    :param names: the columns with dates, where they are known; None: all that are never null.
    :raises ValueError: if a date is outside the years 1 to 9999, or a moment outside 1678 to 2261, of which nanoseconds have no number.
    """
    for name in names or [field.name for field in table.schema if field.type in (pa.date32(), UTC_MICROS) and not field.nullable]:
        ends = pc.min_max(table[name])
        lowest, highest = ends["min"].value, ends["max"].value
        first, last = DAYS if table[name].type == pa.date32() else MICROS
        if lowest is not None and not first <= lowest <= highest <= last:
            raise ValueError(f"{name} has a moment that is not in the calendar")


def _conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = []
    for field in schema:
        if field.name in table.column_names:
            columns.append(table[field.name].cast(field.type))
        elif field.nullable:
            columns.append(pa.nulls(len(table), field.type))
        else:
            raise ValueError(f"column {field.name} is missing; it has {', '.join(table.column_names)}")
    return pa.table(columns, schema=schema)


def by_key(table: pa.Table, key: Sequence[str]) -> pa.Table:
    """Sort ``table`` by ``key``; rows of equal key keep their order. Sorted rows are not copied."""
    if is_ascending(table, key):
        return table
    order = pc.sort_indices(table, sort_keys=[(name, "ascending") for name in key])
    return table if np.array_equal(order.to_numpy(), np.arange(len(order))) else table.take(order)


def gather(tables: Iterable[pa.Table], schema: pa.Schema) -> pa.Table:
    """Combine many small ``tables`` into one table of few chunks. A single table is not copied."""
    gathered = Gathered(schema)
    for table in tables:
        gathered.add(table)
    return gathered.table()


class Gathered:
    """``gather`` for tables that arrive one by one."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._done: list[pa.Table] = []
        self._small: list[pa.Table] = []

    def add(self, table: pa.Table) -> None:
        """Append a table."""
        if len(table):
            self._small.append(table)
        if len(self._small) == GATHER:
            self._done.append(pa.concat_tables(self._small).combine_chunks())
            self._small = []

    def table(self) -> pa.Table:
        """Return all rows so far."""
        found = [*self._done, *self._small]
        return found[0] if len(found) == 1 else pa.concat_tables([self._schema.empty_table(), *found]).combine_chunks()
