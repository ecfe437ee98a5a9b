"""Fetch from FMP: one call each, its response read and checked to match what was requested."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any, NamedTuple, TypeVar, cast
from urllib.parse import quote

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.batch import Request
from market_data.core.errors import EntitlementError, ServerError, TruncatedResponse
from market_data.core.messages import some
from market_data.datasets.fundamentals import PERIODS
from market_data.http.client import Response, Transport
from market_data.providers.fmp import fundamentals
from market_data.providers.fmp.errors import NotInPlan
from market_data.providers.fmp.fundamentals import Filing
from market_data.providers.fmp.parse import (
    FILE_COLUMNS,
    AdjustedClose,
    FmpBar,
    OddRow,
    file_table,
    odd_bars,
    read_file,
    vendors_name,
    with_requested,
)
from market_data.providers.records import Records
from market_data.providers.responses import decode
from market_data.providers.unexpected import SHOWN, OnceMore, Unexpected, read_rows, shown_name

T = TypeVar("T")
B = TypeVar("B", FmpBar, AdjustedClose)

MOST_ROWS = 5000
"""Rows of a response of the symbol endpoint; older rows are left out without a word."""
AROUND = timedelta(days=2499)
"""How far before and after a session a symbol's history is fetched; 4,999 days cannot have 5,000 bars."""

MOST_FILINGS = 1_000
"""Statements of one kind in a response: a company has filed four a year since 1934."""
MOST_NAMED = 20

HISTORY = "/stable/historical-price-eod/non-split-adjusted"
ADJUSTED = "/stable/historical-price-eod/dividend-adjusted"
"""Adjusted for splits and dividends; its fields have the same names as those of ``HISTORY``."""


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
    unexpected: list[Unexpected] = field(default_factory=list)

    @property
    def where(self) -> dict[str, str]:
        return {"provider": self.provider, "request": self.what}

    def note(self, headers: Mapping[str, str]) -> None:
        self.ids += filter(None, [headers.get("X-Request-Id")])
        self.source = self.source or headers.get("X-Sample-Source")


class History(msgspec.Struct, frozen=True):
    """A symbol's bars from ``first`` to ``last``, both inclusive.

    :param refused: the vendor's words where the plan lacks the symbol; then there are no bars.
    :param odd: bars that cannot be read.
    :param aside: number of rows of other symbols and dates. ``named``: what they are of.
    """

    first: date
    last: date
    bars: list[FmpBar]
    refused: str = ""
    odd: list[OddRow] = []
    aside: int = 0
    named: list[str] = []

    @property
    def doubt(self) -> str:
        """Return why a date without a bar is not known to have none; empty: it is known."""
        if self.aside:
            return f"rows of {some(self.named, SHOWN)} came"
        return "a row came whose date cannot be read" if any(bar.date is None for bar in self.odd) else ""

    def unexpected(self, symbol: str) -> Unexpected:
        """Return what it holds beside the bars that can be read."""
        unproved = {symbol: self.doubt} if self.doubt else {}
        return Unexpected(self.aside, tuple(self.named), odd_bars(symbol, self.odd), unproved)

    def packed(self) -> bytes:
        """Return it as bytes, from which `unpacked` makes it again."""
        return zlib.compress(msgspec.msgpack.encode(self), 1)


def unpacked(body: bytes) -> History | None:
    """Return what ``History.packed`` made bytes of, or None if it is something else."""
    try:
        return msgspec.msgpack.decode(zlib.decompress(body), type=History)
    except (zlib.error, msgspec.MsgspecError):
        return None


def with_adjusted(history: History, odd: Sequence[OddRow]) -> History:
    """Return a history whose bars without a readable adjusted close are odd.

    :param odd: the rows of the adjusted prices that cannot be read.
    """
    reasons = {row.date: row.reason for row in odd}
    there: dict[date | None, dict[str, float | None]] = {
        bar.date: {"open": bar.adj_open, "high": bar.adj_high, "low": bar.adj_low, "close": bar.adj_close, "volume": bar.volume}
        for bar in history.bars
    }
    known = {row.date for row in history.odd}
    more = [OddRow(row.date, there.get(row.date, {}), row.reason) for row in odd if row.date is None or row.date not in known]
    kept = [bar for bar in history.bars if bar.date not in reasons]
    return msgspec.structs.replace(history, bars=kept, odd=[*history.odd, *more])


class DayFile(NamedTuple):
    """The file that has all symbols of one session.

    :param rows: its rows of the session. ``table``: the requested ones. ``unexpected``: what else it holds.
    """

    rows: int
    table: pa.Table
    unexpected: Unexpected

    @property
    def symbols(self) -> set[str]:
        """The requested symbols that have a row in it, even one that cannot be read."""
        odd = self.unexpected.odd
        return {*self.table["symbol"].to_pylist(), *(odd["symbol"].drop_null().to_pylist() if odd else ())}


