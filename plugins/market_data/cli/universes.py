"""``market-data universes``: keep the index files of the lake up to date."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from market_data.cli.arguments import OK, PROBLEM, add_command, read_day
from market_data.core.errors import MarketDataError, ParamError
from market_data.maintenance import universes

if TYPE_CHECKING:
    from market_data.cli.deployment import Deployment
    from market_data.maintenance.universes import Index, Reading

REFERENCE = "polygon"
"""The provider whose reference data list every ticker."""


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "universes",
        _universes,
        "Update the members of indices, today's and those of the past, from public sources. Refuses implausible changes.",
    )
    command.add_argument(
        "indices",
        nargs="*",
        metavar="INDEX",
        help=f"{', '.join(universes.INDICES)}; default: {', '.join(universes.DEFAULT)}. {universes.LISTED} is everything that"
        f" {REFERENCE} lists",
    )
    command.add_argument("--dry-run", action="store_true", help="show the difference; write nothing")
    command.add_argument("--source", metavar="URL", help="address of one index's members, instead of the setting's")
    command.add_argument("--history", metavar="URL", help="address of one index's memberships (CSV), instead of the setting's")
    command.add_argument(
        "--earlier", action="append", type=read_day, default=[], metavar="DATE",
        help=f"for {universes.LISTED}: also what was listed on this date, which narrows the first dates; repeatable",
    )  # fmt: skip
    command.add_argument("--min-members", type=int, metavar="N", help="fewer members are implausible")
    command.add_argument("--max-members", type=int, metavar="N", help="more members are implausible")
    command.add_argument("--max-changes", type=int, metavar="N", help="more names that join or leave at once are implausible")
    command.add_argument(
        "--overrule", metavar="REASON", default="", help="write an implausible update; the journal keeps the reason"
    )
    command.add_argument("--by", metavar="NAME", help="who overrules; default: the user of this process")
    command.add_argument("--json", action="store_true", help="print JSON")


def _universes(args: argparse.Namespace, deployment: Deployment) -> int:
    chosen = [universes.index_of_name(name) for name in args.indices or universes.DEFAULT]
    if len(chosen) > 1 and (args.source or args.history or args.overrule):
        raise ParamError(["--source, --history and --overrule are for one index; name it"])
    by = args.by or getpass.getuser()
    terms = universes.Terms(args.dry_run, args.min_members, args.max_members, args.max_changes, args.overrule, by)
    now, lake = datetime.now(UTC), deployment.lake()
    done, failed = [], []
    for index in chosen:
        try:
            done.append(universes.update_universe(lake, index, _read(index, args, deployment, now), now, terms))
        except ParamError:
            raise
        except MarketDataError as error:
            failed.append(error)
    if args.json:
        print(json.dumps([one.to_json() for one in done], indent=1))
    else:
        print("\n".join(line for one in done for line in one.lines()))
    for problem in failed:
        print(f"error: {problem}", file=sys.stderr)
    return PROBLEM if failed or any(one.refused for one in done) else OK


def _read(index: Index, args: argparse.Namespace, deployment: Deployment, now: datetime) -> Reading:
    if index.name != universes.LISTED:
        return universes.read_index_sources(index, source=args.source, past=args.history)
    with deployment.hook(REFERENCE, f"{REFERENCE}_default", {}) as hook:
        return universes.read_listing(hook.tickers, universes.day_of(now), args.earlier)  # type: ignore[attr-defined]
