"""The edge to Airflow: thin tasks over :mod:`market_data.pipeline`, the retry policy, the DAG of a feed.

Imported by every Airflow component, so nothing heavy stands at the top of this file or of what it imports here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import DAG, Asset, Param, task
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
from airflow.sdk.exceptions import AirflowSkipException

from market_data import notes, pipeline
from market_data.calendar import NEW_YORK
from market_data.datasets import dataset
from market_data.errors import (
    ConfigError,
    DataError,
    LakeError,
    MarketDataError,
    ParamError,
    QualityError,
    RetriableError,
    TerminalError,
    WarehouseError,
)
from market_data.feeds import Feed
from market_data.hooks import options_of, provider, serving
from market_data.params import PARAMS, RunParams, check_params, form, read_params, resolve_sessions
from market_data.timetables import SessionTimetable
from market_data.types import Batch, Receipt, RunInfo
from market_data.universe import MAX_FILE_BYTES, shown

if TYPE_CHECKING:
    from market_data.hooks.base import ProviderHook
    from market_data.warehouse.base import Warehouse

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRIES = PARAMS["max_retries"][1]["maximum"]
"""What Airflow is told; how many are really made is the run's ``max_retries``."""

LONGEST_DELAY = 24 * 3600
"""Seconds: no quota is renewed later than after a day."""

FALLBACK = "fallback__"
"""How the ids of runs begin that another feed asked for."""

REASONS = 40
"""Reasons that a red verdict lists; the report has all."""

FAIL_NOW = (ConfigError, ParamError, TerminalError, DataError)
RETRY = (RetriableError, LakeError, WarehouseError)


class MarketDataRetryPolicy(RetryPolicy):
    """What Airflow does about an error: the one table.

    * ``ConfigError``, ``ParamError``, ``TerminalError``, ``DataError``: fail now, no retry can help.
    * ``RetriableError``, ``LakeError``, ``WarehouseError``: again after the run's ``retry_delay_seconds``, or after what the provider
      asked for; the pool slot is free meanwhile. A second or so is added by map index, lest all batches come back at once.
    * anything else is a defect or the machine's trouble: retried likewise.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Mapping[str, Any] | None = None
    ) -> RetryDecision:
        if isinstance(exception, FAIL_NOW) or (isinstance(exception, WarehouseError) and not exception.retriable):
            return RetryDecision.fail(reason=str(exception)[:300])
        params = (context or {}).get("params", {})
        # Tries go on counting after a clear; what came before it is in ``max_tries``.
        tries = try_number - (max_tries - RETRIES)
        if tries > int(params.get("max_retries", PARAMS["max_retries"][0])):
            return RetryDecision.fail(reason=f"{tries} tries, no more are allowed (max_retries): {exception}"[:300])
        delay = float(params.get("retry_delay_seconds", PARAMS["retry_delay_seconds"][0]))
        delay = max(delay, getattr(exception, "retry_after", None) or 0.0)
        map_index = max(0, getattr((context or {}).get("ti"), "map_index", 0) or 0)
        return RetryDecision.retry(
            delay=timedelta(seconds=min(delay, LONGEST_DELAY) + map_index % 16 / 8), reason=str(exception)[:300]
        )


# -- what the tasks are made of ------------------------------------------------------------------------------------------------------


def _now() -> datetime:
    return datetime.now(UTC)


def _today() -> date:
    """The New York date."""
    return datetime.now(NEW_YORK).date()


def _params(feed: Feed, context: Mapping[str, Any]) -> RunParams:
    return read_params(context["params"], **_allowed(feed))


def _allowed(feed: Feed) -> dict[str, Any]:
    """What the params of a feed's runs are held against."""
    options, endpoints = options_of(feed.provider, feed.dataset), serving(feed.provider, feed.dataset)
    return {"options": options, "endpoints": endpoints, "today": _today()}


