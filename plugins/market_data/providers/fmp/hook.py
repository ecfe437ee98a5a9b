"""Financial Modeling Prep: daily bars of a symbol and of all symbols of a session, and the statements of companies.

Sources: https://site.financialmodelingprep.com/developer/docs/stable, and what recorded answers show beyond it.

**Raw prices.** ``historical-price-eod/full`` is adjusted for splits. As traded are ``historical-price-eod/non-split-adjusted``, although
its fields are called ``adjOpen`` to ``adjClose`` (AAPL 2020-08-28: 499.24), and ``eod-bulk``. These two are asked, so that a close agrees
with other vendors' raw ones to a cent; adjusted prices are not served. ``eod-bulk`` alone has ``adjClose``, adjusted for splits and
dividends up to the moment of asking: it becomes ``adj_close``. The vendor's ``vwap`` is the mean of open, high, low and close, so
``vwap`` stays null, and it has no count of trades.

**Why an answer is believed to be whole.** The vendor declares no counts. A JSON array that parses is whole. An answer of the symbol
endpoint holds at most 5,000 rows, the newest, and says nothing of the others: a span is asked in slices that cannot have so many
sessions, and one that comes with 5,000 rows all the same is refused. Of a CSV file every line must have all columns, and a last line
without a line end is left aside. What a cut between two lines took away cannot be seen in the file itself. So an asked symbol that is
not in it is looked up in its own history: a few that have a bar there are taken from it, more of them mean that the file is cut. Of
statements the three files of a period are compared: a symbol that one of them lacks is asked for by itself.

What stays unseen: a file of prices without any asked symbol, where the three that are then looked up have no bar of that session
either; and three files of statements that all lack the same symbol. Where the transfer has a length or is compressed, as it is asked
to be, the transport sees a cut anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from itertools import product
from typing import Any, ClassVar, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.capabilities import Endpoint, Quota, Window
from market_data.core.errors import ProviderError, ServerError, TruncatedResponse
from market_data.core.outcome import Evidence
from market_data.datasets.registry import dataset as find_dataset
from market_data.http.client import Answer, Transport
from market_data.http.rate_limit import Pacer
from market_data.providers.base import Fetched, Plan, ProviderHook, limits_folder
from market_data.providers.fmp import fundamentals
from market_data.providers.fmp.fundamentals import Filing
from market_data.providers.fmp.parse import (
    DayLimiter,
    NotInPlan,
    PartNotInPlan,
    asked_rows,
    classify,
    drift,
    read_file,
    vendors_name,
)
from market_data.providers.responses import decode

T = TypeVar("T")
DAY = timedelta(days=1)

MOST_ROWS = 5000
"""Rows of an answer of the symbol endpoint; what is older is left out without a word."""
SLICE = MOST_ROWS - 1
"""Sessions asked for at once."""
AROUND = timedelta(days=2499)
"""How far before and after a session a symbol's history is looked at; 4,999 days cannot have 5,000 sessions."""
FEW = 10
"""Asked symbols that a bulk file may lack although they have a row; more mean that the file is cut."""
PROBES = 3
"""Symbols looked up where a bulk file has none of those asked for: the session may not be there yet."""
WITH_BULK = ("ultimate", "sample")
MOST_STATEMENTS = {"basic": 5}
"""Plan -> statements that one call may ask for, where it is limited."""

HISTORY = "/stable/historical-price-eod/non-split-adjusted"
FILE_COLUMNS = {"open": "open", "high": "high", "low": "low", "close": "close", "adj_close": "adjClose", "volume": "volume"}


class Bar(msgspec.Struct, gc=False, rename="camel"):
    """A bar as traded; what its fields are called notwithstanding."""

    symbol: str
    date: date
    adj_open: float | None
    adj_high: float | None
    adj_low: float | None
    adj_close: float | None
    volume: float | None = None


