"""Symbols as each vendor spells them, both ways: real issues, all suffixes, and the rows that come back."""

import csv
import gzip
from datetime import date
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.core.batch import Request
from market_data.core.instruments import Kind, kind_of
from market_data.core.intervals import closed
from market_data.core.spelling import CANONICAL, CMS, CQS, DASHED, KINDS, NASDAQ, STATES, Issue, SpellingError, canonical, issues
from market_data.lake.layout import escape, unescape
from market_data.providers.alpaca import symbols as alpaca
from market_data.providers.alpaca.hook import AlpacaHook
from market_data.providers.base import ProviderConfig
from market_data.providers.databento import symbols as databento
from market_data.providers.databento.hook import DatabentoHook
from market_data.providers.fmp import symbols as fmp
from market_data.providers.fmp.hook import FMPHook
from market_data.providers.ib import symbols as ib
from market_data.providers.polygon import symbols as polygon
from market_data.providers.polygon.hook import PolygonHook
from sandbox.http import SampleApi
from sandbox.vendors import flat_files
from tests.contract.provider import KEY
from tests.providers.sample_setup import FAST

LIST = Path(__file__).with_name("us_issues.csv")
ROWS = list(csv.DictReader(line for line in LIST.read_text().splitlines() if not line.startswith("#")))
SCHEMES = {"canonical": CANONICAL, "nasdaq": NASDAQ, "cqs": CQS, "cms": CMS, "dashed": DASHED}
WAYS = {
    "polygon": ("cqs", polygon.to_vendor, polygon.from_vendor),
    "alpaca": ("canonical", alpaca.to_vendor, alpaca.from_vendor),
    "fmp": ("dashed", fmp.to_vendor, fmp.from_vendor),
    "databento": ("nasdaq", partial(databento.to_vendor, dataset="EQUS.MINI"), partial(databento.from_vendor, dataset="EQUS.MINI")),
    "databento, NYSE": (
        "cms", partial(databento.to_vendor, dataset="XNYS.PILLAR"), partial(databento.from_vendor, dataset="XNYS.PILLAR"),
    ),
    "ib": ("cms", ib.to_vendor, ib.from_vendor),
}  # fmt: skip
"""Provider -> column of the list, and both directions."""

roots = st.from_regex(r"[A-Z]{1,4}", fullmatch=True)
any_issue = st.builds(Issue, roots, st.sampled_from(KINDS), st.sampled_from(sorted(STATES)))


def test_the_list_has_every_kind_of_suffix():
    assert len(ROWS) >= 300
    kinds = {issue.kind[:2] or issue.state for row in ROWS for issue in issues(row["cqs"])}
    assert {"A", "B", "C", "V", "PR", "WS", "RT", "U", "WI"} <= kinds


# the spellings


@pytest.mark.parametrize("name", SCHEMES)
def test_every_real_issue_is_read_from_and_written_in_each_spelling(name):
    for row in ROWS:
        if row[name]:
            issue = CQS.read(row["cqs"])
            assert (SCHEMES[name].write(issue), SCHEMES[name].read(row[name])) == (row[name], issue)


@pytest.mark.parametrize("provider", WAYS)
def test_every_real_issue_goes_to_each_vendor_and_back(provider):
    column, to_vendor, from_vendor = WAYS[provider]
    tested = [row for row in ROWS if row[column] and row["canonical"] != "CTEST.L"]
    assert len(tested) >= 300
    for row in tested:
        assert to_vendor(row["canonical"]) == row[column], row
        assert from_vendor(row[column]) == row["canonical"], row
        for spelling in row.values():
            if spelling and len(issues(spelling)) == 1:
                assert to_vendor(spelling) == row[column], (row, spelling)
    names = [to_vendor(row["canonical"]) for row in tested]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("provider", WAYS)
@given(issue=any_issue)
def test_both_ways_undo_each_other_or_the_symbol_is_refused_by_name(provider, issue):
    _, to_vendor, from_vendor = WAYS[provider]
    symbol = CANONICAL.write(issue)
    try:
        name = to_vendor(symbol)
    except SpellingError:
        with pytest.raises(SpellingError, match="cannot be requested|is also a future"):
            to_vendor(symbol)
        return
    assert from_vendor(name) == symbol
    assert to_vendor(name) == name