def _attempt(step: Callable[[], T], errors: list[MarketDataError]) -> T | None:
    """What ``step`` gives; what is wrong goes to ``errors``, so that all of it is told at once."""
    try:
        return step()
    except (ConfigError, ParamError, LakeError) as error:
        errors.append(error)
        return None


def _all_of(errors: Sequence[MarketDataError]) -> MarketDataError:
    """One error that tells all of them: of the params if any is, else of the settings, else a failure that may pass."""
    if any(isinstance(error, ParamError) for error in errors):
        problems = [problem for error in errors for problem in getattr(error, "problems", (str(error),))]
        return ParamError(list(dict.fromkeys(problems)))  # a universe that does not exist is seen twice
    settings = [str(error) for error in errors if isinstance(error, ConfigError)]
    return ConfigError("; ".join(settings)) if settings else errors[0]


def _hook(feed: Feed, params: RunParams) -> ProviderHook:
    return provider(feed.provider)(feed.conn_id, options={**feed.options, **params.options})


def _run(context: Mapping[str, Any]) -> RunInfo:
    run = context["dag_run"]
    run_type = getattr(run.run_type, "value", run.run_type)  # an enum, whose str() is its member's name
    return RunInfo(run.dag_id, run.run_id, run_type, run.clear_number or 0, run.start_date or run.run_after)


def _job(feed: Feed, params: RunParams, context: Mapping[str, Any]) -> pipeline.Job:
    from market_data.lake.layout import Layout
    from market_data.lake.store import Lake

    source = _hook(feed, params).source
    if source != feed.provider and not feed.provider_level:
        raise ParamError(
            [f"options {dict(params.options)} change values; a feed without provider_level holds those of {feed.provider} only"]
        )
    layout = Layout(raw_prefix=os.environ.get("RAW_PREFIX", "raw"), provider_level=feed.provider_level)
    return pipeline.Job(feed, params, _run(context), Lake.open(lake_url()), layout, source)


def _warehouse() -> Warehouse:
    from market_data.hooks.base import read_connection
    from market_data.warehouse import from_airflow, open_warehouse

    return open_warehouse(from_airflow(read_connection("warehouse_default")))


def lake_url() -> str:
    """Where the lake is: ``MARKET_DATA_LAKE``, by default ``s3://market-data``."""
    return os.environ.get("MARKET_DATA_LAKE", "s3://market-data")


def _open_s3(address: str) -> bytes:
    """What stands at an ``s3://`` address, read with the lake's connection: a byte more than a tickers file may have, at most.

    :raises ParamError: if it cannot be read, as it does not exist, say.
    :raises LakeError: if S3 failed.
    """
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

    bucket, _, key = address.removeprefix("s3://").partition("/")
    try:
        found = S3Hook(aws_conn_id="aws_default").get_conn().get_object(Bucket=bucket, Key=key)
        body: bytes = found["Body"].read(MAX_FILE_BYTES + 1)
    except ClientError as error:
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status < 500:
            raise ParamError([f"tickers_path is {shown(address)}; it cannot be read: {code}"]) from None
        raise LakeError(f"{shown(address)} cannot be read: {code}") from None
    except (ParamValidationError, NoCredentialsError) as error:
        raise ParamError([f"tickers_path is {shown(address)}; it cannot be read: {type(error).__name__}"]) from None
    except BotoCoreError as error:
        raise LakeError(f"{shown(address)} cannot be read: {type(error).__name__}") from None
    return body


# -- task bodies ---------------------------------------------------------------------------------------------------------------------


