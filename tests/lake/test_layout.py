"""Keys both ways, whatever the symbol."""

import subprocess
import sys
import unicodedata
from datetime import date

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from market_data.core.errors import ConfigError, ParamError
from market_data.datasets.bars import OHLCV_1D, OHLCV_1M, OHLCV_5M
from market_data.datasets.corporate_actions import CORPORATE_ACTIONS
from market_data.datasets.fundamentals import FUNDAMENTALS
from market_data.datasets.ticks import STATISTICS, TBBO, TRADES
from market_data.lake.layout import Layout, ParsedKey, escape, manifest_prefix, quarantine_key, receipts_prefix, unescape

BY_SESSION = [OHLCV_1D, OHLCV_5M, OHLCV_1M, TRADES, TBBO, STATISTICS, CORPORATE_ACTIONS]
DAY = date(2024, 9, 5)

hostile = st.one_of(
    st.sampled_from(["AAPL", "BRK.B", "brk.b", "BF-B", "../x", "..", ".", "a/b", "a", "%2E", "^GSPC", "X:BTC-USD"]),
    st.sampled_from(["A B", "-A", "é", "e\u0301", "A=B", "?", "#1", "symbol=A", "A" * 33, "A." + "A" * 31]),
    st.text(alphabet="aA.%/\\:=-_ 2E~é", min_size=1, max_size=64),
    st.text(min_size=1, max_size=20),
)
dates = st.dates(date(1, 1, 1))


def escaped(symbol):
    try:
        return escape(symbol)
    except ParamError:
        assume(False)


@pytest.mark.parametrize(
    ("dataset", "grain", "layout", "key"),
    [
        (OHLCV_1D, "day", Layout(), "raw/prices/provider=polygon/symbol=BRK.B/year=2024/month=09/BRK.B-2024-09-05.parquet"),
        (OHLCV_1D, "year", Layout(), "raw/prices/provider=polygon/symbol=BRK.B/year=2024/BRK.B-2024.parquet"),
        (OHLCV_1M, "day", Layout(), "raw/equities_1min/provider=polygon/symbol=BRK.B/year=2024/month=09/BRK.B-2024-09-05.parquet"),
        (OHLCV_1M, "year", Layout(), "raw/equities_1min/provider=polygon/symbol=BRK.B/year=2024/month=09/data.parquet"),
        (OHLCV_5M, "year", Layout(), "raw/bars_5min/provider=polygon/symbol=BRK.B/year=2024/month=09/data.parquet"),
        *(
            (ticks, grain, Layout(), f"raw/{ticks.name}/provider=polygon/symbol=BRK.B/year=2024/month=09/BRK.B-2024-09-05.parquet")
            for ticks in (TRADES, TBBO, STATISTICS)
            for grain in ("day", "year")
        ),
        (
            CORPORATE_ACTIONS,
            "day",
            Layout(),
            "raw/corporate_actions/provider=polygon/symbol=BRK.B/year=2024/month=09/BRK.B-2024-09-05.parquet",
        ),
        (CORPORATE_ACTIONS, "year", Layout(), "raw/corporate_actions/provider=polygon/symbol=BRK.B/year=2024/BRK.B-2024.parquet"),
        (
            OHLCV_1D,
            "day",
            Layout("a/b", provider_level=False),
            "a/b/prices/symbol=BRK.B/year=2024/month=09/BRK.B-2024-09-05.parquet",
        ),
    ],
)
def test_keys_are_those_of_the_contract(dataset, grain, layout, key):
    assert layout.object_key(dataset, "polygon", "BRK.B", DAY, grain) == key


@pytest.mark.parametrize("grain", ["day", "year"])
def test_statements_lie_by_type_and_period_end(grain):
    key = Layout().object_key(FUNDAMENTALS, "fmp", "BRK.B", date(2024, 9, 30), grain, "income")
    assert key == "raw/fundamentals/provider=fmp/type=income/symbol=BRK.B/year=2024/docdate=2024-09-30/BRK.B-2024-09-30.parquet"


@pytest.mark.parametrize(
    ("symbol", "text"),
    [
        ("BRK.B", "BRK.B"),
        ("../x", "%2E%2E%2Fx"),
        ("^GSPC", "%5EGSPC"),
        ("X:BTC-USD", "X%3ABTC-USD"),
        ("a..b", "a%2E%2Eb"),
        (".", "%2E"),
        ("e\u0301", "%C3%A9"),
    ],
)
def test_symbols_are_escaped(symbol, text):
    assert escape(symbol) == text


@pytest.mark.parametrize("symbol", ["", "A" * 65, "A\n", "A\x00", "A\u202e", "\ud800", "\u2028", "\ue000", "字" * 64])
def test_symbols_that_cannot_be_keys_are_refused(symbol):
    with pytest.raises(ParamError, match="symbol is"):
        escape(symbol)


@given(hostile)
def test_escapes_are_reversible_and_stay_in_one_part(symbol):
    text = escaped(symbol)
    assert unescape(text) == unicodedata.normalize("NFC", symbol)
    assert "/" not in text
    assert ".." not in text
    assert text.isascii()
    assert text != "."


@given(hostile, hostile)
def test_distinct_symbols_have_distinct_escapes(one, other):
    assert (escaped(one) == escaped(other)) == (unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other))


