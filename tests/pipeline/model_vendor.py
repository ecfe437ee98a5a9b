"""A vendor with a history: what it serves for each cell at each moment, and what it has responded so far."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import ClassVar

import pyarrow as pa

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.capabilities import Capabilities, Endpoint, Quota, Shape
from market_data.core.errors import ServerError, UnknownSymbol
from market_data.datasets.registry import dataset as find_dataset
from market_data.providers.base import Fetched, ProviderConfig, ProviderHook, SubscriptionPlan
from market_data.providers.spec import ProviderSpec

Cell = tuple[str, date]

ENDPOINTS = {
    Shape.SYMBOL: (Endpoint("symbol", Shape.SYMBOL),),
    Shape.MULTI: (Endpoint("multi", Shape.MULTI),),
    Shape.MARKET: (Endpoint("market", Shape.MARKET), Endpoint("symbol", Shape.SYMBOL)),
}
CHARGE = 1.0
"""US dollars per request of a vendor that charges."""


class Kind(StrEnum):
    """Kinds of bars: one that is in order, one that the gate quarantines, one whose session the checkpoint refuses."""

    GOOD = "good"
    ODD = "odd"
    STRANGE = "strange"


@dataclass(frozen=True)
class Bar:
    """The bar that a vendor serves; bars of one cell are equal if their ``version`` is."""

    version: int = 1
    kind: Kind = Kind.GOOD

    def close(self, cell: Cell) -> float:
        symbol, session = cell
        base = 100.0 + 20 * (sum(map(ord, symbol)) % 7) + session.toordinal() % 5
        return (9000.0 if self.kind is Kind.STRANGE else base) + self.version / 4


@dataclass
class Response:
    """A response to one request.

    :param cells: what it said of each requested cell; None: no bar.
    :param stored: it was received and written; false while the worker is at it, or if it was killed, so that nobody knows.
    """

    number: int
    at: datetime
    run: str
    cells: dict[Cell, Bar | None]
    stored: bool = False


@dataclass
class Vendor:
    """What the vendor has. A cell has a good bar from its session's close on, unless its history says otherwise.

    :param listed: the symbols that it knows.
    :param failing: symbols and sessions for which each request fails.
    """

    listed: Sequence[str]
    history: dict[Cell, list[tuple[datetime, Bar | None]]] = field(default_factory=dict)
    failing: set[str | date] = field(default_factory=set)
    responses: list[Response] = field(default_factory=list)
    calls: list[tuple[str, Cell]] = field(default_factory=list)
    """Run key and cell of each request, failed ones included."""

    def change(self, cell: Cell, bar: Bar | None, at: datetime) -> None:
        """Serve ``bar`` for ``cell`` from ``at`` on."""
        self.history.setdefault(cell, []).append((at, bar))

    def serves(self, cell: Cell, at: datetime) -> Bar | None:
        symbol, session = cell
        if symbol not in self.listed or calendar.session_close(session) > at:
            return None
        found: Bar | None = Bar()
        for since, bar in sorted(self.history.get(cell, ()), key=lambda change: change[0]):
            if since <= at:
                found = bar
        return found

    def respond(self, request: Request, run: str, at: datetime, charged: Callable[[], None]) -> dict[Cell, Bar | None]:
        """Return what it has of the span of ``request``, the holes too.

        :raises ServerError: for a symbol or session in ``failing``.
        """
        sessions = calendar.sessions_in(request.intervals)
        cells = [
            (symbol, session)
            for block in request.blocks
            for symbol in block.symbols
            for session in calendar.sessions_in(block.intervals)
        ]
        self.calls += [(run, cell) for cell in cells]
        charged()
        if self.failing & {*request.symbols, *sessions}:
            raise ServerError("out of order", provider="mock", request=str(request))
        self.responses.append(Response(len(self.responses), at, run, {cell: self.serves(cell, at) for cell in cells}))
        span = calendar.sessions(request.start, request.last + timedelta(1))
        return {cell: self.serves(cell, at) for symbol in request.symbols for cell in ((symbol, session) for session in span)}


class ModelHook(ProviderHook):
    """A hook of the model vendor, for one run.

    :param now: the true moment.
    :param waiting: is called once, while the next request waits for the quota.
    """

    spec = ProviderSpec("mock", "tests.pipeline.model_vendor:ModelHook", {"ohlcv-1d": ENDPOINTS[Shape.MARKET]})
    conn_type = "generic"
    default_base_url = "mock://model"
    plans: ClassVar[Mapping[str, SubscriptionPlan]] = {"free": SubscriptionPlan(Quota(6000))}
    default_plan = "free"

    def __init__(self, vendor: Vendor, shape: Shape, run: str, now: Callable[[], datetime]) -> None:
        super().__init__(ProviderConfig("mock_default", ""))
        self.vendor, self.shape, self.run, self.now = vendor, shape, run, now
        self.waiting: Callable[[], None] = lambda: None

    def connect(self) -> None: ...

    def close(self) -> None: ...

    def _probe(self) -> str:
        return "model"

    def capabilities(self, dataset: str) -> Capabilities:
        return replace(super().capabilities(dataset), endpoints=ENDPOINTS[self.shape])

    def fetch(self, request: Request) -> Fetched:
        before = replace(self.counters)
        waiting, self.waiting = self.waiting, lambda: None
        waiting()
        if self.shape is Shape.SYMBOL and request.symbols[0] not in self.vendor.listed:
            self.vendor.calls += [(self.run, (request.symbols[0], s)) for s in calendar.sessions_in(request.intervals)]
            raise UnknownSymbol("unknown symbol", symbols=request.symbols, provider="mock", request=str(request))
        bars = self.vendor.respond(request, self.run, self.now(), self._count)
        table = rows(request.dataset, {cell: bar for cell, bar in bars.items() if bar})
        return Fetched(table, self._evidence(before, rows=len(table), pages=1, rows_declared=len(table)))

    def _count(self) -> None:
        self.counters.calls += 1


def rows(dataset: str, bars: dict[Cell, Bar]) -> pa.Table:
    """Return the bars in the columns that a hook returns."""
    schema = find_dataset(dataset).received
    found = []
    for (symbol, session), bar in bars.items():
        close = bar.close((symbol, session))
        moment = datetime(session.year, session.month, session.day, tzinfo=UTC)
        high = close - 1 if bar.kind is Kind.ODD else close + 1
        found.append(
            {"symbol": symbol, "bar_time": moment, "session": session, "open": close, "high": high, "low": close - 2, "close": close,
             "volume": 1000.0}
        )  # fmt: skip
    columns = [
        pa.array([row.get(f.name) for row in found], f.type if not pa.types.is_timestamp(f.type) else pa.timestamp("us")).cast(
            f.type
        )
        for f in schema
    ]
    return pa.table(columns, schema=schema)
