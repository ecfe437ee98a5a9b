"""What a provider must say and do.

A provider says which connection it takes, which plans it sells, and which endpoints serve which dataset; it does one thing, answer a
:class:`~market_data.types.Request` with Arrow and with evidence that the answer is whole. Pacing, retries, time-outs and redaction
come from here and from :mod:`market_data.http.client`.
"""

from __future__ import annotations

import json
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

import pyarrow as pa
from airflow.sdk import BaseHook, Connection

from market_data.core import settings
from market_data.core.batch import Request
from market_data.core.capabilities import Capabilities, Endpoint, Quota, Window
from market_data.core.errors import ConfigError, MarketDataError
from market_data.core.outcome import Evidence
from market_data.http.client import Counters
from market_data.http.rate_limit import FileLimiter, Pacer
from market_data.providers.registry import known_provider, option_problems, serving
from market_data.providers.spec import Option


@dataclass(frozen=True)
class Plan:
    """What a provider's price list says of a plan.

    :param quota: rate of a slot, and the account's windows.
    :param history_years: years of history from today backwards, or None for all of it.
    :param available_after: seconds after midnight UTC of a session's date until the plan has the session.
    """

    quota: Quota
    history_years: int | None = None
    available_after: float = 0.0


def read_connection(conn_id: str) -> Connection:
    """An Airflow connection.

    :raises ConfigError: if the connection does not exist or its extra is no JSON object.
    """
    try:
        conn = BaseHook.get_connection(conn_id)
    except Exception as error:  # noqa: BLE001 - every secrets backend has errors of its own
        raise ConfigError(f"connection {conn_id!r} cannot be read ({type(error).__name__}); create it, see README") from None
    try:
        found = json.loads(conn.extra or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):  # Airflow would take it for empty
        raise ConfigError(f"connection {conn_id!r}: extra is not a JSON object")
    return conn


@dataclass(frozen=True)
class ProviderConfig:
    """A connection, as a hook sees it. The secrets stay out of ``repr``."""

    conn_id: str
    base_url: str
    login: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_airflow(cls, conn_id: str) -> ProviderConfig:
        """The config of an Airflow connection.

        :raises ConfigError: if the connection does not exist or its extra is no JSON object.
        """
        conn = read_connection(conn_id)
        host = conn.host or ""
        if host and conn.port:
            host = f"{host}:{conn.port}"
        return cls(conn_id, host, conn.login or "", conn.password or "", conn.extra_dejson)