def run_plan(feed: Feed, context: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Resolve dates and symbols, and plan. Nothing is asked of the provider.

    :raises ParamError: listing every problem with params, symbols and connection; the sum of the work comes last, by itself.
    :raises ConfigError: if only a connection is wrong, the provider's or the warehouse's.
    """
    try:
        return _plan(feed, context)
    except MarketDataError as error:
        notes.leave(context["ti"], str(error))
        raise


def _plan(feed: Feed, context: Mapping[str, Any]) -> list[dict[str, Any]]:
    params, problems = check_params(context["params"], **_allowed(feed))
    errors: list[MarketDataError] = [ParamError(problems)] if problems else []
    hook, now, today = _hook(feed, params), _now(), _today()
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    interval = (start, end) if start and end else None
    scheduled = _run(context).run_type == "scheduled"
    wanted = _attempt(lambda: resolve_sessions(params, interval, scheduled=scheduled, now=now), errors)

    def check_provider() -> None:
        hook.validate_config()
        if wanted:
            pipeline.check_history(feed.dataset, params, hook, wanted)

    _attempt(check_provider, errors)
    if dataset(feed.dataset).table:
        _attempt(_warehouse, errors)  # its settings only: a server that is away now is no reason not to fetch
    job = _attempt(lambda: _job(feed, params, context), errors)
    as_of = wanted.own[-1] if wanted and wanted.own else today
    symbols = _attempt(lambda: pipeline.symbols_of(params, feed, as_of, today, _open_s3), errors)
    if errors or job is None or wanted is None or symbols is None:
        raise _all_of(errors)
    planned = pipeline.plan_run(job, hook, wanted, symbols, now)
    log.info("%s", planned.explain())
    if params.index_name and not params.dry_run:
        log.info("%s", pipeline.record_index(job.lake, params.index_name, symbols, today))
    notes.leave(context["ti"], planned.note)
    context["ti"].xcom_push(key="summary", value={**planned.summary, "dry_run": params.dry_run, "run_key": job.run.key})
    return [] if params.dry_run else [batch.to_json() for batch in planned.plan.batches]


def run_fetch(feed: Feed, batch: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """One batch: hook -> gate -> lake -> receipt."""
    params = _params(feed, context)
    ti = context["ti"]
    try:
        with _hook(feed, params) as hook:
            receipt = pipeline.fetch_batch(_job(feed, params, context), hook, Batch.from_json(batch), _now, ti.try_number)
    except Exception as error:
        # A failed task returns nothing; its note is also what the report names as the reason.
        notes.leave(ti, f"{type(error).__name__}: {error}")
        raise
    notes.leave(ti, "\n".join(f"{symbol} failed: {why}" for symbol, why in receipt.failed.items()))
    return receipt.to_json()


def run_check(
    feed: Feed,
    batches: Sequence[Mapping[str, Any]] | None,
    receipts: Sequence[Mapping[str, Any]] | None,
    context: Mapping[str, Any],
) -> dict[str, Any]:
    """The checkpoint over what landed."""
    planned, landed = _batches(batches), _receipts(batches, receipts, _summary(context), _run(context))
    if not landed:
        raise AirflowSkipException("nothing landed, so there is nothing to check")
    with _warehouse() as warehouse:
        checked = pipeline.check_run(_job(feed, _params(feed, context), context), planned, landed, warehouse)
    log.info("%s", checked["table"])
    return checked


def run_load(feed: Feed, checked: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """What passed, into the warehouse."""
    with _warehouse() as warehouse:
        return pipeline.load_run(_job(feed, _params(feed, context), context), checked, warehouse)


def run_publish(
    feed: Feed,
    batches: Sequence[Mapping[str, Any]] | None,
    receipts: Sequence[Mapping[str, Any]] | None,
    checked: Mapping[str, Any] | None,
    loaded: Mapping[str, Any] | None,
    asset: Asset,
    context: Mapping[str, Any],
) -> dict[str, Any]:
    """Coverage, report, flag, asset event."""
    if not batches:
        raise AirflowSkipException("nothing was planned, so there is nothing to publish")
    ti = context["ti"]
    job, summary = _job(feed, _params(feed, context), context), _summary(context)
    landed = _receipts(batches, receipts, summary, job.run)
    errors = _errors(ti, batches, {receipt.batch_id for receipt in landed})
    published = pipeline.publish_run(job, _batches(batches), landed, errors, checked, loaded, summary, _now())
    context["outlet_events"][asset].extra = {name: published[name] for name in ("sessions", "rows", "report")}
    _mirror(context, asset, published)
    return published


def run_verdict(
    batches: Sequence[Mapping[str, Any]] | None, published: Mapping[str, Any] | None, context: Mapping[str, Any]
) -> None:
    """Red when anything planned is missing or refused, naming it.

    :raises QualityError: saying what.
    """
    ti = context["ti"]
    try:
        said = _verdict(batches, published, _summary(context))
    except QualityError as error:
        notes.leave(ti, str(error))
        raise
    notes.leave(ti, "\n".join(said))


def _verdict(
    batches: Sequence[Mapping[str, Any]] | None, published: Mapping[str, Any] | None, summary: Mapping[str, Any]
) -> Sequence[str]:
    """What deserves a look although the run is not red."""
    if batches is None:
        raise QualityError("the plan failed; see the log of `plan`")
    if not batches:
        dry = "Dry run: nothing was fetched" if summary.get("dry_run") else ""
        why = ". ".join(filter(None, [dry, summary.get("note")])) or "Nothing to do: every cell asked for is covered already"
        log.info("%s. See the log of `plan`.", why)
        return [why]
    if published is None:
        raise QualityError("nothing was published; see the logs of `check`, `load` and `publish`")
    if published["red"]:
        more = len(published["red"]) - REASONS
        lines = [*published["red"][:REASONS], *([f"and {more} more: see {published['report']}"] if more > 0 else [])]
        raise QualityError("the run is not complete:\n  " + "\n  ".join(lines))
    warnings: Sequence[str] = published["warnings"]
    for warning in warnings:
        log.warning("%s", warning)
    log.info("Every planned cell has a state, and what passed is loaded: %s", published["report"])
    return warnings


def _summary(context: Mapping[str, Any]) -> Mapping[str, Any]:
    """What ``plan`` said of the whole; empty where it failed."""
    found: Mapping[str, Any] | None = context["ti"].xcom_pull(task_ids="plan", key="summary")
    return found or {}


def _batches(batches: Sequence[Mapping[str, Any]] | None) -> list[Batch]:
    return [Batch.from_json(batch) for batch in batches or ()]


def _receipts(
    batches: Sequence[Mapping[str, Any]] | None,
    receipts: Sequence[Mapping[str, Any]] | None,
    summary: Mapping[str, Any],
    run: RunInfo,
) -> list[Receipt]:
    """The receipts of the current plan: a plan made anew leaves those of the old one behind, as does a task that never started."""
    current = {batch["id"] for batch in batches or ()}
    made_anew = summary.get("run_key") == run.key
    # ``[:]`` is one call to the API; iterating would be one for each
    found = [
        Receipt.from_json(receipt) for receipt in (receipts[:] if receipts is not None else ()) if receipt["batch_id"] in current
    ]
    return [receipt for receipt in found if not made_anew or f"/run={run.key}/" in receipt.prefix]


def _errors(ti: Any, batches: Sequence[Mapping[str, Any]], landed: Collection[str]) -> dict[str, str]:
    """Batch id -> what the batch said that failed."""
    failed = [number for number, batch in enumerate(batches) if batch["id"] not in landed]
    said = ti.xcom_pull(task_ids="fetch", key=notes.KEY, map_indexes=failed) if failed else []
    return {batches[number]["id"]: error for number, error in zip(failed, said or (), strict=False) if error}


def _mirror(context: Mapping[str, Any], asset: Asset, published: Mapping[str, Any]) -> None:
    """Show the watermark in the UI; the truth is the manifest."""
    try:
        context["asset_state_store"][asset].set("watermark", {"sessions": published["sessions"], "report": published["report"]})
    except Exception as error:  # noqa: BLE001 - a mirror that cannot be shown must not fail a run that is done
        log.warning("the watermark could not be mirrored: %s", error)


# -- the DAG -------------------------------------------------------------------------------------------------------------------------


def build_params(feed: Feed) -> dict[str, Param]:
    """The trigger form of a feed: everyday params open, rare ones and the provider's own under Advanced."""
    defaults = {"universe": feed.universe, **feed.params, **feed.options}
    fields = form(options_of(feed.provider, feed.dataset), serving(feed.provider, feed.dataset))
    return {name: Param(defaults.get(name, default), **schema) for name, (default, schema) in fields.items()}


def build_dag(feed: Feed, doc: str | None = None) -> DAG:
    """The DAG of a feed: plan -> fetch (mapped) -> check -> load -> publish -> verdict."""
    defaults = {name: default for name, (default, _) in PARAMS.items()} | dict(feed.params)
    asset = Asset(name=feed.dag_id, uri=f"{lake_url()}/{feed.provider}/{feed.dataset}", group="market-data")
    with DAG(
        feed.dag_id,
        description=f"{feed.dataset} from {feed.provider} into the lake and the warehouse",
        doc_md=doc,
        schedule=SessionTimetable(run_at=feed.schedule) if feed.schedule else None,
        start_date=datetime.combine(feed.start_date, time(), UTC),
        catchup=False,
        max_active_runs=1,
        tags=[feed.provider, feed.dataset, "market-data"],
        default_args={
            "owner": "market-data",
            "retries": RETRIES,
            "retry_policy": MarketDataRetryPolicy(),
            # for what the policy never sees: a worker that was killed
            "retry_delay": timedelta(seconds=defaults["retry_delay_seconds"]),
        },
    ) as dag:

        @task
        def plan(**context: Any) -> list[dict[str, Any]]:
            return run_plan(feed, context)

        @task(pool=feed.pool, map_index_template="{{ task.op_kwargs['batch']['label'] }}")
        def fetch(batch: dict[str, Any], **context: Any) -> dict[str, Any]:
            return run_fetch(feed, batch, context)

        @task(trigger_rule="all_done")
        def check(batches: Any, receipts: Any, **context: Any) -> dict[str, Any]:
            return run_check(feed, batches, receipts, context)

        @task(pool="warehouse")
        def load(checked: Any, **context: Any) -> dict[str, Any]:
            return run_load(feed, checked, context)

        @task(trigger_rule="all_done", outlets=[asset])
        def publish(batches: Any, receipts: Any, checked: Any, loaded: Any, **context: Any) -> dict[str, Any]:
            return run_publish(feed, batches, receipts, checked, loaded, asset, context)

        @task(trigger_rule="all_done", retries=0)
        def verdict(batches: Any, published: Any, **context: Any) -> None:
            run_verdict(batches, published, context)

        batches = plan()
        receipts = fetch.expand(batch=batches)
        checked = check(batches, receipts)
        loaded = load(checked)
        published = publish(batches, receipts, checked, loaded)
        verdict(batches, published)
        if feed.fallback_dag_id:
            _add_fallback(feed.fallback_dag_id, published)
    # Last, and past the setter: every task copies what params the DAG has when it is made, and every setting of them checks all schemas
    # again. Together that was four fifths of the time that parsing takes. Values and schemas are held against each other by `load_feeds`.
    object.__setattr__(dag, "params", ParamsDict(build_params(feed)))
    return dag


def _add_fallback(dag_id: str, published: Any) -> None:
    """Runs of another provider's feed for what this one could not serve: under its own pool, coverage and name.

    Where that DAG is paused, the task fails and says so; a run of it would wait unseen.
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


def fallback_runs(published: Mapping[str, Any], context: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What to run the other feed with: ``conf`` and ``trigger_run_id`` of each run, the same again for the same attempt.

    A run that is itself a fallback asks for none: two feeds that name each other would go on for ever.
    """
    run = _run(context)
    if run.run_id.startswith(FALLBACK):
        return []
    wanted = [
        {"conf": conf, "trigger_run_id": f"{FALLBACK}{run.dag_id}__{run.key}__{n}"} for n, conf in enumerate(published["unserved"])
    ]
    for kwargs in wanted:
        log.info("asking the other provider for %d symbols, %s", len(kwargs["conf"]["symbols"]), kwargs["trigger_run_id"])
    return wanted
