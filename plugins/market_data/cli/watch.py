"""``market-data watch``: look for trouble and tell people, without a scheduler."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from market_data.cli.arguments import OK, PROBLEM, add_command

if TYPE_CHECKING:
    from market_data.cli.deployment import Deployment


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "watch",
        run,
        "Find late sessions, failed runs and bad data, and send the notifiers of feeds.yaml what they do not know yet. Makes no API "
        "calls. Exit code 1 while something is wrong. Run it every five minutes, on another machine than the scheduler's.",
    )
    command.add_argument("--dry-run", action="store_true", help="show what is wrong; send nothing")
    command.add_argument("--json", action="store_true", help="print the causes as JSON")


def run(args: argparse.Namespace, deployment: Deployment) -> int:
    """Watch all feeds once, and print the causes and what could not be sent."""
    from dataclasses import asdict

    from market_data.alerts.sent import Delivered
    from market_data.alerts.watch import find, watch
    from market_data.config.feeds import load_alerts, load_feeds
    from market_data.lake.clock import check_clock

    lake, feeds, alerts = deployment.lake(), load_feeds(), load_alerts()
    reading: dict[str, Any] = {"check_clock": check_clock, "open_s3": deployment.open_s3}
    if args.dry_run:
        found, done = find(lake, feeds, alerts, datetime.now(UTC), **reading), Delivered()
    else:
        notifiers, base_url = deployment.notifiers(alerts)
        found, done = watch(lake, feeds, alerts, notifiers, lambda: datetime.now(UTC), base_url=base_url, **reading)
    if args.json:
        print(json.dumps([asdict(cause) for cause in found.causes], indent=1))
    else:
        for cause in found.causes:
            print("\n  ".join([cause.title, *cause.why, f"To do: {cause.todo}"]))
        print("\n".join([*(f"sent {one}" for one in done.sent), *(f"not sent {one}" for one in done.failed)]), end="")
        print("" if found.causes else "nothing is wrong")
    return PROBLEM if found.causes or done.failed else OK
