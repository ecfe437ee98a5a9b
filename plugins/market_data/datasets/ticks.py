"""Ticks: trades, trades with the quote right before them (tbbo), and the venue's statistics.

``ts_event`` is the venue's time stamp, UTC, in nanoseconds. ``price`` is in the currency of the listing, ``size`` in shares or
contracts. ``side`` is that of the aggressor: ``A`` a seller, ``B`` a buyer, ``N`` unknown.

Several rows may share a time stamp and a ``sequence`` (a sweep through the book). ``ordinal`` completes the key: it counts, from 0 and
in the order received, the rows of equal symbol, ``ts_event`` and sequence. For this ``ts_event`` is in whole microseconds, the
precision of every warehouse.

A price may be zero or negative: spreads of futures trade so, and crude oil did on 2020-04-20. A bid may equal or exceed the ask: venues
are locked and crossed for moments. So there is no rule for either. A withdrawn statistic (``update_action`` ``delete``) may lack its
price and quantity.

Names and meanings are those of https://databento.com/docs/schemas-and-data-formats (trades, tbbo, statistics).
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.run import GRAINS
from market_data.datasets.base import UTC_NANOS, Dataset, Files, Mask, Received, Rule, required, stored
from market_data.datasets.rules import (
    finite,
    in_trading_day,
    not_negative,
    of_every_row,
    one_of,
    short_text,
    storable,
)

SIDES = ("A", "B", "N")

EVENT = [
    required("symbol", pa.string()),
    required("session", pa.date32()),
    required("ts_event", UTC_NANOS),
    required("sequence", pa.int64()),
    required("ordinal", pa.int32()),
]
TRADE = [
    *EVENT,
    pa.field("price", pa.float64()),
    pa.field("size", pa.float64()),
    pa.field("side", pa.string()),
    pa.field("venue", pa.string()),
    pa.field("conditions", pa.string()),
]
QUOTE = [
    pa.field("bid_px", pa.float64()),
    pa.field("ask_px", pa.float64()),
    pa.field("bid_sz", pa.float64()),
    pa.field("ask_sz", pa.float64()),
    pa.field("bid_ct", pa.int64()),
    pa.field("ask_ct", pa.int64()),
]
STATISTIC = [
    *EVENT,
    required("stat_type", pa.string()),
    pa.field("ts_ref", UTC_NANOS),
    pa.field("price", pa.float64()),
    pa.field("quantity", pa.float64()),
    pa.field("update_action", pa.string()),
    pa.field("venue", pa.string()),
]


NUMBERED = (not_negative("sequence"), not_negative("ordinal"))
TRADED = (
    in_trading_day("ts_event"),
    *NUMBERED,
    finite("price", required=True),
    finite("size", required=True),
    storable("price"),
    storable("size"),
    not_negative("size"),
    one_of("side", SIDES),
    short_text("venue", 32),
    short_text("conditions", 128),
)
QUOTED = (
    *(finite(field) for field in ("bid_px", "ask_px", "bid_sz", "ask_sz")),
    *(storable(field) for field in ("bid_px", "ask_px", "bid_sz", "ask_sz")),
    *(not_negative(field) for field in ("bid_sz", "ask_sz", "bid_ct", "ask_ct")),
)


def _without_value(received: Received) -> Mask:
    nothing = pc.and_(pc.is_null(received["price"]), pc.is_null(received["quantity"]))
    return pc.and_not(nothing, pc.fill_null(pc.equal(received["update_action"], "delete"), False))


SAID = (
    *NUMBERED,
    Rule(
        "price_or_quantity_present",
        "price or quantity is there, unless the statistic is withdrawn",
        _without_value,
        "neither price nor quantity is there",
    ),
    *(finite(field) for field in ("price", "quantity")),
    *(storable(field) for field in ("price", "quantity")),
    short_text("stat_type", 64),
)


def ticks(name: str, columns: list[pa.Field], rules: tuple[Rule, ...], table: str | None = None, *, busy: bool = False) -> Dataset:
    """Return a dataset of events."""
    received = pa.schema(columns)
    key = ("symbol", "ts_event", "sequence", "ordinal")
    return Dataset(
        name=name,
        folder=name,
        received=received,
        schema=stored(received),
        key=key,
        values=tuple(column for column in received.names if column not in {*key, "session"}),
        table=table,
        rules=of_every_row(received, *rules),
        files=Files(grains=GRAINS),
        busy=busy,
    )


TRADES = ticks("trades", TRADE, TRADED, table="trades", busy=True)
TBBO = ticks("tbbo", TRADE + QUOTE, TRADED + QUOTED, busy=True)
STATISTICS = ticks("statistics", STATISTIC, SAID, busy=True)
