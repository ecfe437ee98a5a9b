"""Interactive Brokers, through TWS or Gateway: bars of US stocks, equity index futures and indices.

Sources: https://interactivebrokers.github.io/tws-api/ (historical_bars, historical_limitations, message_codes), and ``ib_async`` 2.1.0,
read and run. The documents do not mention the following:

* Error 162 is "no data", "too many requests", "no permission" and more: the text tells.
* Error 321 (a request that is not legal) counts as a warning in ``ib_async``, whose request then never ends.
* A message that cannot be read is logged by ``ib_async`` and dropped, so its request never ends either.
* Nothing pages: a request names its end and a duration, and the response says from when on it is whole. Long spans are requested in
  steps, the latest first.
* A continuous future takes no end date (10339) and changes with the day of the request. So the front of a future is put together from
  the dated contracts, by a rule: see `contracts.lead`. Expired ones are kept for two years.
* The vendor always adjusts prices for splits. Only its ADJUSTED_LAST reflects dividends, and it takes no end date either.
* Daily bars are stamped with the date of the trading day, even if the epoch is requested (``formatDate=2``).
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import time as clock
from datetime import timedelta
from functools import partial
from typing import ClassVar, TypeVar
from urllib.parse import urlsplit

import pyarrow as pa
from ib_async import BarData, Contract, RequestError, Stock

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.capabilities import Quota, Window
from market_data.core.errors import (
    BadRequest,
    EntitlementError,
    ProviderError,
    SchemaDrift,
    ServerError,
    Throttled,
    UnknownSymbol,
)
from market_data.core.intervals import DAY, Interval
from market_data.core.messages import shown
from market_data.core.spelling import SpellingError
from market_data.core.urls import holds_credentials
from market_data.datasets.registry import dataset as find_dataset
from market_data.http.call_state import LONG_WINDOW, Rules
from market_data.http.client import plain, tried
from market_data.http.limiter import Limiter
from market_data.http.rate_limit import Pacer
from market_data.providers.base import Fetched, ProviderHook, SubscriptionPlan
from market_data.providers.ib.client import CLIENT_IDS, Link
from market_data.providers.ib.contracts import ContractSpan, Instrument, Step, last_step, step_count
from market_data.providers.ib.errors import AmbiguousContract, classify
from market_data.providers.ib.listings import UNITS, VolumeUnit, primary_listing
from market_data.providers.ib.parse import HistoryPage, separated_page, table, unexpected_bars
from market_data.providers.ib.spec import SPEC
from market_data.providers.unexpected import OnceMore, Unexpected

T = TypeVar("T")

SIZES = {"ohlcv-1d": "1 day", "ohlcv-5m": "5 mins", "ohlcv-1m": "1 min"}
"""Dataset -> the vendor's name of the bar size."""
IDENTICAL = {"standard": 15.0, "sample": 0.0}
"""Plan -> seconds between two equal requests."""
EXPIRED_KNOWN = timedelta(days=365)
"""How long the gateway knows a contract after it expired: two years are documented, four quarters were seen."""
BUCKETS = 256
"""Equal requests of all processes meet in one of so many files."""
PORTS = "4001 (Gateway), 4002 (Gateway, paper account), 7496 (TWS) or 7497 (TWS, paper account)"

DRIFTED = "see the vendor's release notes; the hook has to learn the new form"


