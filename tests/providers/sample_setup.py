"""Set-up that the modules of the providers share: a fast hook on a sample server, and the rows that the server holds."""

from datetime import UTC, datetime, time

from market_data.providers.base import ProviderConfig
from tests.contract.provider import KEY, order, quick

FAST = {"calls_per_minute_per_slot": 60_000, "limits": [{"calls": 100, "seconds": 0.05}]}

AAPL_ROW = {  # as traded on the day, before three later splits
    "symbol": "AAPL",
    "bar_time": datetime(2013, 1, 7, tzinfo=UTC),
    "session": datetime(2013, 1, 7, tzinfo=UTC).date(),
    "open": 522.0,
    "high": 529.3,
    "low": 515.2,
    "close": 523.9,
    "adj_close": None,
    "volume": 17_291_300.0,
    "vwap": None,
    "trade_count": None,
}
"""A recorded daily bar as a row."""


def hook_on(hook, name, server, *, key=KEY, late=False, options=None, **fields):
    """Return a hook on a sample server, with short pauses between tries.

    :param name: the provider. ``fields``: further ones of the connection; ``extra`` is added to `FAST`.
    :param late: with short time-outs too, while the server has a fault left to make.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    given["extra"] = {**FAST, **given.get("extra", {})}
    config = ProviderConfig(f"{name}_default", **{"base_url": server.url, "password": key, **given})
    return quick(hook, late=server if late else None)(config=config, options=options)


def as_row(bar, **values):
    """Return a bar of a sample server as a provider's row."""
    return {
        "symbol": bar.symbol,
        "bar_time": datetime.combine(bar.session, time(), UTC),
        "session": bar.session,
        **{field: getattr(bar, field) for field in ("open", "high", "low", "close", "volume", "vwap")},
        "adj_close": None,
        "trade_count": bar.trades,
        **values,
    }


def rows_held(server, symbols, intervals, row=as_row):
    """Return the rows that a sample server holds of ``symbols`` in ``intervals``, in the contract's order."""
    bars = [bar for symbol in symbols for part in intervals for bar in server.market.range(symbol, part.start, part.end)]
    return sorted((row(bar) for bar in bars), key=order)