@dataclass(frozen=True)
class FmpClient:
    """The endpoints behind a transport.

    :param histories: of the symbols that bulk files lacked.
    """

    transport: Transport
    histories: dict[str, History] = field(default_factory=dict)

    def history(self, symbol: str, first: date, last: date, log: RequestLog) -> History:
        """Return the bars from ``first`` to ``last``, both inclusive, ascending."""
        rows, history = self._dated(symbol, first, last, log, HISTORY, FmpBar)
        columns = {"open": "adj_open", "high": "adj_high", "low": "adj_low", "close": "adj_close", "volume": "volume"}
        odd = [
            OddRow(row.date, {name: getattr(row, theirs) for name, theirs in columns.items()}, reason)
            for row, reason in rows
            if reason
        ]
        return msgspec.structs.replace(history, bars=[row for row, reason in rows if not reason], odd=odd)

    def adjusted_closes(
        self, symbol: str, first: date, last: date, log: RequestLog
    ) -> tuple[dict[date, float | None], list[OddRow]]:
        """Return date -> close, adjusted for splits and dividends up to now, and the odd rows.

        These cannot be read, or contradict others. Empty, with a warning, if the plan lacks the endpoint.
        """
        try:
            rows, history = self._dated(symbol, first, last, log, ADJUSTED, AdjustedClose)
        except EntitlementError as error:
            log.warnings.append(f"adj_close of {symbol} is left out: {error.said}")
            return {}, []
        log.unexpected.append(history.unexpected(symbol))
        name = ADJUSTED.rpartition("/")[2]
        odd = [OddRow(row.date, {}, f"{name}: {reason}") for row, reason in rows if reason]
        closes: dict[date, set[float | None]] = defaultdict(set)
        for row, reason in rows:
            if not reason:
                closes[row.date].add(row.adj_close)
        for day, found in closes.items():
            if len(found) > 1:
                odd.append(OddRow(day, {}, f"{name}: adjClose is {' and '.join(sorted(map(str, found)))}"))
        wrong = {bar.date for bar in odd}
        return {day: next(iter(found)) for day, found in closes.items() if day not in wrong}, odd

    def _dated(
        self, symbol: str, first: date, last: date, log: RequestLog, path: str, form: type[B]
    ) -> tuple[list[tuple[B, str]], History]:
        """Return a symbol's rows, ascending, with what is wrong with each, and what else came.

        :raises ServerError: if most rows are of other symbols or dates.
        :raises SchemaDrift: if most rows cannot be read.
        """
        name, once_more = vendors_name(symbol), OnceMore()

        def parse(response: Response) -> tuple[list[tuple[B, str]], History]:
            found: list[Any] = decode(response, cast(Any, list)[form], log.where, self.transport.plain, list[msgspec.Raw])
            read, problems = read_rows(found, form, log.where)
            rows: list[tuple[B, str]] = []
            aside: list[str] = []
            for place, row in enumerate(read):
                if row.symbol is not None and row.symbol != name:
                    aside.append(shown_name(row.symbol))
                elif row.date is not None and not first <= row.date <= last:
                    aside.append(f"{row.date}")
                else:
                    rows.append((row, "; ".join(problems[place]) if place in problems else ""))
            odd = [OddRow(row.date, {}, reason) for row, reason in rows if reason]
            history = History(first, last, [], "", odd, len(aside), list(dict.fromkeys(aside))[:MOST_NAMED])
            if 2 * len(aside) > len(read):
                raise ServerError(history.doubt, **log.where)
            once_more.check(history.unexpected(symbol), log.where)
            return rows[::-1], msgspec.structs.replace(history, odd=[])

        rows, history = self.get(path, {"symbol": name, "from": f"{first}", "to": f"{last}"}, log, parse)
        if (count := len(rows) + history.aside) >= MOST_ROWS:  # the same would come again
            raise TruncatedResponse(f"{count} rows from {first} to {last} came, the most a response holds", **log.where)
        return rows, history

    def bulk_bars(self, request: Request, log: RequestLog) -> DayFile:
        """Return the requested rows of the file that has all symbols of one session.

        :raises ServerError: if it is the file of another session.
        """
        day, once_more = request.start, OnceMore()

        def parse(response: Response) -> tuple[int, DayFile]:
            rows, problems = read_file(response.body, ("symbol", "date", *FILE_COLUMNS.values()), log.where)
            table, unexpected = file_table(rows, problems, day, request.symbols, log.where)
            once_more.check(unexpected, log.where)
            return len(rows), DayFile(len(rows) - unexpected.left_aside, table, unexpected)

        log.received, found = self.get("/stable/eod-bulk", {"date": f"{day}"}, log, parse)
        return found

    def history_around(self, symbol: str, day: date, log: RequestLog, records: Records, today: date) -> History:
        """Return a symbol's history for some years around ``day``, fetched once in a run.

        :raises NotInPlan: if the plan lacks the symbol.
        """
        name = f"history-{quote(symbol, safe='')}"
        known = self.histories.get(symbol)
        if known is None and (body := records.recall(name)) is not None:
            known = unpacked(body)
        if known is None or not known.first <= day <= known.last:
            last = min(day + AROUND, max(day, today))
            first = last - 2 * AROUND
            try:
                known = self.history(symbol, first, last, log)
                log.unexpected.append(Unexpected(known.aside, tuple(known.named)))
            except NotInPlan as error:
                known = History(first, last, [], error.said)
            records.remember(name, known.packed())
        self.histories[symbol] = known
        if known.refused:
            raise NotInPlan(known.refused, **log.where)
        return known

    def statements(self, symbol: str, statement: str, kind: str, limit: int, log: RequestLog) -> list[Filing]:
        """Return the latest statements of a symbol, those that cannot be read included."""
        name, periods, once_more = vendors_name(symbol), fundamentals.PERIODS_OF[kind], OnceMore()

        def parse(response: Response) -> tuple[list[Filing], Unexpected]:
            rows: list[Any] = decode(response, list[dict[str, Any]], log.where, self.transport.plain, list[msgspec.Raw])
            if len(rows) > MOST_FILINGS:
                raise ServerError(f"the response is too large: {len(rows):,} statements, {limit:,} were requested", **log.where)
            found = [fundamentals.read_statement(row) for row in rows]
            filings = [fundamentals.filing(row, symbol, statement) for row in found]
            others = [row.get("symbol") for row in found if row.get("symbol", name) != name and isinstance(row.get("symbol"), str)]
            if 2 * len(others) > len(rows):
                raise ServerError(self.transport.plain(f"rows of {', '.join(sorted(set(map(str, others)))[:3])} came"), **log.where)
            own = [one for one, row in zip(filings, found, strict=True) if row.get("symbol") not in others]
            strange = [one.period for one in own if one.period not in (*periods, None)]
            if 2 * len(strange) > len(own):
                said = f"{kind} statements were requested, and those of {', '.join(sorted(map(str, {*strange}))[:3])} came"
                raise ServerError(self.transport.plain(said), **log.where)
            kept = [one for one in own if one.period in (*periods, None) or one.period not in PERIODS]
            fundamentals.check_read(kept, log.where)
            unexpected = fundamentals.left_aside(symbol, [*map(str, others)], [one for one in own if one not in kept])
            once_more.check(unexpected, log.where)
            return kept, unexpected

        params: dict[str, str | int] = {"symbol": name, "period": kind, "limit": limit}
        filings, unexpected = self.get(f"/stable/{fundamentals.NAMES[statement]}", params, log, parse)
        log.received += sum(one.rows for one in filings) + unexpected.left_aside
        log.unexpected.append(unexpected)
        return filings

    def bulk_statements(self, statement: str, year: int, period: str, request: Request, log: RequestLog) -> list[Filing]:
        """Return the statements of the requested symbols in the file of a period.

        Those that cannot be read are included. A line without a readable symbol may be of any of them; its statement has none.
        """
        once_more = OnceMore()

        def parse(response: Response) -> tuple[int, list[Filing], Unexpected]:
            rows, problems = read_file(response.body, fundamentals.NEEDED, log.where)
            fundamentals.check_file(rows, log.where)
            rows = with_requested(rows, request.symbols)
            nameless = pc.is_null(rows["symbol"])
            concerned = pc.indices_nonzero(pc.or_(pc.is_valid(rows["requested"]), nameless)).to_pylist()
            found = rows.take(pa.array(concerned, pa.int64())).to_pylist()
            filings = []
            for place, row in zip(concerned, found, strict=True):
                symbol, torn = row.pop("requested"), problems.get(place, [])
                if symbol is None and not torn:
                    torn = ["symbol is missing"]
                filings.append(fundamentals.filing(row, symbol, statement, torn))
            strange = [one for one in filings if (one.period, one.fiscal_year) != (period, year) and not one.problems]
            if 2 * len(strange) > len(filings):
                said = ", ".join(sorted({f"{one.period} {one.fiscal_year}" for one in strange})[:3])
                raise ServerError(self.transport.plain(f"rows of {said} came"), **log.where)
            fundamentals.check_read(filings, log.where)
            unexpected = fundamentals.left_aside("", [], strange)
            doubt = "a row came whose symbol cannot be read" if any(one.symbol is None for one in filings) else ""
            unexpected = replace(unexpected, anyones=doubt)
            once_more.check(unexpected, log.where)
            kept = [one for one in filings if one not in strange]
            return len(rows) * max(0, len(rows.column_names) - 1 - len(fundamentals.NO_ITEMS)), kept, unexpected

        path = f"/stable/{fundamentals.NAMES[statement]}-bulk"
        received, filings, unexpected = self.get(path, {"year": year, "period": period}, log, parse)
        log.received += received
        log.unexpected.append(unexpected)
        return filings

    def get(self, path: str, params: Mapping[str, str | int], log: RequestLog, parse: Callable[[Response], T]) -> T:
        """Fetch a response and return the result of ``parse``; both are repeated while the error is retriable."""
        found, headers = self.transport.get(path, params, log.what, lambda response: (parse(response), response.headers))
        log.note(headers)
        return found
