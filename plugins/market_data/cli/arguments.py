"""Common arguments of the commands, their values, and the printing of a table."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from market_data.core import calendar
from market_data.core.dates import read_date
from market_data.core.errors import ParamError

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.config.feeds import Feed
    from market_data.lake.store import Lake
    from market_data.pipeline.selection import Selection

OK, PROBLEM, USAGE = 0, 1, 2


def add_command(commands: Any, name: str, run: Callable[..., int], text: str) -> argparse.ArgumentParser:
    """Add a command that ``run`` executes; ``text`` is its help."""
    found: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    found.set_defaults(run=run)
    return found


def feed_arguments(command: argparse.ArgumentParser) -> None:
    """Add the feed, its dates and its symbols."""
    command.add_argument("feed", metavar="FEED", help="DAG id of a feed, e.g. polygon_ohlcv_1d")
    command.add_argument("--start", required=True, type=read_day, metavar="DATE", help="first session, inclusive")
    command.add_argument("--end", type=read_day, metavar="DATE", help="last session, inclusive; default: the last completed one")
    command.add_argument("--symbols", type=names, metavar="A,B", help="default: the feed's universe")


def format_arguments(command: argparse.ArgumentParser) -> None:
    """Add the choice of an output format."""
    group = command.add_mutually_exclusive_group()
    group.add_argument("--csv", dest="format", action="store_const", const="csv", help="print CSV, all columns")
    group.add_argument("--json", dest="format", action="store_const", const="json", help="print JSON, all columns")
    group.add_argument(
        "--vertical", dest="format", action="store_const", const="vertical", help="print one value per line, all columns"
    )


def warehouse_argument(command: argparse.ArgumentParser) -> None:
    """Add the choice of a DuckDB file as the warehouse."""
    command.add_argument("--duckdb", metavar="FILE", help="a DuckDB file, instead of the connection warehouse_default")


def read_day(text: str) -> date:
    """Return the date that an argument names."""
    try:
        return read_date(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an ISO date, e.g. 2026-11-02") from None


def check_span(args: argparse.Namespace) -> None:
    """Raise ``ParamError`` if the start comes after the end."""
    start, end = getattr(args, "start", None), getattr(args, "end", None)
    if start and end and start > end:
        raise ParamError([f"--start is {start} and --end {end}; the start must not come after the end"])


def names(text: str) -> list[str]:
    """Return the names of a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def feed_of(dag_id: str) -> Any:
    """Return the feed with a DAG id; ``ParamError`` lists the feeds."""
    from market_data.config.feeds import load_feeds

    feeds = {feed.dag_id: feed for feed in load_feeds()}
    if dag_id not in feeds:
        raise ParamError([f"FEED is {dag_id!r}; feeds: {', '.join(feeds)}"])
    return feeds[dag_id]


def end_of(args: argparse.Namespace) -> date:
    """Return the last session of a command: as given, or the last completed one."""
    from datetime import UTC, datetime

    end: date = args.end or calendar.last_completed_session(datetime.now(UTC))
    return end


def strings(values: Sequence[str]) -> pa.Array:
    """Return an Arrow array of strings."""
    import pyarrow as pa

    return pa.array(values, pa.string())


def width() -> int:
    """Return the columns of the terminal."""
    return shutil.get_terminal_size((80, 24)).columns


def show(table: pa.Table, form: str | None) -> None:
    """Print a table, as text fitted to the terminal or in the format chosen."""
    from market_data.cli import output

    ways = {"csv": output.as_csv, "json": output.as_json, "vertical": output.as_lines}
    print(ways[form](table) if form else output.as_table(table, width()))


def selection_arguments(command: argparse.ArgumentParser) -> None:
    """Add what selects a part of the lake: feeds, dates, symbols, source. ``selected`` reads it."""
    command.add_argument("feeds", nargs="*", metavar="FEED", help="DAG ids of feeds; default: all")
    command.add_argument("--start", type=read_day, metavar="DATE", help="first session, inclusive; default: the lake's first")
    command.add_argument("--end", type=read_day, metavar="DATE", help="last session, inclusive; default: the lake's last")
    command.add_argument("--symbols", type=names, metavar="A,B", help="default: all that the lake has")
    command.add_argument("--source", metavar="NAME", help="a variant's name in the lake, e.g. alpaca~iex; default: all of the feed")


def selected(args: argparse.Namespace, lake: Lake) -> Iterator[tuple[Feed, Selection]]:
    """Yield what ``selection_arguments`` name: a selection per feed and source."""
    from market_data.config.feeds import load_feeds
    from market_data.pipeline.selection import selections

    feeds = [feed_of(name) for name in args.feeds] or load_feeds()
    return selections(lake, feeds, args.source, args.symbols, (args.start, args.end), named=bool(args.feeds))


def person_arguments(command: argparse.ArgumentParser) -> None:
    """Add the name and the reason of a decision that the journal keeps."""
    command.add_argument("--by", metavar="NAME", help="who decides; default: the user of this process")
    command.add_argument("--reason", required=True, help="why; the journal of the lake keeps it")
