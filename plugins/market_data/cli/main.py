"""The arguments of ``market-data`` and what each command does."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import market_data
from market_data.cli import adopt, audit, compact, repair, state, universes, watch
from market_data.cli.arguments import (
    OK,
    PROBLEM,
    USAGE,
    add_command,
    check_span,
    end_of,
    feed_arguments,
    feed_of,
    format_arguments,
    names,
    read_day,
    show,
    strings,
    warehouse_argument,
    width,
)
from market_data.cli.deployment import Deployment
from market_data.core import settings
from market_data.core.errors import ConfigError, MarketDataError, ParamError
from market_data.core.outcome import State
from market_data.core.run import GRAINS

COMMANDS: tuple[Callable[[Any], None], ...] = (adopt.add, audit.add, compact.add, repair.add, state.add, universes.add, watch.add)
"""Each adds the commands of one module: ``add(commands)``."""


def main(argv: Sequence[str] | None, deployment: Deployment) -> int:
    """Run the command.

    :param argv: the arguments, without the program's name; None: those of the process.
    :return: 0 where all is well, 1 where a problem was found, 2 where the arguments are wrong (argparse exits with 2 itself).
    """
    args = parser().parse_args(argv)
    run: Callable[[argparse.Namespace, Deployment], int] = args.run
    try:
        check_span(args)
        return run(args, deployment)
    except ParamError as error:
        print(f"error: {error.problems[0] if len(error.problems) == 1 else error}", file=sys.stderr)
        return USAGE
    except MarketDataError as error:
        print(f"error: {error.with_page()}", file=sys.stderr)
        return PROBLEM
    except ModuleNotFoundError as error:
        print(f"error: {error.name} is not installed; pip install 'airflow-market-data[airflow]' has everything", file=sys.stderr)
        return PROBLEM


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; its help texts are the reference."""
    top = argparse.ArgumentParser(
        prog="market-data",
        description="Plan, look at and set up market data feeds.",
        epilog="Exit codes: 0 no problem, 1 a problem was found, 2 wrong arguments.",
    )
    top.add_argument("--version", action="version", version=f"market-data {market_data.__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    plan = add_command(commands, "plan", _plan, "Show calls, minutes and cost of a run. Fetches nothing.")
    feed_arguments(plan)
    plan.add_argument("--universe", help="a named set of symbols, instead of the feed's; index:NAME for one of the lake")
    plan.add_argument("--tickers-path", metavar="FILE", help="symbols of a file, instead of the feed's universe")
    plan.add_argument("--as-of", type=read_day, metavar="DATE", help="the members on this date in all sessions")
    plan.add_argument(
        "--file-grain",
        choices=GRAINS,
        help="a file per symbol and session, per session, or per symbol and year (month within the day)",
    )
    plan.add_argument("--endpoint", help="only this endpoint of the provider")
    plan.add_argument("--batch-size", type=int, metavar="N", help="symbols per batch, at most")
    plan.add_argument("--force", action="store_true", help="fetch again what is covered")
    plan.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="one of the provider's own settings; repeatable"
    )
    plan.add_argument("--json", action="store_true", help="print totals as JSON")

    coverage = add_command(commands, "coverage", _coverage, "Show the state of each cell: what is there, what is missing and why.")
    feed_arguments(coverage)
    states = (*map(str, State), "missing")
    coverage.add_argument(
        "--state", action="append", choices=states, metavar="STATE", help=f"only cells in it: {', '.join(states)}; repeatable"
    )
    format_arguments(coverage)

    query = add_command(commands, "query", _query, "Run one SELECT in the warehouse and print its rows. Changes nothing.")
    query.add_argument("statement", nargs="?", metavar="SQL", help="default: the latest bars of silver_prices")
    warehouse_argument(query)
    format_arguments(query)

    migrate = add_command(commands, "migrate", _migrate, "Create the warehouse's tables and views that are missing.")
    warehouse_argument(migrate)

    rebuild = add_command(
        commands,
        "rebuild-warehouse",
        _rebuild,
        "Fill a warehouse from the lake alone: what the ledger records as loaded. Makes no API calls. Equal rows change nothing.",
    )
    rebuild.add_argument("feeds", nargs="*", metavar="FEED", help="DAG ids of feeds; default: all whose dataset has a table")
    rebuild.add_argument("--start", type=read_day, metavar="DATE", help="first session, inclusive; default: the lake's first")
    rebuild.add_argument("--end", type=read_day, metavar="DATE", help="last session, inclusive; default: the lake's last")
    rebuild.add_argument("--symbols", type=names, metavar="A,B", help="default: all that the lake has")
    rebuild.add_argument("--source", metavar="NAME", help="a variant's name in the lake, e.g. alpaca~iex; default: the feed's own")
    rebuild.add_argument("--dry-run", action="store_true", help="count symbols and objects; load nothing")
    warehouse_argument(rebuild)

    check = add_command(commands, "check-config", _check, "Check feeds, connections, pools and environment. Makes no API calls.")
    check.add_argument("--problems", action="store_true", help="only what is wrong")

    setup = add_command(
        commands, "bootstrap", _bootstrap, "Create missing pools and connections (without secrets). Changes none that exist."
    )
    setup.add_argument(
        "--url",
        default=settings.value("MARKET_DATA_AIRFLOW_URL") or None,
        help="address of an Airflow; its REST API is used with the token in MARKET_DATA_AIRFLOW_TOKEN. Default: this machine's database",
    )

    config = add_command(commands, "config", _config, "Show every environment variable: value, default, meaning.")
    config.add_argument("--json", action="store_true", help="print them as JSON")
    config.add_argument("--markdown", action="store_true", help="print the page docs/reference/settings.md")
    for add in COMMANDS:
        add(commands)
    return top