@dataclass(frozen=True)
class Fetched:
    """A provider's whole answer to a request.

    :param table: rows as the provider gave them, normalised to ``dataset.received``; for a market-wide endpoint of the asked symbols only.
    :param evidence: why it is believed to be all.
    :param pending_from: the provider does not have the sessions from this date on yet (its words in ``pending_reason``); None where
        it has all.
    :param refused: symbol -> why, for symbols that the provider does not take and that were left out of the request; nothing is known
        of their cells.
    :param warnings: what the provider said beside the data and a user should read.
    """

    table: pa.Table
    evidence: Evidence
    pending_from: date | None = None
    pending_reason: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class ProviderHook(BaseHook, ABC):
    """Base of all provider hooks.

    :param conn_id: the Airflow connection.
    :param options: the feed's own settings (``adjustment``, ...); checked by :meth:`validate_config`.
    :param config: instead of an Airflow connection: for tests and scripts.
    """

    provider: ClassVar[str]
    conn_type: ClassVar[str] = "http"
    conn_name_attr: ClassVar[str] = "conn_id"
    hook_name: ClassVar[str]
    default_base_url: ClassVar[str] = ""
    plans: ClassVar[Mapping[str, Plan]]
    default_plan: ClassVar[str]
    known_extra: ClassVar[tuple[str, ...]] = ()
    """Keys of the connection's extra beyond plan and quota."""

    def __init__(
        self, conn_id: str | None = None, *, options: Mapping[str, Any] | None = None, config: ProviderConfig | None = None
    ) -> None:
        super().__init__()
        self.conn_id = conn_id or f"{self.provider}_default"
        self.options = {name: value for name, value in (options or {}).items() if value is not None}
        self._config = config
        self.counters = Counters()
        """What it cost so far, failed requests included; :meth:`fetch` counts here."""

    # -- connection ------------------------------------------------------------------------------------------------------------

    @property
    def config(self) -> ProviderConfig:
        if self._config is None:
            self._config = ProviderConfig.from_airflow(self.conn_id)
        return self._config

    @property
    def known_options(self) -> Mapping[str, Option]:
        """The provider's own settings, by name."""
        return known_provider(self.provider).options

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
        """Let go of it. Calling it twice is harmless."""

    def test_connection(self) -> tuple[bool, str]:
        """Whether the connection works, and what to tell the user; makes one cheap call."""
        try:
            self.validate_config()
            with self:
                return True, self._probe()
        except MarketDataError as error:
            return False, str(error)

    @abstractmethod
    def _probe(self) -> str:
        """One cheap call that needs the key; what to tell the user when it worked."""

    # -- what it says ----------------------------------------------------------------------------------------------------------

    def validate_config(self) -> None:
        """Check connection and options without any call.

        :raises ConfigError: naming every wrong field, its value and what is allowed.
        """
        problems = [*self._connection_problems(), *self._option_problems()]
        if problems:
            raise ConfigError("; ".join(problems))

    def option(self, name: str) -> Any:
        """The value of an option, or its default."""
        return self.options.get(name, self.known_options[name].default)

    @property
    def source(self) -> str:
        """What stands wherever ``provider`` does: the name, and the options that change values (``alpaca~iex``)."""
        changed = [
            str(self.option(name))
            for name, option in self.known_options.items()
            if option.variant and self.option(name) != option.default
        ]
        return "~".join([self.provider, *changed])

    @property
    def plan(self) -> Plan:
        return self.plans[self.config.extra.get("plan", self.default_plan)]

    @property
    def quota(self) -> Quota:
        """The plan's quota; what the connection's extra says of it wins."""
        extra, quota = self.config.extra, self.plan.quota
        limits = tuple(Window(int(w["calls"]), float(w["seconds"])) for w in extra["limits"]) if "limits" in extra else quota.limits
        return Quota(float(extra.get("calls_per_minute_per_slot", quota.calls_per_minute_per_slot)), limits)

    def capabilities(self, dataset: str) -> Capabilities:
        """What this account can do for ``dataset``.

        :raises ConfigError: if the provider does not serve it; says which it does.
        """
        return Capabilities(self._endpoints(dataset), self.quota, self._history_start(), self.plan.available_after)

    def _endpoints(self, dataset: str) -> tuple[Endpoint, ...]:
        """The endpoints that this account has for ``dataset``, best first; by default all that the provider has."""
        return serving(self.provider, dataset)

    def expand(self, symbols: Sequence[str], first: date, last: date) -> tuple[str, ...]:  # noqa: ARG002  for those that have such symbols
        """The symbols that rows of ``symbols`` carry from ``first`` to ``last`` (both inclusive): these, but where one stands for
        several. Free calls at most.

        :raises ProviderError: if it cannot be learnt.
        """
        return tuple(symbols)

    def cost(self, requests: Sequence[Request]) -> float | None:  # noqa: ARG002  for those that do charge
        """What the requests will be charged, US dollars; None where the provider charges nothing for single requests.

        :raises ProviderError: if it cannot be learnt.
        """
        return None

    @abstractmethod
    def fetch(self, request: Request) -> Fetched:
        """The whole answer to ``request``.

        Rows are of ``dataset.received``; times UTC; only rows of the asked symbols, inside the asked span (holes included).

        :raises ProviderError: typed by what to do; never fewer rows than the provider has.
        """

    # -- helpers ---------------------------------------------------------------------------------------------------------------

    @staticmethod
    def now() -> datetime:
        """The present moment, UTC."""
        return datetime.now(UTC)

    def pacer(self) -> Pacer:
        """What to wait for before each call: this attempt's slot, and the account's limiter."""
        return Pacer(self.quota, FileLimiter(limits_folder() / f"{self.config.conn_id}.json", self.quota.limits))

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
        if urlsplit(self.base_url).scheme not in ("http", "https") and self.conn_type == "http":
            problems.append(f"{name}: host is {self.base_url!r}; a full base URL is needed, e.g. {self.default_base_url}")
        if self.config.password != self.config.password.strip():
            problems.append(f"{name}: password has white space around it; paste the key alone")
        known = {"plan", "calls_per_minute_per_slot", "limits", *self.known_extra}
        problems += [
            f"{name}: extra has the unknown key {key!r}; known keys: {', '.join(sorted(known))}"
            for key in extra
            if key not in known
        ]
        if extra.get("plan", self.default_plan) not in self.plans:
            problems.append(f"{name}: extra.plan is {extra['plan']!r}; known plans: {', '.join(self.plans)}")
        if not _positive(extra.get("calls_per_minute_per_slot", 1)):
            problems.append(
                f"{name}: extra.calls_per_minute_per_slot is {extra['calls_per_minute_per_slot']!r}; a number above 0 is needed"
            )
        limits = extra.get("limits", [])
        if not isinstance(limits, list) or not all(_is_window(window) for window in limits):
            problems.append(f'{name}: extra.limits is {limits!r}; a list such as [{{"calls": 5, "seconds": 60}}] is needed')
        return problems

    def _option_problems(self) -> list[str]:
        return list(option_problems(self.known_options, self.options, self.provider))


def limits_folder() -> Path:
    """Where the processes of this host share their limiters' state: ``MARKET_DATA_LIMITS``, else below the Airflow home."""
    chosen = settings.value("MARKET_DATA_LIMITS") or settings.foreign("AIRFLOW_HOME") or tempfile.gettempdir()
    return Path(chosen) / "market_data_limits"


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _is_window(value: object) -> bool:
    return isinstance(value, dict) and set(value) == {"calls", "seconds"} and all(_positive(v) for v in value.values())
