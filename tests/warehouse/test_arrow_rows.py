"""From the dataset's rows to the Arrow table that engines take."""

from __future__ import annotations

import hashlib
from datetime import timedelta, timezone
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.core.errors import DataError
from market_data.datasets.fundamentals import FUNDAMENTALS
from market_data.warehouse.arrow_rows import row_hashes, schema, to_wire
from market_data.warehouse.schema import PRICES, TABLES
from tests.warehouse.rows import SEEN, bar, bars, item, naive, table


def wire(rows: pa.Table) -> pa.Table:
    return to_wire(PRICES, rows, load_id="one", loaded_at=SEEN)


def replaced(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, values)


def test_the_form_is_exact() -> None:
    made = wire(bars("AAPL", 3))
    assert made.schema == schema(PRICES.columns)
    assert made.schema.field("symbol").type == pa.string()
    assert made.schema.field("bar_time").type == pa.timestamp("us")
    assert made.schema.field("volume").type == pa.decimal128(20, 8)
    assert made["load_id"].to_pylist() == ["one"] * 3
    assert made["loaded_at"].to_pylist() == made["ingest_ts"].to_pylist() == [naive(SEEN)] * 3


def test_the_moment_of_the_load_is_bound_in_utc() -> None:
    tokyo = SEEN.astimezone(timezone(timedelta(hours=9)))
    assert to_wire(PRICES, bars("AAPL", 1), load_id="one", loaded_at=tokyo)["loaded_at"].to_pylist() == [naive(SEEN)]


def test_many_chunks_become_one() -> None:
    made = wire(pa.concat_tables([bars(symbol, 3) for symbol in ("AAPL", "BRK.B", "MSFT")]))
    assert {column.num_chunks for column in made.columns} == {1}
    assert made.num_rows == 9


def test_other_forms_of_the_same_values_give_the_same() -> None:
    rows = table(bar("AAPL"), bar("MSFT", volume=12.0))
    other = replaced(rows, "symbol", pa.array(["AAPL", "MSFT"]).dictionary_encode())
    other = replaced(other, "provider", rows["provider"].cast(pa.large_string()))
    other = replaced(other, "bar_time", rows["bar_time"].cast(pa.timestamp("ns", "Asia/Tokyo")))
    other = replaced(other, "close", pa.array([Decimal("100.25"), Decimal("100.250000000000")]))
    other = replaced(other, "volume", pa.array([1000, 12]))
    assert wire(other) == wire(rows)


@pytest.mark.parametrize("column", ["symbol", "open", "ingest_ts"])
def test_a_missing_column_is_named(column: str) -> None:
    with pytest.raises(DataError, match=f"columns missing: {column}$"):
        wire(bars("AAPL", 2).drop_columns([column]))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("column", ["open", "volume", "adj_close"])
def test_what_is_not_finite_is_refused(column: str, value: float) -> None:
    with pytest.raises(DataError, match=f"column {column} holds NaN or infinity"):
        wire(table(bar("AAPL"), bar("MSFT", **{column: value})))


@pytest.mark.parametrize("column", ["open", "high", "low", "close"])
def test_a_null_price_is_refused(column: str) -> None:
    with pytest.raises(DataError, match=f"column {column} has 1 nulls of 2 rows"):
        wire(table(bar("AAPL"), bar("MSFT") | {column: None}))


@pytest.mark.parametrize(("column", "value"), [("symbol", ""), ("symbol", "x" * 33), ("provider", ""), ("timeframe", "x" * 9)])
def test_strings_no_engine_could_hold_are_refused(column: str, value: str) -> None:
    with pytest.raises(DataError, match=f"column {column} holds an empty string or one over"):
        wire(table(bar("AAPL"), bar("MSFT") | {column: value}))


def test_string_lengths_count_characters() -> None:
    assert wire(table(bar("株" * 32))).num_rows == 1


@pytest.mark.parametrize("values", [[1e12], [10**12], [Decimal("1e12")], [Decimal("999999999999.999999995")], [-1e12]])
def test_numbers_too_large_are_refused(values: list[Any]) -> None:
    with pytest.raises(DataError, match="column close does not fit a number with at most 12 digits"):
        wire(replaced(table(bar()), "close", pa.array(values)))


def test_wrong_types_are_refused() -> None:
    with pytest.raises(DataError, match="column bar_time has no time zone"):
        wire(replaced(bars("AAPL", 1), "bar_time", pa.array([naive(SEEN)], pa.timestamp("us"))))
    with pytest.raises(DataError, match="column symbol"):
        wire(replaced(bars("AAPL", 1), "symbol", pa.array([[1]])))
    with pytest.raises(DataError, match="column close"):
        wire(replaced(bars("AAPL", 1), "close", pa.array(["a lot"])))
    with pytest.raises(DataError, match="column trade_count does not fit"):
        wire(replaced(bars("AAPL", 1), "trade_count", pa.array([1.5])))
    with pytest.raises(DataError, match="column bar_time"):
        wire(replaced(bars("AAPL", 1), "bar_time", pa.array([1], pa.timestamp("ns", "UTC"))))


