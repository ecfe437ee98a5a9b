"""What every provider's hook must do: tests/providers/test_<provider>.py holds a class that inherits one of the two classes here.

`ProviderContract` is for all. `NetworkContract` adds what goes wrong between a hook and a server: the fault matrix. Neither knows a
provider. A test file supplies what is marked *given*: how to make a hook, what the provider holds, and how its server makes each of
``FAULTS``. Each case ends in exactly the rows that the provider holds or in the typed error; never in fewer rows.
"""

from __future__ import annotations

import itertools
import logging
import pickle
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar, Protocol

import pyarrow as pa
import pytest

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.capabilities import Shape, Window
from market_data.core.errors import (
    AuthError,
    BadRequest,
    ConfigError,
    EntitlementError,
    MarketDataError,
    NetworkError,
    NotYetAvailable,
    PerCellError,
    ProviderError,
    RetriableError,
    SchemaDrift,
    ServerError,
    Throttled,
    TruncatedResponse,
    UnknownSymbol,
)
from market_data.core.intervals import IntervalSet, closed
from market_data.core.outcome import Evidence
from market_data.datasets.registry import dataset
from market_data.http.call_state import CallState
from market_data.providers.base import Fetched, ProviderHook
from market_data.quality.gate import gate

KEY = "a-key-nobody-may-see"
WEEK = (date(2013, 1, 7), date(2013, 1, 11))
YEAR = (date(2012, 1, 3), date(2012, 12, 31))
TURNS = (
    *(date(2012, 3, 9), date(2012, 3, 12)),  # the sessions before and after clocks go forward
    *(date(2012, 11, 2), date(2012, 11, 5)),  # and back
    *(date(2012, 7, 3), date(2012, 11, 23), date(2012, 12, 24)),  # half days
)
NOW = datetime(2020, 6, 17, 12, tzinfo=UTC)
CLOSED = (date(2013, 1, 1), date(2013, 1, 5), date(2012, 10, 29))  # a holiday, a Saturday, a day closed by a storm

Row = dict[str, Any]


class Server(Protocol):
    """What the contract needs of a provider's server."""

    limits: Sequence[Window]
    """Its quota."""

    @property
    def calls(self) -> Sequence[Any]:
        """Calls that came, failed ones too; ``status``, and ``key_in_url`` where a URL could hold it."""

    def fault(self, kind: str, *, match: Any = None, times: int | None = 1, **options: Any) -> None:
        """Make a fault in the next ``times`` answers (None: in all) to requests that ``match``."""

    @property
    def has_faults(self) -> bool:
        """True while a fault waits for its request."""

    def forget(self) -> None:
        """As if just started."""

    def max_in_window(self, seconds: float) -> int:
        """The most calls in any window of so many seconds."""


