"""The bodies of the tasks of ``maintain_coverage``.

Heavy libraries are imported inside the functions only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from market_data.airflow import task_notes
from market_data.airflow.fallback import REPAIR
from market_data.airflow.maintain.base import selected
from market_data.core.errors import ConfigError, QualityError

if TYPE_CHECKING:
    from market_data.config.feeds import Feed
    from market_data.lake.store import Lake
    from market_data.maintenance.repair_plan import RepairPlan
    from market_data.providers.base import ProviderHook

log = logging.getLogger(__name__)


def run_audit(context: Mapping[str, Any]) -> list[dict[str, str]]:
    """Audit the selected feeds and write the gap reports; return feed, source, report and moment of each.

    With the param ``report``, a person has chosen the gaps: nothing is audited.
    """
    from datetime import UTC, datetime

    from market_data.airflow.connections import open_lake, open_s3, warehouse
    from market_data.maintenance.audit import SHARE, write_report
    from market_data.maintenance.audit import audit as audit_selection

    params, lake, now = context["params"], open_lake(), datetime.now(UTC)
    if params["report"]:
        return [_chosen(lake, params["report"], context)]
    found = []
    for feed, selection in selected(lake, params):
        with warehouse() as opened:
            share = 1 if params["whole"] else SHARE
            result = audit_selection(lake, opened, feed, selection, now, share=share, open_s3=open_s3)
        log.info("%s", "\n".join(result.sentences()))
        key = write_report(lake, result, now)
        lines = result.sentences()
        found.append(
            {"feed": feed.dag_id, "source": selection.source, "report": key, "found": now.isoformat(), "text": " ".join(lines)}
        )
    task_notes.leave(context["ti"], "\n".join(one["text"] for one in found))
    return found


def _chosen(lake: Lake, key: str, context: Mapping[str, Any]) -> dict[str, str]:
    """Return feed, source, report and moment of gaps that a person chose on page Coverage."""
    from market_data.maintenance.chosen_gaps import read_chosen

    one = read_chosen(lake, key)
    text = f"{len(one.findings):,} chosen gaps of {one.source}, found {one.found:%Y-%m-%d %H:%M} UTC"
    task_notes.leave(context["ti"], text)
    return {"feed": one.feed, "source": one.source, "report": key, "found": one.found.isoformat(), "text": text}


def run_plan(reports: Sequence[Mapping[str, str]], context: Mapping[str, Any]) -> dict[str, Any]:
    """Plan the repair of the reports; return its figures."""
    from market_data.maintenance.repair_plan import Budget, above

    params = context["params"]
    plans = _plans(reports)
    lines = [line for plan in plans for line in plan.sentences()] or ["the lake has nothing of these feeds"]
    text = "\n".join(lines)
    log.info("%s", text)
    task_notes.leave(context["ti"], text)
    return {
        "text": text,
        "above": above(plans, Budget(params["max_calls"], params["max_cost_usd"])),
        "fetch": params["repair"] and not params["dry_run"] and any(plan.calls for plan in plans),
        "mend": params["repair"] and not params["dry_run"] and any(map(bool, plans)),
        "calls": sum(plan.calls for plan in plans),
        "problems": [plan.problem for plan in plans if plan.problem],
        "todo": any(map(bool, plans)),
    }


def run_mend(reports: Sequence[Mapping[str, str]], planned: Mapping[str, Any], context: Mapping[str, Any]) -> list[str]:
    """Repair what needs no call."""
    from datetime import UTC, datetime

    from market_data.airflow.connections import open_lake, warehouse
    from market_data.maintenance import repair

    if not planned["mend"]:
        return []
    lake, lines = open_lake(), []
    for plan in _plans(reports):
        done = repair.mend(plan, lake, warehouse)
        if plan:
            repair.note(plan, lake, done, datetime.now(UTC), by=_by(context), reason="gaps found by an audit, without calls")
        lines += done.sentences()
    log.info("%s", "\n".join(lines) or "nothing can be repaired without calls")
    task_notes.leave(context["ti"], "\n".join(lines))
    return lines


def run_prepare(reports: Sequence[Mapping[str, str]], context: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Put unreadable objects aside and write the lists of gaps; return the runs to trigger.

    :raises ConfigError: if one of the feeds is paused: its run would wait unnoticed. Nothing is changed then.
    """
    from market_data.airflow.connections import open_lake
    from market_data.maintenance import repair

    plans = [plan for plan in _plans(reports) if plan.calls]
    ti = context["ti"]
    if paused := sorted({plan.feed.dag_id for plan in plans if ti.get_dag(plan.feed.dag_id).is_paused}):
        raise ConfigError(f"{', '.join(paused)}: paused, so that a run would wait unnoticed; unpause and clear this task")
    lake, runs = open_lake(), []
    for plan in plans:
        aside, key = repair.prepare(plan, lake)
        for kept in aside:
            log.warning("unreadable object %s is kept under broken/", kept)
        charge = {"max_cost_usd": plan.cost} if plan.cost and "max_cost_usd" in _options(plan) else {}
        name = f"{REPAIR}{context['dag_run'].run_id}__{plan.selection.source}__{key.rpartition('/')[2].removesuffix('.parquet')}"
        conf = {"cells": key, **plan.options, **charge}
        runs.append({"trigger_dag_id": plan.feed.dag_id, "trigger_run_id": name, "conf": conf})
    return runs


