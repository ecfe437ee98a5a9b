"""How the columns of an object of rows are written."""

from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market_data.core.errors import BrokenObject
from market_data.datasets.registry import dataset
from market_data.lake import object_writer, parquet

BARS = dataset("ohlcv-1m").schema
ROWS = 400


def columns(body):
    group = pq.read_metadata(pa.BufferReader(body)).row_group(0)
    return {column.path_in_schema: column for column in map(group.column, range(group.num_columns))}


def bars(count=ROWS):
    values = {pa.string(): "A", pa.int64(): 7, pa.float64(): 1.5, pa.date32(): date(2024, 2, 1)}
    found = {
        field.name: pa.nulls(count, field.type)
        if field.name == "adj_close"
        else pa.repeat(values.get(field.type, datetime(2024, 2, 1, tzinfo=UTC)), count)
        for field in BARS
    }
    return pa.table([column.cast(BARS.field(name).type) for name, column in found.items()], schema=BARS)


def test_integers_few_values_and_no_values_are_not_compressed():
    found = columns(parquet.encode(bars()))
    plain = {name for name, column in found.items() if column.compression == "UNCOMPRESSED"}
    assert plain == {"symbol", "timeframe", "session", "provider", "ingest_ts", "trade_count", "adj_close"}
    assert {column.compression for name, column in found.items() if name not in plain} == {"ZSTD"}


@pytest.mark.parametrize("grain", ["day", "session", "year"])
def test_small_objects_of_rows_are_compressed_for_quick_reading_and_large_ones_for_size(grain):
    for count, codec in ((object_writer.SMALL, "SNAPPY"), (object_writer.SMALL + 1, "ZSTD")):
        assert columns(object_writer.encoded(bars(count), grain))["close"].compression == codec


def test_prices_of_bars_have_no_dictionary_and_repeated_ones_of_ticks_have():
    assert not columns(parquet.encode(bars()))["close"].has_dictionary_page
    assert columns(parquet.encode(pa.table({"price": [1.5] * ROWS})))["price"].has_dictionary_page


def test_an_empty_first_table_does_not_leave_later_values_uncompressed():
    encoder = parquet.Encoder()
    encoder.add(bars(0))
    encoder.add(bars())
    assert columns(encoder.finish())["close"].compression == "ZSTD"


def test_a_damaged_number_of_rows_takes_no_memory():
    """Found by fuzzing: the footer's row group has 30,444,287,615 rows, for which Arrow would take 122 GB."""
    body = parquet.encode(pa.table({"a": pa.array([7])}), {"about": "x"})
    length = int.from_bytes(body[-8:-4], "little")
    head, footer = body[: -8 - length], body[-8 - length : -8]
    one_row, then = b"\x16\x02", b"\x26\x08"
    assert footer.count(one_row + then) == 1
    footer = footer.replace(one_row + then, b"\x16\xfe\xd9\xf7\xe9\xe2\x01" + then)
    with pytest.raises(BrokenObject, match="its row groups have 30444287615 rows; 1 are declared"):
        parquet.decode(head + footer + len(footer).to_bytes(4, "little") + b"PAR1", "key")
