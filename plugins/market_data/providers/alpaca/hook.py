"""Alpaca Market Data v2: bars of many symbols in one chain of pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, time, timedelta
from typing import ClassVar

import pyarrow as pa

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.capabilities import Quota, Window
from market_data.core.errors import EntitlementError, ProviderError
from market_data.datasets.registry import dataset as find_dataset
from market_data.http.client import Response
from market_data.providers.alpaca import corporate_actions
from market_data.providers.alpaca.client import BarsClient, BarsResponse, classify
from market_data.providers.alpaca.parse import BarsQuery
from market_data.providers.alpaca.spec import SPEC
from market_data.providers.alpaca.symbols import to_vendor
from market_data.providers.base import Fetched, SubscriptionPlan
from market_data.providers.http_hook import HttpProviderHook
from market_data.providers.responses import DAY, NewYorkDays, without_recent
from market_data.providers.translation import in_vendor_spelling
from market_data.providers.unexpected import Unexpected

PAGE_ROWS = 10_000
"""Most rows of a page, and the limit that is sent."""

TIMEFRAMES = {"ohlcv-1d": "1Day", "ohlcv-5m": "5Min", "ohlcv-1m": "1Min"}
HISTORY = date(2016, 1, 1)

TRADING_ENDS = time(20)
"""New York time. Until then a session's minutes and its daily volume grow."""
EMBARGO = timedelta(minutes=16)
"""The free plan is refused the last 15 minutes of consolidated data; a minute more, for clocks that differ."""

_RECENT = "recent"  # "subscription does not permit querying recent SIP data"


