"""The closing words of `make run`: what came, what it cost, where everything is. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from market_data.core.messages import dollars
from sandbox.stack.environment import ADMIN
from sandbox.stack.progress import Snapshot, seconds

MOST_REASONS = 10


@dataclass(frozen=True, slots=True)
class Places:
    """Addresses and paths to show to the user.

    :param lake_server: the local S3 server, or None where the lake is elsewhere.
    :param report: the run report's key in the lake, or None where there is none.
    :param warehouse: the local DuckDB file, or None where the warehouse is elsewhere.
    """

    ui: str
    password: str
    lake: str
    lake_server: str | None
    report: str | None
    warehouse: str | None
    logs: str


def summary(
    snapshot: Snapshot,
    estimate: Mapping[str, Any],
    report: Mapping[str, Any],
    receipts: Iterable[Mapping[str, Any]],
    recorded: Iterable[str],
    *,
    sample_origins: Collection[str] = (),
) -> RenderableType:
    """Return the summary of a run.

    :param estimate: estimate of the plan; empty without one.
    :param report: the run report; empty if the run ended before it.
    :param receipts: of its batches.
    :param recorded: of the planned symbols, those for which the sample API has real prices.
    :param sample_origins: sources of a sample server's values, for a provider whose hook does not read them from responses.
    """
    if snapshot.batches is None:
        return Text("No batch was planned.", style="bold")
    if snapshot.state == "success" and estimate.get("dry_run"):
        return _table([("Dry run", "nothing was fetched"), *_estimate(estimate)])
    if snapshot.state == "success" and not snapshot.batches:
        why = estimate.get("note") or "Nothing to do: everything requested is covered already"
        return Text(f"{why}. No call was made.", style="bold green")
    origins = sources(receipts)
    if sample_origins and not origins & {"recorded", "generated", "file"}:
        origins = set(sample_origins)
    return _table(_rows(snapshot, report, origins, sorted(recorded)))


def _table(rows: Iterable[tuple[str, str]]) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_column(min_width=11)
    for name, value in rows:
        table.add_row(Text(name, style="bold"), Text(value))
    return table


def _estimate(estimate: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "It takes", f"{estimate['batches']:,} batches, {estimate['calls']:,} calls, {estimate['minutes']:g} minutes"
    yield "It brings", f"at most {estimate['rows']:,} rows, for {estimate['cells']:,} cells that are missing"
    if estimate.get("cost_usd") is not None:
        yield "It costs", dollars(estimate["cost_usd"])
    yield "Covered", f"{estimate['covered']:,} cells, which are not requested again"
    if estimate.get("note"):
        yield "Note", estimate["note"]


def sources(receipts: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the sources of the values, as the providers name them; empty for providers that name none."""
    return {word for receipt in receipts for source in receipt.get("sources", ()) for word in source.split("+")}


def _rows(snapshot: Snapshot, report: Mapping[str, Any], origins: set[str], recorded: list[str]) -> Iterable[tuple[str, str]]:
    symbols, calls = snapshot.symbols, int(report.get("api_calls", snapshot.calls))
    if dates := report.get("date_range"):
        yield "Sessions", f"{dates['from']} to {dates['to']}"
    yield "Batches", f"{snapshot.batches_done - snapshot.batches_failed} of {snapshot.batches} done, in {seconds(snapshot.elapsed)}"
    yield "Symbols", f"{symbols:,}, of which {report.get('failed_tickers', snapshot.symbols_failed):,} failed"
    files, same = report.get("files_written", 0), report.get("files_unchanged", 0)
    yield "Written", f"{report.get('rows_landed', snapshot.rows):,} rows; {files:,} files written, {same:,} as they were"
    yield "Quarantined", f"{report.get('rows_quarantined', snapshot.quarantined):,} rows"
    yield "Loaded", f"{report.get('rows_loaded', 0):,} rows"
    yield "Calls", f"{calls:,}" + (f"; a client with one call per symbol makes {symbols:,}" if calls < symbols else "")
    if origins:
        yield "Source", _source(origins, recorded)
    for warning in report.get("warnings", ()):
        yield "Look at", warning


def _source(origins: set[str], recorded: list[str]) -> str:
    if "recorded" not in origins or not recorded:
        return ", ".join(sorted(origins))
    rest = "; all others are generated" if "generated" in origins else ""
    return f"recorded prices for {', '.join(recorded)}{rest}"


def reasons(report: Mapping[str, Any], logs: Iterable[str], failed_tasks: Iterable[str]) -> RenderableType:
    """Why a run is red: what the report says, or what the logs of its failed tasks end with."""
    found = [str(reason) for reason in report.get("red") or report.get("errors") or ()] or list(logs)
    lines = [Text(f"  {reason}") for reason in dict.fromkeys(found)]
    more = [Text(f"  and {len(lines) - MOST_REASONS} more, in the report")] if len(lines) > MOST_REASONS else []
    return Group(Text(f"Failed: {', '.join(failed_tasks) or 'the run'}", style="bold red"), *lines[:MOST_REASONS], *more)


def places(where: Places) -> RenderableType:
    """Return the places where the user can look next."""
    rows = [("Airflow", f"{where.ui}   user {ADMIN}, password {where.password}")]
    rows += [("Lake", f"{where.lake}, served at {where.lake_server}" if where.lake_server else where.lake)]
    rows += [("Report", f"{where.lake.rstrip('/')}/{where.report}")] if where.report else []
    rows += [("Warehouse", where.warehouse)] if where.warehouse else []
    return _table([*rows, ("Logs", where.logs)])
