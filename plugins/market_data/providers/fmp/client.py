"""Fetch from FMP: one call each, its response read and checked to match what was requested."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, TypeVar

import pyarrow as pa

from market_data.core.batch import Request
from market_data.core.errors import ServerError, TruncatedResponse
from market_data.http.client import Response, Transport
from market_data.providers.fmp import fundamentals
from market_data.providers.fmp.fundamentals import Filing
from market_data.providers.fmp.parse import FILE_COLUMNS, FmpBar, file_table, read_file, requested_rows, vendors_name
from market_data.providers.responses import decode

T = TypeVar("T")

MOST_ROWS = 5000
"""Rows of a response of the symbol endpoint; older rows are left out without a word."""
AROUND = timedelta(days=2499)
"""How far before and after a session a symbol's history is fetched; 4,999 days cannot have 5,000 sessions."""

HISTORY = "/stable/historical-price-eod/non-split-adjusted"


@dataclass
class RequestLog:
    """A request in progress: what to report beside its rows.

    :param what: the request in words.
    :param received: rows that came, those of other symbols and dates too.
    """

    provider: str
    what: str
    received: int = 0
    ids: list[str] = field(default_factory=list)
    source: str | None = None
    refused: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def where(self) -> dict[str, str]:
        return {"provider": self.provider, "request": self.what}

    def note(self, headers: Mapping[str, str]) -> None:
        self.ids += filter(None, [headers.get("X-Request-Id")])
        self.source = self.source or headers.get("X-Sample-Source")


@dataclass(frozen=True, slots=True)
class History:
    """A symbol's bars from ``first`` to ``last``, both inclusive."""

    first: date
    last: date
    bars: list[FmpBar]


@dataclass(frozen=True)
class FmpClient:
    """The endpoints behind a transport.

    :param histories: of the symbols that bulk files lacked, fetched once for all sessions of a batch.
    """

    transport: Transport
    histories: dict[str, History] = field(default_factory=dict)

    def history(self, symbol: str, first: date, last: date, log: RequestLog) -> list[FmpBar]:
        """Return the bars from ``first`` to ``last``, both inclusive, ascending."""
        name = vendors_name(symbol)

        def parse(response: Response) -> list[FmpBar]:
            bars = decode(response, list[FmpBar], log.where, self.transport.plain)
            if unexpected := {bar.symbol for bar in bars} - {name}:
                raise ServerError(self.transport.plain(f"rows of {', '.join(sorted(unexpected)[:3])} came"), **log.where)
            if strange := [str(bar.date) for bar in bars if not first <= bar.date <= last]:
                raise ServerError(f"rows of {', '.join(strange[:3])} came", **log.where)
            return bars

        bars = self._get(HISTORY, {"symbol": name, "from": f"{first}", "to": f"{last}"}, log, parse)
        if len(bars) >= MOST_ROWS:
            raise TruncatedResponse(f"{len(bars)} rows from {first} to {last} came, the most a response holds", **log.where)
        return bars[::-1]

    def bulk_bars(self, request: Request, log: RequestLog) -> pa.Table:
        """Return the requested rows of the file that has all symbols of one session."""
        day = request.start

        def parse(response: Response) -> tuple[int, pa.Table]:
            rows = read_file(response.body, ("symbol", "date", *FILE_COLUMNS.values()), log.where)
            found = requested_rows(rows, request.symbols)
            if unexpected := set(found["date"].to_pylist()) - {f"{day}"}:
                raise ServerError(self.transport.plain(f"rows of {', '.join(map(str, unexpected))} came"), **log.where)
            return len(rows), file_table(found, day, log.where)

        log.received, table = self._get("/stable/eod-bulk", {"date": f"{day}"}, log, parse)
        return table

    def history_around(self, symbol: str, day: date, log: RequestLog) -> list[FmpBar]:
        """Return a symbol's history for some years around ``day``. A batch fetches it once for all sessions."""
        known = self.histories.get(symbol)
        if known is None or not known.first <= day <= known.last:
            first, last = day - AROUND, day + AROUND
            known = self.histories[symbol] = History(first, last, self.history(symbol, first, last, log))
        return known.bars

    def statements(self, symbol: str, statement: str, kind: str, limit: int, log: RequestLog) -> list[Filing]:
        name = vendors_name(symbol)

        def parse(response: Response) -> list[Filing]:
            rows = decode(response, list[dict[str, Any]], log.where, self.transport.plain)
            if unexpected := {str(row.get("symbol")) for row in rows} - {name}:
                raise ServerError(self.transport.plain(f"rows of {', '.join(sorted(unexpected)[:3])} came"), **log.where)
            return [fundamentals.filing(row, symbol, statement, log.where) for row in rows]

        params: dict[str, str | int] = {"symbol": name, "period": kind, "limit": limit}
        filings = self._get(f"/stable/{fundamentals.NAMES[statement]}", params, log, parse)
        log.received += sum(len(filing.items) for filing in filings)
        return filings

    def bulk_statements(self, statement: str, year: int, period: str, request: Request, log: RequestLog) -> list[Filing]:
        def parse(response: Response) -> tuple[int, list[Filing]]:
            rows = read_file(response.body, fundamentals.NEEDED, log.where)
            found = requested_rows(rows, request.symbols).to_pylist()
            filings = [fundamentals.filing(row, row.pop("requested"), statement, log.where) for row in found]
            if strange := {f"{filing.period} {filing.fiscal_year}" for filing in filings} - {f"{period} {year}"}:
                raise ServerError(self.transport.plain(f"rows of {', '.join(sorted(strange)[:3])} came"), **log.where)
            return len(rows) * max(0, len(rows.column_names) - len(fundamentals.NO_ITEMS)), filings

        path = f"/stable/{fundamentals.NAMES[statement]}-bulk"
        received, filings = self._get(path, {"year": year, "period": period}, log, parse)
        log.received += received
        return filings

    def _get(self, path: str, params: Mapping[str, str | int], log: RequestLog, parse: Callable[[Response], T]) -> T:
        found, headers = self.transport.get(path, params, log.what, lambda response: (parse(response), response.headers))
        log.note(headers)
        return found