@given(one=any_issue, other=any_issue)
def test_two_issues_never_share_a_spelling(one, other):
    for scheme in SCHEMES.values():
        if one != other and scheme.write(one) is not None:
            assert scheme.write(one) != scheme.write(other)


@given(issue=any_issue)
def test_a_stock_in_any_spelling_is_a_stock_with_a_key_of_its_own(issue):
    for scheme in SCHEMES.values():
        symbol = scheme.write(issue)
        if symbol is not None:
            assert kind_of(symbol) is Kind.STOCK
            assert unescape(escape(symbol)) == symbol
            assert "/" not in escape(symbol)


@given(one=any_issue, other=any_issue, here=st.sampled_from(list(SCHEMES.values())), there=st.sampled_from(list(SCHEMES.values())))
def test_keys_of_two_spellings_differ(one, other, here, there):
    symbols = here.write(one), there.write(other)
    if None not in symbols and symbols[0] != symbols[1]:
        assert escape(symbols[0]) != escape(symbols[1])


@pytest.mark.parametrize("suffix", [f"-{letter}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"])
def test_a_letter_after_a_dash_is_the_vendors_own_or_refused(suffix):
    symbol = f"XY{suffix}"
    assert databento.to_vendor(symbol, "EQUS.MINI") == symbol
    assert databento.from_vendor(symbol, "EQUS.MINI") == f"XY.PR{suffix[1]}"
    no_class = suffix[1] in "RUW"  # but rights, units and warrants
    if not no_class:
        assert fmp.to_vendor(symbol) == symbol
    for to_vendor in (polygon.to_vendor, alpaca.to_vendor, ib.to_vendor, *([fmp.to_vendor] if no_class else ())):
        with pytest.raises(SpellingError, match="has several meanings: write XY.* or XY") as caught:
            to_vendor(symbol)
        assert f"XY.PR{suffix[1]} (preferred, series {suffix[1]})" in str(caught.value)


@pytest.mark.parametrize(
    ("spelling", "meant"),
    [
        *(("BAC-PRK", "BAC.PRK"), ("BAC.PR.K", "BAC.PRK"), ("AACT-WS", "AACT.WS")),
        ("AACT.W", "AACT.WS"),
        ("AIIA.R", "AIIA.RT"),
        ("BAC$K", "BAC.PRK"),
        ("BRK/B", "BRK.B"),
        ("X/WS/A", "X.WS.A"),
        ("ES:STK", "ES"),
    ],
)
def test_further_spellings_of_exchanges_are_known(spelling, meant):
    assert canonical(spelling) == meant


@pytest.mark.parametrize("symbol", ["AGNCP", "SNAXW", "AACBU", "GOOGL", "A", "ZVZZT"])
@pytest.mark.parametrize("provider", WAYS)
def test_the_fifth_letter_of_a_symbol_of_nasdaq_is_no_suffix(provider, symbol):
    assert WAYS[provider][1](symbol) == WAYS[provider][2](symbol) == symbol


@pytest.mark.parametrize(
    ("provider", "symbol", "write"),
    [
        ("polygon", "^SPX", "write I: and its name"),
        ("polygon", "BTC/USD", "write X: and the pair"),
        ("polygon", "AAPL  240119C00150000", "write O: and the OCC's symbol without spaces"),
        ("polygon", "ES.c.0", "is a future; Polygon serves stocks"),
        ("polygon", "RY.TO", "is not a symbol of a US stock"),
        ("alpaca", "I:SPX", "is not a symbol of a US stock"),
        ("alpaca", "NTEST.TEST", "Alpaca has no symbol for test issue"),
        ("fmp", "X:BTC-USD", "write BTCUSD"),
        ("fmp", "C:EURUSD", "write EURUSD"),
        ("fmp", "I:SPX", "an index is ^ and its name"),
        ("fmp", "X.P", "FMP has no symbol for class P"),
        ("databento", "^SPX", "is an index; EQUS.MINI has stocks"),
        ("ib", "NTEST.TEST", "Interactive Brokers has no symbol for test issue"),
    ],
)
def test_what_a_vendor_cannot_have_is_refused_with_what_to_write(provider, symbol, write):
    with pytest.raises(SpellingError, match=write.replace("^", r"\^")):
        WAYS[provider][1](symbol)


