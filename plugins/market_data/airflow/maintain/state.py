"""``maintain_state``: show feeds, reset cells, release or confirm what was refused and quarantined."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Param, get_current_context, task

from market_data.airflow import task_notes
from market_data.airflow.maintain.base import dry_run_param, maintenance_dag, selected, selection_params
from market_data.core.errors import MarketDataError

if TYPE_CHECKING:
    from market_data.lake.store import Lake
    from market_data.pipeline.selection import Selection

log = logging.getLogger(__name__)

DOC = """
| action | does |
|---|---|
| `show` | logs sessions, states, staging and last run of each feed |
| `reset` | makes the selected cells unknown again: the next run requests them |
| `release` | lets refused and quarantined values pass: loads them, without a call |
| `confirm` | confirms that they are wrong for good: they are not requested again |

Set `dry_run` to false to act. The journal in the lake keeps name and reason of each decision.
"""

ACTIONS = ("show", "reset", "release", "confirm")


def state_dag() -> DAG:
    """Return the DAG."""
    text: dict[str, Any] = {"type": ["null", "string"]}
    params = {
        "action": Param(
            "show",
            type="string",
            enum=list(ACTIONS),
            title="Action",
            description="The documentation of the DAG says what each does.",
        ),
        **selection_params(),
        "source": Param(None, **text, title="Source", description="E.g. `alpaca~iex`; empty: all sources of the feeds."),
        "only": Param(None, **text, title="Only", description="Release and confirm only values whose reason contains this text."),
        "everything": Param(False, type="boolean", title="Everything", description="Needed to select all cells of a feed."),
        "by": Param(None, **text, title="By", description="Who decides. Empty: who triggered the run."),
        "reason": Param(None, **text, title="Reason", description="Why; needed for every action except show."),
        "dry_run": dry_run_param("Log what would be done; change nothing."),
    }
    with maintenance_dag("maintain_state", "Show the state of feeds; reset, release or confirm single cells.", DOC, params) as dag:

        @task(pool="warehouse")
        def act() -> None:
            from market_data.airflow.connections import open_lake, warehouse

            context = get_current_context()
            run = context["dag_run"]
            given = {"by": getattr(run, "triggering_user_name", None) or run.run_id}
            chosen = {**given, **{name: value for name, value in context["params"].items() if value is not None}}
            try:
                lines = run_action(chosen, open_lake(), warehouse)
            except MarketDataError as error:
                task_notes.leave(context["ti"], error.with_page())
                raise error.with_traceback(None) from None
            log.info("%s", "\n".join(lines))
            task_notes.leave(context["ti"], "\n".join(lines))

        act()
    return dag


def run_action(params: Mapping[str, Any], lake: Any, open_warehouse: Any) -> list[str]:
    """Run the action that ``params`` name; return what was, or would be, done.

    :param open_warehouse: returns the warehouse; called to release or confirm only.
    :raises ParamError: if a param is missing or wrong.
    :raises DataError: if rows that should be released cannot be; everything else is done.
    """
    from datetime import UTC, datetime

    from market_data.cli.state import held_back, sentences
    from market_data.core.errors import DataError, ParamError
    from market_data.lake.decisions import Kind
    from market_data.maintenance.person import Person
    from market_data.maintenance.release import decide, grain_of
    from market_data.maintenance.state import feed_state, reset

    action, dry_run, names = params["action"], params.get("dry_run", True), params.get("feeds") or []
    chosen = selected(lake, params)
    _check_recorded(lake, [selection for _, selection in chosen], params.get("symbols") or [])
    if action == "show":
        return [f"{feed.dag_id}: {feed_state(lake, selection)}" for feed, selection in chosen]
    if not params.get("everything") and not (names and any(map(params.get, ("symbols", "start_date", "end_date")))):
        raise ParamError(["name feeds, and symbols or dates; `everything` selects every cell of the feeds"])
    person, now, lines, held = Person(params.get("by") or "", params.get("reason") or ""), datetime.now(UTC), [], 0
    for feed, selection in chosen:
        where = f"{feed.dag_id} {selection.source}"
        if action == "reset":
            lines.append(f"{where}: {reset(lake, selection, person, now, dry_run=dry_run)}")
            continue
        with open_warehouse() as opened:
            found = decide(
                lake, opened, selection, Kind(action), person, now, only=params.get("only"), grain=grain_of(feed), dry_run=dry_run
            )  # fmt: skip
        lines += [f"{where}: {line}" for line in sentences(found, action, done=not dry_run)]
        held += held_back(found, action)
    if held and not dry_run:
        raise DataError("\n".join(lines))
    return lines


def _check_recorded(lake: Lake, selections: Sequence[Selection], symbols: Sequence[str]) -> None:
    """Raise ``ParamError`` if the ledgers have no record of one of the symbols: it is mistyped."""
    from market_data.core.errors import ParamError
    from market_data.core.messages import shortened, shown, suggestion
    from market_data.lake.ledger import read_coverage

    known: set[str] = set()
    for dataset, source in {(one.dataset.name, one.source) for one in selections} if symbols else ():
        coverage = read_coverage(lake, dataset, source)
        for table in (coverage.table, coverage.reset):
            known |= set(table["symbol"].cast("string").unique().to_pylist())
    unknown = [name for name in symbols if name not in known]
    if unknown:
        words = "; the ledgers of the selected feeds have no record of it"
        raise ParamError(shortened([f"symbols has {shown(name)}{suggestion(name, known)}{words}" for name in unknown]))