# -- the faults ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """What can go wrong with one answer.

    :param error: what it leads to when it stays.
    :param passes: when it happens once, the same call is made again and all is well. Otherwise it leads to ``error`` at once.
    :param calls: how many calls it ends after when it happens to the first answer; None where the hook's bound is the bound.
    :param late: it takes a time-out, so a hook with short ones is needed.
    :param paging: it is about which page comes next, so it takes a page that another follows.
    :param of: shapes of endpoints that it can happen to.
    :param aside: when it stays, its rows are left aside and the others are kept.
    """

    error: type[MarketDataError]
    passes: bool = True
    calls: int | None = None
    late: bool = False
    paging: bool = False
    of: tuple[Shape, ...] = tuple(Shape)
    aside: bool = False


FAULTS: Mapping[str, Fault] = {
    # refusals
    "unauthorized": Fault(AuthError, passes=False, calls=1),
    "forbidden": Fault(EntitlementError, passes=False, calls=1),
    "forbidden_timeframe": Fault(EntitlementError, passes=False, calls=1),
    "not_found": Fault(BadRequest, passes=False, calls=1),
    "throttled": Fault(Throttled),
    "throttled_for_seconds": Fault(Throttled),
    "throttled_until_date": Fault(Throttled),
    "server_error": Fault(ServerError),
    "unavailable": Fault(ServerError),
    "request_timeout": Fault(ServerError),
    "html_error": Fault(ServerError),
    # transfers
    "reset": Fault(NetworkError),
    "slow": Fault(NetworkError, late=True),
    "trickle": Fault(NetworkError, late=True),
    "trickle_head": Fault(NetworkError, late=True),
    **{f"broken_off_{share}": Fault(TruncatedResponse) for share in ("50", "90", "99.9")},
    # bodies
    **{f"cut_{share}": Fault(TruncatedResponse) for share in ("50", "90", "99.9")},
    **{f"cut_gzip_{share}": Fault(TruncatedResponse) for share in ("50", "90", "99.9")},
    "bad_gzip": Fault(ServerError),
    "html": Fault(ServerError),
    "empty": Fault(ServerError),
    "error_with_200": Fault(ServerError),
    "drifted": Fault(SchemaDrift, passes=False, calls=1),
    # contents
    "counted_too_high": Fault(TruncatedResponse),
    "counted_too_low": Fault(ServerError),
    "null_results": Fault(TruncatedResponse),
    "absent_results": Fault(TruncatedResponse),
    "other_adjustment": Fault(ServerError),
    "other_symbol": Fault(ServerError, of=(Shape.SYMBOL, Shape.MULTI)),
    "out_of_range": Fault(ServerError, of=(Shape.SYMBOL, Shape.MULTI), aside=True),
    # The address of the next page is wrong, so asking for that page again cannot help.
    "page_loop": Fault(ServerError, passes=False, calls=2, paging=True),
    "page_loop_back": Fault(ServerError, passes=False, calls=2, paging=True),
}

How = Mapping[str, Any]
"""The arguments of `Server.fault` that make a fault."""

HTTP_FAULTS: Mapping[str, How] = {
    "unauthorized": {"kind": "unauthorized"},
    "forbidden": {"kind": "forbidden"},
    "not_found": {"kind": "not_found"},
    "throttled": {"kind": "throttled"},
    "throttled_for_seconds": {"kind": "throttled", "retry_after": 0.02},
    "throttled_until_date": {"kind": "throttled", "retry_after": "Sun, 06 Nov 1994 08:49:37 GMT"},
    "server_error": {"kind": "server_error"},
    "unavailable": {"kind": "server_error", "status": 503},
    "request_timeout": {"kind": "server_error", "status": 408, "message": "Request Timeout"},
    "html_error": {"kind": "html", "status": 502},
    "reset": {"kind": "reset"},
    "slow": {"kind": "slow", "seconds": 30},
    "trickle": {"kind": "trickle", "seconds": 0.05},
    "trickle_head": {"kind": "trickle", "seconds": 0.05, "head": True},
    **{f"broken_off_{share}": {"kind": "truncated", "fraction": float(share) / 100} for share in ("50", "90", "99.9")},
    **{f"cut_{share}": {"kind": "truncated", "fraction": float(share) / 100, "clean": True} for share in ("50", "90", "99.9")},
    **{f"cut_gzip_{share}": {"kind": "truncated_gzip", "fraction": float(share) / 100} for share in ("50", "90", "99.9")},
    "bad_gzip": {"kind": "bad_gzip"},
    "html": {"kind": "html"},
    "empty": {"kind": "empty"},
}
"""Those that the local sample server makes for any provider that speaks HTTP."""

SECOND_PAGE = "second page"


PATIENT = 60.0
"""Seconds for a response that comes: so many that a busy machine does not matter."""


def quick(hook: type[ProviderHook], *, late: Server | None = None) -> type[ProviderHook]:
    """Return the class of an HTTP hook whose pauses between tries take no time.

    :param late: while this server has a fault left to make, the hook waits tenths of a second for a response.
    """

    class Quick(hook):
        def connect(self) -> None:
            super().connect()
            transport = self._transport
            transport.sleep = lambda seconds: None
            if late is not None:
                # Databento's own client is given the deadline of each call, ours has one.
                name = "_once" if hasattr(transport, "_once") else "_response"
                respond = getattr(transport, name)

                def hurried(*call: Any) -> Any:
                    reading, deadline = (0.2, 0.4) if late.has_faults else (PATIENT, PATIENT)
                    transport.timeout, transport.deadline = (PATIENT, reading), deadline
                    return respond(*call[:-1], deadline) if name == "_once" else respond(*call)

                setattr(transport, name, hurried)

    return Quick


def until(condition: Callable[[], bool], seconds: float = PATIENT) -> bool:
    """Return as soon as ``condition`` holds, or what it is after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


# -- for every provider ----------------------------------------------------------------------------------------------------------


