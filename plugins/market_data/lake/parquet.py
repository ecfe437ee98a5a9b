"""What the lake does with Arrow tables: deterministic Parquet, exact comparison, merging by key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from market_data.core.errors import LakeError

ROW_GROUP = 122_880
STAMPS = {"ingest_ts", "recorded_at", "received_at"}  # one value for many rows
REPEATED = 16  # rows a value, from which a dictionary of floats pays: the prices and sizes of ticks have it, those of bars do not
SAMPLE = 16_384
GATHER = 1024


def encode(table: pa.Table, metadata: Mapping[str, str] | None = None) -> bytes:
    """``table`` as Parquet: equal tables give equal bytes (with one version of pyarrow).

    Each column is encoded by its kind: text and stamps with a dictionary, moments and whole numbers as differences, floats plainly, or
    with a dictionary where it pays: of prices that hardly repeat it costs twice the size. The Arrow schema is left out, as Parquet's
    own says the same of every type the lake uses.
    """
    encoder = Encoder()
    encoder.add(table)
    return encoder.finish(metadata)


class Encoder:
    """What ``encode`` does, of tables that come one after another and need not be held until the last one."""

    def __init__(self) -> None:
        self._sink = pa.BufferOutputStream()
        self._writer: pq.ParquetWriter | None = None

    def add(self, table: pa.Table) -> None:
        """Append ``table``; the first one, which may be empty, decides on the encodings."""
        if self._writer is None:
            self._writer = self._open(table)
        self._writer.write_table(table, ROW_GROUP)

    def finish(self, metadata: Mapping[str, str] | None = None) -> bytes:
        """The whole object; nothing can be added any more."""
        if self._writer is None:
            raise ValueError("no table was added")
        self._writer.add_key_value_metadata(dict(metadata or {}))
        self._writer.close()
        body: bytes = self._sink.getvalue().to_pybytes()
        return body

    def _open(self, table: pa.Table) -> pq.ParquetWriter:
        repeating, differences, bounded = [], [], []
        for field in table.schema:
            moment = pa.types.is_temporal(field.type)
            if pa.types.is_string(field.type) or field.name in STAMPS or _repeats(table[field.name]):
                repeating.append(field.name)
            elif moment or pa.types.is_integer(field.type):
                differences.append(field.name)
            if field.name == "symbol" or pa.types.is_timestamp(field.type):
                bounded.append(field.name)
        return pq.ParquetWriter(
            self._sink,
            table.schema,
            compression="zstd",
            compression_level=3,
            use_dictionary=repeating,
            column_encoding=dict.fromkeys(differences, "DELTA_BINARY_PACKED"),
            write_statistics=bounded or False,
            store_schema=False,
        )


def _repeats(column: pa.ChunkedArray) -> bool:
    """Whether a column of floats has few values, as far as its beginning shows: counting all of a large one takes its size again."""
    if not pa.types.is_floating(column.type):
        return False
    beginning = column.slice(0, SAMPLE)
    return 0 < REPEATED * pc.count_distinct(beginning).as_py() <= len(beginning)


def decode(body: bytes, key: str, schema: pa.Schema | None = None, dictionary: Sequence[str] = ()) -> pa.Table:
    """The rows of a Parquet object.

    :param key: the object's, for the message.
    :param schema: what to return; a nullable column that the file lacks is filled with nulls, columns it does not name are dropped.
        None: as stored.
    :param dictionary: string columns to keep dictionary-encoded (without ``schema``).
    :raises LakeError: if the object is no Parquet, or lacks a column that must not be null.
    """
    try:
        # The lake reads many small objects at once: threads within one only cost.
        file = pq.ParquetFile(pa.BufferReader(body), read_dictionary=list(dictionary), pre_buffer=False)
        table = file.read(use_threads=False)
        return table if schema is None or table.schema.equals(schema) else _conform(table, schema)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise LakeError(f"lake object {key} cannot be read: {str(error).splitlines()[0]}") from error


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
    """Sorted by ``key``; rows of equal key keep their order. Rows in order already are not copied."""
    order = pc.sort_indices(table, sort_keys=[(name, "ascending") for name in key])
    return table if np.array_equal(order.to_numpy(), np.arange(len(order))) else table.take(order)


def gather(tables: Iterable[pa.Table], schema: pa.Schema) -> pa.Table:
    """All rows in one table of few chunks, however many and small the ``tables`` are. A single one is not copied."""
    done: list[pa.Table] = []
    small: list[pa.Table] = []
    for table in tables:
        if len(table):
            small.append(table)
        if len(small) == GATHER:
            done.append(pa.concat_tables(small).combine_chunks())
            small = []
    found = [*done, *small]
    return found[0] if len(found) == 1 else pa.concat_tables([schema.empty_table(), *found]).combine_chunks()
