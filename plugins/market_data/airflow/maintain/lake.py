"""The DAG ``maintain_lake``."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Param, PokeReturnValue, get_current_context, task

from market_data.airflow.maintain.base import dry_run_param, maintenance_dag, selected, selection_params

log = logging.getLogger(__name__)

DOC = """Keep the lake quick to read: fold day files, fold the coverage ledger, delete what is past its age.

### What it does
1. `show` lists what would be done. A dry run ends here.
2. `fold` writes the rows of day files of closed months into the file of their year (bars within the day: of their month) and reads it back.
3. `readers` waits, so that readers which have listed the day files can finish.
4. `delete` deletes the day files, each after comparing its rows with the stored year file again.
5. `ledger` folds the coverage ledger into an object per month.
6. `retention` deletes what is older than the ages under `retention` in `feeds.yaml`. Market data is never among it.

Runs of feeds may be active at the same time. A task that is killed is simply run again. No API call is made.

### How to use it
* **See what would be done**: *Trigger*; a dry run is the default.
* **Every week**: unpause it. Scheduled runs act.
* **Now**: *Trigger* without *Dry run*, for some feeds, symbols or dates if you like. The ledger is folded for whole sources.
* The log of each task names everything that was left alone, with the reason. The journal keeps what was deleted.
"""
SATURDAY = "0 10 * * 6"
MOST_MINUTES = 1440


def maintain_lake() -> DAG:
    """Return the DAG."""
    params = {
        **selection_params(),
        "dry_run": dry_run_param("Show what would be done; change nothing. Scheduled runs act."),
        "wait_minutes": Param(
            15, type="integer", minimum=0, maximum=MOST_MINUTES, title="Wait for readers",
            description="Minutes before day files are deleted, 0 to 1,440. Longer than the longest query on the files.",
        ),
        "retention": Param(
            True, type="boolean", title="Retention", description="Delete what is past its age in feeds.yaml, in the whole lake."
        ),
    }  # fmt: skip
    dag = maintenance_dag(
        "maintain_lake", "Fold day files and the ledger of the lake, and delete what is past its age.", DOC, params, SATURDAY
    )
    with dag:

        @task.short_circuit(task_id="show")
        def show() -> bool:
            context = get_current_context()
            log_lines(run_part(part, context["params"], dry_run=True, by="") for part in ("fold", "ledger", "retention"))
            return acts(context)

        @task(task_id="fold")
        def fold() -> str:
            """Return when the last file was written (ISO)."""
            _act("fold")
            return _now().isoformat()

        @task.sensor(task_id="readers", mode="reschedule", poke_interval=60, timeout=(MOST_MINUTES + 60) * 60)
        def readers(folded: str) -> PokeReturnValue:
            wait = timedelta(minutes=get_current_context()["params"]["wait_minutes"])
            return PokeReturnValue(is_done=_now() >= datetime.fromisoformat(folded) + wait)

        @task(task_id="delete")
        def delete() -> None:
            _act("delete")

        @task(task_id="ledger")
        def ledger() -> None:
            _act("ledger")

        @task(task_id="retention")
        def retention() -> None:
            _act("retention")

        folded = fold()
        show() >> folded
        readers(folded) >> delete() >> ledger() >> retention()
    return dag


def acts(context: Mapping[str, Any]) -> bool:
    """Return True if a run changes the lake: a scheduled one, or one without the dry run."""
    return str(context["dag_run"].run_type) == "scheduled" or not context["params"]["dry_run"]


def run_part(part: str, params: Mapping[str, Any], *, dry_run: bool, by: str) -> Iterator[str]:
    """Do one part of the job for what ``params`` select, and yield its lines for the log."""
    from market_data.airflow.connections import open_lake
    from market_data.config.feeds import load_retention
    from market_data.maintenance.compaction import Deletes, compact
    from market_data.maintenance.ledger_folding import fold_ledger
    from market_data.maintenance.release import folded_grain
    from market_data.maintenance.retention import apply_retention

    lake, now = open_lake(), _now()
    if part == "retention":
        if params["retention"]:
            yield from apply_retention(lake, load_retention(), now, dry_run=dry_run, by=by).sentences()
        return
    found = {(one.dataset.name, one.source, one.layout): (feed, one) for feed, one in selected(lake, params)}
    if part == "ledger":
        for dataset, source in sorted({place[:2] for place in found}):
            yield from fold_ledger(lake, dataset, source, now, dry_run=dry_run, by=by).sentences()
        return
    deletes = Deletes.NONE if part == "fold" else Deletes.EARLIER
    for feed, selection in found.values():
        yield from compact(lake, selection, now, dry_run=dry_run, deletes=deletes, to=folded_grain(feed), by=by).sentences()


def log_lines(parts: Iterator[Iterator[str]]) -> None:
    """Log the lines of some parts."""
    for lines in parts:
        for line in lines:
            log.info("%s", line)


def _act(part: str) -> None:
    context = get_current_context()
    by = f"maintain_lake, run {context['dag_run'].run_id}"[:500]
    log_lines(iter([run_part(part, context["params"], dry_run=False, by=by)]))


def _now() -> datetime:
    from datetime import UTC

    return datetime.now(UTC)
