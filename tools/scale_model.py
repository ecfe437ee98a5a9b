"""Write the model of large universes, ``docs/reference/scale.md``, computed by the planner.

With ``--check`` only compare it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT / "plugins"))

from market_data.core import calendar  # noqa: E402 - the path is set above
from market_data.core.capabilities import Capabilities, Endpoint, Quota  # noqa: E402
from market_data.pipeline.planner import Plan, make_plan  # noqa: E402
from market_data.providers.base import ProviderConfig  # noqa: E402
from market_data.providers.registry import provider  # noqa: E402

PAGE = PROJECT / "docs" / "reference" / "scale.md"
SESSIONS = calendar.sessions(date(2015, 1, 1), date(2025, 1, 1))
"""Ten years: 2,516 sessions."""
MINUTES = 390
"""Rows of minutes per symbol and session: the regular hours. Plans count pages for 960."""
ROWS = {"ohlcv-1d": 1, "ohlcv-1m": MINUTES}
BYTES = {
    ("ohlcv-1d", "day"): 1770.0,
    ("ohlcv-1d", "session"): 42.8,
    ("ohlcv-1d", "year"): 37.0,
    ("ohlcv-1m", "day"): 25.0,
    ("ohlcv-1m", "session"): 13.3,
    ("ohlcv-1m", "year"): 12.4,
}
"""Bytes per row in the lake, measured on generated prices of two symbols; session files of 523."""
FETCHED = {"day": 240_000, "session": 400_000, "year": 400_000}
"""Rows per second that one core fetches, checks and writes: minutes of Polygon, see docs/reference/benchmarks.md. Session files are written
as year files are: few, with many rows."""
LOADED = 90_000
"""Rows per second that DuckDB loads: 1.32 million daily bars in 14 seconds."""
PUT_SECONDS = 0.02
"""Seconds per object written, one after another; an assumption."""
PUT_DOLLARS, GIGABYTE_DOLLARS = 0.005 / 1000, 0.023
"""Amazon S3 Standard, us-east-1: per PUT, and per gigabyte and month."""
RECORD = 56
"""Bytes that Databento bills per bar: the size of its record."""
BATCH_SIZE = {"alpaca": 1000, "databento": 1000}
"""As in the feeds of bars; 25 otherwise."""


@dataclass(frozen=True)
class Size:
    """A universe and a span: the last ``sessions`` of ten years."""

    symbols: int
    sessions: int
    dataset: str

    @property
    def title(self) -> str:
        span = "1 session" if self.sessions == 1 else f"{self.sessions:,} sessions (ten years)"
        return f"{self.symbols:,} symbols, {span}, {'minutes' if self.dataset == 'ohlcv-1m' else 'daily bars'}"


SIZES = (
    Size(523, 1, "ohlcv-1d"),
    Size(523, 2516, "ohlcv-1d"),
    Size(523, 2516, "ohlcv-1m"),
    Size(10_000, 1, "ohlcv-1d"),
    Size(10_000, 1, "ohlcv-1m"),
    Size(10_000, 2516, "ohlcv-1d"),
    Size(10_000, 2516, "ohlcv-1m"),
)


def _months(days: Sequence[date]) -> int:
    return len({(day.year, day.month) for day in days})


def _years(days: Sequence[date]) -> int:
    return len({day.year for day in days})


GRAINS: dict[str, Callable[[int, Sequence[date], str], int]] = {
    "day": lambda symbols, days, _: symbols * len(days),
    "session": lambda _, days, __: len(days),
    "year": lambda symbols, days, dataset: symbols * (_years(days) if dataset == "ohlcv-1d" else _months(days)),
}
"""``file_grain`` -> number of objects for symbols, sessions and dataset. A further grain is a line here and in ``BYTES``."""


@dataclass(frozen=True)
class Account:
    """A provider, a subscription plan, and what the connection has beyond it."""

    name: str
    plan: str
    more: str = ""

    @property
    def label(self) -> str:
        return f"`{self.name}` `{self.plan}`" + (f" with {self.more}" if self.more else "")

    def abilities(self, dataset: str) -> tuple[Capabilities, int | None] | None:
        """Return the endpoints and quota, and the years of history; None where it does not serve the dataset."""
        extra = {"plan": self.plan, **({"flat_files_conn_id": "flat_files"} if self.more else {})}
        hook = provider(self.name)(ProviderConfig("scale", "", extra=extra))
        return (hook.capabilities(dataset), hook.plan.history_years) if dataset in hook.spec.serves else None


ACCOUNTS = tuple(
    Account(name, plan, more)
    for name in ("polygon", "alpaca", "fmp", "databento", "ib")
    for plan in provider(name).plans
    if plan != "sample"
    for more in (("", "flat files") if (name, plan) == ("polygon", "advanced") else ("",))
)


@cache
def _calls(endpoints: tuple[Endpoint, ...], size: Size, batch_size: int, grain: str) -> tuple[int, bool]:
    """Return the calls of a plan, and whether each session is of one request only.

    Then its file is written once.
    """
    missing = {f"S{number}": (1 << size.sessions) - 1 for number in range(size.symbols)}
    able, days = Capabilities(endpoints, Quota(60)), SESSIONS[-size.sessions :]
    plan = make_plan(size.dataset, missing, days, able, batch_size=batch_size, file_grain=grain)
    return plan.calls, _written_once(plan, days)


def _written_once(plan: Plan, days: Sequence[date]) -> bool:
    """Return whether no session is of two requests."""
    seen: set[date] = set()
    for batch in plan.batches:
        for request in batch.requests(days):
            own = set(request.sessions)
            if not seen.isdisjoint(own):
                return False
            seen |= own
    return True


@dataclass(frozen=True)
class Row:
    """Calls and hours of a backfill with one process.

    :param years: of history that the plan has, if they are too few for the size; None: it has all.
    :param billed: gigabytes that are charged.
    """

    account: Account
    years: int | None
    grain: str
    calls: int
    hours: dict[str, float]
    billed: float

    @property
    def bottleneck(self) -> str:
        return max(self.hours, key=self.hours.__getitem__)

    def cells(self) -> list[str]:
        note = f" (the last {self.years} years)" if self.years else ""
        billed = f"{self.billed:,.3f} GB" if self.billed else "flat fee"
        hours = map(_hours, self.hours.values())
        return [self.account.label + note, f"`{self.grain}`", f"{self.calls:,}", *hours, billed, f"**{self.bottleneck}**"]


def row(account: Account, size: Size) -> Row | None:
    """Return the row of an account, with the grain that takes the least time.

    None where it does not serve the dataset.
    """
    found = account.abilities(size.dataset)
    if found is None:
        return None
    able, years = found
    short = years if years is not None and years < 10 and size.sessions > 1 else None
    days = tuple(day for day in SESSIONS[-size.sessions :] if not short or day.year > SESSIONS[-1].year - short)
    rows = size.symbols * len(days) * ROWS[size.dataset]
    possible = []
    for grain, count in GRAINS.items():
        here = Size(size.symbols, len(days), size.dataset)
        calls, written_once = _calls(able.endpoints, here, BATCH_SIZE.get(account.name, 25), grain)
        if grain == "session" and not written_once:
            continue
        calls *= 2 if account.name == "databento" else 1  # each stream is counted first
        hours = {
            "quota": calls / able.quota.calls_per_minute(calls) / 60,
            "fetch": rows / FETCHED[grain] / 3600,
            "objects": count(size.symbols, days, size.dataset) * PUT_SECONDS / 3600,
            "warehouse": rows / LOADED / 3600,
        }
        billed = rows * RECORD / 1e9 if account.name == "databento" else 0.0
        possible.append(Row(account, short, grain, calls, hours, billed))
    return min(possible, key=lambda one: (max(one.hours.values()), sum(one.hours.values())))


def _hours(value: float) -> str:
    return "< 0.01" if value < 0.01 else f"{value:,.2f}" if value < 10 else f"{value:,.0f}"


def lake_table(size: Size) -> str:
    """Return the objects, gigabytes and dollars of a size in the lake, by grain."""
    days, rows = SESSIONS[-size.sessions :], size.symbols * size.sessions * ROWS[size.dataset]
    lines = ["| file_grain | objects | GB | PUTs, USD | storage, USD a month |", "|---|---|---|---|---|"]
    for grain, count in GRAINS.items():
        objects, gigabytes = count(size.symbols, days, size.dataset), rows * BYTES[size.dataset, grain] / 1e9
        money = f"{objects * PUT_DOLLARS:,.2f} | {gigabytes * GIGABYTE_DOLLARS:,.2f}"
        lines.append(f"| `{grain}` | {objects:,} | {gigabytes:,.3f} | {money} |")
    return "\n".join(lines)


def section(size: Size) -> str:
    """Return the section of a size."""
    rows = [found for account in ACCOUNTS if (found := row(account, size)) is not None]
    head = "| account | file_grain | calls | quota, h | fetch, h | objects, h | warehouse, h | charged | bottleneck |"
    table = "\n".join([head, "|---|---|---|---|---|---|---|---|---|", *(f"| {' | '.join(one.cells())} |" for one in rows)])
    return f"## {size.title}\n\n{lake_table(size)}\n\n{table}\n"


def page() -> str:
    """Return the page as Markdown."""
    sizes = ", ".join(f"{value} ({name}, `{grain}`)" for (name, grain), value in BYTES.items())
    return f"""# Large universes

