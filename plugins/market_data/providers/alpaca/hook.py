"""Alpaca Market Data v2: bars of many symbols, a chain of pages for all of them.

Sources: the vendor's OpenAPI (``/v2/stocks/bars``) and https://docs.alpaca.markets/docs/historical-stock-data-1. What recorded answers
show beside: bars come ordered by symbol, then by time, and the limit is for all symbols together, so that a symbol can span pages; a page
can be shorter than its limit, so that only ``next_page_token`` tells the end; a daily bar is stamped midnight New York; a symbol without
bars, known or not, is absent; one malformed symbol makes a 400 of the whole request.
"""

from __future__ import annotations

import re
import time as clock
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from typing import Annotated, ClassVar

import msgspec
import numpy as np
import pyarrow as pa

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.capabilities import Quota, Window
from market_data.core.errors import (
    AuthError,
    BadRequest,
    EntitlementError,
    ProviderError,
    SchemaDrift,
    ServerError,
    Throttled,
    TruncatedResponse,
)
from market_data.core.outcome import Evidence
from market_data.datasets.registry import dataset as find_dataset
from market_data.http.client import Answer, Transport, retry_after
from market_data.providers.base import Fetched, Plan, ProviderHook
from market_data.providers.responses import DAY, NewYorkDays, decode, pause, without_young

PAGE_ROWS = 10_000
"""Most rows of a page, and what is asked for."""

TIMEFRAMES = {"ohlcv-1d": "1Day", "ohlcv-5m": "5Min", "ohlcv-1m": "1Min"}
HISTORY = date(2016, 1, 1)

TRADING_ENDS = time(20)
"""New York time. Until then a session's minutes and its daily volume grow."""
EMBARGO = timedelta(minutes=16)
"""The free plan is refused the last 15 minutes of consolidated data; a minute more, for clocks that differ."""

MOST_REFUSED = 100
"""Malformed symbols of one request that are set aside. Each costs a call."""
MOST_EMPTY = 10
"""Pages without a bar, one after another, that a further one may follow."""
LONGEST_RESET = 60.0
"""Seconds. The vendor's window is a minute, whatever a clock of it or of ours says."""

_MALFORMED = re.compile(r"invalid symbol: (.+)")
_RECENT = "recent"  # "subscription does not permit querying recent SIP data"
_UNPAID = re.compile(r"subscription|permit", re.IGNORECASE)

Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Bar(msgspec.Struct, gc=False):
    """A bar as the vendor writes it."""

    t: Moment
    o: float | None = None
    h: float | None = None
    l: float | None = None  # noqa: E741 - the vendor's name
    c: float | None = None
    v: float | None = None
    n: int | None = None
    vw: float | None = None


