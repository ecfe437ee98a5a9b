"""Define what every provider hook supplies, and what all hooks share.

A hook fetches: it turns a :class:`~market_data.core.batch.Request` into Arrow, with evidence that the response is complete. Which
datasets, endpoints and options there are is in the provider's ``spec.py``. Pacing, retries, time-outs and redaction are in
:mod:`market_data.http`. A hook gets its connection handed in and reads no Airflow connection itself.
"""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

import pyarrow as pa

from market_data.core import settings
from market_data.core.batch import Request
from market_data.core.capabilities import Capabilities, Condition, Endpoint, Quota, Window
from market_data.core.errors import ConfigError, MarketDataError
from market_data.core.intervals import DAY
from market_data.core.messages import shown, suggestion
from market_data.core.outcome import Evidence
from market_data.core.retry_policy import USUAL, RetryPolicy
from market_data.core.urls import credentials_problem
from market_data.http.call_state import Rules
from market_data.http.client import Counters
from market_data.http.file_store import FileStore
from market_data.http.limiter import Limiter, Stores
from market_data.http.rate_limit import Pacer
from market_data.providers.records import Records
from market_data.providers.spec import Option, ProviderSpec, option_problems, source_of
from market_data.providers.spool import nothing_to_release

MOST_CALLS = 1_000_000
"""Calls of a quota's window, or per minute and slot."""
LONGEST_LIMIT = 366 * 86_400
"""Seconds of a quota's window."""
MOST_WINDOWS = 20
KEY_PLACE = "keys belong into the connection's login and password"


@dataclass(frozen=True)
class SubscriptionPlan:
    """The limits of a subscription, from the provider's price list.

    :param quota: rate of a slot, and the account's windows.
    :param history_years: years of history from today backwards, or None for all of it.
    :param available_after: seconds after midnight UTC of a session's date until the plan has the session.
    """

    quota: Quota
    history_years: int | None = None
    available_after: float = 0.0


@dataclass(frozen=True)
class ProviderConfig:
    """The fields of a connection that a hook uses.

    The secrets stay out of ``repr``, and the address, which may hold one.

    :param limit_store: account -> where its limits are kept; None: in files of this host.
    """

    conn_id: str
    base_url: str = field(repr=False)
    login: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict)
    limit_store: Stores | None = field(default=None, repr=False, compare=False)

    def limiter(self, account: str, rules: Rules) -> Limiter:
        """Return the limiter of an account.

        :raises ConfigError: if the connection of the limits is missing or wrong.
        """
        return Limiter((self.limit_store or file_store)(account), rules)

    def close(self) -> None:
        """Close the client of the limits' server. The next call opens it again."""
        if self.limit_store is not None:
            self.limit_store.close()


def no_other_connection(conn_id: str) -> ProviderConfig:
    """Refuse to read a further connection.

    :raises ConfigError: always.
    """
    raise ConfigError(f"connection {conn_id!r} cannot be read here: only one connection was handed in")


@dataclass(frozen=True)
class Fetched:
    """A provider's complete response to a request.

    :param table: the provider's rows in the columns of ``dataset.received``, of the requested symbols only.
    :param evidence: proof that it is complete.
    :param pending_from: the provider does not have the sessions from this date on yet (its words in ``pending_reason``); None where
        it has all.
    :param refused: symbol -> why, for symbols that the provider does not take and that were left out of the request; nothing is known
        of their cells.
    :param warnings: messages that the provider sent with the data, for the user to read.
    :param odd: rows of the request that cannot be read: the columns of ``dataset.received``, null where unreadable, and ``reasons``
        (string). None: there are none.
    :param unproved: symbol -> why its cells without rows are not known to be empty; they get no state.
    :param release: drops from memory what was read of the table, if that is in a file.
    """

    table: pa.Table
    evidence: Evidence
    pending_from: date | None = None
    pending_reason: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    odd: pa.Table | None = None
    unproved: Mapping[str, str] = field(default_factory=dict)
    release: Callable[[], None] = nothing_to_release


