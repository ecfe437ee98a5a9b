"""The kind of instrument that a symbol's spelling tells."""

from __future__ import annotations

import pytest

from market_data.core.instruments import Kind, calendar_of, kind_of


@pytest.mark.parametrize(
    ("symbol", "kind"),
    [
        *((symbol, Kind.STOCK) for symbol in ("AAPL", "BRK.B", "BRK B", "AAC+", "ES", "Z", "ABRpD", "BF.B", "F", "T.WS")),
        *(
            (symbol, Kind.FUTURE)
            for symbol in ("ES.c.0", "CL.v.1", "ES.FUT", "ESZ6", "ESZ26", "ESZ2026", "CLK0", "CLM0-CLN0", "6EH7")
        ),
        *((symbol, Kind.INDEX) for symbol in ("^GSPC", "^TNX", "I:SPX")),
        *((symbol, Kind.OPTION) for symbol in ("AAPL  240119C00150000", "O:SPY251219C00650000", "ES.OPT")),
        *((symbol, Kind.CRYPTO) for symbol in ("X:BTCUSD", "BTC/USD")),
        ("C:EURUSD", Kind.CURRENCY),
    ],
)
def test_the_spelling_tells_the_kind(symbol: str, kind: Kind) -> None:
    assert kind_of(symbol) is kind


def test_only_futures_and_indices_may_have_negative_prices() -> None:
    assert {kind for kind in Kind if kind.signed_prices} == {Kind.FUTURE, Kind.INDEX}


@pytest.mark.parametrize(
    ("symbol", "calendar"),
    [
        *((symbol, "XNYS") for symbol in ("AAPL", "BRK.B", "ES", "ES:STK", "VIXY", "VX", "I:SPX", "^GSPC", "O:SPY251219C00650000")),
        *((symbol, "CMES") for symbol in ("ES.c.0", "ESZ2026", "ESZ6", "NQ.v.0", "ES.FUT", "ESZ6-ESH7")),
        *((symbol, "CFE") for symbol in ("VIX", "VIX:IND", "I:VIX", "^VIX", "VIX9D", "VVIX", "VX.c.0", "VXF2026", "VX.FUT")),
        *((symbol, "24/7") for symbol in ("X:BTCUSD", "BTC/USD")),
        ("C:EURUSD", "24/5"),
    ],
)
def test_the_spelling_tells_the_calendar(symbol: str, calendar: str) -> None:
    assert calendar_of(symbol).name == calendar


def test_a_kind_that_a_provider_knows_decides_the_calendar() -> None:
    assert calendar_of("15144", Kind.FUTURE).name == "CMES"
    assert calendar_of("SPX", Kind.INDEX).name == "XNYS"
    assert calendar_of("VIX", Kind.INDEX).name == "CFE"
