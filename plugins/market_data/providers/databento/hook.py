"""Databento Historical: bars, trades, quotes and statistics, many symbols in one stream.

Sources: https://databento.com/docs/api-reference-historical (HTTP), the vendor's own client (``databento``), and recorded responses.
The responses also show:

* A stream that is cut at a record boundary decodes without an error to fewer records. So every stream is compared with
  ``metadata.get_record_count`` for the same request, which is free. The count is requested first, so that a refusal costs nothing.
* Requests are charged for the data they return, retries too. So errors that a retry would not fix are terminal.
* Symbols that do not resolve are listed in the stream's metadata (HTTP 206). If none resolves, the response is 422.
* A request is refused as a whole if it ends after the available data, or after the data allowed without a live licence (mostly the last
  24 hours). The refusal names the latest end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import ClassVar, Generic, TypeVar

import pyarrow as pa
from databento_dbn import SType

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.capabilities import Condition, Endpoint, Quota, Window
from market_data.core.errors import (
    BadRequest,
    NotYetAvailable,
    ProviderError,
    TruncatedResponse,
)
from market_data.core.intervals import Interval, intersection
from market_data.core.retry_policy import RetryPolicy
from market_data.core.spelling import SpellingError
from market_data.datasets.registry import dataset as find_dataset
from market_data.http.client import Response
from market_data.providers.base import Fetched, SubscriptionPlan
from market_data.providers.databento.client import Client, Question, secrets_of
from market_data.providers.databento.conditions import read_conditions
from market_data.providers.databento.errors import Later, TooManyRows, Unresolved, WrongResponse, classify, plain_refusal, where_of
from market_data.providers.databento.parse import (
    DAY,
    MOST_ROWS,
    Days,
    NotOfTheQuestionError,
    Strays,
    Symbols,
    every_day,
    numbered,
    of_sessions,
    read,
)
from market_data.providers.databento.spec import FUTURES, SPEC, read_hours, vendors_dataset
from market_data.providers.databento.symbols import to_vendor
from market_data.providers.databento.vendor_library import DBNStore, symbols_list_to_list
from market_data.providers.http_hook import TransportHook
from market_data.providers.spool import Spool, nothing_to_release
from market_data.providers.unexpected import Unexpected

T = TypeVar("T")

MOST_REFUSED = 100
"""Malformed symbols of one request that are set aside. Each costs a call, a free one."""
MOST_SYMBOLS = 2000
ENDED = timedelta(days=30)
"""A dataset that has nothing of so many days is one that has ended, not one that is late."""
SHOWN = 5

KEY = re.compile(r"db-\S+")
FORMS = {
    "raw_symbol": r"[^\s,](?:[^,]*[^\s,])?",
    "instrument_id": r"\d+",
    "continuous": r"[A-Za-z0-9]+\.[cnvCNV]\.\d+",
    "parent": r"[^\s,](?:[^,]*[^\s,])?",
}
PARENT = re.compile(r"[A-Za-z0-9]+\.(FUT|OPT|SPOT)", re.IGNORECASE)
_QUOTED = re.compile(r"'([^']+)'")


@dataclass
class Outcome(Generic[T]):
    """The outcome of a request.

    :param value: the response to the request as finally sent; None if no symbol resolves, or all were refused.
    :param pending_from, pending_reason, refused: as in `Fetched`.
    :param words: the vendor's message if there is no value.
    """

    value: T | None = None
    pending_from: date | None = None
    pending_reason: str = ""
    refused: dict[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StreamTable:
    """A stream as columns.

    :param missing: symbols that stand for nothing in its time, as the caller has them.
    """

    table: pa.Table
    records: int
    words: tuple[str, ...]
    missing: tuple[str, ...]
    left_aside: int = 0
    named: tuple[str, ...] = ()
    release: Callable[[], None] = nothing_to_release


class DatabentoHook(TransportHook[Client]):
    """Daily and one-minute bars, trades, trades with quotes, statistics; prices as traded.

    The password of the connection is the key. Option ``stype_in`` is the symbology of the symbols. Rows carry the symbol as requested, so
    those of ``ES.c.0`` belong to another contract after each roll. A parent (``ES.FUT``) is many instruments: :meth:`expand` lists them,
    and they are requested by their own symbols. Option ``dataset``: ``auto`` is EQUS.SUMMARY for daily bars and statistics, EQUS.MINI
    for the rest, and GLBX.MDP3 for continuous and parent symbols. Futures are a source of their own: ESH4 may be a share elsewhere.

    The vendor's daily bars cover UTC days; for futures, days without a session (Sundays, Christmas) are dropped. Most holidays of the
    stock exchange are sessions of futures, see docs/reference/calendars.md.

    Metadata calls count towards the quota like all others. A request takes two calls, its count and its stream. One with more rows than
    the endpoint's ``request_rows`` is split into several streams.
    """

    spec = SPEC
    hook_name = "Databento Historical"
    default_base_url = "https://hist.databento.com"
    default_plan = "standard"
    # https://databento.com/docs/api-reference-historical/basics/rate-limits: per second, 100 calls for streams and symbology and 20 for
    # metadata. Half of our calls are metadata, so the lower limit is kept for all. ``sample`` is the local sample API.
    plans: ClassVar[Mapping[str, SubscriptionPlan]] = {
        "standard": SubscriptionPlan(Quota(600, (Window(20, 1),)), available_after=26 * 3600),
        "sample": SubscriptionPlan(Quota(600, (Window(1, 0.01),))),
    }

    default_retry = RetryPolicy(attempts=2)
    """Few: downloads are charged for what they bring, and the task's own retry waits without a slot of the pool."""

    def _make_transport(self) -> Client:
        key = self.config.password
        secrets = secrets_of(key)
        return Client(
            self.provider, self.base_url, {}, self.pacer(), self._classify, secrets, self.retry, counters=self.counters, key=key
        )

    def _classify(self, response: Response, what: str) -> ProviderError | None:
        return classify(response, what, self.transport, self.config.conn_id, self.quota, self.now())

    def _probe(self) -> str:
        dataset = self._dataset("ohlcv-1d")
        found = self.transport.dataset_range(dataset, f"the range of {dataset}")
        return f"{self.base_url} has {dataset} from {str(found.get('start'))[:10]} to {str(found.get('end'))[:10]}"

    def _connection_problems(self) -> list[str]:
        problems, name = super()._connection_problems(), f"connection {self.config.conn_id!r}"
        if self.config.password and not KEY.fullmatch(self.config.password.strip()):
            problems.append(f'{name}: password is not a Databento API key (expected "db-" and 29 more characters)')
        return problems

    def _endpoints(self, dataset: str) -> tuple[Endpoint, ...]:
        days, found = self.option("chunk_days"), super()._endpoints(dataset)
        if days is None:
            return found
        return tuple(replace(endpoint, max_days=min(int(days), endpoint.max_days or int(days))) for endpoint in found)

    # -- requests -----------------------------------------------------------------------------------------------------------

    def fetch(self, request: Request) -> Fetched:
        self.connect()
        before = replace(self.counters)
        outcome = self._attempted(request, lambda question, days: self._streams(question, days, request))
        streams = outcome.value or []
        table = pa.concat_tables([find_dataset(request.dataset).received.empty_table(), *(stream.table for stream in streams)])
        records = sum(stream.records for stream in streams)
        source = self._dataset(request.dataset) if streams else None
        # A stream that differs from its count raises before this line.
        aside = Unexpected(sum(stream.left_aside for stream in streams), tuple(one for stream in streams for one in stream.named))
        evidence = self._evidence(
            before, records, len(streams), source=source, rows_declared=records, rows_left_aside=aside.left_aside
        )
        words = (*(self._words(streams, request) if streams else outcome.words), *aside.warnings)
        # A record of another moment or instrument may be one that a symbol lacks.
        unproved = dict.fromkeys(request.symbols, "; ".join(aside.named)) if aside.left_aside else {}

        def release() -> None:
            for stream in streams:
                stream.release()

        rows = numbered(table)
        release()
        return Fetched(
            rows, evidence, outcome.pending_from, outcome.pending_reason, outcome.refused, words, unproved=unproved, release=release
        )

    def conditions(self, dataset: str, first: date, last: date) -> dict[date, Condition]:
        self.connect()
        name = self._dataset(dataset)
        what = f"the conditions of {name} {first}..{last}"
        return read_conditions(self.transport.conditions(name, first, last, what), {"provider": self.provider, "request": what})

    def vendor_symbol(self, symbol: str) -> str:
        # All US stocks of the vendor's default datasets are spelled alike, so the dataset of a request does not matter.
        return to_vendor(symbol, self._dataset("")) if self.option("stype_in") == "raw_symbol" else symbol

    def calls_of(self, request: Request) -> int:
        """Return the calls of a request: its count and its stream."""
        return 2 * super().calls_of(request)

    def cost(self, requests: Sequence[Request]) -> float:
        """Return the vendor's charge in US dollars, discounts included. One free call per request."""
        self.connect()
        return sum(self._cost(request) for request in requests)

    def _cost(self, request: Request) -> float:
        try:
            found = self._attempted(request, lambda question, _: self.transport.cost(question, f"cost of {request}"))
        except NotYetAvailable:
            return 0.0
        return found.value or 0.0

    def expand(self, symbols: Sequence[str], first: date, last: date) -> tuple[str, ...]:
        """Return the symbols that rows of ``symbols`` carry from ``first`` to ``last`` (both inclusive).

        With ``stype_in`` parent these are the instruments of each parent on any of these dates; a parent without instruments stays as it
        is. Otherwise ``symbols``. Makes free calls only.
        """
        if self.option("stype_in") != "parent":
            return tuple(symbols)
        self.connect()
        dataset, what = self._dataset(""), f"instruments of {', '.join(symbols[:SHOWN])}"
        parents = [symbol for symbol in symbols if PARENT.fullmatch(symbol)]

        def resolve(some: Sequence[str], *stypes: str) -> dict[str, list[str]]:
            found: dict[str, list[str]] = {}
            for start in range(0, len(some), MOST_SYMBOLS):
                part = list(some[start : start + MOST_SYMBOLS])
                response = self.transport.resolve(dataset, part, (stypes[0], stypes[1]), first, last + DAY, what)
                found |= {symbol: [name for span in spans if (name := span.get("s"))] for symbol, spans in response.items()}
            return found

        members = resolve([parent.upper() for parent in parents], "parent", "instrument_id")
        raw = resolve(list(dict.fromkeys(one for ids in members.values() for one in ids)), "instrument_id", "raw_symbol")
        expanded = [
            name
            for symbol in symbols
            for name in ([one for number in members.get(symbol.upper(), []) for one in raw.get(number, [])] or [symbol])
        ]
        return tuple(dict.fromkeys(expanded))

    def _attempted(self, request: Request, ask: Callable[[Question, Days], T]) -> Outcome[T]:
        """``ask``, with what may be outcome: without malformed symbols, and until where the vendor allows.

        :raises NotYetAvailable: if all of it is too recent.
        """
        symbols, refused = self._sent(request)
        outcome: Outcome[T] = Outcome(refused=refused)
        until: datetime | None = None
        while symbols:
            days = self._days(request)
            start, end = self._span(request, days)
            if start == end:
                outcome.words = ("no session on these dates",)
                return outcome
            question = Question(
                self._dataset(request.dataset), request.dataset, self._stype, symbols, start, min(end, until or end)
            )
            try:
                outcome.value = ask(question, days)
            except Unresolved as error:
                outcome.words = (error.said,)
            except Later as error:
                if until is not None:
                    raise plain_refusal(error) from None
                request, outcome.pending_from = self._without_recent(request, days, question, error)
                outcome.pending_reason = error.said if outcome.pending_from else ""
                until = error.until
                continue
            except BadRequest as error:
                named = [sent for sent in _QUOTED.findall(error.said) if sent in symbols]
                if not named or len(refused) + len(named) > MOST_REFUSED:
                    raise
                refused |= {symbols[sent]: error.said for sent in named}
                symbols = {sent: symbol for sent, symbol in symbols.items() if sent not in named}
                continue
            return outcome
        outcome.words = ("all symbols were refused",)
        return outcome

    def _without_recent(self, request: Request, days: Days, question: Question, error: Later) -> tuple[Request, date | None]:
        """Return the request without the sessions that are not over at ``error.until``, and their first date.

        :raises EntitlementError: if the refusal does not depend on time.
        :raises NotYetAvailable: if all sessions are recent.
        """
        recent = days.first_open(error.until)
        if question.end <= error.until or self.now() - error.until > ENDED:
            raise plain_refusal(error) from None
        if recent is None:
            return request, None
        older = intersection(request.intervals, (Interval(date.min, recent),))
        if older:
            return replace(request, intervals=older), recent
        until = datetime.combine(request.last + 2 * DAY, time(), UTC)
        raise NotYetAvailable(error.said, until=until, **where_of(error)) from None

    # -- a question --------------------------------------------------------------------------------------------------------------

    @property
    def _stype(self) -> str:
        """The symbology of what is sent: parents are expanded by then."""
        stype: str = self.option("stype_in")
        return "raw_symbol" if stype == "parent" else stype

    def _dataset(self, dataset: str) -> str:
        return vendors_dataset(self.options, dataset)

    def _days(self, request: Request) -> Days:
        if request.dataset == "ohlcv-1d":
            return Days.utc(request.start, request.last)
        return (Days.futures if self._dataset(request.dataset) == FUTURES else Days.new_york)(request.start, request.last)

    def _span(self, request: Request, days: Days) -> tuple[datetime, datetime]:
        """Return the first moment that is requested, and the end, exclusive."""
        hours = read_hours(self.option("hours"))
        if hours is None or request.dataset not in self.known_options["hours"].datasets:
            return days.span
        return calendar.at(request.start, hours[0]), calendar.at(request.last, hours[1])  # of one session: see ``max_days``

    def _option_problems(self) -> list[str]:
        problems = super()._option_problems()
        if not problems:
            try:
                read_hours(self.option("hours"))
            except ValueError as error:
                problems.append(f"hours is {str(error)!r}; the end must be after the start, e.g. 0930-1600")
        return problems

    def _sent(self, request: Request) -> tuple[dict[str, str], dict[str, str]]:
        """Return symbols as the vendor's client sends them -> as requested; and refused symbols -> reason."""
        stype: str = self.option("stype_in")
        sent: dict[str, str] = {}
        refused = {}
        for symbol in request.symbols:
            if not re.fullmatch(FORMS[stype], symbol):
                refused[symbol] = f"it is not a valid {stype}"
            elif stype == "parent" and PARENT.fullmatch(symbol):
                refused[symbol] = "it is a parent without instruments on these dates"
            else:
                try:
                    spelled = to_vendor(symbol, self._dataset(request.dataset)) if stype == "raw_symbol" else symbol
                except SpellingError as error:
                    refused[symbol] = f"{symbol} {error}"
                    continue
                (name,) = symbols_list_to_list([spelled], SType.from_str(self._stype))
                if name in sent:
                    refused[symbol] = f"the vendor does not tell it from {sent[name]}"
                else:
                    sent[name] = symbol
        return sent, refused

    # -- streams -----------------------------------------------------------------------------------------------------------------

    def _streams(self, question: Question, days: Days, request: Request) -> list[StreamTable]:
        """Return all records, in streams of as many as the endpoint allows at a time.

        :raises TooManyRows: before anything is charged.
        """
        (endpoint,), what = self._endpoints(request.dataset), str(request)
        counted = self.transport.record_count(question, what)
        if counted > MOST_ROWS:
            raise TooManyRows(f"it has {counted:,} rows; a request may bring {MOST_ROWS:,}", provider=self.provider, request=what)
        parts = list(self._parts(question, counted, days, endpoint.request_rows, what))
        return [self._stream(part, number, days, what) for part, number in parts]

    def _parts(self, question: Question, counted: int, days: Days, most: int, what: str) -> Iterator[tuple[Question, int]]:
        """Yield the question, cut until no part has more than ``most`` records, and how many each has. Free.

        :raises TruncatedResponse: if the parts have not as many as the whole.
        """
        cut = days.cut(question.start, question.end) if counted > most else None
        if cut is None:
            yield question, counted
            return
        halves = []
        for half in (replace(question, end=cut), replace(question, start=cut)):
            try:
                halves.append((half, self.transport.record_count(half, what)))
            except Unresolved:  # no symbol resolves in this half
                halves.append((half, 0))
        if (found := sum(number for _, number in halves)) != counted:
            said = f"{counted} records are counted, and {found} in two parts"
            raise TruncatedResponse(said, provider=self.provider, request=what)
        for half, number in halves:
            yield from self._parts(half, number, days, most, what)

    def _stream(self, question: Question, counted: int, days: Days, what: str) -> StreamTable:
        """Return the records, as many as were counted. If the counts differ, count again first: that is free.

        :raises WrongResponse: if two downloads agree with each other and not with the count.
        """
        where = {"provider": self.provider, "request": what}
        before: int | None = None

        def parse(store: DBNStore, words: tuple[str, ...]) -> StreamTable:
            nonlocal counted, before
            stream = self._read(store, words, question, days, where)
            if stream.records != counted:
                self.counters.retries += 1
                counted = self.transport.record_count(question, what)
            if stream.records != counted:
                said = f"{stream.records} records came, {counted} are counted"
                if stream.records == before:
                    raise WrongResponse(f"{said}; the download before brought as many", **where)
                before = stream.records
                raise TruncatedResponse(said, **where)
            return stream

        try:
            return self.transport.download(question, what, parse)
        except Unresolved as error:  # in this part of the time, if nothing is counted
            if counted:
                raise WrongResponse(f"{counted} records are counted, and none come: {error.said}", **where) from None
            return StreamTable(find_dataset(question.schema).received.empty_table(), 0, (), tuple(question.symbols.values()))

    def _read(
        self, store: DBNStore, words: tuple[str, ...], question: Question, days: Days, where: Mapping[str, str]
    ) -> StreamTable:
        """:raises WrongResponse: if the stream is sound and not of the question."""
        said, metadata = f"{store.schema} of {store.dataset}", store.metadata
        if said != f"{question.schema} of {question.dataset}":
            raise WrongResponse(f"the stream is {self.transport.plain(said)}", **where)
        mappings = every_day(list(question.symbols)) if question.stype_in == "instrument_id" else metadata.mappings
        try:
            symbols = Symbols(mappings, question.symbols)
            strays, spool = Strays(), Spool(find_dataset(question.schema).received)
            table, records = read(store, question.schema, symbols, days, (question.start, question.end), strays, spool)
        except NotOfTheQuestionError as error:
            raise WrongResponse(str(error), **where) from None
        if question.schema == "ohlcv-1d" and question.dataset == FUTURES:
            table = of_sessions(table, days)
        missing = tuple(question.symbols.get(sent, sent) for sent in metadata.not_found)
        return StreamTable(table, records, words, missing, strays.count, tuple(strays.named), spool.release)

    def _words(self, streams: Sequence[StreamTable], request: Request) -> tuple[str, ...]:
        """Return the vendor's warnings on the streams, and the symbols that resolve in none of them."""
        words = [said for stream in streams for said in stream.words]
        missing = [symbol for symbol in streams[0].missing if all(symbol in stream.missing for stream in streams)]
        if missing:
            more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            dataset = self._dataset(request.dataset)
            words.append(f"{', '.join(missing[:SHOWN])}{more}: no instrument in {dataset} on these dates")
        return tuple(dict.fromkeys(words))
