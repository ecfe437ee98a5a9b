"""``market-data adopt``: take over a bucket of older tools."""

from __future__ import annotations

import argparse
import getpass
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from market_data.cli.arguments import OK, PROBLEM, add_command, feed_of, format_arguments, names, read_day, show

if TYPE_CHECKING:
    from market_data.cli.deployment import Deployment


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "adopt",
        _adopt,
        "Record what a bucket of an older tool holds, so that runs request only what is missing. Makes no API calls.",
    )
    command.add_argument("feed", metavar="FEED", help="DAG id of a feed with provider_level: false")
    command.add_argument(
        "--prefix", metavar="FOLDER", help="folder of the symbol= folders; default: the feed's own, e.g. raw/prices"
    )
    command.add_argument(
        "--start", type=read_day, metavar="DATE", help="first session to record, inclusive; default: the bucket's first"
    )
    command.add_argument(
        "--end", type=read_day, metavar="DATE", help="last session to record, inclusive; default: the bucket's last"
    )
    command.add_argument("--symbols", type=names, metavar="A,B", help="default: all")
    command.add_argument(
        "--rewrite", action="store_true", help="give files of another form ours; the old ones are kept under adopted/"
    )
    command.add_argument(
        "--zone", choices=("UTC", "exchange"), default="", help="for times without one; default: as the hours of trading show"
    )
    command.add_argument("--dry-run", action="store_true", help="report; write nothing")
    command.add_argument("--by", metavar="NAME", help="who adopts it; default: the user of this process")
    format_arguments(command)


def _adopt(args: argparse.Namespace, deployment: Deployment) -> int:
    from dataclasses import replace

    from market_data.maintenance import adopt as job
    from market_data.pipeline.selection import EVER

    selection = job.selection_of(feed_of(args.feed))
    symbols = tuple(args.symbols) if args.symbols else None
    selection = replace(selection, symbols=symbols, start=args.start or EVER[0], end=args.end or EVER[1])
    terms = job.Terms(args.dry_run, args.rewrite, args.zone, args.by or getpass.getuser())
    done = job.adopt(deployment.lake(), selection, datetime.now(UTC), terms, args.prefix)
    if args.format == "json":
        print(json.dumps(done.to_json(), indent=1))
    else:
        if done.problems or args.format:
            show(done.table(), args.format)
        if args.format is None:
            print("\n".join(done.lines()))
    return PROBLEM if done.unfit or (done.other > done.rewritten and not args.dry_run) else OK
