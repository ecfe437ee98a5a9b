"""Convert the provider's pages to columns; check that they are complete and match the request.

No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Generic, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.batch import Request
from market_data.core.errors import ServerError, TruncatedResponse
from market_data.datasets.registry import dataset as find_dataset
from market_data.http.client import Response
from market_data.providers.responses import decode
from market_data.providers.unexpected import OnceMore, Unexpected, read_rows, separated

R = TypeVar("R")


class TemplateBar(msgspec.Struct, gc=False):
    """A bar as the provider writes it. Prices may be null; the gate decides about such rows."""

    date: date
    open: float | None
    high: float | None
    low: float | None
    close: float | None
    volume: float | None = None


class TemplatePage(msgspec.Struct, Generic[R], gc=False):
    """A page as the provider writes it. ``error`` comes alone, with any status.

    Its rows are `TemplateBar`, or `msgspec.Raw` where some may be of another form.
    """

    symbol: str = ""
    count: int | None = None
    bars: list[R] | None = None
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
    unexpected: Unexpected


def read_page(
    response: Response, request: Request, provider: str, plain: Callable[[str], str], once_more: OnceMore
) -> TemplateTable:
    """Return a page as columns.

    :param plain: `Transport.plain`.
    :param once_more: of this page, for all its tries.
    :raises RetriableError: for a page that is cut, or that belongs to another request.
    :raises SchemaDrift: for JSON of another form.
    """
    where = {"provider": provider, "request": str(request), "request_id": response.headers.get("X-Request-Id", "")}
    page: TemplatePage[Any] = decode(response, TemplatePage[TemplateBar], where, plain, TemplatePage[msgspec.Raw])
    if page.error:
        raise ServerError(plain(f"HTTP {response.status} with an error: {page.error}"), **where)
    if page.bars is None or page.count is None or len(page.bars) < page.count:
        raise TruncatedResponse(f"{len(page.bars or ())} bars came, {page.count} are declared", **where)
    if len(page.bars) > page.count:
        raise ServerError(f"{len(page.bars)} bars came, {page.count} are declared", **where)
    if page.symbol != request.symbols[0]:
        raise ServerError(plain(f"rows of {page.symbol} came"), **where)
    bars, problems = read_rows(page.bars, TemplateBar, where)
    kept, unexpected = separated(_table(request, bars), problems, request, where)
    once_more.check(unexpected, where)
    source = response.headers.get("X-Sample-Source")  # sent by the local sample servers only
    return TemplateTable(kept, page.count, page.next_page, where["request_id"], source, unexpected)


def _table(request: Request, bars: Sequence[TemplateBar]) -> pa.Table:
    """Return all bars as columns; ``session`` is null outside the request's dates."""
    schema, days = find_dataset(request.dataset).received, pa.array([bar.date for bar in bars], pa.date32())
    inside = pa.array([bar.date is not None and request.start <= bar.date <= request.last for bar in bars], pa.bool_())
    columns = {
        "symbol": pa.array([request.symbols[0]] * len(bars), pa.string()),
        "session": pc.if_else(inside, days, None),
        "bar_time": days.cast(pa.timestamp("us", tz="UTC")),  # a daily bar has 00:00 UTC of its session, whatever the vendor stamps
        **{
            name: pa.array([getattr(bar, name) for bar in bars], pa.float64())
            for name in ("open", "high", "low", "close", "volume")
        },
    }
    return pa.table([columns.get(field.name, pa.nulls(len(bars), field.type)) for field in schema], schema=schema)
