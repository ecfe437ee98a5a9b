"""The symbols that a feed's scheduled runs request are those that are expected."""

from dataclasses import replace

import pytest

from market_data.config.universes import FOLDER, read_universe
from market_data.lake.store import Lake
from market_data.maintenance.audit.expected import universe_of_feed
from tests.pipeline.runs import feed_of

FEED = replace(feed_of("polygon_ohlcv_1d"), universe="dow30")
DOW = set(read_universe("dow30").symbols)


@pytest.fixture
def lake(tmp_path):
    return Lake.open(f"file://{tmp_path}/lake")


@pytest.fixture
def tickers(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("symbol,added_date,removed_date\nIBM,,\nMETA,2022-06-09,\nFB,,2022-06-09\n")
    return str(path)


def test_the_params_of_a_feed_choose_its_symbols(lake, tickers):
    for params, symbols in [
        ({}, DOW),
        ({"lookback_days": 3}, DOW),
        ({"universe": "es_mes_vix"}, {"ES.c.0", "MES.c.0", "VIX"}),
        ({"symbols": ["IBM", "AAPL"]}, {"IBM", "AAPL"}),
        ({"tickers_path": tickers}, {"IBM", "META", "FB"}),
        ({"tickers_path": tickers, "as_of": "2022-06-08"}, {"IBM", "FB"}),
    ]:
        universe, notes = universe_of_feed(lake, replace(FEED, params=params))
        assert (set(universe.symbols), notes) == (symbols, ())


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"universe": "nobody"}, "universe nobody cannot be read"),
        ({"follow_renames": True}, "the lake has no symbol-changes"),
        ({"tickers_path": "none.csv"}, "universe none.csv cannot be read"),
    ],
)
def test_a_universe_that_cannot_be_read_is_named(lake, params, reason):
    universe, notes = universe_of_feed(lake, replace(FEED, params=params))
    assert universe.symbols == ()
    assert reason in notes[0]


@pytest.mark.parametrize("error", [UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), PermissionError("denied")])
def test_a_universe_file_that_cannot_be_decoded_or_opened_is_named(lake, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(type(FOLDER), "read_text", fail)
    monkeypatch.setattr(type(FOLDER), "open", fail)
    assert "universe dow30 cannot be read" in universe_of_feed(lake, FEED)[1][0]