class ProviderContract:
    """Any provider, one without a network too."""

    provider: ClassVar[str]
    """*Given*: its name in the registry."""
    endpoints: ClassVar[Mapping[str, Shape]]
    """*Given*: its endpoints of ``dataset`` and their shapes."""
    anchor: ClassVar[Row]
    """*Given*: a whole row known from elsewhere, volume in shares."""
    dataset: ClassVar[str] = "ohlcv-1d"
    symbols: ClassVar[tuple[str, ...]] = ("IBM", "BRK.B", "SPY")
    sources: ClassVar[Mapping[str, str]] = {}
    """Values of options that make another source than the rule says -> the source."""
    unknown: ClassVar[str | None] = "NOSUCH"
    """A well-formed symbol that the provider does not know; None where it knows all."""
    span: ClassVar[tuple[date, date]] = YEAR
    """First and last date of which all rows are compared."""
    says_unknown: ClassVar[bool] = False
    """Whether it says so: then it is the error `UnknownSymbol`, of which the pipeline makes empty cells."""
    lacking: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Endpoint -> columns that it does not have although the provider's others do."""

    def make_hook(self, server: Any, *, key: str = KEY, late: bool = False, **config: Any) -> ProviderHook:
        """*Given*: a hook that asks ``server`` with ``key``.

        :param late: give up after tenths of a second. Pauses between tries are to be short in any case.
        :param config: further fields of its `ProviderConfig`, and ``options``.
        """
        raise NotImplementedError

    def held(self, server: Any, symbols: Sequence[str], intervals: IntervalSet) -> list[Row]:
        """*Given*: the rows of ``dataset.received`` that the provider holds of these cells, found out without the hook."""
        raise NotImplementedError

    def given(self, endpoint: str, rows: Sequence[Row]) -> list[Row]:
        """Rows that the provider holds, as an endpoint gives them."""
        return [{**row, **dict.fromkeys(self.lacking.get(endpoint, ()))} for row in rows]

    @pytest.fixture(scope="class")
    @classmethod
    def running(cls) -> Any:
        """*Given*, where there is one: the started server."""
        return None

    @pytest.fixture
    def server(self, running: Any) -> Any:
        if running is not None:
            running.forget()
        return running

    @pytest.fixture
    def hook(self, server: Any) -> Iterator[ProviderHook]:
        """A hook that is ready."""
        with self.make_hook(server) as hook:
            yield hook

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        for name, values in self.parameters().items():
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, values, ids=str)

    def parameters(self) -> dict[str, list[Any]]:
        """What tests are repeated for: argument -> values."""
        return {"endpoint": list(self.endpoints), "turn": list(TURNS), "day": list(CLOSED)}

    def ask(self, endpoint: str, first: date, last: date, symbols: Sequence[str] | None = None) -> Request:
        """A request of an endpoint: the first session only, or one symbol only, or all of both, as its shape has it."""
        chosen, shape = tuple(symbols or self.symbols), self.endpoints[endpoint]
        last = first if shape is Shape.MARKET else last
        return Request(self.dataset, endpoint, chosen[:1] if shape is Shape.SYMBOL else chosen, (closed(first, last),))

    def check_whole(self, fetched: Fetched, server: Any, request: Request) -> None:
        """Exactly the rows that the provider holds, and evidence of it."""
        assert rows(fetched.table) == self.given(request.endpoint, self.held(server, request.symbols, request.intervals))
        evidence = fetched.evidence
        assert evidence.last_page_seen
        assert evidence.rows_declared in (None, evidence.rows_received)
        assert evidence.rows_received >= len(fetched.table)
        assert evidence.calls >= evidence.pages >= 1
        assert evidence.bytes > 0

    # what comes

    def test_all_rows_come_as_the_provider_holds_them(self, hook, server, endpoint):
        request = self.ask(endpoint, *self.span)
        fetched = hook.fetch(request)
        assert fetched.table.schema == dataset(self.dataset).received
        assert len(fetched.table) >= len(request.symbols)
        assert (fetched.pending_from, fetched.pending_reason) == (None, "")
        self.check_whole(fetched, server, request)

    def test_a_known_bar_has_its_known_values(self, hook, endpoint):
        symbol, session = self.anchor["symbol"], self.anchor["session"]
        found = rows(hook.fetch(self.ask(endpoint, session, session, [symbol])).table)
        assert [row for row in found if order(row) == order(self.anchor)] == self.given(endpoint, [self.anchor])

    def test_all_endpoints_give_the_same_bar(self, hook):
        for symbol, session in itertools.product(self.symbols, calendar.sessions(WEEK[0], WEEK[1] + timedelta(days=1))):
            answers = [rows(hook.fetch(self.ask(endpoint, session, session, [symbol])).table) for endpoint in self.endpoints]
            assert len(answers[0]) >= 1
            lacking = {column for columns in self.lacking.values() for column in columns}
            common = [[{column: row[column] for column in row if column not in lacking} for row in answer] for answer in answers]
            assert common == common[:1] * len(common)

    def test_a_bar_stands_under_its_session_around_clock_changes_and_on_half_days(self, hook, endpoint, turn):
        table = hook.fetch(self.ask(endpoint, turn, turn)).table
        assert set(table["session"].to_pylist()) == {turn}
        assert table["bar_time"].type == pa.timestamp("us", tz="UTC")
        if dataset(self.dataset).timeframe == "1d":
            assert set(table["bar_time"].to_pylist()) == {datetime(turn.year, turn.month, turn.day, tzinfo=UTC)}

    def test_a_closed_day_is_empty_not_an_error(self, hook, endpoint, day):
        fetched = hook.fetch(self.ask(endpoint, day, day))
        assert len(fetched.table) == 0
        assert fetched.table.schema == dataset(self.dataset).received
        assert fetched.evidence.last_page_seen

    def test_an_unknown_symbol_is_empty_not_an_error(self, hook, endpoint):
        symbol, known = self.unknown or "NOSUCH", self.unknown is None
        request = self.ask(endpoint, *WEEK, [symbol])
        if self.says_unknown:
            with pytest.raises(UnknownSymbol) as caught:
                hook.fetch(request)
            assert caught.value.symbols == (symbol,)
            return
        assert (len(hook.fetch(request).table) > 0) == known
        if self.endpoints[endpoint] is not Shape.SYMBOL:
            beside = hook.fetch(self.ask(endpoint, *WEEK, [symbol, self.symbols[0]])).table
            assert beside["symbol"].unique().to_pylist() == [symbol] * known + [self.symbols[0]]

    def test_holes_in_the_dates_do_not_matter(self, hook, server):
        for endpoint, shape in self.endpoints.items():
            if shape is not Shape.MARKET:
                parts = (closed(WEEK[0], WEEK[0]), closed(WEEK[1], WEEK[1]))
                request = replace(self.ask(endpoint, *WEEK), intervals=parts)
                wanted = self.given(endpoint, self.held(server, request.symbols, parts))
                assert [row for row in rows(hook.fetch(request).table) if row["session"] in WEEK] == wanted
                assert {(row["symbol"], row["session"]) for row in wanted} == set(itertools.product(request.symbols, WEEK))

    # what it says

    def test_the_endpoints_are_those_it_names(self, server):
        named = self.make_hook(server).capabilities(self.dataset).endpoints
        assert {endpoint.name: endpoint.shape for endpoint in named} == dict(self.endpoints)

    def test_a_dataset_it_does_not_serve_is_refused_with_those_it_does(self, hook):
        with pytest.raises(ConfigError, match=f"{self.provider} does not serve the dataset 'nothing'; it serves: .*{self.dataset}"):
            hook.capabilities("nothing")

    @pytest.mark.parametrize(
        ("extra", "text"),
        [
            ({"plan": "platinum"}, "extra.plan is 'platinum'; known plans: "),
            ({"rate": 5}, "unknown key 'rate'; known keys: .*limits"),
            ({"calls_per_minute_per_slot": 0}, "calls_per_minute_per_slot is 0; a number above 0"),
            ({"limits": [{"calls": 5}]}, r"extra.limits is \[{'calls': 5}\]"),
        ],
    )
    def test_a_wrong_connection_is_named_before_any_call(self, server, extra, text):
        with pytest.raises(ConfigError, match=f"connection '{self.provider}_default'.*{text}"):
            self.make_hook(server, extra=extra).validate_config()
        assert server is None or not server.calls

    def test_a_wrong_option_is_named(self, server):
        with pytest.raises(ConfigError, match=f"colour is unknown; options of {self.provider}: "):
            self.make_hook(server, options={"colour": "red"}).validate_config()

    def test_the_connection_test_says_that_it_works(self, server):
        assert self.make_hook(server).test_connection()[0]

    def test_a_non_default_option_makes_a_source_of_its_own(self, server):
        hook = self.make_hook(server)
        assert hook.source == self.provider
        for name, option in hook.known_options.items():
            for value in option.schema.get("enum", [])[1:]:
                own = f"{self.provider}~{value}" if option.variant else self.provider
                assert self.make_hook(server, options={name: value}).source == self.sources.get(value, own)

    def test_opening_and_closing_twice_is_harmless(self, server):
        hook = self.make_hook(server)
        for _ in range(2):
            hook.connect()
        for _ in range(2):
            hook.close()
        assert len(hook.fetch(self.ask(next(iter(self.endpoints)), *WEEK)).table) > 0
        hook.close()

    def test_the_key_is_in_no_representation(self, hook):
        hook.fetch(self.ask(next(iter(self.endpoints)), *WEEK))
        shown = [hook, hook.config, getattr(hook, "_transport", None)]
        assert not any(KEY in text for thing in shown for text in (repr(thing), str(thing)))

    def test_evidence_counts_its_own_request_only(self, hook, endpoint):
        request = self.ask(endpoint, *WEEK)
        first, second = hook.fetch(request).evidence, hook.fetch(request).evidence
        assert measured(first) == measured(second)
        if hook.counters.calls:
            assert hook.counters.calls == first.calls + second.calls


