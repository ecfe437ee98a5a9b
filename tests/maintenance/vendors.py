"""A provider that serves exactly the rows of a healthy world, and counts its calls."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from market_data.datasets.bars import OHLCV_1D
from market_data.lake.cells import only
from market_data.providers.base import Fetched, ProviderConfig
from market_data.providers.polygon.hook import PolygonHook

PLAN = {"plan": "sample", "calls_per_minute_per_slot": 60_000}


class WorldHook(PolygonHook):
    """Polygon's endpoints; the rows are those of a world.

    :param calls: one entry per call: symbols and dates.
    """

    def __init__(self, rows: pa.Table, now: datetime, calls: list) -> None:
        super().__init__(config=ProviderConfig("polygon_default", "http://127.0.0.1:9", password="sample", extra=PLAN))
        self.rows, self.calls = rows, calls
        self.now = lambda: now.astimezone(UTC)

    def connect(self) -> None: ...

    def close(self) -> None: ...

    def fetch(self, request) -> Fetched:
        from dataclasses import replace

        before = replace(self.counters)
        self.counters.calls += 1
        self.calls.append((request.symbols, request.intervals))
        found = only(self.rows, request.intervals)
        found = found.filter(pc.is_in(found["symbol"], pa.array(request.symbols, pa.string())))
        found = found.select(OHLCV_1D.received.names).cast(OHLCV_1D.received)
        return Fetched(found, self._evidence(before, rows=len(found), pages=1, rows_declared=len(found)))
