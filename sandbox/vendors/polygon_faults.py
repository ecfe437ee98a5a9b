"""Faults in Polygon's responses: valid JSON with wrong content."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from sandbox.vendors.messages import VendorResponse

Row = dict[str, Any]


def page_loop(response: VendorResponse, *, days_back: int = 0) -> VendorResponse:
    """Point ``next_url`` at its own page; ``days_back``: at an earlier one."""
    path, request = response.request.path, response.request
    found = request.found
    if days_back and "start" in found:
        day = timedelta(days=days_back)
        text = found["start"]
        start = str(int(text) - days_back * 86_400_000) if text.isdecimal() else str(date.fromisoformat(text) - day)
        path = path.replace(f"/{text}/", f"/{start}/")
    return _with(response, next_url=f"{request.base}{replace(request, path=path).target}")


def other_symbol(response: VendorResponse, *, symbol: str = "ZVZZT") -> VendorResponse:
    """Replace the symbol; in reference data, only that of the first row."""
    if "ticker" in response.body:
        return _with(response, ticker=symbol)
    rows = _rows(response)
    return _with_rows(response, [*({**row, "ticker": symbol} for row in rows[:1]), *rows[1:]])


def out_of_range(response: VendorResponse, *, days: int = 4000) -> VendorResponse:
    """Move the last row ``days`` into the future."""
    rows = _rows(response)
    return _with_rows(response, [*rows[:-1], *(_later(row, days) for row in rows[-1:])])


def duplicated(response: VendorResponse, *, conflicting: bool = False) -> VendorResponse:
    """Send every row twice; ``conflicting``: the second time with another volume (amount, ratio)."""
    return _with_rows(response, [copy for row in _rows(response) for copy in (row, _altered(row) if conflicting else row)])


def other_adjustment(response: VendorResponse) -> VendorResponse:
    """Send the opposite of the requested ``adjusted``."""
    return _with(response, adjusted=not response.body.get("adjusted"))


def miscounted(response: VendorResponse, *, by: int = 1) -> VendorResponse:
    """Add ``by`` to ``resultsCount``; it may be negative."""
    count = len(_rows(response)) + by
    return _with(response, resultsCount=count, count=count)


def no_results(response: VendorResponse, *, null: bool = False) -> VendorResponse:
    """Declare rows in ``resultsCount``, and leave ``results`` out or send it as null."""
    rest = {name: value for name, value in response.body.items() if name != "results"}
    return replace(response, body={**rest, "results": None} if null else rest)


def without_ticker(response: VendorResponse) -> VendorResponse:
    """Remove the ticker from the rows of a grouped response."""
    return _with_rows(response, [{name: value for name, value in row.items() if name != "T"} for row in _rows(response)])


def drifted(response: VendorResponse) -> VendorResponse:
    """Closing prices (amounts, ratios) as text."""
    return _with_rows(response, [{**row, (name := _first(row, "c", *NUMBERS)): str(row[name])} for row in _rows(response)])


KINDS: Mapping[str, Callable[..., VendorResponse]] = {
    function.__name__: function
    for function in (
        *(page_loop, other_symbol, out_of_range, duplicated, other_adjustment, miscounted, no_results, without_ticker, drifted),
    )
}


def _rows(response: VendorResponse) -> list[Row]:
    return response.body.get("results", [])


def _with_rows(response: VendorResponse, rows: list[Row]) -> VendorResponse:
    """Return the response with other rows and the right counts."""
    counts = {name: len(rows) for name in ("queryCount", "resultsCount", "count") if name in response.body}
    return _with(response, results=rows, **counts) if rows else response


def _with(response: VendorResponse, **fields: Any) -> VendorResponse:
    return replace(response, body={**response.body, **fields})


NUMBERS = ("v", "cash_amount", "split_to")  # the one that a row of each endpoint has


def _first(row: Row, *names: str) -> str:
    return next(name for name in names if name in row)


def _altered(row: Row) -> Row:
    name = _first(row, *NUMBERS)
    return {**row, name: (row[name] or 0) + 1}


def _later(row: Row, days: int) -> Row:
    if "t" in row:
        return {**row, "t": row["t"] + days * 86_400_000}
    name = _first(row, "execution_date", "ex_dividend_date")
    return {**row, name: str(date.fromisoformat(row[name]) + timedelta(days=days))}
