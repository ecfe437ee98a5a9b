"""``market-data compact``: keep the lake quick to read and small."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from market_data.cli.arguments import OK, add_command, selected, selection_arguments
from market_data.cli.deployment import Deployment

PARTS = ("files", "ledger", "retention")


def add(commands: Any) -> None:
    """Add the command."""
    text = "Fold day files of closed months into year, month or session files, and the ledger into an object per month. No row is changed."
    compact = add_command(commands, "compact", _compact, text)
    selection_arguments(compact)
    compact.add_argument(
        "--part",
        action="append",
        choices=PARTS,
        metavar="PART",
        help=f"only this: {', '.join(PARTS)} (deletes what is past the ages in feeds.yaml); repeatable; default: files and ledger",
    )
    compact.add_argument(
        "--deletes",
        choices=("all", "earlier", "none"),
        default="all",
        help="day files to delete once folded: all; those that an earlier command has folded, which no reader has open any more; none",
    )
    compact.add_argument(
        "--to",
        choices=("year", "session"),
        help="files to fold into: year, of a symbol's year or month; session, with all symbols; default: session for feeds whose "
        "file_grain is session, else year, into which session files are folded too",
    )
    compact.add_argument("--dry-run", action="store_true", help="show what would be done; change nothing")


def _compact(args: argparse.Namespace, deployment: Deployment) -> int:
    from market_data.config.feeds import load_retention
    from market_data.maintenance.compaction import Deletes, compact
    from market_data.maintenance.ledger_folding import fold_ledger
    from market_data.maintenance.release import folded_grain
    from market_data.maintenance.retention import apply_retention

    lake, now, parts = deployment.lake(), datetime.now(UTC), args.part or PARTS[:2]
    chosen = list(selected(args, lake)) if {"files", "ledger"} & {*parts} else []
    places = {(selection.dataset.name, selection.source, selection.layout): (feed, selection) for feed, selection in chosen}
    for feed, selection in places.values() if "files" in parts else ():
        to = args.to or folded_grain(feed)
        done = compact(lake, selection, now, dry_run=args.dry_run, deletes=Deletes(args.deletes), to=to)
        print("\n".join(done.sentences()))
    for dataset, source in sorted({place[:2] for place in places}) if "ledger" in parts else ():
        print("\n".join(fold_ledger(lake, dataset, source, now, dry_run=args.dry_run).sentences()))
    if "retention" in parts:
        print("\n".join(apply_retention(lake, load_retention(), now, dry_run=args.dry_run).sentences()))
    if not places and {"files", "ledger"} & {*parts}:
        print("the ledger has no source of these feeds: there is nothing to fold")
    return OK
