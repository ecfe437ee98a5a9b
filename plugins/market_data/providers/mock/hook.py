"""A provider without a network: seeded rows of every dataset, for tests and demonstrations.

The same seed gives the same rows. No value is recorded: all rows carry ``mock`` as their provider.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from market_data.core.batch import Request
from market_data.core.capabilities import Quota, Window
from market_data.core.errors import ConfigError
from market_data.http.rate_limit import Pacer
from market_data.providers.base import Fetched, ProviderHook, SubscriptionPlan
from market_data.providers.mock import generate
from market_data.providers.mock.spec import SPEC


class MockHook(ProviderHook):
    """Seeded data of any symbol. The connection's extra may have ``seed``, a whole number."""

    spec = SPEC
    conn_type = "generic"
    hook_name = "Mock market data"
    default_base_url = "mock://generated"
    default_plan = "free"
    known_extra = ("seed",)
    # A window of five, so that a few dates already make several batches.
    plans: ClassVar[Mapping[str, SubscriptionPlan]] = {"free": SubscriptionPlan(Quota(6000, (Window(5, 0.05),)))}
    _pacer: Pacer | None = None

    def connect(self) -> None:
        if self._pacer is None:
            self._pacer = self.pacer()

    def close(self) -> None:
        self._pacer = None
        super().close()

    def _probe(self) -> str:
        return f"seed {self.seed}; no network is used"

    @property
    def seed(self) -> int:
        """The seed from which all values follow.

        :raises ConfigError: if the connection's extra has no whole number there.
        """
        seed = self.config.extra.get("seed", 0)
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise ConfigError(f"connection {self.config.conn_id!r}: extra.seed is {seed!r}; a whole number is needed")
        return seed

    def validate_config(self) -> None:
        super().validate_config()
        _ = self.seed

    def fetch(self, request: Request) -> Fetched:
        self.connect()
        before = replace(self.counters)
        if self._pacer is not None:
            self._pacer.wait().done()  # no call is made
        table = generate.rows(request, self.seed)
        self.counters.calls += 1
        self.counters.bytes += table.nbytes
        return Fetched(table, self._evidence(before, rows=len(table), pages=1, source="generated", rows_declared=len(table)))