class Page(msgspec.Struct, gc=False):
    """One answer. ``next_page_token`` is null on the last page; where it is absent, nothing says that it is the last."""

    bars: dict[str, list[Bar]] | None = None
    next_page_token: str | msgspec.UnsetType | None = msgspec.UNSET
    message: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A page turned into columns.

    :param spans: symbol -> its first and last moment in this page, microseconds UTC.
    :param token: of the next page, or None after the last one.
    """

    table: pa.Table
    spans: Mapping[str, tuple[int, int]]
    token: str | None
    request_id: str
    source: str | None


class AlpacaHook(ProviderHook):
    """Daily, five-minute and one-minute bars of US stocks and ETFs.

    Login is the key's id, password its secret. Option ``feed``: ``default`` leaves it out, so that the account gets the best it has (free
    ones too get consolidated data, when it is 15 minutes old); ``iex`` is one exchange with a few percent of the volume. Option
    ``adjustment``: ``raw`` (as traded) or the vendor's adjustments, which change with later splits and dividends.
    """

    provider = "alpaca"
    hook_name = "Alpaca Market Data"
    default_base_url = "https://data.alpaca.markets"
    default_plan = "basic"
    # https://docs.alpaca.markets/docs/about-market-data-api: 200 and 10,000 calls a minute. A session is whole when trading after hours
    # has ended: 24 h (summer) or 25 h after midnight UTC of its date. What basic asks too early in winter is refused, so no part of a
    # session can come; the paid plan has it in real time. ``sample`` is the local sample API.
    plans: ClassVar[Mapping[str, Plan]] = {
        "basic": Plan(Quota(200, (Window(200, 60),)), available_after=24.25 * 3600),
        "plus": Plan(Quota(10_000, (Window(10_000, 60),)), available_after=25 * 3600),
        "sample": Plan(Quota(600, (Window(1, 0.01),))),
    }
    _transport: Transport | None = None

    def connect(self) -> None:
        if self._transport is None:
            key_id, secret = self.config.login, self.config.password
            headers = {"APCA-API-KEY-ID": key_id, "APCA-API-SECRET-KEY": secret}
            self._transport = Transport(
                self.provider, self.base_url, headers, self.pacer(), self._classify, (key_id, secret), counters=self.counters
            )

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def _probe(self) -> str:
        day = self.now().date() - timedelta(days=14)
        params: dict[str, str | int] = {
            "symbols": "AAPL",
            "timeframe": "1Day",
            "start": f"{day}",
            "end": f"{day + 7 * DAY}",
            "limit": 10,
        }
        self._opened.get("/v2/stocks/bars", params, "a week of AAPL", lambda answer: self._page(answer, "a week of AAPL"))
        return f"{self.base_url} answered with bars"

    def _connection_problems(self) -> list[str]:
        name, config, problems = f"connection {self.config.conn_id!r}", self.config, super()._connection_problems()
        if not config.login:
            problems.append(f"{name}: login is empty; the key's id is needed there (the secret is the password)")
        if config.login != config.login.strip():
            problems.append(f"{name}: login has white space around it; paste the key's id alone")
        if not config.password:
            problems.append(f"{name}: password is empty; the secret of the key is needed there (its id is the login)")
        return problems

    def _history_start(self) -> date | None:
        return None if self.plan is self.plans["sample"] else HISTORY

    def fetch(self, request: Request) -> Fetched:
        self.connect()
        before = replace(self.counters)
        pending_from, reason = None, ""
        try:
            parts, refused = self._parts(request)
        except EntitlementError as error:
            if _RECENT not in error.said:
                raise
            request, pending_from = self._without_young(request, error)
            reason = error.said
            parts, refused = self._parts(request)
        evidence = Evidence(
            calls=self.counters.calls - before.calls,
            retries=self.counters.retries - before.retries,
            pages=len(parts),
            bytes=self.counters.bytes - before.bytes,
            rows_received=sum(len(part.table) for part in parts),
            rows_declared=None,
            last_page_seen=not parts or parts[-1].token is None,
            request_ids=tuple(part.request_id for part in parts if part.request_id),
            source=next((part.source for part in parts if part.source), None),
        )
        nothing = find_dataset(request.dataset).received.empty_table()
        table = pa.concat_tables([nothing, *(part.table for part in parts)])
        return Fetched(table, evidence, pending_from, reason, refused)

    def _without_young(self, request: Request, error: EntitlementError) -> tuple[Request, date]:
        """The request without the sessions in which the last quarter of an hour lies or that are to come, and the first date of these."""
        known = (self.now() - EMBARGO).astimezone(calendar.NEW_YORK)
        young = known.date() + DAY if known.time() >= TRADING_ENDS else known.date()
        return without_young(request, error, young, until=calendar.at(request.last, TRADING_ENDS) + EMBARGO), young

    # -- the chain of pages ------------------------------------------------------------------------------------------------------

    def _parts(self, request: Request) -> tuple[list[Part], dict[str, str]]:
        """The whole answer, and the symbols that were set aside because the vendor calls them malformed."""
        refused: dict[str, str] = {}
        while symbols := [symbol for symbol in request.symbols if symbol not in refused]:
            try:
                return self._chain(request, symbols), refused
            except BadRequest as error:
                malformed = _malformed(error.said, symbols)
                if malformed is None or len(refused) == MOST_REFUSED:
                    raise
                refused[malformed] = error.said
        return [], refused

    def _chain(self, request: Request, symbols: Sequence[str]) -> list[Part]:
        """The pages of one answer, in order.

        A page's rows have to go on where the one before ended: with the same symbol, later, or with symbols that have not come yet.
        None of these errors is asked again: the token is the page's word, and the same one would come back.
        """
        params, days = self._question(request, symbols), NewYorkDays(request.start, request.last)
        parts: list[Part] = []
        latest: Mapping[str, tuple[int, int]] = {}
        seen: set[str] = set()
        tokens: set[str] = set()
        empty = 0
        while True:
            part = self._opened.get(
                "/v2/stocks/bars", params, str(request), lambda answer: self._part(answer, request, symbols, days)
            )
            where = {"provider": self.provider, "request": str(request), "request_id": part.request_id}
            again = seen.intersection(part.spans)
            if len(again) > 1 or any(symbol not in latest or part.spans[symbol][0] <= latest[symbol][1] for symbol in again):
                raise ServerError("a page repeats what came before: the paging loops", **where)
            parts.append(part)
            if part.token is None:
                return parts
            empty = 0 if part.spans else empty + 1
            if part.token in tokens or empty > MOST_EMPTY:
                raise ServerError("a page brings nothing new and names a next one: the paging loops", **where)
            tokens.add(part.token)
            seen.update(part.spans)
            latest = part.spans or latest
            params = {**params, "page_token": part.token}

    def _question(self, request: Request, symbols: Sequence[str]) -> dict[str, str | int]:
        """The parameters of the first page. Moments, not dates: nothing says in which time zone the vendor takes a date."""
        end = calendar.at(request.last + DAY, time()) - timedelta(seconds=1)  # inclusive
        known = self.now() - EMBARGO
        if calendar.at(request.last, TRADING_ENDS) <= known < end:
            end = known  # all there is, and the free plan refuses to be asked for later
        params: dict[str, str | int] = {
            "symbols": ",".join(symbols),
            "timeframe": TIMEFRAMES[request.dataset],
            "start": f"{calendar.at(request.start, time()):%Y-%m-%dT%H:%M:%SZ}",
            "end": f"{end:%Y-%m-%dT%H:%M:%SZ}",
            "limit": PAGE_ROWS,
            "adjustment": self.option("adjustment"),
            "asof": "-",  # else a symbol means the company that has it today, and META brings what was traded as FB
        }
        return params if self.option("feed") == "default" else {**params, "feed": self.option("feed")}

    # -- one answer --------------------------------------------------------------------------------------------------------------

    @property
    def _opened(self) -> Transport:
        if self._transport is None:
            raise RuntimeError("connect() comes first")
        return self._transport

    def _page(self, answer: Answer, what: str) -> Page:
        """A page that is there and says whether another follows; one that is not is asked again."""
        where = {"provider": self.provider, "request": what, "request_id": _request_id(answer)}
        page = decode(answer, Page, where, self._opened.plain)
        if page.bars is None and page.message:
            raise ServerError(self._opened.plain(f"HTTP {answer.status} with an error: {page.message}"), **where)
        if page.bars is None:
            raise TruncatedResponse("the answer has no bars, not even an empty set of them", **where)
        if page.next_page_token is msgspec.UNSET:
            raise TruncatedResponse("the answer does not say whether a page follows", **where)
        return page

    def _part(self, answer: Answer, request: Request, symbols: Sequence[str], days: NewYorkDays) -> Part:
        """A page as columns, checked to be of what was asked for. The JSON is let go of at once: a request may have hundreds of pages."""
        page = self._page(answer, str(request))
        where = {"provider": self.provider, "request": str(request), "request_id": _request_id(answer)}
        found = {symbol: bars for symbol, bars in (page.bars or {}).items() if bars}
        if strangers := set(found).difference(symbols):
            raise ServerError(self._opened.plain(f"rows of {', '.join(sorted(strangers)[:3])} came"), **where)
        bars = [bar for some in found.values() for bar in some]
        moments = pa.array([bar.t for bar in bars], pa.timestamp("us", tz="UTC"))
        stamps = moments.cast(pa.int64()).to_numpy()
        sessions, outside = days.of(stamps)
        if outside.any():
            said = ", ".join(f"{bar.t:%Y-%m-%d %H:%M}" for bar in np.array(bars, dtype=object)[outside][:3])
            raise ServerError(f"rows of {said} UTC came", **where)
        daily = request.dataset == "ohlcv-1d"
        if daily and not days.at_midnight(stamps).all():
            raise SchemaDrift(
                f"{self.provider}: {request}: daily bars are not stamped midnight New York. "
                "To do: see the provider's changelog; the hook has to learn the new form"
            )
        table = _table(request.dataset, found, bars, sessions.astype("datetime64[us]") if daily else stamps, sessions)
        cuts = np.cumsum([0, *(len(some) for some in found.values())])
        parts = (stamps[begin:end] for begin, end in pairwise(cuts))
        spans = {symbol: (int(part.min()), int(part.max())) for symbol, part in zip(found, parts, strict=True)}
        token = page.next_page_token if isinstance(page.next_page_token, str) else None
        return Part(table, spans, token, where["request_id"], answer.headers.get("X-Sample-Source"))

    def _classify(self, answer: Answer, what: str) -> ProviderError | None:
        """The typed error of an answer that is no success; whatever it is, what it says of the quota is obeyed by every slot."""
        rest = _until_reset(answer.headers)
        if rest and answer.headers.get("X-RateLimit-Remaining", "").strip() == "0":
            self._opened.pacer.penalise(rest)
        if answer.status < 400:
            return None
        try:
            said = msgspec.json.decode(answer.body, type=Page).message
        except msgspec.MsgspecError:
            said = ""
        text = self._opened.plain(said) or f"HTTP status {answer.status}"
        where = {"provider": self.provider, "request": what, "request_id": _request_id(answer)}
        if answer.status == 429:
            return Throttled(text, retry_after=retry_after(answer.headers) or rest or pause(answer.headers, self.quota), **where)
        if answer.status == 403 and _UNPAID.search(text):
            return EntitlementError(text, **where)
        if answer.status in (401, 403):
            # Which of the two comes for a bad key has changed over the years.
            return AuthError(f"{text} (login and password of connection {self.config.conn_id!r} are the key)", **where)
        if answer.status >= 500:
            return ServerError(text, **where)
        return BadRequest(f"{text} (HTTP {answer.status})", **where)


def _table(dataset: str, found: Mapping[str, list[Bar]], bars: list[Bar], moments: np.ndarray, sessions: np.ndarray) -> pa.Table:
    """A page's bars as columns of ``dataset.received``."""
    schema = find_dataset(dataset).received
    columns = {
        "symbol": pa.array([symbol for symbol, some in found.items() for _ in some], pa.string()),
        "bar_time": pa.array(moments.astype("datetime64[us]"), pa.timestamp("us", tz="UTC")),
        "session": pa.array(sessions, pa.date32()),
        "adj_close": pa.nulls(len(bars), pa.float64()),
    }
    fields = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v", "vwap": "vw", "trade_count": "n"}
    for column, field in fields.items():
        columns[column] = pa.array([getattr(bar, field) for bar in bars], schema.field(column).type)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _malformed(said: str, symbols: Sequence[str]) -> str | None:
    """The one of ``symbols`` that the vendor calls malformed, or None. Symbols may hold spaces, and words may follow."""
    found = _MALFORMED.search(said)
    named = [symbol for symbol in symbols if found and f"{found[1]} ".startswith(f"{' '.join(symbol.split())} ")]
    return max(named, key=len, default=None)


def _until_reset(headers: Mapping[str, str]) -> float | None:
    """Seconds until the quota is renewed, by ``X-RateLimit-Reset`` (seconds since the epoch); None where it does not say or it is past."""
    try:
        seconds = float(headers.get("X-RateLimit-Reset", "")) - clock.time()
    except ValueError:
        return None
    return min(seconds, LONGEST_RESET) if seconds > 0 else None


def _request_id(answer: Answer) -> str:
    return answer.headers.get("X-Request-ID", "")
