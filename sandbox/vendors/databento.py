"""Databento's (Historical API) dialect: time series as DBN, what they hold and cost, and symbology.

The dataset ``GLBX.MDP3`` has overnight hours only: futures trade from 19:30 the evening before as shares do from 09:30 New York.
A session's date is therefore not the date of its stamps. Futures also trade on holidays, which belong to the next session; daily
bars cover UTC days, including Sundays and holidays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, ClassVar

import zstandard

from market_data.core import calendar
from market_data.core.spelling import CMS, NASDAQ
from sandbox.market.market import Market
from sandbox.market.recorded_prices import SamplePrices
from sandbox.market.vendor_market import VendorMarket
from sandbox.vendors import databento_faults
from sandbox.vendors.base import Vendor, basic
from sandbox.vendors.databento_instruments import FORMS, Futures, Piece, Stocks, contracts, not_covered, number
from sandbox.vendors.databento_query import CASES, DAY, DatabentoRefusal, Query, choice, moment_of, needed, refused, stamp
from sandbox.vendors.databento_records import (
    CMS_DATASETS,
    DAILY_ONLY,
    FUTURE_DATASETS,
    SCHEMAS,
    STOCK_DATASETS,
    dtype,
    metadata,
    records,
)
from sandbox.vendors.messages import VendorRequest, VendorResponse
from sandbox.vendors.quota import RollingQuota

MOST_SYMBOLS = 2000


CONDITION = ("date", "condition", "last_modified_date")


class Databento(Vendor):
    """Databento. Its keys begin with ``db-``: the server's key comes after that.

    Three things can be changed while it runs.

    :param available_start: what is before it is not there; data_start_before_available_start.
    :param available_end: the same of what is after it; data_end_after_available_end. None: all that the market has is there.
    :param licensed_until: later data needs a live licence; license_not_found_unauthorized. None: none is needed.
    :param nyse: a dataset of NYSE is there, too, which spells stocks as the CMS does.
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
    spelling = NASDAQ
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
        nyse: bool = False,
    ) -> None:
        super().__init__(market, quota)
        self.available_start, self.available_end, self.licensed_until = available_start, available_end, licensed_until
        self.conditions: dict[date, tuple[str, str | None]] = {}
        """Date -> condition and date of the last modification, where it is not available since the day after."""
        futures = Market(SamplePrices(market.seed, contracts(), market.now), market.edits, market.seed, market.now)
        self._instruments = {
            **dict.fromkeys(STOCK_DATASETS, Stocks(self.market)),
            **(dict.fromkeys(CMS_DATASETS, Stocks(VendorMarket(market, CMS))) if nyse else {}),
            **dict.fromkeys(FUTURE_DATASETS, Futures(futures)),
        }

    # keys and refusals

    @classmethod
    def connection(cls, url: str, api_key: str) -> dict[str, Any]:
        return super().connection(url, f"db-{api_key}")

    def key(self, request: VendorRequest) -> str | None:
        shown = basic(request)
        return None if shown is None else shown[0].removeprefix("db-") if shown[0].startswith("db-") else ""

    def unauthorized(self, request: VendorRequest, key: str | None) -> VendorResponse:
        return VendorResponse(request, 401, {"detail": self.no_key}) if key is None else self.error(request, 401, self.words[401])

    def error(self, request: VendorRequest, status: int, message: str) -> VendorResponse:
        """Return an error as JSON; from status 500 on, as plain text."""
        if status >= 500:
            return VendorResponse(request, status, message, {"Content-Type": "text/plain; charset=utf-8"})
        return refused(request, status, CASES.get(status, "error"), message)

    def respond(self, endpoint: str, request: VendorRequest, found: Mapping[str, str]) -> VendorResponse:
        try:
            return super().respond(endpoint, request, found)
        except DatabentoRefusal as refusal:
            return refused(request, refusal.status, refusal.case, str(refusal), refusal.payload)

    def subject(self, request: VendorRequest, found: Mapping[str, str]) -> tuple[str | None, str | None]:  # noqa: ARG002
        symbols = request.parameters.get("symbols", "").split(",")
        return (symbols[0] or None) if len(symbols) == 1 else None, None

    def headers(self, response: VendorResponse) -> dict[str, str]:
        return {"Content-Type": self.content_type, "request-id": response.request_id}

    # time series

    def get_range(self, request: VendorRequest, _found: Mapping[str, str]) -> VendorResponse:
        query = self._query(request)
        choice(request, "encoding", "csv", ("dbn",))
        pieces = self._resolved(query)
        found, source = records(self._instruments[query.dataset].market, query, pieces)
        if "limit" in request.parameters:
            found = found[: int(request.parameters["limit"])]
        body = metadata(query, pieces) + found.tobytes()
        if choice(request, "compression", "none", ("none", "zstd")) == "zstd":
            body = zstandard.ZstdCompressor(level=1).compress(body)
        headers = {"Content-Type": "application/octet-stream"}
        unresolved = [symbol for symbol, instruments in pieces.items() if not instruments]
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
        start = moment_of(request.parameters.get("start_date", str(self.available_start.date())), "start_date").date()
        last = moment_of(request.parameters.get("end_date", str(self._end.date())), "end_date").date()
        said = self.conditions
        days = calendar.sessions(max(start, calendar.FIRST), min(last, self._end.date()) + DAY)
        return VendorResponse(
            request, 200, [dict(zip(CONDITION, (str(d), *said.get(d, ("available", str(d + DAY)))), strict=True)) for d in days]
        )

    def list_datasets(self, request: VendorRequest, _found: Mapping[str, str]) -> VendorResponse:
        return VendorResponse(request, 200, sorted(self._instruments))

    # symbology

    def resolve(self, request: VendorRequest, _found: Mapping[str, str]) -> VendorResponse:
        """Resolve any symbology to ``instrument_id``, and ``instrument_id`` to ``raw_symbol``."""
        dataset = self._dataset(request)
        stype_in, symbols = self._symbols(request, dataset)
        stype_out = choice(request, "stype_out", "instrument_id", ("instrument_id", "raw_symbol"))
        if stype_out == "raw_symbol" and stype_in != "instrument_id":
            raise DatabentoRefusal(422, "symbology_invalid_request", f"Cannot resolve from `{stype_in}` to `raw_symbol`.")
        start = moment_of(needed(request, "start_date"), "start_date").date()
        end = moment_of(request.parameters.get("end_date") or str(start + DAY), "end_date").date()
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
        return choice(request, "dataset", None, tuple(self._instruments))

    def _symbols(self, request: VendorRequest, dataset: str) -> tuple[str, tuple[str, ...]]:
        stype = choice(request, "stype_in", "raw_symbol", self._instruments[dataset].stypes)
        symbols = tuple(dict.fromkeys(needed(request, "symbols").split(",")))
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
        schema = choice(request, "schema", "trades", tuple(SCHEMAS))
        if schema not in self._schemas(dataset):
            raise DatabentoRefusal(
                422, "dataset_schema_not_available", f"The schema {schema} is not available for dataset {dataset}."
            )
        stype, symbols = self._symbols(request, dataset)
        start = moment_of(needed(request, "start"), "start")
        end = moment_of(request.parameters.get("end") or str(start.date() + DAY), "end")
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

    def _count(self, query: Query) -> int:
        return len(records(self._instruments[query.dataset].market, query, self._resolved(query))[0])


VENDOR = Databento
