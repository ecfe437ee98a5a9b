"""The DAG ``maintain_coverage``: audit, and repair within a budget."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, get_current_context, task

from market_data.airflow.maintain.base import dry_run_param, maintenance_dag, selection_params
from market_data.airflow.maintain.coverage_tasks import (
    run_audit,
    run_mend,
    run_plan,
    run_prepare,
    run_restore,
    run_verdict,
    states_of,
)

DOC = """Find what is missing or changed in lake and warehouse, and repair exactly that.

### What it does
`audit` compares calendar, universe, ledger, lake objects and silver, and writes a gap report to `audits/` in the lake. `plan_repair` shows
the cheapest repair with calls, minutes and cost. With *Repair*, `mend` repairs what needs no call: ledger records from receipts and
objects, rows of the warehouse from the lake. Then the feeds' own runs request exactly the missing cells.

### How to use it
* **Every week**: unpause it. Scheduled runs audit only.
* **See what a repair costs**: *Trigger* with *Repair* and *Dry run*. Nothing is changed.
* **Repair**: *Trigger* with *Repair*, without *Dry run*. Above *Maximum calls* or *Maximum cost* the run waits in `approve`:
  open *Required Actions* and choose. Rejected, or not decided in a day: nothing is requested, and the run says so.
* The feeds must be unpaused, since their own runs do the requests.
"""
SUNDAY = "0 14 * * 0"
WAIT = timedelta(days=1)
ENDED = ("success", "failed")


def maintain_coverage() -> DAG:
    """Return the DAG."""
    limit: dict[str, Any] = {"type": ["null", "number"], "minimum": 0}
    params = {
        **selection_params(),
        "whole": Param(False, type="boolean", title="Whole", description="Read every lake object, not a sample of the symbols."),
        "repair": Param(False, type="boolean", title="Repair", description="Also repair what is found."),
        "max_calls": Param(
            100,
            type=["null", "integer"],
            minimum=0,
            title="Maximum calls",
            description="More calls need approval. 0: every call does. Empty: none does.",
        ),
        "max_cost_usd": Param(
            0,
            **limit,
            title="Maximum cost (US dollars)",
            description="A higher charge needs approval. 0: every charge does. Empty: none does.",
        ),
        "report": Param(
            None, type=["null", "string"], title="Chosen gaps", description="Set by page Coverage: repair exactly these; no audit."
        ),
        "dry_run": dry_run_param("Show the repair with calls and cost; change nothing."),
    }
    dag = maintenance_dag(
        "maintain_coverage", "Find what is missing in lake and warehouse, and repair it within a budget.", DOC, params, SUNDAY
    )
    with dag:
        _tasks()
    return dag


def _tasks() -> None:
    from airflow.providers.standard.operators.hitl import ApprovalOperator
    from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

    @task(task_id="audit")
    def audit() -> list[dict[str, str]]:
        return run_audit(get_current_context())

    @task(task_id="plan_repair", multiple_outputs=False)
    def plan_repair(reports: list[dict[str, str]]) -> dict[str, Any]:
        return run_plan(reports, get_current_context())

    @task(task_id="mend")
    def mend(reports: list[dict[str, str]], planned: dict[str, Any]) -> list[str]:
        return run_mend(reports, planned, get_current_context())

    @task.branch(task_id="decide")
    def decide(planned: dict[str, Any]) -> str | None:
        if not planned["fetch"]:
            return None
        return "approve" if planned["above"] else "prepare"

    approve = ApprovalOperator(
        task_id="approve",
        subject="Repair of gaps: {{ ti.xcom_pull(task_ids='plan_repair')['above'] }}",
        body="{{ ti.xcom_pull(task_ids='plan_repair')['text'] }}",
        defaults="Reject",
        response_timeout=WAIT,
        retry_delay=timedelta(seconds=10),  # a response within seconds of the request may end the attempt: it is requested again
    )

    @task(task_id="prepare", trigger_rule="none_failed_min_one_success")
    def prepare(reports: list[dict[str, str]]) -> list[dict[str, Any]]:
        return run_prepare(reports, get_current_context())

    @task.sensor(
        task_id="wait", mode="reschedule", poke_interval=10, timeout=7 * 24 * 3600, trigger_rule="none_failed_min_one_success"
    )
    def wait(runs: list[dict[str, Any]]) -> bool:
        return all(state in ENDED for state in states_of(runs, get_current_context()).values())

    @task(task_id="restore")
    def restore(reports: list[dict[str, str]], runs: list[dict[str, Any]]) -> list[str]:
        return run_restore(reports, runs, get_current_context())

    @task(task_id="verdict", trigger_rule="all_done", retries=0)
    def verdict() -> None:
        run_verdict(get_current_context())

    reports = audit()
    planned = plan_repair(reports)
    mended, chosen, runs = mend(reports, planned), decide(planned), prepare(reports)
    start = TriggerDagRunOperator.partial(
        task_id="start", skip_when_already_exists=True, fail_when_dag_is_paused=True, map_index_template="{{ task.trigger_dag_id }}"
    ).expand_kwargs(runs)
    waited, restored = wait(runs), restore(reports, runs)
    mended >> chosen >> [approve, runs]
    approve >> runs >> start >> waited >> restored >> verdict()
