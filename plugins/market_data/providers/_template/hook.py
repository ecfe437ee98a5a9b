"""The account: connection, subscription plans, options, and how a request is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import ClassVar

import pyarrow as pa

from market_data.core.batch import Request
from market_data.core.capabilities import Quota, Window
from market_data.core.errors import ProviderError
from market_data.core.intervals import closed
from market_data.datasets.registry import dataset as find_dataset
from market_data.http.client import Response
from market_data.providers._template.client import TemplateClient, classify
from market_data.providers._template.spec import SPEC
from market_data.providers.base import Fetched, SubscriptionPlan
from market_data.providers.http_hook import HttpProviderHook
from market_data.providers.unexpected import Unexpected


class TemplateHook(HttpProviderHook):
    """Daily bars, one symbol per request. The connection's password is the API key."""

    spec = SPEC
    hook_name = "Template market data"
    default_base_url = "https://api.example.com"
    default_plan = "basic"
    # Name the vendor's price list here: calls per minute, years of history, when a session is complete.
    plans: ClassVar[Mapping[str, SubscriptionPlan]] = {
        "basic": SubscriptionPlan(Quota(60, (Window(60, 60),)), history_years=5, available_after=26 * 3600),
    }

    def _headers(self) -> Mapping[str, str]:
        return {"X-Api-Key": self.config.password}

    def _classify(self, response: Response, what: str) -> ProviderError | None:
        return classify(response, what, self.transport, self.config.conn_id, self.quota)

    def _probe(self) -> str:
        end = self.now().date() - timedelta(days=7)
        self.fetch(Request("ohlcv-1d", "history", ("AAPL",), (closed(end - timedelta(days=7), end),)))
        return f"{self.base_url} responded with bars"

    def fetch(self, request: Request) -> Fetched:
        self.connect()
        before = replace(self.counters)
        pages = list(TemplateClient(self.transport).bars(request, {"session_kind": self.option("session_kind")}))
        table = pa.concat_tables([find_dataset(request.dataset).received.empty_table(), *(page.table for page in pages)])
        unexpected = Unexpected.of([page.unexpected for page in pages], request, table)
        declared = sum(page.count for page in pages)
        evidence = self._evidence(
            before,
            rows=declared,
            pages=len(pages),
            request_ids=[page.request_id for page in pages],
            source=next((page.source for page in pages if page.source), None),
            rows_declared=declared,
            rows_left_aside=unexpected.left_aside,
        )
        return Fetched(table, evidence, warnings=unexpected.warnings, odd=unexpected.odd, unproved=unexpected.unproved)