# -- for providers with a server -------------------------------------------------------------------------------------------------


class NetworkContract(ProviderContract):
    """A provider that is called over a network."""

    faults: ClassVar[Mapping[str, How]]
    """*Given*: how its server makes each of ``FAULTS``."""
    without: ClassVar[Mapping[str, str]] = {}
    """Faults that this provider cannot have -> why."""
    outcomes: ClassVar[Mapping[str, Fault]] = {}
    """What comes of a fault where that differs from ``FAULTS``."""
    duplicates: ClassVar[bool] = True
    """Whether an answer of the provider can hold a row twice; its server then has the fault ``duplicated``."""
    paged: ClassVar[str | None] = None
    """An endpoint whose answers have pages, or None; no market-wide one."""
    second_page: ClassVar[Any] = None
    """What `Server.fault` matches requests for later pages with."""
    tells_quota: ClassVar[bool] = False
    """Whether its answers say when no call is left, so that the hook waits in time and none is refused."""
    keyed: ClassVar[bool] = True
    """Whether it asks for a key."""
    answered: ClassVar[int] = 200
    """Status of a call that was answered. ``too_many``: of one that was over the quota."""
    too_many: ClassVar[int] = 429
    says_when: ClassVar[bool] = True
    """Whether a refusal of too many calls can say how long to wait."""
    besides: ClassVar[int] = 0
    """Calls that a request takes besides those for its pages, such as one that asks how many rows there are."""
    texts: ClassVar[str | None] = None
    """What matches requests whose responses are text, if others are not."""
    most_calls: ClassVar[int] = 5
    """Calls after which a fault that lasts must have ended in an error."""
    http: ClassVar[bool] = True
    """Whether its transport is that of HTTP providers."""
    young_days: ClassVar[int | None] = None
    """A refusal of sessions from so many days before today (UTC) on may mean "not yet"; None where it never does.
    The hook takes the time from its ``now``."""

    @pytest.fixture
    def small_pages(self) -> None:
        """*Given*, where ``paged`` is: pages so small that a year has at least four."""

    def refuse_from(self, server: Any, day: date) -> None:
        """*Given*, where ``young_days`` is: the plan has no session of ``day`` or later."""
        raise NotImplementedError

    def refuse_saying(self, server: Any, text: str, status: int) -> None:
        """*Given*: the server refuses everything with this status and this text of its own."""
        server.fault("server_error", times=None, status=status, message=text)

    def duplicate(self, server: Any, *, conflicting: bool) -> None:
        """The next answer has every row twice; ``conflicting``: the second time with other values."""
        server.fault("duplicated", conflicting=conflicting)

    @pytest.fixture(autouse=True)
    def _the_key_stays_secret(self, server, caplog):
        """After every test: the key was in no log record of any library, and in no URL."""
        caplog.set_level(logging.DEBUG)
        yield
        records = [*caplog.get_records("call"), *caplog.get_records("setup")]
        assert not any(KEY in f"{record.getMessage()} {record.args} {record.exc_text}" for record in records)
        assert not any(getattr(call, "key_in_url", False) for call in server.calls)

    def parameters(self):
        places = [*self.endpoints, *([SECOND_PAGE] if self.paged else [])]
        cases = [Case(name, place) for name in self.faults for place in places if self.happens(name, place)]
        return {
            **super().parameters(),
            "passing": [case for case in cases if self.outcome(case.fault).passes],
            "lasting": [
                case for case in cases if self.is_error(case) and (not self.outcome(case.fault).late or case.place == places[0])
            ],
            "aside": [case for case in cases if not self.is_error(case)],
            "final": [case for case in cases if not self.outcome(case.fault).passes and self.is_error(case)],
            "status": [400, 401, 403, 404, 429, 500],
            "conflicting": [False, True],
            "packed": [False, True],
        }

    def outcome(self, fault: str) -> Fault:
        return self.outcomes.get(fault, FAULTS[fault])

    def is_error(self, case: Case) -> bool:
        """Whether a fault that lasts is an error."""
        return not self.outcome(case.fault).aside

    def happens(self, fault: str, place: str) -> bool:
        """Whether a fault can happen to an endpoint, or to a second page."""
        outcome, second = self.outcome(fault), place == SECOND_PAGE
        shape = self.endpoints[self.paged if second else place]
        return shape in outcome.of and (second or not outcome.paging)

    def put(self, server: Any, case: Case, times: int | None) -> Request:
        """Make the fault; the request that will meet it."""
        second = case.place == SECOND_PAGE
        server.fault(**{"match": self.second_page if second else None, **self.faults[case.fault]}, times=times)
        return self.ask(self.paged if second else case.place, *YEAR)

    def check_error(self, error: MarketDataError, request: Request, hook: ProviderHook) -> None:
        """It names provider, request and what to do, is short, holds no markup and no key, and crosses process borders."""
        text = str(error)
        assert text.startswith(f"{self.provider}: {request}: ")
        if isinstance(error, ProviderError):
            assert (error.provider, error.request) == (self.provider, str(request))
            assert isinstance(error, PerCellError) or (error.to_do and text.endswith(f". To do: {error.to_do}"))
        assert len(text) < 600
        assert not re.search(r"</?[a-zA-Z!]", text)
        assert "\n" not in text
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), vars(copy), str(copy)) == (type(error), vars(error), text)
        chain, link = [], error
        while link is not None:
            chain.append(link)
            link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
        shown = [f"{link} {link!r} {vars(link)}" for link in chain] + [repr(hook), repr(vars(hook.counters))]
        assert not any(KEY in text for text in shown)
        assert KEY.encode() not in pickle.dumps(error)

    # the fault matrix

    def test_every_fault_is_tested_or_cannot_happen(self):
        assert {*self.faults, *self.without} == set(FAULTS)
        assert not set(self.faults) & set(self.without)

    def test_a_fault_that_passes_costs_a_call_and_no_row(self, server, request, passing):
        if passing.place == SECOND_PAGE:
            request.getfixturevalue("small_pages")
        late = self.outcome(passing.fault).late
        requested = self.put(server, passing, times=1)
        with self.make_hook(server, late=late) as hook:
            fetched = hook.fetch(requested)
        self.check_whole(fetched, server, requested)
        evidence = fetched.evidence
        assert evidence.retries == evidence.calls - evidence.pages - self.besides
        assert evidence.retries == 1 or ((late or self.besides) and evidence.retries > 1)
        assert hook.counters.calls == evidence.calls
        # A call that the hook gave up in tenths of a second may arrive after the whole response to another.
        assert until(lambda: len(server.calls) >= evidence.calls, PATIENT if late else 0)
        assert len(server.calls) == evidence.calls

    def test_a_fault_that_lasts_is_its_error_after_few_calls(self, server, request, lasting):
        if lasting.place == SECOND_PAGE:
            request.getfixturevalue("small_pages")
        outcome, began = self.outcome(lasting.fault), time.monotonic()
        before = 1 if lasting.place == SECOND_PAGE else 0
        requested = self.put(server, lasting, times=None)
        with self.make_hook(server, late=outcome.late) as hook, pytest.raises(outcome.error) as caught:
            hook.fetch(requested)
        assert type(caught.value) is outcome.error
        self.check_error(caught.value, requested, hook)
        calls = hook.counters.calls
        assert before + (2 if outcome.passes else 1) <= calls <= before + self.most_calls
        assert until(lambda: len(server.calls) >= calls, PATIENT if outcome.late else 0)
        assert len(server.calls) == calls
        assert time.monotonic() - began < PATIENT

    def test_a_fault_that_no_retry_helps_is_its_error_at_once(self, server, request, final):
        if final.place == SECOND_PAGE:
            request.getfixturevalue("small_pages")
        outcome = self.outcome(final.fault)
        requested = self.put(server, final, times=1)
        with self.make_hook(server) as hook, pytest.raises(outcome.error) as caught:
            hook.fetch(requested)
        self.check_error(caught.value, requested, hook)
        before = 1 if final.place == SECOND_PAGE else 0
        assert hook.counters.calls == len(server.calls) == before + outcome.calls
        assert not isinstance(caught.value, RetriableError) or outcome.paging  # paging begins anew with the task's next try

    def test_unexpected_rows_that_keep_coming_are_left_aside_and_counted(self, server, request, aside):
        if aside.place == SECOND_PAGE:
            request.getfixturevalue("small_pages")
        requested = self.put(server, aside, times=None)
        with self.make_hook(server) as hook:
            fetched = hook.fetch(requested)
        whole = self.given(requested.endpoint, self.held(server, requested.symbols, requested.intervals))
        found = rows(fetched.table)
        lost = [row for row in whole if row not in found]
        assert found == [row for row in whole if row not in lost]
        assert lost
        assert found
        evidence = fetched.evidence
        assert evidence.rows_left_aside == len(lost)
        assert evidence.rows_received == len(found) + len(lost)
        assert {row["symbol"] for row in lost} <= set(fetched.unproved)  # what is lost must not be taken for empty
        assert re.search("not requested came and (is|are) left aside: ", fetched.warnings[0])

    # pages

    def test_pages_are_followed_to_the_last(self, server, hook, small_pages):
        if self.paged is None:
            pytest.skip(f"{self.provider} has no pages")
        request = self.ask(self.paged, *YEAR)
        fetched = hook.fetch(request)
        self.check_whole(fetched, server, request)
        assert fetched.evidence.pages == fetched.evidence.calls == len(server.calls) >= 4
        assert fetched.evidence.rows_received == len(fetched.table)
        assert len(set(fetched.evidence.request_ids)) == fetched.evidence.pages

    # copies: a hook picks none; the gate decides

    def test_duplicate_rows_all_come_and_the_gate_decides(self, server, hook, endpoint, conflicting):
        if not self.duplicates:
            pytest.skip(f"{self.provider} cannot send a row twice")
        request = self.ask(endpoint, *WEEK)
        held = self.given(endpoint, self.held(server, request.symbols, request.intervals))
        self.duplicate(server, conflicting=conflicting)
        fetched = hook.fetch(request)
        assert len(fetched.table) == 2 * len(held) > 0
        assert fetched.evidence.rows_received >= len(fetched.table)
        assert fetched.evidence.rows_declared in (None, fetched.evidence.rows_received)
        assert [row for row in rows(fetched.table) if row in held] == sorted(held * (1 if conflicting else 2), key=order)
        sessions = calendar.sessions(request.start, request.last + timedelta(days=1))
        gated = gate(dataset(self.dataset), fetched.table, request, sessions)
        assert rows(gated.good) == ([] if conflicting else held)
        assert set(gated.bad["reasons"].to_pylist()) == {"conflicting duplicate" if conflicting else "duplicate row"}
        assert len(gated.bad) == (2 if conflicting else 1) * len(held)

    def test_a_byte_order_mark_at_the_start_of_a_body_changes_nothing(self, server, hook, endpoint, packed):
        if not self.http:
            pytest.skip(f"the bodies of {self.provider} are not text")
        request = self.ask(endpoint, *WEEK)
        held = rows(hook.fetch(request).table)
        server.fault("byte_order_mark", match=self.texts, times=None, packed=packed)
        assert rows(hook.fetch(request).table) == held
        server.faults.clear()
        server.fault("byte_order_mark", match=self.texts, times=None, packed=packed)
        with self.make_hook(server, key="another-key-nobody-may-see") as wrong, pytest.raises(AuthError):
            wrong.fetch(request)

    # keys and words

    def test_a_wrong_key_fails_after_one_call_and_says_where_the_key_is(self, server, endpoint):
        if not self.keyed:
            pytest.skip(f"{self.provider} asks for no key")
        wrong = "another-key-nobody-may-see"
        with (
            self.make_hook(server, key=wrong) as hook,
            pytest.raises(AuthError, match=f"connection '{self.provider}_default'") as caught,
        ):
            hook.fetch(self.ask(endpoint, *WEEK))
        assert hook.counters.calls == len(server.calls) == 1
        assert wrong not in f"{caught.value} {caught.value!r} {vars(caught.value)}"

    def test_the_connection_test_says_what_is_wrong(self, server):
        if not self.keyed:
            pytest.skip(f"{self.provider} asks for no key")
        works, message = self.make_hook(server, key="another-key").test_connection()
        assert not works
        assert "To do: put a valid key into the connection" in message
        assert "another-key" not in message

    def test_what_the_provider_says_is_shown_short_and_without_markup_and_key(self, server, hook, status):
        text = f"<html><script>var x = 1 < 2;</script><h1>Sorry</h1>\n for {KEY}: key={KEY}&amp;" + "<p>again</p>" * 500
        self.refuse_saying(server, text, status)
        request = self.ask(next(iter(self.endpoints)), *WEEK)
        with pytest.raises(ProviderError, match="Sorry for") as caught:
            hook.fetch(request)
        self.check_error(caught.value, request, hook)

    def test_a_port_nobody_listens_on_is_a_network_error(self, server):
        with socket.socket() as taken:  # bound, so nobody else gets it; not listening
            taken.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            request = self.ask(next(iter(self.endpoints)), *WEEK)
            with self.make_hook(server, base_url=f"http://{address}") as hook, pytest.raises(NetworkError, match=address) as caught:
                hook.fetch(request)
        self.check_error(caught.value, request, hook)
        assert 2 <= hook.counters.calls <= self.most_calls

    def test_a_redirect_is_an_error_and_nothing_is_sent_to_its_target(self, server):
        if not self.http:
            pytest.skip(f"{self.provider} does not speak HTTP")

        class Elsewhere(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(307)  # the target would get the same method and body
                self.send_header("Location", f"{server.url}{self.path}")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        elsewhere = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
        Thread(target=elsewhere.serve_forever, daemon=True).start()
        request = self.ask(next(iter(self.endpoints)), *WEEK)
        address = f"http://127.0.0.1:{elsewhere.server_port}"
        try:
            with self.make_hook(server, base_url=address) as hook, pytest.raises(ServerError, match="redirect") as caught:
                hook.fetch(request)
        finally:
            elsewhere.shutdown()
            elsewhere.server_close()
        self.check_error(caught.value, request, hook)
        assert server.calls == []

    # waiting

    def test_a_long_wait_is_left_to_the_task(self, server, hook):
        if not self.says_when:
            pytest.skip(f"{self.provider} does not say how long to wait")
        server.fault("throttled", times=None, retry_after=300)
        request = self.ask(next(iter(self.endpoints)), *WEEK)
        for calls in (1, 1):  # the second time the account's limiter knows already
            with pytest.raises(Throttled) as caught:
                hook.fetch(request)
            assert caught.value.retry_after == pytest.approx(300, abs=5)
            assert len(server.calls) == hook.counters.calls == calls
            self.check_error(caught.value, request, hook)

    def test_the_servers_quota_is_kept(self, server):
        server.limits = [Window(10, 0.4)]
        sessions = calendar.sessions(YEAR[0], YEAR[1])[:25]
        with self.make_hook(server, extra={"calls_per_minute_per_slot": 60_000, "limits": [{"calls": 10, "seconds": 0.4}]}) as hook:
            for session in sessions:
                hook.fetch(self.ask(next(iter(self.endpoints)), session, session))
            assert CallState.parse(hook.pacer().limiter.store.read().text).running == {}  # else a call would count for its lease
        assert len(server.calls) == 25 * (1 + self.besides)
        assert not [call for call in server.calls if call.status == self.too_many]
        assert server.max_in_window(0.4) <= 10

    def test_a_quota_smaller_than_expected_costs_time_and_no_row(self, server):
        server.limits = [Window(2, 0.4)]
        sessions = calendar.sessions(YEAR[0], YEAR[1])[:5]
        with self.make_hook(
            server, extra={"calls_per_minute_per_slot": 60_000, "limits": [{"calls": 100, "seconds": 0.4}]}
        ) as hook:
            for session in sessions:
                request = self.ask(next(iter(self.endpoints)), session, session)
                self.check_whole(hook.fetch(request), server, request)
        assert [call.status for call in server.calls].count(self.answered) == 5 * (1 + self.besides)
        assert [call.status for call in server.calls].count(self.too_many) == hook.counters.retries
        in_time = server.max_in_window(0.4) <= 2  # a machine so slow that no call comes too early
        assert (hook.counters.retries == 0) == (self.tells_quota or in_time)

    # sessions that the plan does not have yet

    @pytest.fixture
    def young(self, hook: ProviderHook) -> date:
        """The first date that may be refused as too young. The hook's clock stands at ``NOW``."""
        if self.young_days is None:
            pytest.skip(f"{self.provider} does not refuse sessions as too young")
        hook.now = lambda: NOW
        return NOW.date() - timedelta(days=self.young_days)

    def test_what_is_young_is_not_yet_available(self, server, hook, young, endpoint):
        self.refuse_from(server, young)
        for day in (young, young + timedelta(days=1), young + timedelta(days=30)):  # the last one is in the future
            with pytest.raises(NotYetAvailable) as caught:
                hook.fetch(self.ask(endpoint, day, day))
            assert caught.value.until > datetime(day.year, day.month, day.day, tzinfo=UTC)
            self.check_error(caught.value, self.ask(endpoint, day, day), hook)

    def test_what_is_older_is_not_refused_with_it(self, server, hook, young):
        for endpoint, shape in self.endpoints.items():
            if shape is not Shape.MARKET:
                for last in (young, young + timedelta(days=30)):
                    server.forget()
                    self.refuse_from(server, young)
                    request = self.ask(endpoint, young - timedelta(days=800), last)
                    fetched = hook.fetch(request)
                    older = self.ask(endpoint, request.start, young - timedelta(days=1))
                    self.check_whole(fetched, server, older)
                    assert len(fetched.table) > 500
                    assert fetched.pending_from == young
                    assert fetched.pending_reason
                    assert fetched.evidence.calls == len(server.calls) == 2 + self.besides

    def test_what_is_older_and_refused_too_is_not_in_the_plan(self, server, hook, young):
        for endpoint, shape in self.endpoints.items():
            if shape is not Shape.MARKET:
                server.forget()
                before = hook.counters.calls
                self.refuse_from(server, date(1990, 1, 1))
                with pytest.raises(EntitlementError):
                    hook.fetch(self.ask(endpoint, young - timedelta(days=800), young))
                assert 1 <= hook.counters.calls - before == len(server.calls) <= 2


@dataclass(frozen=True)
class Case:
    """A fault, and where it happens: an endpoint, or ``SECOND_PAGE``."""

    fault: str
    place: str

    def __str__(self) -> str:
        return f"{self.fault}-{self.place.replace(' ', '_')}"


def order(row: Row) -> tuple[str, date, datetime]:
    return row["symbol"], row["session"], row["bar_time"]


def rows(table: pa.Table) -> list[Row]:
    """The rows in the order of their keys."""
    return sorted(table.to_pylist(), key=order)


def measured(evidence: Evidence) -> dict[str, Any]:
    """Evidence without the provider's ids, which differ from call to call, and without sizes, as they hold the ids."""
    return {field.name: getattr(evidence, field.name) for field in fields(evidence) if field.name not in ("request_ids", "bytes")}
