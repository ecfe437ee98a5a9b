"""``market-data state``, ``reset``, ``release`` and ``confirm``."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from market_data.cli.arguments import (
    OK,
    PROBLEM,
    add_command,
    format_arguments,
    person_arguments,
    selected,
    selection_arguments,
    show,
    warehouse_argument,
)
from market_data.cli.deployment import Deployment
from market_data.core.errors import ParamError

if TYPE_CHECKING:
    from market_data.maintenance.person import Person

EACH = "Shows first what it would do; --yes does it."


def add(commands: Any) -> None:
    """Add the commands."""
    state = add_command(commands, "state", _state, "Show what the ledger knows of a feed: sessions, states, staging, last run.")
    selection_arguments(state)
    state.add_argument("--by-symbol", action="store_true", help="a row per symbol")
    format_arguments(state)

    reset = add_command(commands, "reset", _reset, f"Make cells unknown again: the next run requests them. {EACH}")
    _decision_arguments(reset)

    for name, text in (
        ("release", "Let refused and quarantined values pass: load them, without a call."),
        ("confirm", "Confirm that refused and quarantined values are wrong for good: they are not requested again."),
    ):
        command = add_command(commands, name, _decide, f"{text} {EACH}")
        command.set_defaults(kind=name)
        _decision_arguments(command)
        command.add_argument("--only", metavar="TEXT", help="only values whose reason contains this text")
        warehouse_argument(command)


def _decision_arguments(command: argparse.ArgumentParser) -> None:
    selection_arguments(command)
    command.add_argument("--all", action="store_true", help="every feed, where none is named; every cell, where nothing else is")
    person_arguments(command)
    command.add_argument("--yes", action="store_true", help="do it; without, it is only shown")


def _person(args: argparse.Namespace) -> Person:
    from market_data.maintenance.person import Person

    return Person(args.by or getpass.getuser(), args.reason)


def _check_scope(args: argparse.Namespace) -> None:
    """Raise ``ParamError`` where a forgotten argument would select everything."""
    if not args.all and (not args.feeds or not (args.symbols or args.start or args.end)):
        raise ParamError(["name a feed, and symbols or dates; --all selects every cell of the feeds named, or of all feeds"])


def _state(args: argparse.Namespace, deployment: Deployment) -> int:
    import pyarrow as pa

    from market_data.core.outcome import State
    from market_data.maintenance.state import feed_state, symbol_states

    lake, rows, tables = deployment.lake(), [], []
    for feed, selection in selected(args, lake):
        if args.by_symbol:
            found = symbol_states(lake, selection)
            tables.append(found.add_column(0, "feed", pa.repeat(feed.dag_id, len(found))))
            continue
        one = feed_state(lake, selection)
        rows.append(
            {
                "feed": feed.dag_id, "source": one.source, "symbols": one.symbols, "first": one.first, "last": one.last,
                "complete": one.complete, **{str(state): one.states.get(str(state), 0) for state in State},
                "staging": one.staging, "last_run": one.last_run, "recorded_at": one.recorded_at,
            }
        )  # fmt: skip
        print(*one.unreadable, sep="\n", end="\n" * bool(one.unreadable))
    if not rows and not tables:
        print("the lake has nothing of these feeds")
        return OK
    show(pa.concat_tables(tables) if tables else pa.Table.from_pylist(rows), args.format)
    return OK


def _reset(args: argparse.Namespace, deployment: Deployment) -> int:
    from datetime import UTC, datetime

    from market_data.maintenance.state import reset

    _check_scope(args)
    lake, person, total = deployment.lake(), _person(args), 0
    chosen = list(selected(args, lake))
    if not chosen:
        print("the lake has nothing of these feeds")
    for feed, selection in chosen:
        found = reset(lake, selection, person, datetime.now(UTC), dry_run=not args.yes)
        total += found.cells
        verb = "are unknown again" if args.yes else "would be unknown again"
        span = f", {found.first} to {found.last} ({_counted(found.states)})" if found.cells else ""
        print(f"{feed.dag_id} {selection.source}: {found.cells:,} cells of {found.symbols:,} symbols {verb}{span}")
        if found.waiting:
            print(
                f"  {found.waiting} requests of these cells wait in staging: the next run loads them, and knows these cells again"
            )
    _remind(total, done=args.yes)
    return OK


def _decide(args: argparse.Namespace, deployment: Deployment) -> int:
    from datetime import UTC, datetime

    from market_data.cli.warehouse import duckdb_file
    from market_data.lake.decisions import Kind
    from market_data.maintenance.release import decide, grain_of

    _check_scope(args)
    lake, person, kind, total, left = deployment.lake(), _person(args), Kind(args.kind), 0, 0
    chosen = list(selected(args, lake))
    if not chosen:
        print("the lake has nothing of these feeds")
        return OK
    with duckdb_file(args.duckdb) if args.duckdb else deployment.warehouse() as warehouse:
        for feed, selection in chosen:
            found = decide(
                lake, warehouse, selection, kind, person, datetime.now(UTC), only=args.only, grain=grain_of(feed), dry_run=not args.yes
            )  # fmt: skip
            total, left = total + found.cells, left + held_back(found, kind)
            for line in sentences(found, kind, done=args.yes):
                print(f"{feed.dag_id} {selection.source}: {line}")
    _remind(total, done=args.yes)
    return PROBLEM if left else OK


def sentences(found: Any, kind: str, *, done: bool) -> list[str]:
    """Return the result of a release or a confirmation (``maintenance.release.Released``) in words."""
    if not found.cells:
        return ["nothing is refused or quarantined"]
    verb = {"release": ("would be released", "released"), "confirm": ("would be confirmed as wrong", "confirmed as wrong")}[kind][
        done
    ]
    lines = [f"{found.cells:,} cells ({_counted(found.states)}), {found.first} to {found.last}: {found.rows:,} rows {verb}"]
    lines += [f"  {count:,} cells: {why}" for why, count in list(found.why.items())[:10]]
    lines += [f"  {count:,} quarantined rows: {why}" for why, count in list(found.why_rows.items())[:10]]
    if done and kind == "release":
        lines.append(f"  {found.loaded:,} rows loaded, {found.changed:,} new or changed")
    if found.gone and kind == "release":
        lines.append(f"  {found.gone:,} quarantined cells have no rows in quarantine any more: fetch them again with force")
    return lines + [f"  {count:,} rows cannot be released: {why}" for why, count in found.impossible.items()]


def held_back(found: Any, kind: str) -> int:
    """Return how many rows and cells a release leaves as they are, although they were selected."""
    return sum(found.impossible.values()) + (found.gone if kind == "release" else 0)


def _counted(states: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {state}" for state, count in states.items())


def _remind(total: int, *, done: bool) -> None:
    if total and not done:
        print("nothing was changed; --yes does it")
