"""Databento's (Historical API) dialect: time series as DBN, what they hold and cost, and symbology.

The dataset ``GLBX.MDP3`` has overnight hours only: futures trade from 19:30 the evening before as shares do from 09:30 New York.
A session's date is therefore not the date of its stamps. Futures also trade on holidays, which belong to the next session; daily
bars cover UTC days, including Sundays and holidays.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import databento_dbn as dbn
import numpy as np
import zstandard
from numpy.typing import NDArray

from market_data.core import calendar
from market_data.core.intervals import Interval, union
from market_data.datasets import generated
from sandbox.http.calls import RollingQuota
from sandbox.http.messages import VendorRequest, VendorResponse
from sandbox.market.bars import DailyBar
from sandbox.market.market import Market
from sandbox.market.recorded_prices import SamplePrices
from sandbox.vendors import databento_faults
from sandbox.vendors.base import Vendor, basic
from sandbox.vendors.databento_instruments import FORMS, Futures, Piece, Stocks, bars_of, contracts, not_covered, number

DAY = timedelta(days=1)
SECOND = 1_000_000_000  # in nanoseconds
SCALE = 1_000_000_000  # prices are whole billionths
OVERNIGHT = 14 * 3600 * SECOND
WAY = 150_000  # nanoseconds from the venue to the vendor
MOST_SYMBOLS = 2000
DOCS = "https://databento.com/docs/api-reference-historical"

STOCK_DATASETS = ("EQUS.MINI", "EQUS.SUMMARY", "XNAS.ITCH")
FUTURE_DATASETS = ("GLBX.MDP3",)
PUBLISHERS = {"EQUS.SUMMARY": 90, "EQUS.MINI": 95, "XNAS.ITCH": 2, "GLBX.MDP3": 1}
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
CASES = {
    400: "bad_request",
    401: "auth_authentication_failed",
    402: "account_insufficient_funds",
    403: "license_not_found_unauthorized",
    404: "not_found",
    422: "unprocessable_request",
    429: "rate_limit_exceeded",
}


class DatabentoRefusal(Exception):
    """A request that the vendor refuses, with a case and a payload."""

    def __init__(self, status: int, case: str, message: str, payload: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.case, self.payload = status, case, payload


@dataclass(frozen=True, slots=True)
class Query:
    """A requested range: records stamped from ``start`` (inclusive) to ``end`` (exclusive), UTC."""

    dataset: str
    schema: str
    symbols: tuple[str, ...]
    stype: str
    start: datetime
    end: datetime

    @property
    def dates(self) -> tuple[date, date]:
        """The UTC dates that it touches, half-open."""
        return self.start.date(), (self.end + DAY - timedelta(microseconds=1)).date()

    @property
    def span(self) -> tuple[int, int]:
        """Start and end, nanoseconds."""
        return nanoseconds(self.start), nanoseconds(self.end)


class Databento(Vendor):
    """Databento. Its keys begin with ``db-``: the server's key comes after that.

    Three things can be changed while it runs.

    :param available_start: what is before it is not there; data_start_before_available_start.
    :param available_end: the same of what is after it; data_end_after_available_end. None: all that the market has is there.
    :param licensed_until: later data needs a live licence; license_not_found_unauthorized. None: none is needed.
    """

    name = "databento"
    methods = ("GET", "POST")
    routes: ClassVar = {
        "/v0/timeseries.get_range": "get_range",
        "/v0/metadata.get_record_count": "get_record_count",
        "/v0/metadata.get_billable_size": "get_billable_size",
        "/v0/metadata.get_cost": "get_cost",
        "/v0/metadata.get_dataset_range": "get_dataset_range",
        "/v0/metadata.get_dataset_condition": "get_dataset_condition",
        "/v0/metadata.list_datasets": "list_datasets",
        "/v0/symbology.resolve": "resolve",
    }
    words: ClassVar = {
        401: "Authentication failed.",
        402: "Insufficient account funds.",
        403: "A live data license is required to access this dataset.",
        404: "Not found.",
        429: "Too many requests.",
    }
    no_key = "Not authenticated"
    compresses = False  # DBN is, by itself
    faults = databento_faults.KINDS

    def __init__(
        self,
        market: Market,
        quota: RollingQuota,
        *,
        available_start: datetime = datetime(2000, 1, 1, tzinfo=UTC),
        available_end: datetime | None = None,
        licensed_until: datetime | None = None,
    ) -> None:
        super().__init__(market, quota)
        self.available_start, self.available_end, self.licensed_until = available_start, available_end, licensed_until
        futures = Market(SamplePrices(market.seed, contracts(), market.now), market.edits, market.seed, market.now)
        self._instruments = {
            **dict.fromkeys(STOCK_DATASETS, Stocks(market)),
            **dict.fromkeys(FUTURE_DATASETS, Futures(futures)),
        }

    # keys and refusals

    def key(self, request: VendorRequest) -> str | None:
        shown = basic(request)
        return None if shown is None else shown[0].removeprefix("db-") if shown[0].startswith("db-") else ""

    def unauthorized(self, request: VendorRequest, key: str | None) -> VendorResponse:
        return VendorResponse(request, 401, {"detail": self.no_key}) if key is None else self.error(request, 401, self.words[401])

    def error(self, request: VendorRequest, status: int, message: str) -> VendorResponse:
        """Return an error as JSON; from status 500 on, as plain text."""
        if status >= 500:
            return VendorResponse(request, status, message, {"Content-Type": "text/plain; charset=utf-8"})
        return _refused(request, status, CASES.get(status, "error"), message)

    def respond(self, endpoint: str, request: VendorRequest, found: Mapping[str, str]) -> VendorResponse:
        try:
            return super().respond(endpoint, request, found)
        except DatabentoRefusal as refusal:
            return _refused(request, refusal.status, refusal.case, str(refusal), refusal.payload)

    def subject(self, request: VendorRequest, found: Mapping[str, str]) -> tuple[str | None, str | None]:  # noqa: ARG002
        symbols = request.parameters.get("symbols", "").split(",")
        return (symbols[0] or None) if len(symbols) == 1 else None, None

    def headers(self, response: VendorResponse) -> dict[str, str]:
        return {"Content-Type": self.content_type, "request-id": response.request_id}

    # time series

    def get_range(self, request: VendorRequest, _found: Mapping[str, str]) -> VendorResponse:
        query = self._query(request)
        _choice(request, "encoding", "csv", ("dbn",))
        pieces = self._resolved(query)
        records, source = self._records(query, pieces)
        if "limit" in request.parameters:
            records = records[: int(request.parameters["limit"])]
        body = metadata(query, pieces) + records.tobytes()
        if _choice(request, "compression", "none", ("none", "zstd")) == "zstd":
            body = zstandard.ZstdCompressor(level=1).compress(body)
        headers = {"Content-Type": "application/octet-stream"}
        unresolved = [symbol for symbol, found in pieces.items() if not found]
        if unresolved:
            message = f"BentoWarning: The request had symbols which did not resolve: {', '.join(unresolved)}"
            headers["X-Warning"] = json.dumps([message])
        return VendorResponse(request, 206 if unresolved else 200, body, headers, source=source)

    def get_record_count(self, request: VendorRequest, _found: Mapping[str, str]) -> VendorResponse:
        return VendorResponse(request, 200, self._count(self._query(request)))

    def get_billable_size(self, request: VendorRequest, _found: Mapping[str, str]) -> VendorResponse:
        query = self._query(request)
        return VendorResponse(request, 200, self._count(query) * dtype(query.schema).itemsize)

    def get_cost(self, request: VendorRequest, _found: Mapping[str, str]) -> VendorResponse:
        query = self._query(request)
        size = self._count(query) * dtype(query.schema).itemsize
        return VendorResponse(request, 200, size / 2**30 * SCHEMAS[query.schema].price)

    def get_dataset_range(self, request: VendorRequest, _found: Mapping[str, str]) -> VendorResponse:
        found = {"start": stamp(self.available_start), "end": stamp(self._end)}
        return VendorResponse(request, 200, {**found, "schema": dict.fromkeys(self._schemas(self._dataset(request)), found)})

    def get_dataset_condition(self, request: VendorRequest, _found: Mapping[str, str]) -> VendorResponse:
        self._dataset(request)
        start = _moment(request.parameters.get("start_date", str(self.available_start.date())), "start_date").date()
        last = _moment(request.parameters.get("end_date", str(self._end.date())), "end_date").date()
        modified = str(self._end.date())
        days = calendar.sessions(max(start, calendar.FIRST), min(last, self._end.date()) + DAY)
        return VendorResponse(
            request, 200, [{"date": str(d), "condition": "available", "last_modified_date": modified} for d in days]
        )

    def list_datasets(self, request: VendorRequest, _found: Mapping[str, str]) -> VendorResponse:
        return VendorResponse(request, 200, sorted(self._instruments))

    # symbology

    def resolve(self, request: VendorRequest, _found: Mapping[str, str]) -> VendorResponse:
        """Resolve any symbology to ``instrument_id``, and ``instrument_id`` to ``raw_symbol``."""
        dataset = self._dataset(request)
        stype_in, symbols = self._symbols(request, dataset)
        stype_out = _choice(request, "stype_out", "instrument_id", ("instrument_id", "raw_symbol"))
        if stype_out == "raw_symbol" and stype_in != "instrument_id":
            raise DatabentoRefusal(422, "symbology_invalid_request", f"Cannot resolve from `{stype_in}` to `raw_symbol`.")
        start = _moment(_needed(request, "start_date"), "start_date").date()
        end = _moment(request.parameters.get("end_date") or str(start + DAY), "end_date").date()
        found = self._instruments[dataset].pieces(symbols, stype_in, start, end)
        out = self._instruments[dataset].raw if stype_out == "raw_symbol" else (lambda name: str(number(name)))
        body = {
            "result": {
                symbol: [{"d0": str(piece.start), "d1": str(piece.end), "s": out(piece.name)} for piece in pieces]
                for symbol, pieces in found.items()
                if pieces
            },
            "symbols": list(symbols),
            "stype_in": stype_in,
            "stype_out": stype_out,
            "start_date": str(start),
            "end_date": str(end),
            "partial": [symbol for symbol, pieces in found.items() if pieces and not_covered(pieces, start, end)],
            "not_found": [symbol for symbol, pieces in found.items() if not pieces],
        }
        status = 2 if body["not_found"] else 1 if body["partial"] else 0
        return VendorResponse(
            request, 200, {**body, "message": ("OK", "Partially resolved", "Not found")[status], "status": status}
        )

    # request parameters

    @property
    def _end(self) -> datetime:
        return self.available_end or self.market.now().astimezone(UTC) + 2 * DAY

    def _schemas(self, dataset: str) -> tuple[str, ...]:
        return DAILY_ONLY if dataset == "EQUS.SUMMARY" else tuple(SCHEMAS)

    def _dataset(self, request: VendorRequest) -> str:
        return _choice(request, "dataset", None, tuple(self._instruments))

    def _symbols(self, request: VendorRequest, dataset: str) -> tuple[str, tuple[str, ...]]:
        stype = _choice(request, "stype_in", "raw_symbol", self._instruments[dataset].stypes)
        symbols = tuple(dict.fromkeys(_needed(request, "symbols").split(",")))
        if len(symbols) > MOST_SYMBOLS:
            raise DatabentoRefusal(
                422, "symbology_too_many_symbols", f"{len(symbols)} symbols; at most {MOST_SYMBOLS} are allowed."
            )
        for symbol in symbols:
            if not re.fullmatch(FORMS[stype], symbol):
                raise DatabentoRefusal(400, "symbology_invalid_symbol", f"Invalid format for `{stype}` symbol '{symbol}'.")
        return stype, symbols

    def _query(self, request: VendorRequest) -> Query:
        """:raises DatabentoRefusal: for what is not there, not licensed, or makes no sense."""
        dataset = self._dataset(request)
        schema = _choice(request, "schema", "trades", tuple(SCHEMAS))
        if schema not in self._schemas(dataset):
            raise DatabentoRefusal(
                422, "dataset_schema_not_available", f"The schema {schema} is not available for dataset {dataset}."
            )
        stype, symbols = self._symbols(request, dataset)
        start = _moment(_needed(request, "start"), "start")
        end = _moment(request.parameters.get("end") or str(start.date() + DAY), "end")
        query = Query(dataset, schema, symbols, stype, start, end)
        self._check_range(query)
        return query

    def _check_range(self, query: Query) -> None:
        dataset, start, end = query.dataset, query.start, query.end
        payload = {"dataset": dataset, "start": stamp(start), "end": stamp(end)}
        payload |= {"available_start": stamp(self.available_start), "available_end": stamp(self._end)}
        if start >= end:
            message = f"Invalid time range query, `start` {start} cannot be on or after `end` {end}."
            raise DatabentoRefusal(422, "data_time_range_start_on_or_after_end", message, payload)
        if start < self.available_start:
            message = (
                f"`start` in query ('{start}') was before the available start of dataset {dataset} ('{self.available_start}')."
            )
            raise DatabentoRefusal(
                422, "data_start_before_available_start", f"{message} Try requesting with a later `start`.", payload
            )
        for case, moment in (("start", start), ("end", end)):
            if moment > self._end:
                message = (
                    f"The dataset {dataset} has data available up to '{self._end}'. The `{case}` in the query ('{moment}') is after"
                )
                raise DatabentoRefusal(
                    422,
                    f"data_{case}_after_available_end",
                    f"{message} the available range. Try requesting with an earlier `{case}`.",
                    payload,
                )
        if self.licensed_until is not None and end > self.licensed_until:
            message = f"A live data license is required to access {dataset} data after {stamp(self.licensed_until)}."
            raise DatabentoRefusal(403, "license_not_found_unauthorized", message)

    def _resolved(self, query: Query) -> dict[str, list[Piece]]:
        """Return the instruments of each symbol.

        :raises DatabentoRefusal: if no symbol has an instrument.
        """
        instruments = self._instruments[query.dataset]
        found = instruments.pieces(query.symbols, query.stype, *query.dates)
        if not any(found.values()):
            raise DatabentoRefusal(422, "symbology_invalid_request", "None of the symbols could be resolved")
        return found

    # records

    def _count(self, query: Query) -> int:
        return len(self._records(query, self._resolved(query))[0])

    def _records(self, query: Query, pieces: Mapping[str, Sequence[Piece]]) -> tuple[Records, str]:
        """The records in order of time, each once however many symbols stand for it, and where they come from."""
        market = self._instruments[query.dataset].market
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
        records = np.concatenate([np.empty(0, dtype(query.schema)), *parts])
        return records[np.argsort(records["ts_event"], kind="stable")], market.source(bar for found, _ in bars for bar in found)


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


def nanoseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def stamp(moment: datetime) -> str:
    """Format a time stamp as payloads have it."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}000Z"


