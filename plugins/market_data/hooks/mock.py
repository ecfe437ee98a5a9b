"""A provider without a network: seeded bars, the same for the same seed whatever is asked, through the same interface.

For trying feeds, tests and demonstrations. Nothing about it is recorded: its rows carry ``mock`` as provider wherever they go.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import ClassVar

import numpy as np
import pyarrow as pa

from market_data import calendar
from market_data.datasets import dataset as find_dataset
from market_data.errors import ConfigError
from market_data.hooks import generated
from market_data.hooks.base import Fetched, Plan, ProviderHook
from market_data.pacing import Pacer
from market_data.types import Evidence, Quota, Request, Window


class MockHook(ProviderHook):
    """Seeded daily bars of any symbol. The connection's extra may have ``seed``, a whole number."""

    provider = "mock"
    conn_type = "generic"
    hook_name = "Mock market data"
    default_base_url = "mock://generated"
    default_plan = "free"
    known_extra = ("seed",)
    # A window of five, so that a few dates already make several batches.
    plans: ClassVar[Mapping[str, Plan]] = {"free": Plan(Quota(6000, (Window(5, 0.05),)))}
    _pacer: Pacer | None = None

    def connect(self) -> None:
        if self._pacer is None:
            self._pacer = self.pacer()

    def close(self) -> None:
        self._pacer = None

    def _probe(self) -> str:
        return f"seed {self.seed}; no network is used"

    @property
    def seed(self) -> int:
        """What all values follow from.

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
        if self._pacer is not None:
            self._pacer.wait()
        sessions = [s for i in request.intervals for s in calendar.sessions(i.start, i.end)]
        table = _bars(request, sessions, self.seed)
        self.counters.calls += 1
        self.counters.bytes += table.nbytes
        evidence = Evidence(
            calls=1, retries=0, pages=1, bytes=table.nbytes, rows_received=len(table), rows_declared=len(table),
            last_page_seen=True, source="generated",
        )  # fmt: skip
        return Fetched(table, evidence)


def _bars(request: Request, sessions: list[date], seed: int) -> pa.Table:
    symbols = request.symbols
    keys = np.array([[generated.key(seed, symbol)] for symbol in symbols], dtype=np.uint64)
    days = np.array([session.toordinal() for session in sessions], dtype=np.int64)
    names = ("open", "high", "low", "close", "volume", "vwap")
    columns = dict(zip(names, (pa.array(c.ravel()) for c in generated.columns(keys, days)), strict=True))
    dates = np.tile(np.array(sessions, dtype="datetime64[D]"), len(symbols))
    columns["symbol"] = pa.array(np.repeat(np.array(symbols, dtype=object), len(sessions)), pa.string())
    columns["session"] = pa.array(dates, pa.date32())
    columns["bar_time"] = pa.array(dates.astype("datetime64[us]"), pa.timestamp("us", tz="UTC"))
    schema = find_dataset(request.dataset).received
    rows = len(dates)
    return pa.table([columns.get(f.name, pa.nulls(rows, f.type)).cast(f.type) for f in schema], schema=schema)