class InteractiveBrokersHook(ProviderHook):
    """Bars of US stocks and ETFs, equity index futures and indices.

    Stocks are written ``AAPL`` or ``BRK.B``, indices ``VIX``, ``SPX``, ``NDX`` and ``RUT``. The root of a future alone is refused, as it
    may be a stock, too: ``ES:STK`` is Eversource Energy. So is ``ES`` of a universe or tickers file that has its ``primary_exchange``.

    A future is written by its root and ``.c.0`` for the contract that leads (``ES.c.0``: see `contracts.lead`), or with month and year
    (``ESZ2026``). Its prices are those of the contracts as traded: they jump at a roll. Futures trade on most holidays of the stock
    exchange: these are sessions of theirs, see docs/reference/calendars.md. A symbol that the account may not see is reported as
    refused, and the run continues.

    Option ``what_to_show``: ``trades``, or quotes (``midpoint``, ``bid``, ``ask``), which have no volume. Option ``hours``:
    ``regular`` or ``extended`` (stocks from 04:00 to 20:00); futures always come with their whole trading day.

    The connection has host and port of a Gateway or TWS that is logged in. Its extra may have ``client_id``, the first of those that
    may be used, ``identical_seconds``, and ``stock_volumes``: ``shares`` or ``lots``, where a gateway's setting for the volumes of US
    stocks is known; ``auto`` measures it. Volumes are stored in shares.
    """

    spec = SPEC
    conn_type = "generic"
    hook_name = "Interactive Brokers"
    default_base_url = "127.0.0.1:4001"
    default_plan = "standard"
    known_extra = ("client_id", "identical_seconds", "stock_volumes")
    # https://interactivebrokers.github.io/tws-api/historical_limitations.html; hard for bars of up to 30 seconds, a soft throttle for
    # longer ones. ``sample`` is the local sample gateway.
    plans: ClassVar[Mapping[str, SubscriptionPlan]] = {
        "standard": SubscriptionPlan(Quota(6, (Window(60, 600), Window(5, 2))), available_after=22 * 3600),
        "sample": SubscriptionPlan(Quota(6000, (Window(60, 0.6),))),
    }
    patience = 60.0
    sleep: Callable[[float], None] = staticmethod(time.sleep)
    _link: Link | None = None
    _pacer: Pacer | None = None

    def connect(self) -> None:
        if self._link is None:
            # Whatever it logs is raised as an error here.
            logging.getLogger("ib_async").setLevel(logging.CRITICAL)
            host, port = self._address
            self._link = Link(host, port, self._client_id)
            self._listings: dict[str, Contract] = {}
            self._volumes = VolumeUnit(str(self.config.extra.get("stock_volumes", "auto")))
            self._pacer = self.pacer()

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = self._pacer = None
        super().close()

    def _probe(self) -> str:
        what = "details of SPY"
        link = self._ready()
        found = self._tried(lambda: self._called(what, lambda: link.describe(Stock("SPY", "SMART", "USD"))))
        return f"{link.address} responded: {self._plain(found)}"

    # -- connection ------------------------------------------------------------------------------------------------------------

    @property
    def _address(self) -> tuple[str, int]:
        parts = urlsplit(f"//{self.base_url}")
        return parts.hostname or "", parts.port or 0

    @property
    def _client_id(self) -> int:
        return int(self.config.extra.get("client_id", 1))

    @property
    def _identical(self) -> float:
        """Seconds between two equal requests."""
        return float(self.config.extra.get("identical_seconds", IDENTICAL[self.config.extra.get("plan", self.default_plan)]))

    def _connection_problems(self) -> list[str]:
        extra, name = self.config.extra, f"connection {self.config.conn_id!r}"
        problems = super()._connection_problems()
        try:
            host, port = self._address
        except ValueError:  # the port is not a number, or too large
            host, port = "", 0
        if (not host or not port or "/" in self.base_url) and not holds_credentials(self.base_url):
            wanted = f"a host name and a port from 1 to 65535 are needed: {PORTS}"
            problems.append(f"{name}: host and port are {self.base_url!r}; {wanted}")
        client_id = extra.get("client_id", 1)
        most = 2**31 - CLIENT_IDS
        if not isinstance(client_id, int) or isinstance(client_id, bool) or not 1 <= client_id < most:
            # 0 is the client that gets the orders made by hand.
            problems.append(f"{name}: extra.client_id is {shown(client_id)}; a whole number from 1 to {most - 1} is needed")
        if not isinstance(volumes := extra.get("stock_volumes", "auto"), str) or volumes not in UNITS:
            problems.append(f"{name}: extra.stock_volumes is {shown(volumes)}; allowed: {', '.join(UNITS)}")
        seconds = extra.get("identical_seconds", 0)
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds < LONG_WINDOW:
            problems.append(f"{name}: extra.identical_seconds is {shown(seconds)}; a number from 0 on, less than 3,600, is needed")
        return problems

    # -- fetch -----------------------------------------------------------------------------------------------------------------

    def fetch(self, request: Request) -> Fetched:
        self.connect()
        before = replace(self.counters)
        instrument = self._instrument(request)
        tables: list[pa.Table] = []
        ids: list[str] = []
        rows = 0
        parts: list[Unexpected] = []
        unknown: list[UnknownSymbol] = []
        refused: dict[str, str] = {}
        for part in instrument.parts(Interval(request.start, request.last + DAY)):
            try:
                for page, dates in self._pages(request, instrument, part):
                    unit = self._volume_unit(instrument, page)
                    tables.append(table(request, instrument, page.bars, dates, unit))
                    parts.append(unexpected_bars(page, request, instrument, dates, unit))
                    ids.append(page.id)
                    rows += len(page.bars) + len(page.odd) + len(page.aside)
            except UnknownSymbol as error:
                unknown.append(error)
            except EntitlementError as error:
                # Subscriptions are per exchange, so other symbols may be allowed. Drop this one's bars: they would not be complete.
                refused = {request.symbols[0]: error.said}
                tables, parts, rows = [], [], 0
                break
        if unknown and not tables and not refused and not self._is_expired(instrument, request):
            raise unknown[0]
        # Each message was checked to hold as many rows as it declares.
        nothing = find_dataset(request.dataset).received.empty_table()
        whole, warnings = pa.concat_tables([nothing, *reversed(tables)]), tuple(self._warnings(request, unknown))
        found = Unexpected.of(parts, request, whole)
        evidence = self._evidence(before, rows, len(ids), ids, rows_declared=rows, rows_left_aside=found.left_aside)
        warnings = () if refused else (*warnings, *found.warnings)
        return Fetched(whole, evidence, refused=refused, warnings=warnings, odd=found.odd, unproved=found.unproved)

    def calls_of(self, request: Request) -> int:
        """Return the calls of a request: one for each step of each contract.

        0 for a symbol that is not served.
        """
        try:
            instrument = self._instrument(request)
        except BadRequest:
            return 0
        parts = instrument.parts(Interval(request.start, request.last + DAY))
        return sum(step_count(part.dates, daily=SIZES[request.dataset] == "1 day") for part in parts)

    def _is_expired(self, instrument: Instrument, request: Request) -> bool:
        """Return True for a front future whose contracts expired too long ago for the gateway."""
        front = instrument.kind == "FUT" and not instrument.month
        return front and request.last < self.now().date() - EXPIRED_KNOWN

    def vendor_symbol(self, symbol: str) -> str:
        try:
            instrument = Instrument.of(symbol, self.records.exchange(symbol))
        except BadRequest as error:
            raise SpellingError(error.said.removeprefix(f"{symbol} ")) from None
        return " ".join(filter(None, (instrument.kind, instrument.name, instrument.month)))

    def _instrument(self, request: Request) -> Instrument:
        try:
            return Instrument.of(request.symbols[0], self.records.exchange(request.symbols[0]))
        except BadRequest as error:
            raise error.at(provider=self.provider, request=str(request)) from None

    def _warnings(self, request: Request, unknown: Sequence[UnknownSymbol]) -> Iterator[str]:
        if self._volumes.found:
            yield self._volumes.found
        if unknown:
            yield f"{request.symbols[0]}: {len(unknown)} of the contracts that led are not known any more: {unknown[-1].said}"

    def _pages(self, request: Request, instrument: Instrument, part: ContractSpan) -> Iterator[tuple[HistoryPage, Interval]]:
        """Yield the responses with the bars of a contract, the latest first.

        Each comes with the dates for which it is complete.
        """
        daily = SIZES[request.dataset] == "1 day"
        left = part.dates
        while left.start < left.end:
            step = last_step(left, daily=daily)
            page = self._listed_page(request, instrument, part.contract, step)
            start = step.dates.start
            if page.begins is not None and page.begins > start:
                start = page.begins + DAY  # its first date may be there in part only
            if start > left.start and not daily:
                start = instrument.whole_from(start, page.begins)
            if start >= left.end:
                raise ServerError(
                    f"a response up to {left.end} begins on {page.begins}: the paging loops", **self._where(str(request))
                )
            yield page, Interval(start, left.end)
            left = Interval(left.start, start)

    def _listed_page(self, request: Request, instrument: Instrument, contract: Contract, step: Step) -> HistoryPage:
        """Return one response; of a stock with several listings, that of its primary listing."""
        contract = self._listings.get(contract.symbol, contract) if instrument.kind == "STK" else contract
        page = partial(self._page, request, instrument, step, OnceMore())
        try:
            return self._tried(partial(page, contract))
        except AmbiguousContract as error:
            if instrument.kind != "STK" or contract.conId:
                raise
            listing = self._listings[contract.symbol] = self._primary(request, instrument, contract, error)
            return self._tried(partial(page, listing))

    def _primary(self, request: Request, instrument: Instrument, contract: Contract, ambiguous: AmbiguousContract) -> Contract:
        """Return the primary listing of a stock that has several.

        :raises BadRequest: if the gateway does not tell which that is.
        """
        link, what = self._ready(), str(request)
        try:
            details = self._tried(lambda: self._called(what, lambda: link.details(contract), symbols=request.symbols))
            return primary_listing(details, instrument.primary)
        except BadRequest as error:
            said = ambiguous.said if isinstance(error, AmbiguousContract) else f"{ambiguous.said}: {error.said}"
            raise BadRequest(said, **self._where(what)) from None

    def _volume_unit(self, instrument: Instrument, page: HistoryPage) -> int:
        """Return the shares or contracts that a volume of 1 means."""
        if instrument.kind != "STK" or self.option("what_to_show") != "trades":
            return 1
        return self._volumes.unit(page.bars, self._ready().version, self._of_spy)

    def _of_spy(self) -> Sequence[BarData]:
        """Return two weeks of SPY."""
        link, what = self._ready(), "two weeks of SPY"
        end, contract = calendar.at(self.now().date() - DAY, clock()), Stock("SPY", "SMART", "USD")
        call = partial(link.history, contract, end, "2 W", "1 day", "TRADES", regular=True)
        return self._tried(lambda: self._called(what, call, question=f"{contract} {end}", symbols=("SPY",))).bars

    def _page(self, request: Request, instrument: Instrument, step: Step, once_more: OnceMore, contract: Contract) -> HistoryPage:
        link, what, size = self._ready(), str(request), SIZES[request.dataset]
        shown, end = str(self.option("what_to_show")).upper(), instrument.end(step.dates)
        regular = instrument.kind != "FUT" and self.option("hours") == "regular"
        question = f"{contract} {end} {step.duration} {size} {shown} {regular}"
        page = self._called(
            what,
            lambda: link.history(contract, end, step.duration, size, shown, regular=regular),
            question=question,
            symbols=request.symbols,
        )
        received = len(page.bars) + len(page.odd)
        page = separated_page(page, instrument, step, daily=size == "1 day")
        found = unexpected_bars(page, request, instrument, step.dates)
        if 2 * len(page.aside) > received:
            raise ServerError(found.unproved[request.symbols[0]], **self._where(what))
        if received > 1 and 2 * len(page.odd) > received:
            raise SchemaDrift(f"{self.provider}: {what}: a bar cannot be read: {page.odd[0].reason}. To do: {DRIFTED}")
        once_more.check(found, self._where(what))
        self.counters.bytes += page.bytes
        return page

    # -- calls -----------------------------------------------------------------------------------------------------------------

    def _tried(self, call: Callable[[], T]) -> T:
        """``call``, repeated while its error is one that may pass.

        :raises ProviderError: the last one.
        """
        return tried(call, counters=self.counters, retry=self.retry, patience=self.patience, sleep=self.sleep)

    def _called(self, what: str, call: Callable[[], T], *, question: str = "", symbols: tuple[str, ...] = ()) -> T:
        """One call, after its turn has come; its error typed."""
        pacer = self._pacer or self.pacer()
        try:
            permits = self._permits(pacer, question)
        except ProviderError as error:
            raise error.at(**self._where(what)) from None  # a limiter knows neither provider nor request
        self.counters.calls += 1
        try:
            with permits:
                return call()
        except RequestError as error:
            text = f"{self._plain(error.message)} (error {error.code})"
            widest = max((window.seconds for window in self.quota.limits), default=1.0)
            failure = classify(error, text, symbols, min(widest, self.patience), self._where(what))
            if isinstance(failure, Throttled):
                self.counters.throttled += 1
                pacer.penalise(failure.retry_after or 1.0)
            raise failure from None
        except ProviderError as error:
            raise error.at(**self._where(what)) from None
        except SchemaDrift as error:
            raise SchemaDrift(f"{self.provider}: {what}: {self._plain(str(error))}. To do: {DRIFTED}") from None

    def _permits(self, pacer: Pacer, question: str) -> ExitStack:
        """Return the permits of a call, once it may leave: that of an equal request, and that of the account."""
        permits = ExitStack()
        repeat = permits.enter_context(self._repeats(question).acquire()) if question and self._identical else None
        try:
            permits.enter_context(pacer.wait())
        except BaseException:
            if repeat is not None:
                repeat.cancel()
            raise
        return permits

    def _repeats(self, question: str) -> Limiter:
        """Return what holds equal requests apart, whichever process makes them."""
        bucket = int.from_bytes(hashlib.sha256(question.encode()).digest()[:2]) % BUCKETS
        return self.config.limiter(f"{self.config.conn_id}.requests/{bucket:03}", Rules((Window(1, self._identical),)))

    def _where(self, what: str) -> dict[str, str]:
        return {"provider": self.provider, "request": what}

    def _plain(self, text: str) -> str:
        """Return what the gateway says, fit for a message: on one line, short, without markup."""
        return plain(text, [self.config.password])

    def _ready(self) -> Link:
        if self._link is None:
            raise RuntimeError("connect() comes first")
        return self._link