def states_of(runs: Sequence[Mapping[str, Any]], context: Mapping[str, Any]) -> dict[str, str]:
    """Return run id -> state of the triggered runs."""
    ti = context["ti"]
    states = {run["trigger_run_id"]: ti.get_dagrun_state(run["trigger_dag_id"], run["trigger_run_id"]) for run in runs}
    return {
        name: str(getattr(state, "value", state)) for name, state in states.items()
    }  # an enum, whose str() is its member's name


def run_restore(reports: Sequence[Mapping[str, str]], runs: Sequence[Mapping[str, Any]], context: Mapping[str, Any]) -> list[str]:
    """Load the cells that were requested from the lake once more, where the warehouse has other values."""
    from datetime import UTC, datetime

    import pyarrow as pa

    from market_data.airflow.connections import open_lake, warehouse
    from market_data.maintenance import repair

    lake, lines = open_lake(), []
    started = {run["trigger_dag_id"] for run in runs}
    for plan in _plans(reports):
        if plan.feed.dag_id not in started or not len(plan.fetch):
            continue
        loaded = repair.restore(plan, lake, warehouse, pa.concat_tables([plan.fetch, plan.load]))
        done = repair.Repaired(loaded=loaded, removed=repair.remove(plan, lake, warehouse, repair.reported(plan, lake)))
        names = [run["trigger_run_id"] for run in runs if run["trigger_dag_id"] == plan.feed.dag_id]
        reason = f"gaps found by an audit, requested by {', '.join(names)}"[:500]
        repair.note(plan, lake, done, datetime.now(UTC), by=_by(context), reason=reason)
        lines += done.sentences()
    return lines


def run_verdict(context: Mapping[str, Any]) -> None:
    """Leave the verdict as a note; fail if the repair is not complete.

    :raises QualityError: if a task or a feed's run failed.
    """
    ti = context["ti"]
    planned = ti.xcom_pull(task_ids="plan_repair")
    if planned is None:
        raise QualityError("the audit or the plan failed; see their logs")
    lines, red = [planned["text"], *(ti.xcom_pull(task_ids="mend") or [])], list[str]()
    runs, tasks = ti.xcom_pull(task_ids="prepare") or [], _states(ti)
    if context["params"]["dry_run"] and context["params"]["repair"]:
        lines.append("Dry run: nothing was changed")
    elif planned["fetch"] and (tasks.get("approve"), tasks.get("prepare")) == ("success", "skipped"):
        # A rejection leaves no XCom: Airflow skips the tasks after it instead.
        lines.append("Not approved, by a person or in time: nothing was requested")
    elif planned["fetch"] and not runs:
        red.append("nothing was requested: see the logs of `approve` and `prepare`")
    states = states_of(runs, context) if runs else {}
    lines += [f"{name}: {state}" for name, state in states.items() if state == "success"]
    red += [f"{name} is {state}: see its verdict" for name, state in states.items() if state != "success"]
    failed = [name for name, state in tasks.items() if state in ("failed", "upstream_failed")]
    red += [f"`{name}` failed" for name in failed]
    red += [f"the gaps cannot be requested: {problem}" for problem in planned["problems"] if context["params"]["repair"]]
    text = "\n".join([*red, *lines])
    task_notes.leave(ti, text)
    log.info("%s", text)
    if red:
        raise QualityError("the repair is not complete:\n  " + "\n  ".join(red))


def _states(ti: Any) -> Mapping[str, Any]:
    names = ["audit", "plan_repair", "mend", "approve", "prepare", "start", "wait", "restore"]
    found: Mapping[str, Any] = ti.get_task_states(ti.dag_id, task_ids=names, run_ids=[ti.run_id]).get(ti.run_id, {})
    return found


def _by(context: Mapping[str, Any]) -> str:
    run = context["dag_run"]
    return f"{run.dag_id} {run.run_id}"[:500]


def _options(plan: RepairPlan) -> Mapping[str, Any]:
    from market_data.providers.registry import options_of

    return options_of(plan.feed.provider, plan.feed.dataset)


def _plans(reports: Sequence[Mapping[str, str]]) -> list[RepairPlan]:
    """Plan the repairs of gap reports; the cells are the same for the same reports."""
    from datetime import UTC, datetime

    from market_data.airflow.connections import open_lake
    from market_data.config.feeds import load_feeds
    from market_data.config.layouts import layout_of
    from market_data.datasets.registry import dataset
    from market_data.maintenance.repair_plan import plan_repair, read_findings
    from market_data.pipeline.selection import Selection

    lake, feeds, plans = open_lake(), {feed.dag_id: feed for feed in load_feeds()}, []
    if removed := sorted({one["feed"] for one in reports} - feeds.keys()):
        raise ConfigError(
            f"feeds.yaml has no feed {', '.join(removed)} any more, so that its gaps cannot be repaired; "
            "put it back and clear this task, or trigger this DAG again"
        )
    for one in reports:
        feed = feeds[one["feed"]]
        selection = Selection(dataset(feed.dataset), one["source"], layout_of(feed))
        findings, found = read_findings(lake, one["report"]), datetime.fromisoformat(one["found"])
        plans.append(plan_repair(lake, feed, selection, findings, hooks_of(feed), found, datetime.now(UTC)))
    return plans


def hooks_of(feed: Feed) -> Callable[[Mapping[str, Any]], ProviderHook]:
    """Return what opens a hook of the feed's provider with its connection."""
    from market_data.airflow.connections import provider_config
    from market_data.providers.registry import provider

    def opened(options: Mapping[str, Any]) -> ProviderHook:
        config = provider_config(feed.conn_id)
        return provider(feed.provider)(config, options=options, connections=provider_config, retry=feed.retry)

    return opened