def test_other_markets_of_databento_keep_their_symbols():
    for symbol in ("ESZ6", "CLM0-CLN0", "AAPL  240119C00150000", "BRK-B", "^X"):
        assert databento.to_vendor(symbol, "GLBX.MDP3") == databento.from_vendor(symbol, "GLBX.MDP3") == symbol


# the rows that come back

DAY = date(2012, 8, 1)
NAMES = {
    "class": ("GEF.B", "GEF.B", "GEF.B", "GEF-B", "GEF B"),
    "voting class": ("MKC.V", "MKC.V", "MKC.V", "MKC-V", "MKC V"),
    "preferred": ("BAC.PRK", "BAC-K", "BACpK", "BAC-PK", "BAC PRK"),
    "preferred alone": ("HWM.PR", "HWM-", "HWMp", "HWM-P", "HWM PR"),
    "warrants": ("AACT.WS", "AACT+", "AACT.WS", "AACT-WT", "AACT WS"),
    "series of warrants": ("NE.WS.A", "NE+A", "NE.WS.A", "NE-WTA", "NE WSA"),
    "units": ("AACT.U", "AACT=", "AACT.U", "AACT-UN", "AACT U"),
    "rights": ("AIIA.RT", "AIIA^", "AIIAr", "AIIA-RI", "AIIA RT"),
    "when issued": ("AAN.WI", "AAN#", "AANw", "AAN-WI", "AAN WI"),
}
"""One issue of each kind: canonical, Nasdaq, CQS, dashed, CMS."""
FIRST = tuple(names[0] for names in NAMES.values())
OWN = {"polygon": 2, "alpaca": 0, "fmp": 3, "databento": 1}
PLANS = {"polygon": "advanced", "alpaca": "sample", "fmp": "ultimate", "databento": "sample"}
HOOKS = {"polygon": PolygonHook, "alpaca": AlpacaHook, "fmp": FMPHook, "databento": DatabentoHook}
ENDPOINTS = [
    *(("polygon", name, dataset) for name, dataset in (("grouped", "ohlcv-1d"), ("range", "ohlcv-1d"), ("range", "ohlcv-1m"))),
    *(("alpaca", "bars", dataset) for dataset in ("ohlcv-1d", "ohlcv-1m")),
    *(("fmp", name, "ohlcv-1d") for name in ("history", "bulk")),
    *(("databento", "range", dataset) for dataset in ("ohlcv-1d", "ohlcv-1m", "trades", "statistics")),
]


def hook_of(provider, api, **options):
    key = f"db-{KEY}" if provider == "databento" else KEY
    config = ProviderConfig(f"{provider}_default", api.url, "sample", key, {**FAST, "plan": PLANS[provider]})
    return HOOKS[provider](config=config, options=options)


@pytest.fixture(scope="module", params=OWN)
def served(request):
    """A vendor whose market has the symbols in the vendor's own spelling."""
    symbols = [names[OWN[request.param]] for names in NAMES.values()]
    with SampleApi(vendor=request.param, api_key=KEY, symbols=[*symbols, "GEF", "BAC", "AACT"]) as api:
        yield request.param, api


@pytest.mark.parametrize("spelling", range(5))
@pytest.mark.parametrize("kind", NAMES)
def test_rows_come_back_under_the_requested_symbol_in_all_endpoints(served, kind, spelling):
    provider, api = served
    symbol = NAMES[kind][spelling]
    if len(issues(symbol)) != 1 and spelling != OWN[provider]:
        pytest.skip("a spelling with several meanings")
    for owner, endpoint, dataset in ENDPOINTS:
        if owner == provider:
            with hook_of(provider, api) as hook:
                fetched = hook.fetch(Request(dataset, endpoint, (symbol,), (closed(DAY, DAY),)))
            assert set(fetched.table["symbol"].to_pylist()) == {symbol}, (endpoint, fetched.refused)
            assert not fetched.refused