# -- commands ------------------------------------------------------------------------------------------------------------------------


def _plan(args: argparse.Namespace, deployment: Deployment) -> int:
    from market_data import api

    feed = feed_of(args.feed)
    raw: dict[str, Any] = {**feed.params, "start_date": args.start.isoformat(), "end_date": end_of(args).isoformat()}
    given = {name: getattr(args, name) for name in ("symbols", "universe", "tickers_path", "file_grain", "endpoint", "batch_size")}
    raw |= {name: value for name, value in given.items() if value is not None}
    raw |= {"as_of": args.as_of.isoformat()} if args.as_of else {}
    raw |= {"force": True} if args.force else {}
    raw |= dict(_option(text) for text in args.option)
    hook = deployment.hook(feed.provider, feed.conn_id, {**feed.options, **api.options_in(feed, raw)})
    hook.validate_config()
    found = api.estimate(feed, raw, hook, deployment.lake(), is_running=deployment.is_running)
    print(json.dumps(found.totals, indent=1) if args.json else found)
    return OK


def _coverage(args: argparse.Namespace, deployment: Deployment) -> int:
    import pyarrow.compute as pc

    from market_data import api

    feed, end = feed_of(args.feed), end_of(args)
    lake = deployment.lake()
    cells = api.coverage(
        args.symbols or api.members_of(feed, args.start, end, lake), args.start, end, dataset=feed.dataset, provider=feed.provider,
        lake=lake,
    )  # fmt: skip
    symbols = pc.unique(cells["symbol"])
    counts = {str(entry["values"]): entry["counts"] for entry in pc.value_counts(cells["state"]).to_pylist()}
    if args.state:
        cells = cells.filter(pc.is_in(cells["state"], pc.cast(strings(args.state), cells["state"].type)))
    elif args.format is None:
        cells = cells.filter(pc.not_equal(cells["state"], "have"))
    show(cells, args.format)
    if args.format is None:
        total = ", ".join(f"{count:,} {state}" for state, count in sorted(counts.items()))
        print(f"{len(symbols):,} {'symbol' if len(symbols) == 1 else 'symbols'}, {args.start} to {end}: {total or 'no sessions'}")
    return OK


def _query(args: argparse.Namespace, deployment: Deployment) -> int:
    from market_data.cli import warehouse

    with warehouse.duckdb_file(args.duckdb) if args.duckdb else deployment.warehouse() as opened:
        show(warehouse.query(opened, args.statement), args.format)
    return OK


