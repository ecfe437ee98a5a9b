"""Records of Databento's schemas as DBN."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from functools import lru_cache
from typing import Any, NamedTuple

import databento_dbn as dbn
import numpy as np
from numpy.typing import NDArray

from market_data.core import calendar
from market_data.core.intervals import Interval, union
from market_data.datasets import generated
from sandbox.market.bars import DailyBar
from sandbox.market.market import Market
from sandbox.vendors.databento_instruments import Piece, bars_of, not_covered, number
from sandbox.vendors.databento_query import DAY, SECOND, Query, nanoseconds

SCALE = 1_000_000_000  # prices are whole billionths
OVERNIGHT = 14 * 3600 * SECOND
WAY = 150_000  # nanoseconds from the venue to the vendor

STOCK_DATASETS = ("EQUS.MINI", "EQUS.SUMMARY", "XNAS.ITCH")
CMS_DATASETS = ("XNYS.PILLAR",)
"""Those that spell stocks as the CMS does."""
FUTURE_DATASETS = ("GLBX.MDP3",)
PUBLISHERS = {"XNYS.PILLAR": 9, "EQUS.SUMMARY": 90, "EQUS.MINI": 95, "XNAS.ITCH": 2, "GLBX.MDP3": 1}
DAILY_ONLY = ("ohlcv-1d", "statistics")  # all that EQUS.SUMMARY has

Records = NDArray[np.void]


class Schema(NamedTuple):
    """How records of a schema are written, and what a gigabyte of them costs, US dollars."""

    kind: type[dbn.DBNRecord]
    rtype: int
    price: float


SCHEMAS = {
    "ohlcv-1d": Schema(dbn.OHLCVMsg, 35, 600.0),
    "ohlcv-1m": Schema(dbn.OHLCVMsg, 33, 280.0),
    "trades": Schema(dbn.TradeMsg, 0, 28.0),
    "tbbo": Schema(dbn.MBP1Msg, 1, 32.0),
    "statistics": Schema(dbn.StatMsg, 24, 11.0),
}
STAT_TYPES = {"opening_price": 1, "settlement_price": 3, "trading_session_low_price": 4, "trading_session_high_price": 5,
              "cleared_volume": 6, "close_price": 11}  # fmt: skip


def records(market: Market, query: Query, pieces: Mapping[str, Sequence[Piece]]) -> tuple[Records, str]:
    """Return the records in order of time, each once however many symbols stand for it, and their source."""
    wanted: dict[str, list[Interval]] = defaultdict(list)
    for piece in (piece for found in pieces.values() for piece in found):
        wanted[piece.name].append(Interval(piece.start, piece.end))
    first, beyond = query.dates
    known = bars_of(market, wanted, _back(first), _ahead(beyond))
    bars = [
        ([bar for bar in known[name] if _back(span.start) <= bar.session < _ahead(span.end)], span)
        for name, spans in wanted.items()
        for span in union(spans)
    ]
    begin, end = query.span
    parts = []
    for found, span in bars:
        first_ns, beyond_ns = max(begin, _midnight(span.start)), min(end, _midnight(span.end))
        part = _rows(market, query, [bar for bar in found if bar.volume != 0])
        moments = part["ts_recv" if "ts_recv" in (part.dtype.names or ()) else "ts_event"].astype(np.int64)
        parts.append(part[(moments >= first_ns) & (moments < beyond_ns)])
    rows = np.concatenate([np.empty(0, dtype(query.schema)), *parts])
    return rows[np.argsort(rows["ts_event"], kind="stable")], market.source(bar for found, _ in bars for bar in found)


def dtype(schema: str) -> np.dtype[np.void]:
    """Return the layout of a schema's records."""
    return np.dtype(SCHEMAS[schema].kind._dtypes)  # noqa: SLF001 - the package's own word for it


def metadata(query: Query, pieces: Mapping[str, Sequence[Piece]]) -> bytes:
    """Return the header of a DBN stream."""
    start, end = query.dates
    mappings = [
        _Mapping(symbol, [_MappingInterval(piece.start, piece.end, str(number(piece.name))) for piece in found])
        for symbol, found in pieces.items()
        if found
    ]
    return dbn.Metadata(
        dataset=query.dataset,
        start=query.span[0],
        end=query.span[1],
        stype_in=dbn.SType.from_str(query.stype),
        stype_out=dbn.SType.INSTRUMENT_ID,
        schema=dbn.Schema.from_str(query.schema),
        symbols=list(query.symbols),
        partial=[symbol for symbol, found in pieces.items() if found and not_covered(found, start, end)],
        not_found=[symbol for symbol, found in pieces.items() if not found],
        mappings=mappings,
    ).encode()


class _MappingInterval(NamedTuple):
    start_date: date
    end_date: date
    symbol: str


class _Mapping(NamedTuple):
    raw_symbol: str
    intervals: Sequence[_MappingInterval]


