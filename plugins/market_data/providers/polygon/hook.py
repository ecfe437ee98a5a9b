"""Polygon.io, now Massive: US stocks and ETFs.

This is the account: connection, plans, endpoints. ``client`` has the API, ``parse`` its bars, ``corporate_actions`` splits, dividends and
tickers, ``flat_files`` the files on S3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import ClassVar

import msgspec
import pyarrow as pa

from market_data.core.batch import Request
from market_data.core.capabilities import Capabilities, Endpoint, Quota, Window
from market_data.core.errors import ConfigError, EntitlementError, ProviderError
from market_data.core.messages import shown
from market_data.datasets.registry import dataset as find_dataset
from market_data.http.call_state import Rules
from market_data.http.client import Response
from market_data.http.rate_limit import Pacer
from market_data.providers.base import Fetched, ProviderConfig, SubscriptionPlan
from market_data.providers.http_hook import HttpProviderHook
from market_data.providers.polygon import client, corporate_actions, flat_files, ticker_events
from market_data.providers.polygon.client import Rest
from market_data.providers.polygon.flat_files import BUCKET, FlatFiles
from market_data.providers.polygon.parse import BarPage, BarQuery, PageTable
from market_data.providers.polygon.spec import SPEC
from market_data.providers.polygon.symbols import to_vendor
from market_data.providers.responses import DAY, without_recent
from market_data.providers.translation import in_vendor_spelling
from market_data.providers.unexpected import Unexpected

FLAT_FILE = "flatfile"


class PolygonHook(HttpProviderHook):
    """Daily, five-minute and one-minute bars, splits, dividends and symbol changes of US stocks and ETFs.

    Option ``adjustment``: ``raw`` (as traded) or ``split`` (the vendor's split adjustment, changing with every later split).

    The connection's extra may name an Airflow connection of type ``aws`` as ``flat_files_conn_id``: then whole sessions can be read from
    the vendor's files on S3 (``flat_files_bucket``, where it is another than ``flatfiles``). They are not adjusted.
    """

    spec = SPEC
    hook_name = "Polygon / Massive"
    default_base_url = "https://api.massive.com"
    default_plan = "basic"
    known_extra = ("flat_files_bucket", "flat_files_conn_id")
    # https://massive.com/pricing: Basic 5 calls per minute, 2 years; the paid plans have no call limit and 5, 10 and 20 years.
    # There, 600 calls per minute and slot is our own courtesy. ``sample`` is the local sample API: small windows, so that its
    # runs show pacing and several batches.
    plans: ClassVar[Mapping[str, SubscriptionPlan]] = {
        "basic": SubscriptionPlan(Quota(5, (Window(5, 60),)), history_years=2, available_after=24 * 3600),
        "starter": SubscriptionPlan(Quota(600), history_years=5, available_after=22 * 3600),
        "developer": SubscriptionPlan(Quota(600), history_years=10, available_after=22 * 3600),
        "advanced": SubscriptionPlan(Quota(600), history_years=20, available_after=22 * 3600),
        "sample": SubscriptionPlan(Quota(600, (Window(1, 0.01),))),
    }
    _flat_files: FlatFiles | None = None

    # -- connection --------------------------------------------------------------------------------------------------------------

    def _headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.config.password}"}

    def close(self) -> None:
        super().close()
        if self._flat_files is not None:
            self._flat_files.close()
            self._flat_files = None

    @property
    def rest(self) -> Rest:
        """The API, opened where it was not."""
        self.connect()
        return Rest(self.transport)

    @property
    def flat_files(self) -> FlatFiles:
        """The files on S3, opened on first use: most runs never need one.

        They do not count towards the API's quota. The rate of a pool slot still applies. They have a limiter of their own, so that every
        slot slows down when the server requests it.

        :raises ConfigError: if the connection names none, or one that does not exist.
        """
        if self._flat_files is None:
            config = self._flat_files_config()
            if config is None:
                raise ConfigError(
                    f"connection {self.config.conn_id!r}: extra.flat_files_conn_id is empty; the S3 connection is needed there"
                )
            quota = Quota(self.quota.calls_per_minute_per_slot)
            pacer = Pacer(quota, config.limiter(config.conn_id, Rules()), waited=self._waited)
            bucket = self.config.extra.get("flat_files_bucket", BUCKET)
            self._flat_files = FlatFiles(self.provider, config, bucket, pacer, self.counters, self.retry)
        return self._flat_files

    def _flat_files_config(self) -> ProviderConfig | None:
        conn_id = self.config.extra.get("flat_files_conn_id")
        return self.connections(conn_id) if conn_id else None

    def _probe(self) -> str:
        # A week that every plan has by now.
        end = self.now().date() - timedelta(days=7)
        path = f"/v2/aggs/ticker/AAPL/range/1/day/{end - timedelta(days=7)}/{end}"
        status = self.rest.get(path, {"limit": 10}, "a week of AAPL", BarPage[msgspec.Raw], lambda page, _: page.status)
        said = [f"{self.base_url} responded with status {status}"]
        if self.config.extra.get("flat_files_conn_id"):
            said.append(self.flat_files.probe())
        return "; ".join(said)

    def _connection_problems(self) -> list[str]:
        problems, extra, name = super()._connection_problems(), self.config.extra, f"connection {self.config.conn_id!r}"
        texts = {"flat_files_conn_id": "the name of an Airflow connection", "flat_files_bucket": "the name of an S3 bucket"}
        wrong = [key for key in texts if key in extra and not (isinstance(extra[key], str) and extra[key].strip())]
        problems += [f"{name}: extra.{key} is {shown(extra[key])}; {texts[key]} is needed" for key in wrong]
        if "flat_files_bucket" in extra and "flat_files_conn_id" not in extra:
            problems.append(f"{name}: extra.flat_files_bucket is set without flat_files_conn_id; the S3 connection is needed there")
        if not wrong:
            try:
                flat = self._flat_files_config()
            except ConfigError as error:
                problems.append(str(error))
            else:
                problems += flat_files.problems(flat) if flat else []
        return problems

    def _classify(self, response: Response, what: str) -> ProviderError | None:
        where = {"provider": self.provider, "request": what}
        return client.classify(response, where, self.transport.plain, self.config.conn_id, self.quota)

    # -- what it has -------------------------------------------------------------------------------------------------------------

    def capabilities(self, dataset: str) -> Capabilities:
        """Return the base capabilities, with a longer history for splits and dividends.

        The history of a plan limits bars; only the free plan limits splits and dividends
        (https://massive.com/docs/rest/stocks/corporate-actions/splits).
        """
        found = super().capabilities(dataset)
        whole = dataset in ("corporate-actions", "symbol-changes") and self.plan is not self.plans["basic"]
        return replace(found, history_start=None) if whole else found

    def _endpoints(self, dataset: str) -> tuple[Endpoint, ...]:
        raw_files = self.config.extra.get("flat_files_conn_id") and not self._adjusted
        return tuple(found for found in super()._endpoints(dataset) if raw_files or found.name != FLAT_FILE)

    @property
    def _adjusted(self) -> bool:
        return bool(self.option("adjustment") == "split")

    def vendor_symbol(self, symbol: str) -> str:
        return to_vendor(symbol)

    @in_vendor_spelling
    def fetch(self, request: Request) -> Fetched:
        self.connect()
        before = replace(self.counters)
        pending_from, reason = None, ""
        try:
            parts = list(self._pages(request))
        except EntitlementError as error:
            # A 403 also comes for a session that the plan does not have yet, in the same words as for one that it never has, and it is
            # the response to the whole request.
            recent = self.now().date() - DAY
            until = datetime.combine(request.last + 2 * DAY, time(), UTC)
            request, pending_from, reason = without_recent(request, error, recent, until), recent, error.said
            parts = list(self._pages(request))
        kind = find_dataset(request.dataset)
        table = kind.identified(pa.concat_tables([part.table for part in parts]))
        unexpected = Unexpected.of([part.unexpected for part in parts], request, table)
        declared = [part.declared for part in parts if part.declared is not None]
        evidence = self._evidence(
            before,
            rows=sum(part.received for part in parts),
            pages=len(parts),
            request_ids=[part.request_id for part in parts],
            source=next((part.source for part in parts if part.source), None),
            rows_declared=sum(declared) if len(declared) == len(parts) else None,
            last_page_seen=not parts[-1].next_url,
            rows_left_aside=unexpected.left_aside,
        )
        return Fetched(
            table, evidence, pending_from, reason, {}, unexpected.warnings, odd=unexpected.odd, unproved=unexpected.unproved
        )

    def _pages(self, request: Request) -> Iterator[PageTable]:
        """Yield the responses that make up the whole, in order."""
        match request.endpoint:
            case "grouped":
                return self.rest.grouped(BarQuery(self.provider, request, self._adjusted))
            case "range":
                return self.rest.ranged(BarQuery(self.provider, request, self._adjusted))
            case "reference":
                return corporate_actions.actions(self.rest, request)
            case "events":
                return ticker_events.changes(self.rest, request)
            case _:
                return iter([self.flat_files.session(request, self.now())])

    def tickers(self, day: date, *, active: bool = True) -> pa.Table:
        """Return all stocks and ETFs listed on ``day``, or with ``active=False`` those delisted by then.

        Columns ``ticker``, ``name``, ``type`` (the vendor's: CS, ETF, ADRC ...), ``active``, ``primary_exchange`` (its MIC), ``cik`` and
        ``delisted`` (date); ascending by ticker. About a dozen calls.

        :raises ProviderError: typed by what to do; never fewer rows than the provider has.
        """
        return corporate_actions.tickers(self.rest, day, active=active)
