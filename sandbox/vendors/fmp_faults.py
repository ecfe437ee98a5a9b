"""Faults in Financial Modeling Prep's responses: its refusals, and bodies with wrong content.

Those about rows work on both of its forms, JSON arrays and CSV files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from sandbox.vendors.messages import VendorResponse

EOD_COLUMNS = ["symbol", "date", "open", "low", "high", "close", "adjClose", "volume"]
STATEMENT_COLUMNS = ["date", "symbol", "reportedCurrency", "cik", "filingDate", "acceptedDate", "fiscalYear", "period", "netIncome"]

Row = dict[str, Any]


def refused(response: VendorResponse, *, message: str, status: int = 402) -> VendorResponse:
    """Plain text with the words of the vendor: see ``fmp.SYMBOL``, ``PERIOD``, ``LIMIT``, ``RESTRICTED``."""
    return VendorResponse(response.request, status, message)


def bandwidth(response: VendorResponse) -> VendorResponse:
    """Refuse because the bandwidth of 30 days is used up."""
    return replace(
        response.request.vendor.error(response.request, 429, "Bandwidth Limit Reach . Please upgrade your plan"), source=None
    )


def bulk_throttled(response: VendorResponse) -> VendorResponse:
    """Refuse a bulk file requested too soon after another, with status 200."""
    words = (
        "Limit Reach. This is a bulk endpoint that provides a significant amount of data, frequent abuse on this API Endpoint "
        "may result in restrictions placed on this API Key."
    )
    return response.request.vendor.error(response.request, 200, words)


def other_symbol(response: VendorResponse, *, symbol: str = "ZVZZT") -> VendorResponse:
    return _each(response, lambda row: {**row, "symbol": symbol})


def out_of_range(response: VendorResponse, *, days: int = 4000) -> VendorResponse:
    """Move every row ``days`` into the future."""
    later = timedelta(days=days)
    return _each(response, lambda row: {**row, "date": str(date.fromisoformat(row["date"].strip('"')) + later)})


def duplicated(response: VendorResponse, *, conflicting: bool = False) -> VendorResponse:
    """Send every row twice; ``conflicting``: the second time with another volume."""
    more = (lambda row: {**row, "volume": float(row["volume"] or 0) + 1}) if conflicting else dict
    return _rewritten(response, lambda rows: [copy for row in rows for copy in (row, more(row))])


def restated(response: VendorResponse, *, days: int) -> VendorResponse:
    """File every statement again ``days`` later, with another net income where it has one."""

    def again(row: Row) -> Row:
        filed = date.fromisoformat(row["filingDate"].strip('"')) + timedelta(days=days)
        other = {"netIncome": float(row["netIncome"]) + 1} if "netIncome" in row else {}
        return {**row, "filingDate": str(filed), **other}

    return _rewritten(response, lambda rows: [copy for row in rows for copy in (row, again(row))])


def drifted(response: VendorResponse) -> VendorResponse:
    """Closing prices (of statements: the net income) as words."""
    return _each(response, lambda row: {**row, **{name: "n/a" for name in ("adjClose", "close", "netIncome") if name in row}})


def without(response: VendorResponse, *, field: str) -> VendorResponse:
    """Remove a field from every row."""
    return _each(response, lambda row: {name: value for name, value in row.items() if name != field})


def without_symbol(response: VendorResponse, *, symbol: str) -> VendorResponse:
    """Leave out the rows of a symbol."""
    return _rewritten(response, lambda rows: [row for row in rows if row["symbol"].strip('"') != symbol])


def changed(response: VendorResponse, *, field: str, value: Any) -> VendorResponse:
    """Set a field of every row to ``value``."""
    return _each(response, lambda row: {**row, field: value})


def other_body(response: VendorResponse, *, body: str) -> VendorResponse:
    return replace(response, body=body)


def cut(response: VendorResponse, *, fraction: float = 0.5) -> VendorResponse:
    """About ``fraction`` of the body, cut in the middle of a line (of JSON: anywhere), in a good transfer."""
    body = response.encoded()
    part = body[: int(len(body) * fraction)]
    if not isinstance(response.body, str):
        return replace(response, body=part)
    return replace(response, body=part[: part.rindex(b"\n") + 6] if part.count(b"\n") > 1 else part)


def cut_lines(response: VendorResponse, *, before: str) -> VendorResponse:
    """End the file before the line of symbol ``before``, in a complete transfer."""
    head, _, _ = response.body.partition(f'"{before}",')
    return replace(response, body=head[: head.rindex("\n") + 1])


def cut_digits(response: VendorResponse, *, symbol: str, digits: int = 2) -> VendorResponse:
    """End the file ``digits`` characters before the end of the line of ``symbol``, in a complete transfer."""
    lines = response.body.splitlines(keepends=True)
    place = next(n for n, line in enumerate(lines) if f'"{symbol}",' in line)
    return replace(response, body="".join(lines[: place + 1]).rstrip("\n")[: -digits or None])


def without_end(response: VendorResponse, *, last: str | None = None) -> VendorResponse:
    """Remove the line end of the last line; ``last``: move that symbol to the last line."""
    header, *lines = response.body.splitlines()
    lines.sort(key=lambda line: f'"{last}",' in line)
    return replace(response, body="\n".join([header, *lines]))


KINDS: Mapping[str, Callable[..., VendorResponse]] = {
    function.__name__: function
    for function in (
        *(refused, bandwidth, bulk_throttled, other_symbol, out_of_range, duplicated, restated),
        *(drifted, without, without_symbol, changed, other_body),
        *(cut, cut_lines, cut_digits, without_end),
    )
}


def _each(response: VendorResponse, change: Callable[[Row], Row]) -> VendorResponse:
    return _rewritten(response, lambda rows: [change(row) for row in rows])


def _rewritten(response: VendorResponse, change: Callable[[list[Row]], list[Row]]) -> VendorResponse:
    """Return the response with other rows; values of a CSV file keep their quotes."""
    if isinstance(response.body, list):
        return replace(response, body=change(response.body))
    header, *lines = response.body.splitlines()
    names = [name.strip('"') for name in header.split(",")]
    rows = change([dict(zip(names, line.split(","), strict=True)) for line in lines])
    names = list(rows[0]) if rows else names
    head = ",".join(f'"{name}"' for name in names)
    return replace(response, body="".join(f"{line}\n" for line in (head, *(",".join(map(str, row.values())) for row in rows))))