def _rows(market: Market, query: Query, bars: Sequence[DailyBar]) -> Records:
    """All records of ``bars``, which are of one instrument."""
    if query.schema == "ohlcv-1d":
        cells, fields = np.arange(len(bars)), _daily(bars)
    elif query.schema == "ohlcv-1m":
        found = market.minutes(bars)
        prices = {name: _fixed(getattr(found, name)) for name in ("open", "high", "low", "close")}
        cells, fields = found.cell, {"ts_event": found.time, **prices, "volume": _whole(found.volume)}
    elif query.schema == "statistics":
        cells, fields = _statistics(market, bars)
    else:
        cells, fields = _trades(market, bars, quotes=query.schema == "tbbo")
    kind = dtype(query.schema)
    rows = np.zeros(len(cells), kind)
    rows["length"], rows["rtype"] = kind.itemsize // 4, SCHEMAS[query.schema].rtype
    rows["publisher_id"] = PUBLISHERS[query.dataset]
    rows["instrument_id"] = number(bars[0].symbol) if bars else 0
    for name, values in fields.items():
        rows[name] = values
    if query.dataset in FUTURE_DATASETS:
        daily = query.schema == "ohlcv-1d"
        rows = _with_closed_days(rows, cells, bars, sundays=daily)
        if not daily:
            _move(rows, OVERNIGHT)
    return rows


def _with_closed_days(rows: Records, cells: NDArray[np.int64], bars: Sequence[DailyBar], *, sundays: bool) -> Records:
    """Return ``rows`` plus a copy of each session's rows on every holiday before it.

    A Sunday evening already belongs to Monday's session.
    """
    parts = [rows]
    for cell, bar in enumerate(bars):
        for day in _closed_before(bar.session):
            if sundays or day.weekday() != calendar.SUNDAY:
                parts.append(rows[cells == cell])
                _move(parts[-1], (bar.session - day).days * 24 * 3600 * SECOND)
    return np.concatenate(parts)


def _move(rows: Records, earlier: int) -> None:
    for name in {"ts_event", "ts_recv"}.intersection(rows.dtype.names or ()):
        rows[name] -= earlier


@lru_cache(maxsize=65_536)
def _closed_before(session: date) -> tuple[date, ...]:
    """Sundays and holidays between a session and the one before it."""
    before = calendar.sessions(max(session - 7 * DAY, calendar.FIRST), session)
    days = [session - n * DAY for n in range(1, (session - before[-1]).days)] if before else []
    return tuple(day for day in days if day.weekday() != calendar.SATURDAY)


def _daily(bars: Sequence[DailyBar]) -> dict[str, Any]:
    prices = {name: _fixed([getattr(bar, name) for bar in bars]) for name in ("open", "high", "low", "close")}
    stamps = np.array([bar.session for bar in bars], "datetime64[D]").astype("datetime64[ns]").astype(np.int64)
    return {"ts_event": stamps, **prices, "volume": _whole([bar.volume or 0 for bar in bars])}


def _trades(market: Market, bars: Sequence[DailyBar], *, quotes: bool) -> tuple[NDArray[np.int64], dict[str, Any]]:
    found = market.trades(bars)
    fields = {
        "ts_event": found.time,
        "ts_recv": found.time + WAY,
        "sequence": found.sequence,
        "price": _fixed(found.price),
        "size": _whole(found.size),
        "side": found.side.astype("S1"),
        "action": b"T",
        "flags": 130,
    }
    if quotes:
        fields |= {f"{side}_px_00": _fixed(getattr(found, f"{side}_px")) for side in ("bid", "ask")}
        fields |= {f"{name}_00": _whole(getattr(found, name)) for name in ("bid_sz", "ask_sz", "bid_ct", "ask_ct")}
    return found.cell, fields


def _statistics(market: Market, bars: Sequence[DailyBar]) -> tuple[NDArray[np.int64], dict[str, Any]]:
    found = market.statistics(bars)
    days = np.array([bar.session for bar in bars], "datetime64[D]").astype("datetime64[ns]").astype(np.uint64)
    quantity = np.where(np.isnan(found.quantity), dbn.UNDEF_STAT_QUANTITY, np.nan_to_num(found.quantity).astype(np.int64))
    kinds = np.array([STAT_TYPES[name] for name in generated.STATISTICS])
    return found.cell, {
        "ts_event": found.time,
        "ts_recv": found.time + WAY,
        "ts_ref": np.where(found.kind == 0, np.uint64(dbn.UNDEF_TIMESTAMP), days[found.cell]),
        "price": _fixed(found.price),
        "quantity": quantity,
        "sequence": found.sequence,
        "stat_type": kinds[found.kind],
        "update_action": 1,
    }


def _fixed(prices: Any) -> NDArray[np.int64]:
    """Prices in billionths; blanks undefined."""
    values = np.array(prices, np.float64)
    return np.where(np.isnan(values), dbn.UNDEF_PRICE, np.rint(np.nan_to_num(values) * SCALE).astype(np.int64))


def _whole(amounts: Any) -> NDArray[np.int64]:
    return np.rint(np.array(amounts, np.float64)).astype(np.int64)


@lru_cache(maxsize=65_536)
def _midnight(day: date) -> int:
    return nanoseconds(datetime.combine(day, time(), UTC))


def _back(day: date) -> date:
    return max(day - DAY, calendar.FIRST)


def _ahead(day: date) -> date:
    """The end of the sessions that may have a record before ``day``: on a Friday evening Monday's begin."""
    return min(day + 5 * DAY, calendar.LAST)