def test_many_symbols_of_one_request_come_back_each_under_its_own(served):
    provider, api = served
    wanted = (*FIRST, "GEF", "BAC", "AACT")
    for owner, endpoint, dataset in ENDPOINTS:
        if owner == provider and (provider == "databento" or endpoint in ("grouped", "bars", "bulk")):
            with hook_of(provider, api) as hook:
                rows = hook.fetch(Request(dataset, endpoint, wanted, (closed(DAY, DAY),))).table.to_pylist()
            assert {row["symbol"] for row in rows} == set(wanted)
            if dataset == "ohlcv-1d":
                by_symbol = {row["symbol"]: row["close"] for row in rows}
                held = {bar.symbol: bar.close for bar in api.market.session(DAY)}
                assert all(by_symbol[names[0]] == held[names[OWN[provider]]] for names in NAMES.values())


@pytest.mark.parametrize("bulk", [False, True])
def test_statements_come_back_under_the_requested_symbol(bulk):
    with SampleApi(vendor="fmp", api_key=KEY, symbols=[names[3] for names in NAMES.values()]) as api, hook_of("fmp", api) as hook:
        span = (closed(date(2012, 1, 1), date(2012, 12, 31)),)
        for symbols in [FIRST] if bulk else [(symbol,) for symbol in FIRST]:
            fetched = hook.fetch(Request("fundamentals", "bulk" if bulk else "statements", symbols, span))
            assert set(fetched.table["symbol"].to_pylist()) == set(symbols), fetched.refused


@pytest.mark.parametrize("count", [1, len(FIRST)])
def test_corporate_actions_come_back_under_the_requested_symbol(count):
    own = [names[2] for names in NAMES.values()]
    with SampleApi(vendor="polygon", api_key=KEY, symbols=own) as api, hook_of("polygon", api) as hook:
        rows = hook.fetch(
            Request("corporate-actions", "reference", FIRST[-count:], (closed(date(2005, 1, 3), date(2012, 12, 31)),))
        ).table.to_pylist()
        made = api.market.dividends(date(2005, 1, 1), date(2013, 1, 1), own)
    assert rows
    assert {row["symbol"] for row in rows} <= set(FIRST[-count:])
    names = dict(zip(own, FIRST, strict=True))
    expected = sorted((names[row.symbol], row.ex_date) for row in made if names[row.symbol] in FIRST[-count:])
    assert sorted((row["symbol"], row["ex_date"]) for row in rows if row["action"] == "dividend") == expected


def test_datasets_of_databento_with_the_suffixes_of_the_cms_are_served_too():
    with (
        SampleApi(vendor="databento", api_key=KEY, symbols=FIRST, nyse=True) as api,
        hook_of("databento", api, dataset="XNYS.PILLAR") as hook,
    ):
        fetched = hook.fetch(Request("ohlcv-1d", "range", FIRST, (closed(DAY, DAY),)))
    assert set(fetched.table["symbol"].to_pylist()) == set(FIRST)


def test_flat_files_have_the_vendors_spelling(tmp_path):
    with SampleApi(vendor="polygon", api_key=KEY, symbols=FIRST) as api:
        written = {}

        class Bucket:
            def put_object(self, *, Bucket, Key, Body, Metadata):
                written[Key] = Body

        flat_files.write(Bucket(), api.market, [DAY], ("day",))
    (body,) = written.values()
    tickers = {line.split(",")[0] for line in gzip.decompress(body).decode().splitlines()[1:]}
    assert {names[2] for names in NAMES.values()} <= tickers
    assert not tickers & ({names[0] for names in NAMES.values()} - {names[2] for names in NAMES.values()})


@pytest.mark.parametrize("provider", OWN)
def test_a_request_of_unspeakable_symbols_makes_no_call(provider):
    symbol = {"databento": "^SPX", "fmp": "ES.c.0"}.get(provider, "BRK-B")
    with SampleApi(vendor=provider, api_key=KEY, symbols=("SPY",)) as api, hook_of(provider, api) as hook:
        endpoint, dataset = next((name, dataset) for owner, name, dataset in ENDPOINTS if owner == provider)
        fetched = hook.fetch(Request(dataset, endpoint, (symbol,), (closed(DAY, DAY),)))
        assert list(fetched.refused) == [symbol]
        assert fetched.refused[symbol].startswith(f"{symbol} ")
        assert (len(fetched.table), api.calls, fetched.evidence.calls) == (0, [], 0)
