"""``market-data audit``: find what is missing, changed or left behind."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from market_data.cli.arguments import (
    OK,
    PROBLEM,
    add_command,
    format_arguments,
    selected,
    selection_arguments,
    show,
    warehouse_argument,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.cli.deployment import Deployment

FIRST = ("symbol", "first_session", "last_session", "cause", "repair", "detail", "source", "dataset", "key")
"""Columns in the order of their use to a reader: a narrow terminal shows the first ones."""


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "audit",
        run,
        "Compare calendar, ledger, lake and warehouse, and list what differs, with its cause and cheapest repair. Makes no API calls.",
    )
    selection_arguments(command)
    command.add_argument(
        "--share",
        type=_share,
        metavar="X",
        help="read the objects of this share of the symbols, and all suspected ones; default: 0.05",
    )
    command.add_argument("--whole", action="store_true", help="read every object: the same as --share 1")
    command.add_argument("--lake-only", action="store_true", help="leave the warehouse out")
    command.add_argument("--no-report", action="store_true", help="write no gap report into the lake")
    warehouse_argument(command)
    format_arguments(command)


def run(args: argparse.Namespace, deployment: Deployment) -> int:
    """Audit what is selected, write a gap report of each feed and source, and print all findings."""
    import pyarrow as pa

    from market_data.cli.warehouse import duckdb_file
    from market_data.maintenance.audit import SHARE, audit, write_report
    from market_data.maintenance.findings import FINDINGS

    lake, now = deployment.lake(), datetime.now(UTC)
    warehouse = None
    if not args.lake_only:
        warehouse = duckdb_file(args.duckdb) if args.duckdb else deployment.warehouse()
    share = 1.0 if args.whole else args.share or SHARE
    found, lines = [FINDINGS.empty_table()], []
    for feed, selection in selected(args, lake):
        one = audit(lake, warehouse, feed, selection, now, share=share, open_s3=deployment.open_s3)
        found.append(one.findings)
        lines += one.sentences()
        if not args.no_report:
            lines.append(f"gap report: {write_report(lake, one, now)}")
    findings = pa.concat_tables(found)
    if args.format is not None:
        show(findings, args.format)
    else:
        if len(findings):
            show(_readable(findings), None)
        print("\n".join(lines) or "nothing to audit: the lake has nothing of these feeds")
    return PROBLEM if len(findings) else OK


def _readable(findings: pa.Table) -> pa.Table:
    """Return the columns in the order of ``FIRST``, without those that are the same everywhere."""
    kept = [name for name in FIRST if name not in ("source", "dataset") or len(findings[name].unique()) > 1]
    return findings.select(kept)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, up to 1")
    return value