@given(
    hostile,
    dates,
    st.sampled_from(["day", "year"]),
    st.sampled_from(BY_SESSION),
    st.sampled_from(["polygon", "alpaca~iex", "databento~XNAS.ITCH"]),
    st.sampled_from([Layout(), Layout("x/y", provider_level=False), Layout("lake", provider_level=True)]),
)
def test_keys_round_trip(symbol, session, grain, dataset, provider, layout):
    escaped(symbol)
    key = layout.object_key(dataset, provider, symbol, session, grain)
    assert len(key.encode()) < 1000
    assert max(map(len, key.split("/"))) < 250
    assert key.startswith(layout.symbol_prefix(dataset, provider, symbol) + "/")
    holds = "day" if grain == "day" or dataset in (TRADES, TBBO, STATISTICS) else "month" if dataset.is_intraday else "year"
    assert layout.parse(key) == ParsedKey(
        folder=dataset.folder,
        provider=provider if layout.provider_level else None,
        symbol=unicodedata.normalize("NFC", symbol),
        session=session if holds == "day" else None,
        year=session.year,
        month=None if holds == "year" else session.month,
        grain="day" if holds == "day" else "year",
    )


@given(hostile, dates, st.sampled_from(FUNDAMENTALS.files.kinds), st.sampled_from([Layout(), Layout("x/y", provider_level=False)]))
def test_keys_of_statements_round_trip(symbol, docdate, kind, layout):
    escaped(symbol)
    key = layout.object_key(FUNDAMENTALS, "fmp", symbol, docdate, "day", kind)
    assert key.startswith(layout.symbol_prefix(FUNDAMENTALS, "fmp", symbol, kind) + "/")
    found = layout.parse(key)
    assert (found.folder, found.provider) == ("fundamentals", "fmp" if layout.provider_level else None)
    assert (found.symbol, found.kind, found.docdate) == (unicodedata.normalize("NFC", symbol), kind, docdate)
    assert (found.session, found.month, found.year, found.grain) == (None, None, docdate.year, "day")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "raw/prices/provider=p/symbol=A/year=2024/B-2024.parquet",
        "raw/prices/provider=p/symbol=A/year=2024/A-2023.parquet",
        "raw/prices/symbol=A/year=2024/A-2024.parquet",
        "raw/prices/provider=p/symbol=A/year=2024/month=09/A-2024-10-01.parquet",
        "raw/prices/provider=p/symbol=A/year=2024/month=02/A-2024-02-30.parquet",
        "raw/prices/provider=p/symbol=A/year=2024/month=13/data.parquet",
        "raw/prices/provider=p/symbol=A/year=2024/month=09/A-20240901.parquet",
        "raw/prices/provider=p/symbol=%41/year=2024/%41-2024.parquet",
        "raw/prices/provider=p/symbol=%2e/year=2024/%2e-2024.parquet",
        "raw/prices/provider=p/symbol=A/year=0000/A-0000.parquet",
        "raw/prices/provider=p/symbol=A/year=2024/A-2024.parquet\n",
        "raw/fundamentals/provider=p/type=income/symbol=A/year=2024/docdate=2023-09-30/A-2023-09-30.parquet",
        "raw/fundamentals/provider=p/type=income/symbol=A/year=2024/docdate=2024-09-30/A-2024-09-29.parquet",
        "raw/fundamentals/provider=p/type=income/symbol=A/year=2024/docdate=2024-09-31/A-2024-09-31.parquet",
        "other/prices/provider=p/symbol=A/year=2024/A-2024.parquet",
    ],
)
def test_other_keys_parse_to_nothing(key):
    assert Layout().parse(key) is None


def test_prefixes_of_the_other_areas():
    assert manifest_prefix("ohlcv-1d", "alpaca~iex") == "manifest/ohlcv-1d/provider=alpaca~iex"
    assert receipts_prefix("ohlcv-1d", "polygon", "abc-0", "f00") == "receipts/ohlcv-1d/provider=polygon/run=abc-0/f00"
    assert (
        quarantine_key("ohlcv-1d", "polygon", DAY, "b001-ff")
        == "quarantine/ohlcv-1d/provider=polygon/date=2024-09-05/b001-ff.parquet"
    )
    assert (
        quarantine_key("ohlcv-1d", "polygon", None, "b001-ff") == "quarantine/ohlcv-1d/provider=polygon/date=none/b001-ff.parquet"
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda: Layout("../raw"),
        lambda: Layout(""),
        lambda: Layout("raw/"),
        lambda: Layout().object_key(OHLCV_1D, "a/b", "A", DAY, "day"),
        lambda: Layout().object_key(OHLCV_1D, "polygon", "A", DAY, "month"),
        lambda: Layout().object_key(FUNDAMENTALS, "fmp", "A", DAY, "day"),
        lambda: Layout().object_key(FUNDAMENTALS, "fmp", "A", DAY, "day", "../x"),
        lambda: Layout().object_key(TRADES, "fmp", "A", DAY, "day", "income"),
        lambda: manifest_prefix("ohlcv-1d", ".."),
        lambda: quarantine_key("ohlcv-1d", "p", DAY, "../b"),
    ],
)
def test_settings_that_cannot_be_keys_are_refused(call):
    with pytest.raises(ConfigError, match="allowed"):
        call()


def test_keys_and_store_are_light_to_import():
    code = "import sys, market_data.lake.layout, market_data.lake.store; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert not {"pyarrow", "obstore", "boto3", "airflow", "pandas", "numpy"} & set(loaded.stdout.split())
