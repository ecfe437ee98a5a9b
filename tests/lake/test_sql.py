"""The documented DuckDB query sees what our reader sees."""

from datetime import date, timedelta
from pathlib import Path

import duckdb
import pyarrow.compute as pc
import pytest

from market_data.datasets.bars import OHLCV_1D
from market_data.lake import parquet
from market_data.lake.layout import Layout
from market_data.lake.reader import read_rows
from market_data.lake.writer import land
from tests.lake.rows import T0, bars, open_lake, weekdays

PRICES = Path(__file__).parents[2] / "include" / "sql" / "lake" / "prices.sql"
DAYS = weekdays(date(2023, 12, 11), 30)
SYMBOLS = ["A", "BRK.B", "X:BTC-USD", "z"]
LATER, LATEST = T0 + timedelta(1), T0 + timedelta(2)


def filled(url, layout):
    """A lake of all grains: sessions in one of them, in both with either newer, in both equally new."""
    lake = open_lake(url)

    def put(rows, grain):
        land(lake, layout, OHLCV_1D, "polygon", rows, grain, refetch=False)

    for symbol in SYMBOLS:
        put(bars([(symbol, day) for day in DAYS[:20]], close=1.0), "year")
        put(bars([(symbol, day) for day in DAYS[15:]], close=2.0, at=LATER), "day")
        put(bars([(symbol, day) for day in DAYS[17:19]], close=3.0, at=LATEST), "year")
        put(bars([(symbol, day) for day in DAYS[:2]], close=4.0), "day")
    put(bars([(symbol, day) for symbol in (*SYMBOLS, "N") for day in DAYS[4:6]], close=5.0), "session")  # as new as the year file
    put(bars([(symbol, day) for symbol in SYMBOLS for day in DAYS[8:9]], close=6.0, at=LATEST), "session")
    put(bars([(symbol, day) for symbol in SYMBOLS for day in DAYS[:1]], close=7.0), "session")  # as new as the day file
    return lake


def connected(folder):
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET VARIABLE lake_prices = '{folder}'")
    connection.execute(PRICES.read_text())
    return connection


def rows(connection, call):
    found = connection.sql(f"SELECT * FROM {call} ORDER BY symbol, bar_time").to_arrow_table()
    return found.select(OHLCV_1D.schema.names).cast(OHLCV_1D.schema)


@pytest.mark.parametrize(
    ("layout", "folder"),
    [
        (Layout(), "raw/prices/provider=polygon"),
        (Layout(), "raw/prices/*"),
        (Layout("plain", provider_level=False), "plain/prices"),
    ],
)
def test_the_query_gives_what_the_reader_gives(tmp_path, layout, folder):
    lake = filled(f"file://{tmp_path}", layout)
    connection = connected(tmp_path / folder)
    expected = read_rows(lake, layout, OHLCV_1D, "polygon", SYMBOLS, DAYS[0], DAYS[-1] + timedelta(1))
    closes = [4.0] * 2 + [1.0] * 2 + [5.0] * 2 + [1.0] * 2 + [6.0] + [1.0] * 6 + [2.0] * 2 + [3.0] * 2 + [2.0] * 11
    assert expected["close"].to_pylist() == closes * len(SYMBOLS)
    assert rows(connection, "lake_prices()").filter(pc.field("symbol") != "N").equals(expected)
    assert rows(connection, "lake_prices(symbol_key := 'N')")["close"].to_pylist() == [5.0] * 2  # in session files only
    assert rows(connection, "lake_prices(symbol_key := 'X%3ABTC-USD')").equals(expected.slice(60, 30))


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("*", ["A", "AB", "B", "X*Y", "X:BTC-USD", "XZY"]),
        ("A*", ["A", "AB"]),
        ("?", ["A", "B"]),
        ("[!A]", ["B"]),
        ("X%3A*", ["X:BTC-USD"]),
        ("X%2AY", ["X*Y"]),
        ("X%2A?", ["X*Y"]),
        ("[AX]%2A*", ["X*Y"]),
        ("A", ["A"]),
    ],
)
@pytest.mark.parametrize("grain", ["day", "session"])
def test_a_pattern_finds_the_same_symbols_in_files_of_each_grain(tmp_path, grain, key, names):
    lake = open_lake(f"file://{tmp_path}")
    cells = [(symbol, day) for symbol in ("A", "AB", "B", "X*Y", "X:BTC-USD", "XZY") for day in DAYS[:1]]
    land(lake, Layout(), OHLCV_1D, "polygon", bars(cells), grain, refetch=False)
    connection = connected(tmp_path / "raw/prices/provider=polygon")
    assert rows(connection, f"lake_prices(symbol_key := '{key}')")["symbol"].to_pylist() == names


def test_one_symbol_opens_its_own_files_only(tmp_path):
    lake = filled(f"file://{tmp_path}", Layout())
    [(key, _), *_] = lake.list("raw/prices/provider=polygon/symbol=z")
    (tmp_path / key).write_bytes(b"no parquet")
    connection = connected(tmp_path / "raw/prices/provider=polygon")
    assert len(rows(connection, "lake_prices(symbol_key := 'A')")) == len(DAYS)
    with pytest.raises(duckdb.Error, match="symbol=z"):
        rows(connection, "lake_prices()")


def test_a_file_that_lacks_a_column_reads_as_null(tmp_path):
    lake = filled(f"file://{tmp_path}", Layout())
    [(key, _), *_] = lake.list("raw/prices/provider=polygon/symbol=A")
    lake.update(key, lambda body: parquet.encode(parquet.decode(body, key).drop_columns(["trade_count"])))
    found = rows(connected(tmp_path / "raw/prices/provider=polygon"), "lake_prices()")
    assert len(found) == len(DAYS) * len(SYMBOLS) + 2
    assert 0 < found["trade_count"].null_count < len(found)


def test_nothing_is_kept_in_the_database(tmp_path):
    filled(f"file://{tmp_path}/lake", Layout())
    database = tmp_path / "other.duckdb"
    with duckdb.connect(database) as connection:
        connection.execute(f"SET VARIABLE lake_prices = '{tmp_path}/lake/raw/prices/provider=polygon'")
        connection.execute(PRICES.read_text())
    with duckdb.connect(database, read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM duckdb_functions() WHERE function_name = 'lake_prices'").fetchone() == (0,)
        connection.execute(PRICES.read_text())  # so that it works beside a warehouse opened to read


def test_a_lake_of_session_files_alone_is_read(tmp_path):
    lake = open_lake(f"file://{tmp_path}")
    expected = bars([(symbol, day) for symbol in SYMBOLS for day in DAYS[:3]])
    land(lake, Layout(), OHLCV_1D, "polygon", expected, "session", refetch=False)
    connection = connected(tmp_path / "raw/prices/provider=polygon")
    assert rows(connection, "lake_prices()").equals(expected)
    assert rows(connection, "lake_prices(symbol_key := 'X%3ABTC-USD')").equals(expected.slice(6, 3))
    assert len(rows(connection, "lake_prices(symbol_key := 'none')")) == 0
