"""Faults in Polygon's responses: valid JSON with wrong content."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from sandbox.http.messages import Answer

Row = dict[str, Any]


def page_loop(answer: Answer, *, days_back: int = 0) -> Answer:
    """Point ``next_url`` at its own page; ``days_back``: at an earlier one."""
    path, request = answer.request.path, answer.request
    found = request.found
    if days_back and "start" in found:
        day = timedelta(days=days_back)
        text = found["start"]
        start = str(int(text) - days_back * 86_400_000) if text.isdecimal() else str(date.fromisoformat(text) - day)
        path = path.replace(f"/{text}/", f"/{start}/")
    return _with(answer, next_url=f"{request.base}{replace(request, path=path).target}")


def other_symbol(answer: Answer, *, symbol: str = "ZVZZT") -> Answer:
    """Replace the symbol; in reference data, only that of the first row."""
    if "ticker" in answer.body:
        return _with(answer, ticker=symbol)
    rows = _rows(answer)
    return _with_rows(answer, [*({**row, "ticker": symbol} for row in rows[:1]), *rows[1:]])


def out_of_range(answer: Answer, *, days: int = 4000) -> Answer:
    """Move the last row ``days`` into the future."""
    rows = _rows(answer)
    return _with_rows(answer, [*rows[:-1], *(_later(row, days) for row in rows[-1:])])


def duplicated(answer: Answer, *, conflicting: bool = False) -> Answer:
    """Send every row twice; ``conflicting``: the second time with another volume (amount, ratio)."""
    return _with_rows(answer, [copy for row in _rows(answer) for copy in (row, _altered(row) if conflicting else row)])


def other_adjustment(answer: Answer) -> Answer:
    """Send the opposite of the requested ``adjusted``."""
    return _with(answer, adjusted=not answer.body.get("adjusted"))


def miscounted(answer: Answer, *, by: int = 1) -> Answer:
    """Add ``by`` to ``resultsCount``; it may be negative."""
    count = len(_rows(answer)) + by
    return _with(answer, resultsCount=count, count=count)


def no_results(answer: Answer, *, null: bool = False) -> Answer:
    """Declare rows in ``resultsCount``, and leave ``results`` out or send it as null."""
    rest = {name: value for name, value in answer.body.items() if name != "results"}
    return replace(answer, body={**rest, "results": None} if null else rest)


def without_ticker(answer: Answer) -> Answer:
    """Remove the ticker from the rows of a grouped response."""
    return _with_rows(answer, [{name: value for name, value in row.items() if name != "T"} for row in _rows(answer)])


def drifted(answer: Answer) -> Answer:
    """Closing prices (amounts, ratios) as text."""
    return _with_rows(answer, [{**row, (name := _first(row, "c", *NUMBERS)): str(row[name])} for row in _rows(answer)])


KINDS: Mapping[str, Callable[..., Answer]] = {
    function.__name__: function
    for function in (
        *(page_loop, other_symbol, out_of_range, duplicated, other_adjustment, miscounted, no_results, without_ticker, drifted),
    )
}


def _rows(answer: Answer) -> list[Row]:
    return answer.body.get("results", [])


def _with_rows(answer: Answer, rows: list[Row]) -> Answer:
    """Return the response with other rows and the right counts."""
    counts = {name: len(rows) for name in ("queryCount", "resultsCount", "count") if name in answer.body}
    return _with(answer, results=rows, **counts) if rows else answer


def _with(answer: Answer, **fields: Any) -> Answer:
    return replace(answer, body={**answer.body, **fields})


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