class ProviderHook(ABC):
    """Base of all provider hooks.

    :param config: the connection.
    :param options: the feed's own settings (``adjustment``, ...); checked by :meth:`validate_config`.
    :param connections: reads further connections that the first one names, by id; raises ConfigError.
    :param retry: fields of the retry policy that differ from ``default_retry``.
    """

    spec: ClassVar[ProviderSpec]
    """From the ``spec.py`` beside the hook."""
    conn_type: ClassVar[str] = "http"
    hook_name: ClassVar[str]
    default_base_url: ClassVar[str] = ""
    plans: ClassVar[Mapping[str, SubscriptionPlan]]
    default_plan: ClassVar[str]
    default_retry: ClassVar[RetryPolicy] = USUAL
    known_extra: ClassVar[tuple[str, ...]] = ()
    """Keys of the connection's extra beyond plan, quota and limiter."""
    utc_days: ClassVar[bool] = False
    """True where the vendor counts the calls of a day from midnight UTC, not those of the last 24 hours."""

    def __init__(
        self,
        config: ProviderConfig,
        *,
        options: Mapping[str, Any] | None = None,
        connections: Callable[[str], ProviderConfig] = no_other_connection,
        retry: Mapping[str, Any] | None = None,
    ) -> None:
        self.config = config
        self.options = {name: value for name, value in (options or {}).items() if value is not None}
        self.connections = connections
        self.retry = replace(self.default_retry, **(retry or {}))
        self.counters = Counters()
        """Calls, retries and bytes so far, failed requests included; :meth:`fetch` counts here."""
        self.records = Records()
        """What is known beyond a request; the pipeline sets it."""

    # -- connection ------------------------------------------------------------------------------------------------------------

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self.spec.name

    @property
    def known_options(self) -> Mapping[str, Option]:
        """The provider's own settings, by name."""
        return self.spec.options

    @property
    def base_url(self) -> str:
        return self.config.base_url or self.default_base_url

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @abstractmethod
    def connect(self) -> None:
        """Open what :meth:`fetch` needs; no call is made. Calling it twice is harmless."""

    @abstractmethod
    def close(self) -> None:
        """Close what `connect` opened, and the client of the limits. Calling it twice is harmless."""
        self.config.close()

    def test_connection(self) -> tuple[bool, str]:
        """Return True where the connection works, and a message for the user; makes one cheap call."""
        try:
            self.validate_config()
            with self:
                return True, self._probe()
        except MarketDataError as error:
            return False, str(error)

    @abstractmethod
    def _probe(self) -> str:
        """Make one cheap call that needs the key; return a message for the user."""

    # -- capabilities ----------------------------------------------------------------------------------------------------------

    def validate_config(self) -> None:
        """Check connection and options without any call.

        :raises ConfigError: naming every wrong field, its value and what is allowed.
        """
        problems = [*self._connection_problems(), *self._option_problems()]
        if problems:
            raise ConfigError("; ".join(problems))

    def option(self, name: str) -> Any:
        """Return the value of an option, or its default."""
        return self.spec.option(self.options, name)

    @property
    def source(self) -> str:
        """The name under which the rows are stored, see `source_of`."""
        return source_of(self.spec, self.options)

    @property
    def plan(self) -> SubscriptionPlan:
        """The subscription plan that the connection names."""
        return self.plans[self.config.extra.get("plan", self.default_plan)]

    @property
    def quota(self) -> Quota:
        """The plan's quota; what the connection's extra says of it wins."""
        extra, quota = self.config.extra, self.plan.quota
        limits = tuple(Window(int(w["calls"]), float(w["seconds"])) for w in extra["limits"]) if "limits" in extra else quota.limits
        return Quota(float(extra.get("calls_per_minute_per_slot", quota.calls_per_minute_per_slot)), limits)

    def capabilities(self, dataset: str) -> Capabilities:
        """Return the endpoints, quota and history of this account for ``dataset``.

        :raises ConfigError: if the provider does not serve it; says which it does.
        """
        return Capabilities(self._endpoints(dataset), self.quota, self._history_start(), self.plan.available_after)

    def _endpoints(self, dataset: str) -> tuple[Endpoint, ...]:
        """Return the endpoints that this account has for ``dataset``, best first. By default: all."""
        return self.spec.serving(dataset)

    def expand(self, symbols: Sequence[str], first: date, last: date) -> tuple[str, ...]:  # noqa: ARG002  for those that have such symbols
        """Return the symbols that rows of ``symbols`` carry from ``first`` to ``last`` (both inclusive).

        By default ``symbols``; providers with composite symbols return their members. Makes free calls at most.

        :raises ProviderError: if the provider does not tell.
        """
        return tuple(symbols)

    def conditions(self, dataset: str, first: date, last: date) -> Mapping[date, Condition]:  # noqa: ARG002  for those that tell
        """Return what the provider says of the quality of dates from ``first`` to ``last`` (both inclusive).

        By default nothing. Makes free calls at most.

        :raises ProviderError: if the provider does not tell.
        """
        return {}

    def cost(self, requests: Sequence[Request]) -> float | None:  # noqa: ARG002  for those that do charge
        """Return the charge for the requests in US dollars; None if single requests are not charged.

        :raises ProviderError: if the provider does not tell.
        """
        return None

    def calls_of(self, request: Request) -> int:
        """Return the calls that `fetch` makes for ``request``, retries excluded. Makes none itself.

        It is the number that plans and dry runs show. Pages are counted as if every cell had as many rows as it can have. Look-ups that
        only a response makes necessary are not counted. By default, what the endpoint's paging takes.
        """
        endpoint = next(one for one in self._endpoints(request.dataset) if one.name == request.endpoint)
        return endpoint.calls(len(request.calendar.sessions(request.start, request.last + DAY)), len(request.symbols))

    def vendor_symbol(self, symbol: str) -> str:
        """Return the vendor's name of a symbol. By default the symbol itself.

        A hook whose vendor spells symbols in another way overrides this, and decorates `fetch` with `translation.in_vendor_spelling`.

        :raises SpellingError: if the vendor has none; says what to write.
        """
        return symbol

    @abstractmethod
    def fetch(self, request: Request) -> Fetched:
        """Return the whole response to ``request``.

        Rows are of ``dataset.received``; times UTC; only rows of the requested symbols, inside the requested span (holes included).

        :raises ProviderError: typed by what to do; never fewer rows than the provider has.
        """

    # -- helpers ---------------------------------------------------------------------------------------------------------------

    @staticmethod
    def now() -> datetime:
        """Return the present moment, UTC."""
        return datetime.now(UTC)

    def pacer(self) -> Pacer:
        """Return the pacer that each call waits for: this attempt's slot, and the account's limiter."""
        limiter = self.config.limiter(self.config.conn_id, Rules(self.quota.limits, self.utc_days))
        return Pacer(self.quota, limiter, waited=self._waited)

    def _waited(self, seconds: float) -> None:
        self.counters.waited += seconds

    def evidence_without_calls(self) -> Evidence:
        """Return the evidence for a request for which no call was needed."""
        return self._evidence(self.counters, 0, 0, rows_declared=0)

    def _evidence(
        self, before: Counters, rows: int, pages: int, request_ids: Iterable[str] = (), source: str | None = None, **more: Any
    ) -> Evidence:
        """Return the evidence for a response, with what it cost since ``before`` (a copy of ``counters``).

        :param rows: rows that came, those that were left out too.
        :param more: ``rows_declared`` (by default None), ``last_page_seen`` (by default True) and ``rows_left_aside``.
        """
        return Evidence(
            calls=self.counters.calls - before.calls,
            retries=self.counters.retries - before.retries,
            pages=pages,
            bytes=self.counters.bytes - before.bytes,
            rows_received=rows,
            request_ids=tuple(filter(None, request_ids)),
            source=source,
            **{"rows_declared": None, "last_page_seen": True, **more},
        )

    def _history_start(self) -> date | None:
        years = self.plan.history_years
        if years is None:
            return None
        today = self.now().date()
        leap_day = (today.month, today.day) == (2, 29)
        return today.replace(year=today.year - years, day=28 if leap_day else today.day)

    def _connection_problems(self) -> list[str]:
        extra, name = self.config.extra, f"connection {self.config.conn_id!r}"
        problems = []
        if secret := credentials_problem(f"{name}: host", self.base_url, KEY_PLACE):
            problems.append(secret)
        elif self.conn_type == "http" and not is_http(self.base_url):
            problems.append(f"{name}: host is {shown(self.base_url)}; a full base URL is needed, e.g. {self.default_base_url}")
        if self.config.password != self.config.password.strip():
            problems.append(f"{name}: password has white space around it; paste the key alone")
        known = {"plan", "calls_per_minute_per_slot", "limits", "limiter_conn_id", *self.known_extra}
        problems += [
            f"{name}: extra has the unknown key {shown(key)}{suggestion(key, known)}; known keys: {', '.join(sorted(known))}"
            for key in extra
            if key not in known
        ]
        plan = extra.get("plan", self.default_plan)
        if not isinstance(plan, str) or plan not in self.plans:
            problems.append(f"{name}: extra.plan is {shown(plan)}; known plans: {', '.join(self.plans)}")
        rate = extra.get("calls_per_minute_per_slot", 1)
        if not _positive(rate, MOST_CALLS):
            problems.append(
                f"{name}: extra.calls_per_minute_per_slot is {shown(rate)}; a number above 0, at most {MOST_CALLS:,}, is needed"
            )
        limits = extra.get("limits", [])
        if not isinstance(limits, list) or len(limits) > MOST_WINDOWS or not all(_is_window(window) for window in limits):
            wanted = f'a list such as [{{"calls": 5, "seconds": 60}}], whole calls and at most {LONGEST_LIMIT:,} seconds, is needed'
            problems.append(f"{name}: extra.limits is {shown(limits)}; {wanted}")
        try:
            self.config.limiter(self.config.conn_id, Rules())
        except ConfigError as error:
            problems.append(str(error))
        return problems

    def _option_problems(self) -> list[str]:
        return list(option_problems(self.spec, self.options))


def limits_folder() -> Path:
    """Return the folder of the limiters that all processes of this host share.

    It is ``MARKET_DATA_LIMITS``, else below the Airflow home.
    """
    chosen = settings.value("MARKET_DATA_LIMITS") or settings.foreign("AIRFLOW_HOME") or tempfile.gettempdir()
    return Path(chosen) / "market_data_limits"


def file_store(account: str) -> FileStore:
    """Return the store of an account's limits for the processes of this host."""
    return FileStore(limits_folder() / f"{account}.json")


def is_http(url: str) -> bool:
    """Return True if ``url`` is a full HTTP address."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and url.isascii() and url.isprintable() and " " not in url


def _positive(value: object, most: float) -> bool:
    """Return True for a number above 0; neither NaN nor infinity is one."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= most


def _is_window(value: object) -> bool:
    if not isinstance(value, dict) or set(value) != {"calls", "seconds"}:
        return False
    calls, seconds = value["calls"], value["seconds"]
    return _positive(calls, MOST_CALLS) and calls == int(calls) and _positive(seconds, LONGEST_LIMIT)