def test_duplicates_are_counted_and_one_is_named() -> None:
    with pytest.raises(DataError, match=r"1 keys occur .* symbol MSFT, timeframe 1d, provider polygon, bar_time 2024-01-02"):
        wire(table(bar("AAPL"), bar("MSFT"), bar("MSFT", close=1.0), bar("MSFT", provider="alpaca")))


# --- numbers --------------------------------------------------------------------------------------------------------------------


@given(st.floats(min_value=-999_999_999_999, max_value=999_999_999_999))
def test_a_price_becomes_the_nearest_decimal(value: float) -> None:
    with localcontext() as context:
        context.prec = 1100
        nearest = Decimal(value).quantize(Decimal("1e-8"), rounding=ROUND_HALF_EVEN)
    assert wire(table(bar(close=value)))["close_px"].to_pylist() == [nearest]


@given(st.floats(min_value=-1e16, max_value=1e16))
def test_an_amount_becomes_the_nearest_decimal(value: float) -> None:
    nearest = Decimal(value).quantize(Decimal("1e-6"), rounding=ROUND_HALF_EVEN)
    rows = table(item(value=value), dataset=FUNDAMENTALS)
    assert to_wire(TABLES["fundamentals"], rows, load_id="one", loaded_at=SEEN)["amount"].to_pylist() == [nearest]


@given(st.decimals(min_value=-999_999_999_999, max_value=999_999_999_999, places=12))
def test_a_decimal_is_rounded_half_to_even(value: Decimal) -> None:
    rows = replaced(table(bar()), "close", pa.array([value], pa.decimal128(38, 12)))
    assert wire(rows)["close_px"].to_pylist() == [value.quantize(Decimal("1e-8"), rounding=ROUND_HALF_EVEN)]


@pytest.mark.parametrize(
    ("value", "rounded"),
    [("0.000000005", "0"), ("0.000000015", "2E-8"), ("1.000000025", "1.00000002"), ("-1.000000035", "-1.00000004")],
)
def test_ties_go_to_the_even_neighbour(value: str, rounded: str) -> None:
    rows = replaced(table(bar()), "close", pa.array([Decimal(value)]))
    assert wire(rows)["close_px"].to_pylist() == [Decimal(rounded)]


# --- hashes ---------------------------------------------------------------------------------------------------------------------


def hash_of(**values: Any) -> str:
    return wire(table(bar(**values)))["row_hash"][0].as_py()


def test_the_hash_stays_what_it_is() -> None:
    whole = {"open": 10.5, "high": 11.0, "low": 10.25, "close": 10.75, "adj_close": 0.00000001, "volume": 12.5, "vwap": 0.0}
    text = "1050000000|1100000000|1025000000|1075000000|1|1250000000|0|7"
    assert hash_of(**whole, trade_count=7) == hashlib.sha256(text.encode()).hexdigest()
    text = "1050000000|1100000000|1025000000|1075000000||||"
    absent = {"adj_close": None, "volume": None, "vwap": None, "trade_count": None}
    assert hash_of(**whole | absent) == hashlib.sha256(text.encode()).hexdigest()


def test_the_hash_of_numbers_beyond_64_bits() -> None:
    text = "1050000000|1100000000|1025000000|1075000000||99999999999900000000||7"
    values = {"open": 10.5, "high": 11.0, "low": 10.25, "close": 10.75, "volume": 999_999_999_999.0, "vwap": None}
    found = wire(table(bar(**values, trade_count=7), bar("MSFT")))
    assert found["row_hash"][0].as_py() == hashlib.sha256(text.encode()).hexdigest()


def test_the_hash_is_of_the_values_alone() -> None:
    assert hash_of() == hash_of(symbol="MSFT", provider="alpaca", ingest_ts=SEEN.replace(year=2025))
    assert hash_of(vwap=0.0) == hash_of(vwap=-0.0) == hash_of(vwap=1e-9)


def test_different_values_have_different_hashes() -> None:
    absent: dict[str, Any] = {"adj_close": None, "volume": None, "vwap": None, "trade_count": None}
    values = [absent, *({**absent, name: value} for name in absent for value in (0, 1, 11))]
    values += [{**absent, "volume": 1, "vwap": 1}, {**absent, "adj_close": 1, "volume": 1}]
    assert len({hash_of(**each) for each in values}) == len(values)


def test_the_database_computes_the_same_hash() -> None:
    rng = range(1, 200)
    made = wire(table(*(bar(f"S{n}", close=n / 7, adj_close=None if n % 3 else n * 1e-8, volume=n * 12345.678) for n in rng)))
    parts = [
        f"coalesce(CAST(CAST({c.name} * {10**8 if c.type == 'decimal' else 1} AS HUGEINT) AS VARCHAR), '')" for c in PRICES.values
    ]
    with duckdb.connect() as connection:
        connection.register("made", made)
        sql = f"SELECT count(*) FROM made WHERE sha256({' || chr(124) || '.join(parts)}) = row_hash"
        assert connection.execute(sql).fetchone() == (len(rng),)


def test_hashes_of_slices_and_of_nothing() -> None:
    made = wire(bars("AAPL", 9))
    values = [made[column.name] for column in PRICES.values]
    assert row_hashes([v.slice(4, 3) for v in values]).to_pylist() == made["row_hash"].slice(4, 3).to_pylist()
    assert wire(bars("AAPL", 0)).num_rows == 0