def _refused(
    request: VendorRequest, status: int, case: str, message: str, payload: Mapping[str, str] | None = None
) -> VendorResponse:
    detail = {
        "case": case,
        "message": message,
        "status_code": status,
        "docs": DOCS,
        "payload": payload,
    }
    return VendorResponse(request, status, {"detail": detail})


def _needed(request: VendorRequest, name: str) -> str:
    if not request.parameters.get(name):
        raise DatabentoRefusal(422, "validation_failed", f"The parameter `{name}` is missing.")
    return request.parameters[name]


def _choice(request: VendorRequest, name: str, default: str | None, allowed: tuple[str, ...]) -> str:
    value = request.parameters.get(name) or default or _needed(request, name)
    if value not in allowed:
        raise DatabentoRefusal(422, "validation_failed", f"`{name}` is '{value}'; this server has: {', '.join(allowed)}.")
    return value


def _moment(text: str, name: str) -> datetime:
    """A date, a moment in ISO 8601 (UTC where it names no zone) or nanoseconds since the epoch."""
    try:
        if text.isdecimal() and len(text) > 8:
            return datetime.fromtimestamp(int(text) / SECOND, UTC)
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise DatabentoRefusal(422, "validation_failed", f"`{name}` is '{text}', which is not a valid datetime.") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
