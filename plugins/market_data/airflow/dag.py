"""The DAG of a feed and its trigger form."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

from airflow.sdk import DAG, Param, task
from airflow.sdk.definitions.param import ParamsDict

from market_data.airflow.assets import outlets_of
from market_data.airflow.connections import lake_url
from market_data.airflow.failed_run import failure_note, report_failure
from market_data.airflow.fallback import fallback_runs
from market_data.airflow.priority import NEWEST_SESSION_FIRST
from market_data.airflow.retry import RETRIES, MarketDataRetryPolicy
from market_data.airflow.tasks import run_check, run_fetch, run_load, run_plan, run_publish, run_verdict
from market_data.airflow.time_limit import batch_time_limit, time_limit
from market_data.airflow.timetable import SessionTimetable
from market_data.config.feed_form import form_of
from market_data.config.feeds import Feed
from market_data.config.trigger_form import PARAMS

MAX_ACTIVE_RUNS = 10_000
"""Airflow creates no run while this many of the DAG are queued or running, cleared ones too: tonight's must never wait for them."""


def build_params(feed: Feed) -> dict[str, Param]:
    """Return the trigger form of a feed; only rare params are folded away, under Tuning."""
    fields = form_of(feed)
    default, schema = fields["universe"]
    fields["universe"] = default, _proposed_list(schema, default)
    return {name: Param(default, **schema) for name, (default, schema) in fields.items()}


def _proposed_list(schema: dict[str, Any], value: Any) -> dict[str, Any]:
    """Return a schema that shows a list to select from and allows any other text.

    Airflow's form shows a list for ``enum`` only, and its API rejects every other value. JSON schema of draft 7 ignores the keywords
    beside ``$ref``: so ``enum`` is shown and not validated. ``check_params`` names an unknown universe.

    :param value: the default; it is in the list too.
    """
    examples = schema["examples"]
    return {
        **{name: part for name, part in schema.items() if name != "examples"},
        "description": f"{schema['description']} Write it in the configuration JSON under Advanced Options.",
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$ref": "#/definitions/text",
        "definitions": {"text": {"type": "string"}},
        "enum": examples if value in examples else [value, *examples],
    }


def build_dag(feed: Feed, doc: str | None = None) -> DAG:
    """Return the DAG of a feed: plan -> fetch (mapped) -> check -> load -> publish -> verdict."""
    defaults = {name: default for name, (default, _) in PARAMS.items()} | dict(feed.params)
    address = "/".join(filter(None, (lake_url(), feed.provider, feed.dataset, feed.name)))
    outlets = outlets_of(feed.dag_id, address, "publish")
    with DAG(
        feed.dag_id,
        description=description(feed),
        doc_md=doc,
        schedule=_timetable(feed),
        start_date=datetime.combine(feed.start_date, time(), UTC),
        catchup=False,
        max_active_runs=MAX_ACTIVE_RUNS,
        tags=[feed.provider, feed.dataset, "market-data"],
        default_args={
            "owner": "market-data",
            "retries": RETRIES,
            "retry_policy": MarketDataRetryPolicy(),
            "weight_rule": NEWEST_SESSION_FIRST,
            "execution_timeout": feed.run_timeout,  # the run's own limit: see `time_limit`
            # used where no policy runs: after a worker was killed
            "retry_delay": timedelta(seconds=defaults["retry_delay_seconds"]),
        },
    ) as dag:

        @task
        def plan(**context: Any) -> list[dict[str, Any]]:
            with time_limit(feed, context):
                return run_plan(feed, context)

        # An annotation as a dict would make each key an XCom of its own too: 18 more calls per batch.
        @task(pool=feed.pool, map_index_template="{{ task.op_kwargs['batch']['label'] }}", multiple_outputs=False)
        def fetch(batch: dict[str, Any], **context: Any) -> dict[str, Any]:
            with batch_time_limit(feed, context):
                return run_fetch(feed, batch, context)

        @task(trigger_rule="all_done", multiple_outputs=False)
        def check(batches: Any, receipts: Any, **context: Any) -> dict[str, Any]:
            with time_limit(feed, context), failure_note(context):
                return run_check(feed, batches, receipts, context)

        @task(pool="warehouse", multiple_outputs=False)
        def load(checked: Any, **context: Any) -> dict[str, Any]:
            with time_limit(feed, context), failure_note(context):
                return run_load(feed, checked, context)

        @task(trigger_rule="all_done", outlets=outlets, multiple_outputs=False)
        def publish(batches: Any, receipts: Any, checked: Any, loaded: Any, **context: Any) -> dict[str, Any]:
            with time_limit(feed, context), failure_note(context):
                return run_publish(feed, batches, receipts, checked, loaded, outlets, context)

        @task(trigger_rule="all_done", retries=0)
        def verdict(batches: Any, receipts: Any, published: Any, **context: Any) -> None:
            with time_limit(feed, context):
                report_failure(feed, batches, receipts, published, context)
                run_verdict(batches, published, context)

        batches = plan()
        receipts = fetch.expand(batch=batches)
        checked = check(batches, receipts)
        loaded = load(checked)
        published = publish(batches, receipts, checked, loaded)
        verdict(batches, receipts, published)
        if feed.fallback_dag_id:
            _add_fallback(feed.fallback_dag_id, published)
    # Set last, and without the setter: each task copies the DAG's params when it is created, and each assignment validates all schemas.
    # Together that took 80 % of the parse time. `load_feeds` has validated the values against the schemas.
    object.__setattr__(dag, "params", ParamsDict(build_params(feed)))
    return dag


def description(feed: Feed) -> str:
    """Return one sentence on what the DAG of a feed does, for the list of DAGs."""
    what = f"{feed.dataset} of {feed.universe} from {feed.provider}" + (f" ({feed.name})" if feed.name else "")
    when = "after each session" if feed.schedule else "when somebody triggers it"
    return f"Fetch {what} {when}, and load what passes the checks into the warehouse."


def _timetable(feed: Feed) -> SessionTimetable | None:
    if not feed.schedule:
        return None
    return SessionTimetable(feed.schedule, feed.calendar, feed.catch_up_sessions, feed.dag_id)


def _add_fallback(dag_id: str, published: Any) -> None:
    """Add tasks that trigger another provider's feed for unserved cells.

    If that DAG is paused, the task fails: a run of it would wait unnoticed.
    """
    from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

    @task
    def unserved(published: Any, **context: Any) -> list[dict[str, Any]]:
        return fallback_runs(published, context)

    TriggerDagRunOperator.partial(
        task_id="fallback",
        trigger_dag_id=dag_id,
        skip_when_already_exists=True,
        fail_when_dag_is_paused=True,
        map_index_template="{{ task.conf['start_date'] }}..{{ task.conf['end_date'] }}",
    ).expand_kwargs(unserved(published))
