"""Faults in Financial Modeling Prep's responses: its refusals, and bodies with wrong content.

Those about rows work on both of its forms, JSON arrays and CSV files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from sandbox.http.messages import Answer

EOD_COLUMNS = ["symbol", "date", "open", "low", "high", "close", "adjClose", "volume"]
STATEMENT_COLUMNS = ["date", "symbol", "reportedCurrency", "cik", "filingDate", "acceptedDate", "fiscalYear", "period", "netIncome"]

Row = dict[str, Any]


def refused(answer: Answer, *, message: str, status: int = 402) -> Answer:
    """Plain text with the words of the vendor: see ``fmp.SYMBOL``, ``PERIOD``, ``LIMIT``, ``RESTRICTED``."""
    return Answer(answer.request, status, message)


def bandwidth(answer: Answer) -> Answer:
    """Refuse because the bandwidth of 30 days is used up."""
    return replace(
        answer.request.vendor.error(answer.request, 429, "Bandwidth Limit Reach . Please upgrade your plan"), source=None
    )


def bulk_throttled(answer: Answer) -> Answer:
    """Refuse a bulk file requested too soon after another, with status 200."""
    words = (
        "Limit Reach. This is a bulk endpoint that provides a significant amount of data, frequent abuse on this API Endpoint "
        "may result in restrictions placed on this API Key."
    )
    return answer.request.vendor.error(answer.request, 200, words)


def other_symbol(answer: Answer, *, symbol: str = "ZVZZT") -> Answer:
    return _each(answer, lambda row: {**row, "symbol": symbol})


def out_of_range(answer: Answer, *, days: int = 4000) -> Answer:
    """Move every row ``days`` into the future."""
    later = timedelta(days=days)
    return _each(answer, lambda row: {**row, "date": str(date.fromisoformat(row["date"].strip('"')) + later)})


def duplicated(answer: Answer, *, conflicting: bool = False) -> Answer:
    """Send every row twice; ``conflicting``: the second time with another volume."""
    more = (lambda row: {**row, "volume": float(row["volume"] or 0) + 1}) if conflicting else dict
    return _rewritten(answer, lambda rows: [copy for row in rows for copy in (row, more(row))])


def restated(answer: Answer, *, days: int) -> Answer:
    """File every statement again ``days`` later, with another net income where it has one."""

    def again(row: Row) -> Row:
        filed = date.fromisoformat(row["filingDate"].strip('"')) + timedelta(days=days)
        other = {"netIncome": float(row["netIncome"]) + 1} if "netIncome" in row else {}
        return {**row, "filingDate": str(filed), **other}

    return _rewritten(answer, lambda rows: [copy for row in rows for copy in (row, again(row))])


def drifted(answer: Answer) -> Answer:
    """Closing prices (of statements: the net income) as words."""
    return _each(answer, lambda row: {**row, **{name: "n/a" for name in ("adjClose", "close", "netIncome") if name in row}})


def without(answer: Answer, *, field: str) -> Answer:
    """Remove a field from every row."""
    return _each(answer, lambda row: {name: value for name, value in row.items() if name != field})


def without_symbol(answer: Answer, *, symbol: str) -> Answer:
    """Leave out the rows of a symbol."""
    return _rewritten(answer, lambda rows: [row for row in rows if row["symbol"].strip('"') != symbol])


def changed(answer: Answer, *, field: str, value: Any) -> Answer:
    """Set a field of every row to ``value``."""
    return _each(answer, lambda row: {**row, field: value})


def other_body(answer: Answer, *, body: str) -> Answer:
    return replace(answer, body=body)


def cut(answer: Answer, *, fraction: float = 0.5) -> Answer:
    """About ``fraction`` of the body, cut in the middle of a line (of JSON: anywhere), in a good transfer."""
    body = answer.encoded()
    part = body[: int(len(body) * fraction)]
    if not isinstance(answer.body, str):
        return replace(answer, body=part)
    return replace(answer, body=part[: part.rindex(b"\n") + 6] if part.count(b"\n") > 1 else part)


def cut_lines(answer: Answer, *, before: str) -> Answer:
    """End the file before the line of symbol ``before``, in a complete transfer."""
    head, _, _ = answer.body.partition(f'"{before}",')
    return replace(answer, body=head[: head.rindex("\n") + 1])


def cut_digits(answer: Answer, *, symbol: str, digits: int = 2) -> Answer:
    """End the file ``digits`` characters before the end of the line of ``symbol``, in a complete transfer."""
    lines = answer.body.splitlines(keepends=True)
    place = next(n for n, line in enumerate(lines) if f'"{symbol}",' in line)
    return replace(answer, body="".join(lines[: place + 1]).rstrip("\n")[: -digits or None])


def without_end(answer: Answer, *, last: str | None = None) -> Answer:
    """Remove the line end of the last line; ``last``: move that symbol to the last line."""
    header, *lines = answer.body.splitlines()
    lines.sort(key=lambda line: f'"{last}",' in line)
    return replace(answer, body="\n".join([header, *lines]))


KINDS: Mapping[str, Callable[..., Answer]] = {
    function.__name__: function
    for function in (
        *(refused, bandwidth, bulk_throttled, other_symbol, out_of_range, duplicated, restated),
        *(drifted, without, without_symbol, changed, other_body),
        *(cut, cut_lines, cut_digits, without_end),
    )
}


def _each(answer: Answer, change: Callable[[Row], Row]) -> Answer:
    return _rewritten(answer, lambda rows: [change(row) for row in rows])


def _rewritten(answer: Answer, change: Callable[[list[Row]], list[Row]]) -> Answer:
    """Return the response with other rows; values of a CSV file keep their quotes."""
    if isinstance(answer.body, list):
        return replace(answer, body=change(answer.body))
    header, *lines = answer.body.splitlines()
    names = [name.strip('"') for name in header.split(",")]
    rows = change([dict(zip(names, line.split(","), strict=True)) for line in lines])
    names = list(rows[0]) if rows else names
    head = ",".join(f'"{name}"' for name in names)
    return replace(answer, body="".join(f"{line}\n" for line in (head, *(",".join(map(str, row.values())) for row in rows))))