def _migrate(args: argparse.Namespace, deployment: Deployment) -> int:
    from market_data.cli import warehouse

    with warehouse.duckdb_file(args.duckdb) if args.duckdb else deployment.warehouse() as opened:
        applied = opened.migrate()
    print("\n".join(applied) or "the warehouse has all tables and views of this version")
    return OK


def _rebuild(args: argparse.Namespace, deployment: Deployment) -> int:
    from market_data.cli.warehouse import duckdb_file, rebuild

    feeds = [feed_of(name) for name in args.feeds] or None
    warehouse = duckdb_file(args.duckdb) if args.duckdb else deployment.warehouse()
    span = (args.start, args.end)
    for line in rebuild(deployment.lake(), warehouse, feeds, args.source, args.symbols, span, dry_run=args.dry_run):
        print(line)
    return OK


def _check(args: argparse.Namespace, deployment: Deployment) -> int:
    from market_data.cli import setup

    findings = list(setup.check(deployment, settings.environment()))
    for finding in findings:
        if not finding.ok or not args.problems:
            print(f"{'ok   ' if finding.ok else 'WRONG'}  {finding.what}: {finding.state}")
            if finding.fix:
                print(f"       {finding.fix}")
    wrong = sum(not finding.ok for finding in findings)
    print(f"{wrong} {'problem' if wrong == 1 else 'problems'}" if wrong else "no problems")
    return PROBLEM if wrong else OK


def _bootstrap(args: argparse.Namespace, deployment: Deployment) -> int:
    from market_data.cli import rest, setup

    if args.url:
        token = settings.value("MARKET_DATA_AIRFLOW_TOKEN")
        if not token:
            raise ConfigError("MARKET_DATA_AIRFLOW_TOKEN is empty; a token for the REST API is needed there")
        created = setup.bootstrap(rest.RestRegistry(args.url, token))
    else:
        created = setup.bootstrap(deployment.registry())
    print("\n".join(f"created {name}" for name in created) or "nothing to create: all pools and connections exist")
    if any(name.startswith("connection ") for name in created):
        print("Add the API keys to these connections in Admin > Connections.")
    return OK


def _config(args: argparse.Namespace, deployment: Deployment) -> int:  # noqa: ARG001  every command takes both
    if args.markdown:
        print(markdown(), end="")
        return OK
    rows = [
        {"name": s.name, "value": settings.shown(s), "default": s.default, "used_by": s.used_by, "meaning": s.meaning}
        for s in settings.SETTINGS
    ]
    if args.json:
        print(json.dumps(rows, indent=1))
        return OK
    columns = width()
    for row in rows:
        mark = "" if row["value"] == row["default"] else f"   (default: {row['default'] or 'none'})"
        print(f"{row['name']} = {row['value']}{mark}")
        print(textwrap.fill(row["meaning"], columns, initial_indent="    ", subsequent_indent="    "))
    return OK


def markdown() -> str:
    """Return the page ``docs/reference/settings.md``."""
    readers = {
        "package": "Read by every Airflow component, by the command and by `market_data.read`. Set them to the same value everywhere.",
        "command": "Read by the command `market-data` only.",
        "make": "Read by the local stack (`make`) only.",
    }
    titles = {"package": "Package", "command": "Command", "make": "Local stack"}
    lines = [
        "# Environment variables",
        "",
        "Generated by `market-data config --markdown` from `plugins/market_data/core/settings.py`; a test keeps both equal.",
        "`market-data config` shows the current values. Secrets belong in Airflow connections; the token below is the one exception.",
        "",
    ]
    for reader, text in readers.items():
        lines += [f"## {titles[reader]}", "", text, "", "| Variable | Default | Meaning |", "|---|---|---|"]
        for setting in settings.SETTINGS:
            if setting.used_by == reader:
                default = f"`{setting.default}`" if setting.default else ""
                lines.append(f"| `{setting.name}` | {default} | {setting.meaning} |")
        lines.append("")
    return "\n".join(lines)


# -- parts ---------------------------------------------------------------------------------------------------------------------------


def _option(text: str) -> tuple[str, Any]:
    name, found, value = text.partition("=")
    if not found:
        raise ParamError([f"--option is {text!r}; NAME=VALUE is needed"])
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