@dataclass
class Asked:
    """A request on its way: what its answers said beside the data.

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


class FMPHook(ProviderHook):
    """Daily bars of shares and ETFs, and the statements of companies.

    A symbol that the plan does not include (the free one has some only, and five statements of each) is refused by name, and the run goes
    on; of statements that come yearly only a warning tells. Bulk files are throttled
    harder than the rest: of many sessions the symbol endpoint may be done sooner, though it takes more calls.
    """

    provider = "fmp"
    hook_name = "Financial Modeling Prep"
    default_base_url = "https://financialmodelingprep.com"
    default_plan = "basic"
    # https://site.financialmodelingprep.com/pricing-plans: 250 calls a day, or 300, 750 and 3,000 a minute. A session's prices are there
    # in the evening; two in the morning UTC is our own courtesy. ``sample`` is the local sample API.
    plans: ClassVar[Mapping[str, Plan]] = {
        "basic": Plan(Quota(60, (Window(250, 86_400),)), history_years=5, available_after=26 * 3600),
        "starter": Plan(Quota(300, (Window(300, 60),)), history_years=5, available_after=26 * 3600),
        "premium": Plan(Quota(750, (Window(750, 60),)), history_years=30, available_after=26 * 3600),
        "ultimate": Plan(Quota(3000, (Window(3000, 60),)), history_years=30, available_after=26 * 3600),
        "sample": Plan(Quota(600, (Window(1, 0.01),))),
    }
    _transport: Transport | None = None

    def connect(self) -> None:
        if self._transport is None:
            key = self.config.password
            self._transport = Transport(
                self.provider, self.base_url, {"apikey": key}, self.pacer(), self._classify, (key,), counters=self.counters
            )
            self._histories: dict[str, History] = {}

    def pacer(self) -> Pacer:
        return Pacer(self.quota, DayLimiter(limits_folder() / f"{self.config.conn_id}.json", self.quota.limits))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def _probe(self) -> str:
        end = self.now().date() - timedelta(days=7)
        asked = Asked(self.provider, "a week of AAPL")
        self._history("AAPL", end - timedelta(days=7), end, asked)
        return f"{self.base_url} answered with bars"

    def _connection_problems(self) -> list[str]:
        problems = super()._connection_problems()
        if not self.config.password:
            problems.append(f"connection {self.config.conn_id!r}: password is empty; the API key is needed there")
        return problems

    def _endpoints(self, dataset: str) -> tuple[Endpoint, ...]:
        bulk = self._plan_name in WITH_BULK
        return tuple(endpoint for endpoint in super()._endpoints(dataset) if bulk or endpoint.name != "bulk")

    @property
    def _plan_name(self) -> str:
        return str(self.config.extra.get("plan", self.default_plan))

    def fetch(self, request: Request) -> Fetched:
        self.connect()
        before, asked = replace(self.counters), Asked(self.provider, str(request))
        bulk, bars = request.endpoint == "bulk", request.dataset == "ohlcv-1d"
        try:
            if bars:
                table = self._bulk_bars(request, asked) if bulk else self._bars(request, asked)
            else:
                filings = self._bulk_filings(request, asked) if bulk else self._filings(request, asked)
                kept, asked.warnings[:0] = fundamentals.current(filings, request)
                table = fundamentals.table(kept)
        except NotInPlan as error:
            if bulk:
                raise
            table = find_dataset(request.dataset).received.empty_table()
            asked.refused[request.symbols[0]] = error.said
        calls, retries = self.counters.calls - before.calls, self.counters.retries - before.retries
        evidence = Evidence(
            calls=calls,
            retries=retries,
            pages=calls - retries,
            bytes=self.counters.bytes - before.bytes,
            rows_received=asked.received,
            rows_declared=None,
            last_page_seen=True,
            request_ids=tuple(asked.ids),
            source=asked.source,
        )
        return Fetched(table, evidence, refused=asked.refused, warnings=tuple(asked.warnings))

    # -- daily bars --------------------------------------------------------------------------------------------------------------

    def _bars(self, request: Request, asked: Asked) -> pa.Table:
        """One symbol's bars of a span of dates, slice by slice."""
        symbol = request.symbols[0]
        sessions = calendar.sessions(request.start, request.last + DAY)
        starts = [request.start, *sessions[SLICE::SLICE]]
        ends = [*(start - DAY for start in starts[1:]), request.last]
        bars = [bar for start, end in zip(starts, ends, strict=True) for bar in self._history(symbol, start, end, asked)]
        asked.received = len(bars)
        return _table([(symbol, bar) for bar in bars])

    def _history(self, symbol: str, first: date, last: date, asked: Asked) -> list[Bar]:
        """The bars from ``first`` to ``last``, both inclusive, ascending."""
        name = vendors_name(symbol)

        def parse(answer: Answer) -> list[Bar]:
            bars = decode(answer, list[Bar], asked.where, self._opened.plain)
            if strangers := {bar.symbol for bar in bars} - {name}:
                raise ServerError(self._opened.plain(f"rows of {', '.join(sorted(strangers)[:3])} came"), **asked.where)
            if strange := [str(bar.date) for bar in bars if not first <= bar.date <= last]:
                raise ServerError(f"rows of {', '.join(strange[:3])} came", **asked.where)
            return bars

        bars = self._ask(HISTORY, {"symbol": name, "from": f"{first}", "to": f"{last}"}, asked, parse)
        if len(bars) >= MOST_ROWS:
            raise TruncatedResponse(f"{len(bars)} rows from {first} to {last} came, the most an answer holds", **asked.where)
        return bars[::-1]

    def _bulk_bars(self, request: Request, asked: Asked) -> pa.Table:
        """The bars of all symbols of one session."""
        day = request.start

        def parse(answer: Answer) -> tuple[int, pa.Table]:
            rows = read_file(answer.body, ("symbol", "date", *FILE_COLUMNS.values()), asked.where)
            found = asked_rows(rows, request.symbols)
            if strange := set(found["date"].to_pylist()) - {f"{day}"}:
                raise ServerError(self._opened.plain(f"rows of {', '.join(map(str, strange))} came"), **asked.where)
            return len(rows), _file_table(found, day, asked)

        asked.received, table = self._ask("/stable/eod-bulk", {"date": f"{day}"}, asked, parse)
        present = set(table["symbol"].to_pylist())
        absent = [symbol for symbol in request.symbols if symbol not in present]
        if not present:
            absent = absent[:: max(1, len(absent) // PROBES)][:PROBES]
        return pa.concat_tables([table, _table(self._lost(absent, day, asked))])

    def _lost(self, absent: Iterable[str], day: date, asked: Asked) -> list[tuple[str, Bar]]:
        """The bars of symbols that a bulk file lacks, out of their own histories.

        :raises TruncatedResponse: if they are more than a few.
        """
        lost: list[tuple[str, Bar]] = []
        for symbol in absent:
            try:
                lost += [(symbol, bar) for bar in self._own(symbol, day, asked) if bar.date == day]
            except NotInPlan as error:
                asked.refused[symbol] = error.said
            if len(lost) > FEW:
                names = ", ".join(symbol for symbol, _ in lost[:3])
                raise TruncatedResponse(f"the file lacks {names} and more, which have a bar of {day}: it is cut", **asked.where)
        if lost:
            asked.warnings.append(f"eod-bulk of {day} lacks {', '.join(symbol for symbol, _ in lost)}; taken from their histories")
        return lost

    def _own(self, symbol: str, day: date, asked: Asked) -> list[Bar]:
        """The history of a symbol for some years around ``day``; asked once for all sessions of a batch."""
        known = self._histories.get(symbol)
        if known is None or not known.first <= day <= known.last:
            first, last = day - AROUND, day + AROUND
            known = self._histories[symbol] = History(first, last, self._history(symbol, first, last, asked))
        return known.bars

    # -- statements --------------------------------------------------------------------------------------------------------------

    def _filings(self, request: Request, asked: Asked) -> list[Filing]:
        """All statements of one symbol that may have been filed in the span; without those of a kind that the plan lacks.

        :raises NotInPlan: if it lacks all.
        """
        (symbol,) = request.symbols
        filings: list[Filing] = []
        lacking: dict[str, PartNotInPlan] = {}
        for statement, kind in product(fundamentals.NAMES, fundamentals.KINDS):
            if kind in lacking:
                continue  # what is true of one statement is true of all
            try:
                filings += self._latest(symbol, statement, kind, request.start, asked)
            except PartNotInPlan as error:
                lacking[kind] = error
        said = [f"{symbol}: the plan lacks {kind} statements: {error.said}" for kind, error in lacking.items()]
        if lacking and not filings:
            raise NotInPlan("; ".join(said), **asked.where)
        asked.warnings += said
        return filings

    def _latest(self, symbol: str, statement: str, kind: str, since: date, asked: Asked) -> list[Filing]:
        """One statement's latest ones, so many that none filed since ``since`` is missing.

        :param kind: ``annual`` or ``quarter``.
        :raises NotInPlan: if the plan does not show so many.
        """
        most = MOST_STATEMENTS.get(self._plan_name)
        wanted = fundamentals.enough(kind, since, self.now().date())
        while True:
            limit = min(wanted, most or wanted)
            rows = self._statements(symbol, statement, kind, limit, asked)
            oldest = min((filing.period_end for filing in rows), default=date.max)
            if len(rows) < limit or oldest - fundamentals.APART[kind] <= since - fundamentals.LATE:
                return rows
            if limit == most:
                raise NotInPlan(
                    f"the plan {self._plan_name!r} shows the latest {most} statements of a company only; they reach back to {oldest}, "
                    f"and those filed from {since} on may be of {since - fundamentals.LATE} and later: ask for later dates",
                    **asked.where,
                )
            wanted *= 4

    def _statements(self, symbol: str, statement: str, kind: str, limit: int, asked: Asked) -> list[Filing]:
        name = vendors_name(symbol)

        def parse(answer: Answer) -> list[Filing]:
            rows = decode(answer, list[dict[str, Any]], asked.where, self._opened.plain)
            if strangers := {str(row.get("symbol")) for row in rows} - {name}:
                raise ServerError(self._opened.plain(f"rows of {', '.join(sorted(strangers)[:3])} came"), **asked.where)
            return [fundamentals.filing(row, symbol, statement, asked.where) for row in rows]

        params: dict[str, str | int] = {"symbol": name, "period": kind, "limit": limit}
        filings = self._ask(f"/stable/{fundamentals.NAMES[statement]}", params, asked, parse)
        asked.received += sum(len(filing.items) for filing in filings)
        return filings

    def _bulk_filings(self, request: Request, asked: Asked) -> list[Filing]:
        """All statements of the asked symbols that may have been filed in the span.

        The three statements of a period are filed together: a symbol that one of the three files lacks is asked for by itself.
        """
        filings = []
        for year, period in fundamentals.periods_filed(fundamentals.filing_dates(request)):
            files = {statement: self._file(statement, year, period, request, asked) for statement in fundamentals.NAMES}
            filings += [filing for found in files.values() for filing in found]
            filings += self._lost_filings(fundamentals.gaps(files, request), year, period, request, asked)
        return filings

    def _file(self, statement: str, year: int, period: str, request: Request, asked: Asked) -> list[Filing]:
        def parse(answer: Answer) -> tuple[int, list[Filing]]:
            rows = read_file(answer.body, fundamentals.NEEDED, asked.where)
            found = asked_rows(rows, request.symbols).to_pylist()
            filings = [fundamentals.filing(row, row.pop("asked"), statement, asked.where) for row in found]
            if strange := {f"{filing.period} {filing.fiscal_year}" for filing in filings} - {f"{period} {year}"}:
                raise ServerError(self._opened.plain(f"rows of {', '.join(sorted(strange)[:3])} came"), **asked.where)
            return len(rows) * max(0, len(rows.column_names) - len(fundamentals.NO_ITEMS)), filings

        path = f"/stable/{fundamentals.NAMES[statement]}-bulk"
        received, filings = self._ask(path, {"year": year, "period": period}, asked, parse)
        asked.received += received
        return filings

    def _lost_filings(
        self, gaps: Sequence[tuple[str, str]], year: int, period: str, request: Request, asked: Asked
    ) -> list[Filing]:
        """The statements that the files of a period lack.

        :param gaps: symbol and statement.
        :raises TruncatedResponse: if they are more than a few.
        """
        lost: list[Filing] = []
        for symbol, statement in gaps:
            kind = "annual" if period == "FY" else "quarter"
            try:
                own = self._latest(symbol, statement, kind, request.start, asked)
            except (NotInPlan, PartNotInPlan) as error:
                asked.refused[symbol] = error.said
                continue
            lost += [filing for filing in own if (filing.fiscal_year, filing.period) == (year, period)]
            if len(lost) > FEW:
                names = ", ".join(filing.symbol for filing in lost[:3])
                raise TruncatedResponse(f"a file of {period} {year} lacks {names} and more: it is cut", **asked.where)
        if lost:
            names = ", ".join(f"{filing.symbol} ({filing.statement})" for filing in lost)
            asked.warnings.append(f"the bulk files of {period} {year} lack {names}; asked for by themselves")
        return lost

    # -- one answer --------------------------------------------------------------------------------------------------------------

    @property
    def _opened(self) -> Transport:
        if self._transport is None:
            raise RuntimeError("connect() comes first")
        return self._transport

    def _ask(self, path: str, params: Mapping[str, str | int], asked: Asked, parse: Callable[[Answer], T]) -> T:
        found, headers = self._opened.get(path, params, asked.what, lambda answer: (parse(answer), answer.headers))
        asked.note(headers)
        return found

    def _classify(self, answer: Answer, what: str) -> ProviderError | None:
        where = {"provider": self.provider, "request": what}
        return classify(answer, where, self._opened.plain, self.config.conn_id, self.quota, self.now())


@dataclass(frozen=True, slots=True)
class History:
    """A symbol's bars from ``first`` to ``last``, both inclusive."""

    first: date
    last: date
    bars: list[Bar]


def _table(bars: Sequence[tuple[str, Bar]]) -> pa.Table:
    """Bars of the symbol endpoint, with whose they are."""
    values = {
        "open": [bar.adj_open for _, bar in bars],
        "high": [bar.adj_high for _, bar in bars],
        "low": [bar.adj_low for _, bar in bars],
        "close": [bar.adj_close for _, bar in bars],
        "volume": [bar.volume for _, bar in bars],
    }
    columns = {name: pa.array(column, pa.float64()) for name, column in values.items()}
    symbols = pa.array([symbol for symbol, _ in bars], pa.string())
    return _columns(symbols, pa.array([bar.date for _, bar in bars], pa.date32()), columns)


def _file_table(rows: pa.Table, day: date, asked: Asked) -> pa.Table:
    """Rows of the bulk file, all of ``day``."""
    columns = {}
    for name, theirs in FILE_COLUMNS.items():
        try:
            columns[name] = pc.cast(rows[theirs], pa.float64())
        except pa.ArrowInvalid:
            raise drift(asked.where, f"the file's {theirs} is not a number everywhere") from None
    return _columns(rows["asked"], pa.array([day] * len(rows), pa.date32()), columns)


def _columns(symbols: Any, days: pa.Array, values: Mapping[str, Any]) -> pa.Table:
    schema = find_dataset("ohlcv-1d").received
    columns = {"symbol": symbols, "session": days, "bar_time": days.cast(pa.timestamp("us", tz="UTC")), **values}
    return pa.table([columns.get(name, pa.nulls(len(days), schema.field(name).type)) for name in schema.names], schema=schema)