class AlpacaHook(HttpProviderHook):
    """Daily, five-minute and one-minute bars, splits, dividends and symbol changes of US stocks and ETFs.

    Login is the key's id, password its secret. Option ``feed``: ``default`` leaves it out, so the vendor uses the account's best feed.
    Free accounts get consolidated data too, once it is 15 minutes old. ``iex`` is one exchange with a few percent of the volume. Option
    ``adjustment``: ``raw`` (as traded) or the vendor's adjustments, which change with later splits and dividends.
    """

    spec = SPEC
    hook_name = "Alpaca Market Data"
    default_base_url = "https://data.alpaca.markets"
    default_plan = "basic"
    password_needed = "the secret of the key is needed there (its id is the login)"  # noqa: S105 - words
    # https://docs.alpaca.markets/docs/about-market-data-api: 200 and 10,000 calls per minute. A session is complete when trading after
    # hours has ended: 24 h (summer) or 25 h after midnight UTC of its date. In winter, basic refuses requests before that, so it never
    # returns part of a session; the paid plan has it in real time. ``sample`` is the local sample API.
    plans: ClassVar[Mapping[str, SubscriptionPlan]] = {
        "basic": SubscriptionPlan(Quota(200, (Window(200, 60),)), available_after=24.25 * 3600),
        "plus": SubscriptionPlan(Quota(10_000, (Window(10_000, 60),)), available_after=25 * 3600),
        "sample": SubscriptionPlan(Quota(600, (Window(1, 0.01),))),
    }

    def _headers(self) -> Mapping[str, str]:
        return {"APCA-API-KEY-ID": self.config.login, "APCA-API-SECRET-KEY": self.config.password}

    def _secrets(self) -> tuple[str, ...]:
        return self.config.login, self.config.password

    def _classify(self, response: Response, what: str) -> ProviderError | None:
        return classify(response, what, self.transport, self.config.conn_id, self.quota)

    def _probe(self) -> str:
        day = self.now().date() - timedelta(days=14)
        params: dict[str, str | int] = {
            "symbols": "AAPL",
            "timeframe": "1Day",
            "start": f"{day}",
            "end": f"{day + 7 * DAY}",
            "limit": 10,
        }
        BarsClient(self.transport).probe(params, "a week of AAPL")
        return f"{self.base_url} responded with bars"

    def _connection_problems(self) -> list[str]:
        name, login, problems = f"connection {self.config.conn_id!r}", self.config.login, super()._connection_problems()
        if not login:
            problems.append(f"{name}: login is empty; the key's id is needed there (the secret is the password)")
        if login != login.strip():
            problems.append(f"{name}: login has white space around it; paste the key's id alone")
        return problems

    def _history_start(self) -> date | None:
        return None if self.plan is self.plans["sample"] else HISTORY

    def vendor_symbol(self, symbol: str) -> str:
        return to_vendor(symbol)

    @in_vendor_spelling
    def fetch(self, request: Request) -> Fetched:
        self.connect()
        return self._fetch_bars(request) if find_dataset(request.dataset).is_bars else self._fetch_actions(request)

    def _fetch_actions(self, request: Request) -> Fetched:
        before = replace(self.counters)
        parts = corporate_actions.chain(self.transport, request)
        table = find_dataset(request.dataset).identified(pa.concat_tables(part.table for part in parts))
        unexpected = Unexpected.of([part.unexpected for part in parts], request, table)
        evidence = self._evidence(
            before,
            rows=sum(part.received for part in parts),
            pages=len(parts),
            request_ids=[part.request_id for part in parts],
            source=next((part.source for part in parts if part.source), None),
            last_page_seen=parts[-1].token is None,
            rows_left_aside=unexpected.left_aside,
        )
        return Fetched(table, evidence, warnings=unexpected.warnings, odd=unexpected.odd, unproved=unexpected.unproved)

    def _fetch_bars(self, request: Request) -> Fetched:
        before = replace(self.counters)
        pending_from, reason = None, ""
        try:
            response = self._pages(request)
        except EntitlementError as error:
            if _RECENT not in error.said:
                raise
            request, pending_from = self._without_recent(request, error)
            reason = error.said
            response = self._pages(request)
        pages, refused, table = response.pages, response.refused, response.rows.table()
        unexpected = Unexpected.of([page.unexpected for page in pages], request, table, refused)
        evidence = self._evidence(
            before,
            rows=sum(page.received for page in pages),
            pages=len(pages),
            request_ids=[page.request_id for page in pages],
            source=next((page.source for page in pages if page.source), None),
            last_page_seen=not pages or pages[-1].token is None,
            rows_left_aside=unexpected.left_aside,
        )
        return Fetched(
            table, evidence, pending_from, reason, refused, unexpected.warnings, odd=unexpected.odd,
            unproved=unexpected.unproved, release=response.rows.release,
        )  # fmt: skip

    def _pages(self, request: Request) -> BarsResponse:
        """Return the whole response."""
        query = BarsQuery(self.provider, request, request.symbols, NewYorkDays(request.start, request.last))
        return BarsClient(self.transport).without_malformed(query, self._params(request))

    def _without_recent(self, request: Request, error: EntitlementError) -> tuple[Request, date]:
        """Return the request without sessions that are running or to come, and the first date of these."""
        known = (self.now() - EMBARGO).astimezone(calendar.NEW_YORK)
        recent = known.date() + DAY if known.time() >= TRADING_ENDS else known.date()
        return without_recent(request, error, recent, until=calendar.at(request.last, TRADING_ENDS) + EMBARGO), recent

    def _params(self, request: Request) -> dict[str, str | int]:
        """Return the parameters of all pages. Moments, not dates: the vendor documents no time zone for dates."""
        end = calendar.at(request.last + DAY, time()) - timedelta(seconds=1)  # inclusive
        known = self.now() - EMBARGO
        if calendar.at(request.last, TRADING_ENDS) <= known < end:
            end = known  # the end of the available data; the free plan refuses later ends
        params: dict[str, str | int] = {
            "timeframe": TIMEFRAMES[request.dataset],
            "start": f"{calendar.at(request.start, time()):%Y-%m-%dT%H:%M:%SZ}",
            "end": f"{end:%Y-%m-%dT%H:%M:%SZ}",
            "limit": PAGE_ROWS,
            "adjustment": self.option("adjustment"),
            "asof": "-",  # else a symbol means the company that has it today, and META brings what was traded as FB
        }
        return params if self.option("feed") == "default" else {**params, "feed": self.option("feed")}
