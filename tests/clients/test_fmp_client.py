"""fmp-data understands the sample API. It is not the vendor's own client, of which there is none, but one that many use with the vendor."""

from datetime import date, timedelta

import pytest

from sandbox.http import SampleApi
from sandbox.vendors.fmp import wire

KEY = "a-key"
MONTH = (date(2012, 3, 1), date(2012, 3, 31))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def api():
    with SampleApi(vendor="fmp", api_key=KEY, symbols=("SPY", "BRK.B")) as api:
        yield api


@pytest.fixture(scope="module")
def heard(api, asked):
    """What the client made of the answers."""
    api.fault("cut_lines", match="2012-07-02", before="SPY")
    return asked("ask_fmp.py", api.url, KEY)


def values(bar):
    return [bar.session.isoformat(), bar.open, bar.high, bar.low, bar.close, bar.volume]


def test_prices_are_read_as_they_are_held_newest_first(heard, api):
    assert heard["full"] == [values(bar.adjusted) for bar in reversed(api.market.range("AAPL", *MONTH))]
    assert heard["raw"] == [values(bar) for bar in reversed(api.market.range("BRK.B", *MONTH))]
    assert len(heard["raw"]) == 22


def test_a_bulk_file_has_every_symbol_and_strangers(heard, api):
    bars = api.market.session(date(2012, 6, 1))
    held = {wire(bar.symbol): [*values(bar)[:5], round(bar.close * bar.ratio, 4), bar.volume] for bar in bars}
    assert "BRK-B" in held
    assert {symbol: bar for symbol, bar in heard["bulk"].items() if symbol in held} == held
    assert len(heard["bulk"]) > len(held) + 100


def test_statements_are_read_as_they_are_held(heard, api):
    made = api.market.statements("BRK.B", date(2005, 1, 1), api.market.now().date() + timedelta(days=1))
    income = [one for one in made if one.statement == "income"]
    rows = [
        ["BRK-B", f"{one.period_end}", f"{one.filing_date}", f"{one.fiscal_year}", one.period, one.values["netIncome"]]
        for one in income
    ]
    assert heard["income"] == [row for row in rows if row[4] != "FY"][: -6 - 1 : -1]
    (year,) = [row for row in rows if row[3:5] == ["2012", "FY"]]
    assert year in heard["income bulk"]


def test_nothing_to_bring_is_nothing(heard):
    assert heard["unknown"] == []


def test_a_wrong_key_is_the_clients_error(heard):
    assert heard["wrong key"][0] == "AuthenticationError"


def test_the_client_loses_rows_in_silence_where_a_file_is_cut(heard):
    """Why the hook does not use it."""
    assert 0 < heard["cut"] < len(heard["bulk"])
