"""Financial Modeling Prep: daily bars by symbol or by session, and the statements of companies.

Sources: https://site.financialmodelingprep.com/developer/docs/stable, and what recorded responses show beyond it.

**Raw prices.** ``historical-price-eod/full`` is adjusted for splits. Prices as traded come from
``historical-price-eod/non-split-adjusted``, although its fields are called ``adjOpen`` to ``adjClose`` (AAPL 2020-08-28: 499.24), and
from ``eod-bulk``. These two are used, so that a close agrees with other vendors' raw ones to a cent. The vendor's ``vwap`` is the mean of
open, high, low and close, so ``vwap`` stays null, and it has no count of trades.

**Adjusted closes.** ``adj_close`` is adjusted for splits and dividends up to the moment of the request. It is ``adjClose`` of
``eod-bulk``. For plans without bulk files it comes from ``historical-price-eod/dividend-adjusted``, which takes a second call.

**How completeness is checked.** The vendor declares no counts. A JSON array that parses is complete, with one exception. The symbol
endpoint returns at most the latest 5,000 rows and does not mention the others. So a span is fetched in slices with fewer sessions, and a
response of 5,000 rows is refused.

In a CSV file every line must have all columns; a last line without a line end is dropped. A cut between two lines cannot be seen in the
file itself. So a requested symbol that is missing from it is looked up in its own history, once in a run. It is not if the ledger shows
that the vendor had no row of it in the sessions around. If a few have a bar there, it is taken from the history. If more do, the file
is cut. It is cut, too, if it lacks more than a few symbols that traded until just before, as far as the ledger knows. For statements,
the three files of a period are compared: a symbol that one of them lacks is fetched by itself.

**Not detected:** three files of statements that all lack the same symbol. The transport detects a cut anyway if the response has a
length or is compressed, as requested.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from itertools import product
from typing import ClassVar

import pyarrow as pa

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.capabilities import Endpoint, Quota, Shape, Window
from market_data.core.errors import ProviderError, TruncatedResponse
from market_data.datasets.registry import dataset as find_dataset
from market_data.http.client import Response
from market_data.providers.base import Fetched, SubscriptionPlan
from market_data.providers.fmp import corporate_actions, fundamentals
from market_data.providers.fmp.client import MOST_ROWS, FmpClient, RequestLog, with_adjusted
from market_data.providers.fmp.errors import NotInPlan, PartNotInPlan, classify
from market_data.providers.fmp.fundamentals import Filing
from market_data.providers.fmp.parse import DAY, FmpBar, bars_table, odd_bars
from market_data.providers.fmp.spec import SPEC
from market_data.providers.fmp.symbols import to_vendor
from market_data.providers.http_hook import HttpProviderHook
from market_data.providers.translation import of_known_spelling
from market_data.providers.unexpected import Unexpected

SLICE = MOST_ROWS - 1
"""Sessions of one request."""
FEW, SHARE = 3, 0.05
"""Symbols that a bulk file may lack although they have a row, at least, and of the expected ones: more mean that it is cut."""
PROBES = 3
"""Symbols looked up where a file has none of those requested, of which the vendor has bars until shortly before: the session may not be
there yet."""
JUST_BEFORE = timedelta(days=10)
"""A symbol with a bar so shortly before a session is traded at that time."""
WITH_BULK = ("ultimate", "sample")
MOST_STATEMENTS = {"basic": 5}
"""Plan -> statements per call, for plans that limit them."""


def few(expected: int) -> int:
    """Return how many of the ``expected`` symbols a whole bulk file may lack."""
    return max(FEW, int(SHARE * expected))


class FMPHook(HttpProviderHook):
    """Daily bars of shares and ETFs, and the statements of companies.

    A symbol outside the plan (the free one has only some, and five statements of each) is reported as refused, and the run continues. For
    statements that come yearly only, there is a warning. Bulk files are throttled harder than the rest: for many sessions the symbol
    endpoint may finish sooner, though it takes more calls.
    """

    spec = SPEC
    hook_name = "Financial Modeling Prep"
    default_base_url = "https://financialmodelingprep.com"
    default_plan = "basic"
    utc_days = True
    # https://site.financialmodelingprep.com/pricing-plans: 250 calls per day, or 300, 750 and 3,000 per minute. A session's prices are
    # there in the evening; two in the morning UTC is our own courtesy. ``sample`` is the local sample API.
    plans: ClassVar[Mapping[str, SubscriptionPlan]] = {
        "basic": SubscriptionPlan(Quota(60, (Window(250, 86_400),)), history_years=5, available_after=26 * 3600),
        "starter": SubscriptionPlan(Quota(300, (Window(300, 60),)), history_years=5, available_after=26 * 3600),
        "premium": SubscriptionPlan(Quota(750, (Window(750, 60),)), history_years=30, available_after=26 * 3600),
        "ultimate": SubscriptionPlan(Quota(3000, (Window(3000, 60),)), history_years=30, available_after=26 * 3600),
        "sample": SubscriptionPlan(Quota(600, (Window(1, 0.01),))),
    }

    def _headers(self) -> Mapping[str, str]:
        return {"apikey": self.config.password}

    def connect(self) -> None:
        if self._transport is None:
            super().connect()
            self._client = FmpClient(self.transport)

    def _probe(self) -> str:
        end = self.now().date() - timedelta(days=7)
        log = RequestLog(self.provider, "a week of AAPL")
        self._client.history("AAPL", end - timedelta(days=7), end, log)
        return f"{self.base_url} responded with bars"

    def _endpoints(self, dataset: str) -> tuple[Endpoint, ...]:
        bulk, found = self._plan_name in WITH_BULK, super()._endpoints(dataset)
        twice = dataset == "ohlcv-1d" and self._adjusts
        found = tuple(replace(one, chains=2) if twice and one.shape is Shape.SYMBOL else one for one in found)
        return tuple(endpoint for endpoint in found if bulk or endpoint.name != "bulk")

    @property
    def _adjusts(self) -> bool:
        """True if the endpoint ``history`` gets adjusted closes, with a second call."""
        wish = self.option("adj_close")
        return bool(wish == "yes" or (wish == "auto" and self._plan_name not in WITH_BULK))

    @property
    def _plan_name(self) -> str:
        return str(self.config.extra.get("plan", self.default_plan))

    def calls_of(self, request: Request) -> int:
        if request.dataset == "fundamentals" and request.endpoint == "bulk":
            return len(fundamentals.NAMES) * len(fundamentals.periods_filed(fundamentals.filing_dates(request)))
        return super().calls_of(request)

    def vendor_symbol(self, symbol: str) -> str:
        return to_vendor(symbol)

    @of_known_spelling
    def fetch(self, request: Request) -> Fetched:
        self.connect()
        before, log = replace(self.counters), RequestLog(self.provider, str(request))
        bulk, bars = request.endpoint == "bulk", request.dataset == "ohlcv-1d"
        try:
            if request.dataset == "corporate-actions":
                table = corporate_actions.actions(self._client, request, log)
            elif bars:
                table = self._bulk_bars(request, log) if bulk else self._bars(request, log)
            else:
                filings = self._bulk_filings(request, log) if bulk else self._filings(request, log)
                kept, log.warnings[:0] = fundamentals.current(filings, request)
                table = fundamentals.table(kept)
                log.unexpected.append(fundamentals.odd_items([*kept, *(one for one in filings if one.problems)], request))
        except NotInPlan as error:
            if bulk:
                raise
            table = find_dataset(request.dataset).received.empty_table()
            log.refused[request.symbols[0]] = error.said
        calls, retries = self.counters.calls - before.calls, self.counters.retries - before.retries
        found = Unexpected.of(log.unexpected, request, table, log.refused)
        evidence = self._evidence(before, log.received, calls - retries, log.ids, log.source, rows_left_aside=found.left_aside)
        warnings = (*log.warnings, *found.warnings)
        return Fetched(table, evidence, refused=log.refused, warnings=warnings, odd=found.odd, unproved=found.unproved)

    # -- daily bars --------------------------------------------------------------------------------------------------------------

    def _bars(self, request: Request, log: RequestLog) -> pa.Table:
        """Return one symbol's bars of a span of dates, slice by slice."""
        symbol = request.symbols[0]
        sessions = calendar.sessions(request.start, request.last + DAY)
        starts = [request.start, *sessions[SLICE::SLICE]]
        ends = [*(start - DAY for start in starts[1:]), request.last]
        bars: list[FmpBar] = []
        adjusted: dict[date, float | None] = {}
        for start, end in zip(starts, ends, strict=True):
            found = self._client.history(symbol, start, end, log)
            log.received += len(found.bars) + len(found.odd) + found.aside
            if found.bars and self._adjusts:
                closes, odd = self._client.adjusted_closes(symbol, start, end, log)
                found, adjusted = with_adjusted(found, odd), adjusted | closes
            bars += found.bars
            log.unexpected.append(found.unexpected(symbol))
        if adjusted and (lacking := [bar.date for bar in bars if bar.date not in adjusted]):
            log.warnings.append(f"{symbol}: {len(lacking)} bars have no adj_close yet, the first of {lacking[0]}")
        return bars_table([(symbol, bar) for bar in bars], adjusted)

    def _bulk_bars(self, request: Request, log: RequestLog) -> pa.Table:
        """Return the bars of all symbols of one session.

        :raises TruncatedResponse: if the file lacks more than a few of the symbols that have a bar.
        """
        day, file = request.start, self._client.bulk_bars(request, log)
        present = file.symbols
        absent = [symbol for symbol in request.symbols if symbol not in present]
        unlisted = set(self.records.untraded(absent, day)) if absent else set()
        sought = [symbol for symbol in absent if symbol not in unlisted]
        expected = self.records.traded(sought, day) if sought else ()
        most = few(len(present) + len(sought))
        if file.rows and len(expected) > most:
            raise self._cut(expected, f"traded until just before {day}", log)
        ranked = sorted(sought, key=lambda symbol: symbol not in set(expected))
        doubts, anyones = dict(file.unexpected.unproved), file.unexpected.anyones
        doubts |= dict.fromkeys(absent if anyones else (), anyones)
        lost = self._lost(ranked, day, log, most, doubts, whole=bool(present))
        log.unexpected.append(replace(file.unexpected, unproved=doubts, anyones=""))
        return pa.concat_tables([file.table, bars_table(lost)])

    def _lost(
        self, absent: Iterable[str], day: date, log: RequestLog, most: int, doubts: dict[str, str], *, whole: bool
    ) -> list[tuple[str, FmpBar]]:
        """Return the bars of symbols that a bulk file lacks, out of their own histories.

        :param doubts: symbol -> why it is not known to have no bar; those whose history tells are taken out.
        :param most: the number of bars that a whole file may lack.
        :param whole: the file has rows of other requested symbols.
        :raises TruncatedResponse: if they are more.
        """
        lost: list[tuple[str, FmpBar]] = []
        without = 0
        for symbol in absent:
            try:
                history = self._client.history_around(symbol, day, log, self.records, self.now().date())
            except NotInPlan as error:
                log.refused[symbol] = error.said
                continue
            bars, odd = history.bars, [bar for bar in history.odd if bar.date == day]
            log.unexpected.append(Unexpected(odd=odd_bars(symbol, odd)))
            doubts.pop(symbol, None)
            doubts |= {symbol: history.doubt} if history.doubt else {}
            found = [(symbol, bar) for bar in bars if bar.date == day]
            lost += found
            if len(lost) > most:
                raise self._cut([symbol for symbol, _ in lost], f"have a bar of {day}", log)
            without += not found and any(day - JUST_BEFORE <= bar.date < day for bar in bars)
            if not whole and not lost and without >= PROBES:
                break
        if lost:
            log.warnings.append(f"eod-bulk of {day} lacks {', '.join(symbol for symbol, _ in lost)}; taken from their histories")
        return lost

    def _cut(self, symbols: Sequence[str], why: str, log: RequestLog) -> TruncatedResponse:
        return TruncatedResponse(f"the file lacks {', '.join(symbols[:3])} and more, which {why}: it is cut", **log.where)

    # -- statements --------------------------------------------------------------------------------------------------------------

    def _filings(self, request: Request, log: RequestLog) -> list[Filing]:
        """Return all statements of one symbol that may have been filed in the span.

        Kinds of statement that the plan lacks are left out.

        :raises NotInPlan: if it lacks all.
        """
        (symbol,) = request.symbols
        filings: list[Filing] = []
        lacking: dict[str, PartNotInPlan] = {}
        for statement, kind in product(fundamentals.NAMES, fundamentals.KINDS):
            if kind in lacking:
                continue  # what is true of one statement is true of all
            try:
                filings += self._latest(symbol, statement, kind, request.start, log)
            except PartNotInPlan as error:
                lacking[kind] = error
        said = [f"{symbol}: the plan lacks {kind} statements: {error.said}" for kind, error in lacking.items()]
        if lacking and not filings:
            raise NotInPlan("; ".join(said), **log.where)
        log.warnings += said
        return filings

    def _latest(self, symbol: str, statement: str, kind: str, since: date, log: RequestLog) -> list[Filing]:
        """Return one statement's latest ones, so many that none filed since ``since`` is missing.

        :param kind: ``annual`` or ``quarter``.
        :raises NotInPlan: if the plan does not show so many.
        """
        most = MOST_STATEMENTS.get(self._plan_name)
        wanted = fundamentals.enough(kind, since, self.now().date())
        while True:
            limit = min(wanted, most or wanted)
            rows = self._client.statements(symbol, statement, kind, limit, log)
            oldest = min((filing.period_end for filing in rows if filing.period_end), default=date.max)
            if len(rows) < limit or oldest - fundamentals.APART[kind] <= since - fundamentals.LATE:
                return rows
            if limit == most:
                raise NotInPlan(
                    f"the plan {self._plan_name!r} includes only the latest {most} statements of a company; they reach back to {oldest}, "
                    f"and those filed from {since} on may be of {since - fundamentals.LATE} and later: request later dates",
                    **log.where,
                )
            wanted *= 4

    def _bulk_filings(self, request: Request, log: RequestLog) -> list[Filing]:
        """Return all statements of the requested symbols that may have been filed in the span.

        The three statements of a period are filed together: a symbol that one of the three files lacks is fetched by itself.
        """
        filings = []
        for year, period in fundamentals.periods_filed(fundamentals.filing_dates(request)):
            files = {
                statement: self._client.bulk_statements(statement, year, period, request, log) for statement in fundamentals.NAMES
            }
            filings += [filing for found in files.values() for filing in found]
            filings += self._lost_filings(fundamentals.gaps(files, request), year, period, request, log)
        return filings

    def _lost_filings(
        self, gaps: Sequence[tuple[str, str]], year: int, period: str, request: Request, log: RequestLog
    ) -> list[Filing]:
        """Return the statements that the files of a period lack.

        :param gaps: symbol and statement.
        :raises TruncatedResponse: if they are more than a few.
        """
        lost: list[Filing] = []
        for symbol, statement in gaps:
            kind = "annual" if period == "FY" else "quarter"
            try:
                own = self._latest(symbol, statement, kind, request.start, log)
            except (NotInPlan, PartNotInPlan) as error:
                log.refused[symbol] = error.said
                continue
            lost += [filing for filing in own if (filing.fiscal_year, filing.period) == (year, period)]
            if len(lost) > few(len(request.symbols)):
                names = ", ".join(str(filing.symbol) for filing in lost[:3])
                raise TruncatedResponse(f"a file of {period} {year} lacks {names} and more: it is cut", **log.where)
        if lost:
            names = ", ".join(f"{filing.symbol} ({filing.statement})" for filing in lost)
            log.warnings.append(f"the bulk files of {period} {year} lack {names}; fetched symbol by symbol")
        return lost

    def _classify(self, response: Response, what: str) -> ProviderError | None:
        where = {"provider": self.provider, "request": what}
        return classify(response, where, self.transport.plain, self.config.conn_id, self.quota, self.now())