<!-- written by tools/scale_model.py -->

This page computes what a backfill takes: calls, hours, objects, bytes and dollars, for each provider and subscription plan. The
planner counts the calls. The other figures are measured or assumed; `tools/scale_model.py` has them:

* Quota: the calls at the rate of one pool slot and of the account's windows. Minutes are counted at 960 per session, the maximum.
  Real calls are fewer.
* Fetch: {FETCHED["day"]:,} rows per second with day files, {FETCHED["year"]:,} with session or year files, on one core. Several slots
  use several cores.
* Objects: {PUT_SECONDS} seconds for each, one after another. Several slots write at the same time.
* Warehouse: {LOADED:,} rows per second, DuckDB.
* Rows of minutes: {MINUTES} per symbol and session.
* Bytes per row: {sizes}.
* Dollars: {PUT_DOLLARS * 1000} USD per 1,000 PUTs, {GIGABYTE_DOLLARS} USD per GB and month: Amazon S3 Standard in us-east-1.
* Charged: Databento bills {RECORD} bytes per bar; the price per GB depends on the dataset. A dry run shows the dollars, and
  `max_cost_usd` limits them. The other providers have a flat fee.
* file_grain: the one of which the largest number of hours is the smallest. `session` only where a session's rows come
  with one request, so that each file is written once.

The bottleneck is the largest of the four hours. The quota's hours are the account's, whatever the machine. More slots, more cores or a
larger warehouse shorten the others.

{chr(10).join(map(section, SIZES))}"""


def main(arguments: list[str]) -> int:
    """Write the page, or report that it differs; return the exit status."""
    text = page()
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    if "--check" in arguments:
        sys.stderr.write("docs/reference/scale.md differs from the planner; run tools/scale_model.py\n")
        return 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
