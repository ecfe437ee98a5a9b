"""As ask.py, through Alpaca's own client: ``python ask_alpaca.py URL KEY``."""

import json
import sys
from datetime import UTC, datetime

from alpaca.data.historical import StockHistoricalDataClient
from alpaca.data.requests import StockBarsRequest
from alpaca.data.timeframe import TimeFrame, TimeFrameUnit

url, key = sys.argv[1:]


def made(secret):
    client = StockHistoricalDataClient("an-id", secret, url_override=url)
    client._retry_wait = 0.01
    return client


client = made(key)


def bars(symbols, timeframe=TimeFrame.Day, first=1, last=31, who=client, **options):
    request = StockBarsRequest(
        symbol_or_symbols=symbols,
        timeframe=timeframe,
        start=datetime(2012, 3, first, 5, tzinfo=UTC),
        end=datetime(2012, 3, last, 3, tzinfo=UTC),
        **options,
    )
    found = who.get_stock_bars(request).data
    return [
        [symbol, one.timestamp.isoformat(), one.open, one.high, one.low, one.close, one.volume, one.vwap, one.trade_count]
        for symbol, some in found.items()
        for one in some
    ]


def error(*args, **options):
    try:
        return ["nothing", str(bars(*args, **options))]
    except Exception as raised:  # noqa: BLE001 - which one it is is the question
        return [type(raised).__name__, str(raised)]


json.dump(
    {
        "paged": bars(["AAPL", "BRK.B", "SPY", "NOSUC"]),
        "minutes": bars(["SPY"], TimeFrame.Minute, 8, 15),
        "five minutes": bars(["SPY"], TimeFrame(5, TimeFrameUnit.Minute), 8, 9),
        "iex": bars(["SPY"], feed="iex"),
        "adjusted": bars(["AAPL"], adjustment="split"),
        "unknown": bars(["NOSUC"]),
        "malformed": error(["SPY", "BRK-B"]),
        "wrong key": error(["SPY"], who=made("wrong")),
        "recent": error(["IBM"]),
        "server error": error(["MSFT"]),
        "throttled": error(["GOOG"]),
        "empty": error(["GE"]),
        "lost": bars(["AAPL", "FB", "BRK.B", "SPY"]),
    },
    sys.stdout,
)
