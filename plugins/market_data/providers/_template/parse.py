"""Convert the provider's pages to columns; check that they are complete and match the request.

No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import msgspec
import pyarrow as pa

from market_data.core.batch import Request
from market_data.core.errors import ServerError, TruncatedResponse
from market_data.datasets.registry import dataset as find_dataset
from market_data.http.client import Response
from market_data.providers.responses import decode


class TemplateBar(msgspec.Struct, gc=False):
    """A bar as the provider writes it. Prices may be null; the gate decides about such rows."""

    date: date
    open: float | None
    high: float | None
    low: float | None
    close: float | None
    volume: float | None = None


class TemplatePage(msgspec.Struct, gc=False):
    """A page as the provider writes it. ``error`` comes alone, with any status."""

    symbol: str = ""
    count: int | None = None
    bars: list[TemplateBar] | None = None
    next_page: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class TemplateTable:
    """A page as columns of ``dataset.received``, and what proves that it is complete."""

    table: pa.Table
    count: int
    next_page: int | None
    request_id: str
    source: str | None


def read_page(response: Response, request: Request, provider: str, plain: Callable[[str], str]) -> TemplateTable:
    """Return a page as columns.

    :param plain: `Transport.plain`.
    :raises RetriableError: for a page that is cut, or that belongs to another request.
    :raises SchemaDrift: for JSON of another form.
    """
    where = {"provider": provider, "request": str(request), "request_id": response.headers.get("X-Request-Id", "")}
    page = decode(response, TemplatePage, where, plain)
    if page.error:
        raise ServerError(plain(f"HTTP {response.status} with an error: {page.error}"), **where)
    if page.bars is None or page.count is None or len(page.bars) < page.count:
        raise TruncatedResponse(f"{len(page.bars or ())} bars came, {page.count} are declared", **where)
    if len(page.bars) > page.count:
        raise ServerError(f"{len(page.bars)} bars came, {page.count} are declared", **where)
    if page.symbol != request.symbols[0]:
        raise ServerError(plain(f"rows of {page.symbol} came"), **where)
    if unexpected := [f"{bar.date}" for bar in page.bars if not request.start <= bar.date <= request.last]:
        raise ServerError(f"rows of {', '.join(unexpected[:3])} came", **where)
    source = response.headers.get("X-Sample-Source")  # sent by the local sample servers only
    return TemplateTable(_table(request, page.bars), page.count, page.next_page, where["request_id"], source)


def _table(request: Request, bars: Sequence[TemplateBar]) -> pa.Table:
    schema, days = find_dataset(request.dataset).received, pa.array([bar.date for bar in bars], pa.date32())
    columns = {
        "symbol": pa.array([request.symbols[0]] * len(bars), pa.string()),
        "session": days,
        "bar_time": days.cast(pa.timestamp("us", tz="UTC")),  # a daily bar has 00:00 UTC of its session, whatever the vendor stamps
        **{
            name: pa.array([getattr(bar, name) for bar in bars], pa.float64())
            for name in ("open", "high", "low", "close", "volume")
        },
    }
    return pa.table([columns.get(field.name, pa.nulls(len(bars), field.type)) for field in schema], schema=schema)
