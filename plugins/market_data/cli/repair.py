"""``market-data repair``: repair what an audit finds."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from market_data.cli.arguments import (
    OK,
    PROBLEM,
    add_command,
    selected,
    selection_arguments,
    warehouse_argument,
)

if TYPE_CHECKING:
    from market_data.cli.deployment import Deployment
    from market_data.config.feeds import Feed
    from market_data.lake.store import Lake
    from market_data.maintenance.repair_plan import OpenHook, RepairPlan
    from market_data.warehouse.base import Warehouse

CALLS = 100
"""Calls that a repair makes without --yes, at most."""


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "repair",
        _repair,
        "Audit, then repair exactly the gaps: ledger from receipts and objects, warehouse from the lake, the rest from the provider.",
    )
    selection_arguments(command)
    command.add_argument("--whole", action="store_true", help="read every object, not a sample")
    command.add_argument("--dry-run", action="store_true", help="show what would be repaired, with calls and cost; change nothing")
    command.add_argument("--max-calls", type=int, default=CALLS, metavar="N", help=f"more calls need --yes; default: {CALLS}")
    command.add_argument("--max-cost-usd", type=float, default=0.0, metavar="X", help="a higher charge needs --yes; default: 0")
    command.add_argument("--yes", action="store_true", help="approve what exceeds the budget")
    command.add_argument("--no-fetch", action="store_true", help="repair only what needs no call")
    command.add_argument("--json", action="store_true", help="print JSON")
    warehouse_argument(command)
    command.add_argument("--by", metavar="NAME", help="who repairs; default: the user of this process")
    command.add_argument("--reason", default="gaps found by an audit", help="the journal of the lake keeps it")


def _repair(args: argparse.Namespace, deployment: Deployment) -> int:
    from market_data.maintenance.repair_plan import Budget, above

    lake, now = deployment.lake(), datetime.now(UTC)
    plans = list(_plans(args, deployment, lake, now))
    lines = [line for plan in plans for line in plan.sentences()] or ["the lake has nothing of these feeds"]
    exceeded = "" if args.no_fetch else above(plans, Budget(args.max_calls, args.max_cost_usd))
    if args.json and args.dry_run:
        print(json.dumps([plan.to_json() for plan in plans], indent=1))
        return OK
    if not args.json:
        print("\n".join(lines))
    if args.dry_run:
        print("dry run: nothing was changed")
        return OK
    if exceeded and not args.yes:
        print(f"error: {exceeded}; nothing was repaired: approve it with --yes, or raise the limit", file=sys.stderr)
        return PROBLEM
    done = [_do(plan, args, deployment, lake) for plan in plans if plan]
    if args.json:
        print(json.dumps(done, indent=1, default=str))
    return PROBLEM if any(one["red"] or one["problem"] for one in done) else OK


def _plans(args: argparse.Namespace, deployment: Deployment, lake: Lake, now: datetime) -> Iterator[RepairPlan]:
    from market_data.maintenance.audit import SHARE, audit, write_report
    from market_data.maintenance.repair_plan import plan_repair

    for feed, selection in selected(args, lake):
        with _warehouse(args, deployment) as opened:
            share = 1 if args.whole else SHARE
            found = audit(lake, opened, feed, selection, now, share=share, open_s3=deployment.open_s3)
        if not args.dry_run:
            write_report(lake, found, now)
        yield plan_repair(lake, feed, selection, found.findings, _hooks(feed, deployment), now, datetime.now(UTC))


def _hooks(feed: Feed, deployment: Deployment) -> OpenHook:
    return lambda options: deployment.hook(feed.provider, feed.conn_id, options)


def _do(plan: RepairPlan, args: argparse.Namespace, deployment: Deployment, lake: Lake) -> dict[str, Any]:
    from dataclasses import replace

    from market_data.maintenance.repair import repair

    chosen = replace(plan, planned=None) if args.no_fetch else plan
    done = repair(
        chosen,
        lake,
        lambda: _warehouse(args, deployment),
        _hooks(plan.feed, deployment),
        lambda: datetime.now(UTC),
        is_running=deployment.is_running,
        by=args.by or getpass.getuser(),
        reason=args.reason,
    )
    if not args.json:
        print("\n".join(done.sentences()))
    return {**chosen.to_json(), "done": done.sentences(), "red": done.red}


def _warehouse(args: argparse.Namespace, deployment: Deployment) -> Warehouse:
    from market_data.cli.warehouse import duckdb_file

    return duckdb_file(args.duckdb) if args.duckdb else deployment.warehouse()
