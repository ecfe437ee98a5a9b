"""The bodies of the tasks: thin functions over :mod:`market_data.pipeline`.

Every Airflow component imports this module: import heavy libraries inside functions only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowSkipException

from market_data import pipeline
from market_data.airflow import metrics, task_notes
from market_data.airflow.assets import announce
from market_data.airflow.known_runs import UNFINISHED
from market_data.airflow.large_runs import large_conf, slow_publish
from market_data.airflow.overlap import without_active_runs
from market_data.config.feeds import Feed
from market_data.config.param_checks import check_params, read_params
from market_data.config.run_params import RunParams
from market_data.core import settings
from market_data.core.batch import Batch
from market_data.core.calendar import NEW_YORK, calendar
from market_data.core.errors import (
    ConfigError,
    LakeError,
    MarketDataError,
    ParamError,
    QualityError,
)
from market_data.core.garbage import spare_what_is_loaded
from market_data.core.instruments import by_calendar
from market_data.core.outcome import Receipt
from market_data.core.run import RunInfo
from market_data.datasets.registry import dataset, grains_of
from market_data.pipeline.run_sessions import resolve_sessions
from market_data.providers.registry import options_of, provider, serving

if TYPE_CHECKING:
    from market_data.providers.base import ProviderHook

from market_data.airflow.connections import open_lake, open_s3, provider_config, warehouse
from market_data.airflow.hosts import note_of_executors

# pyarrow's own pool keeps memory that its threads released, and its C++ functions use that pool whatever Python sets.
settings.lend("ARROW_DEFAULT_MEMORY_POOL", "system")

log = logging.getLogger(__name__)

T = TypeVar("T")

FAILED = {"failed", "upstream_failed"}
"""States of a task that should have run and did not succeed."""

ENDED = {"success", "skipped", *FAILED}
"""States of a task that has run, or will not run any more unless it is cleared."""

LATER = ("check", "load", "publish", "verdict")
"""The tasks that must run again after ``fetch``."""

REASONS = 40
"""Maximum reasons in a red verdict; the report has all."""


# -- shared by the tasks ---------------------------------------------------------------------------------------------------------------


def now() -> datetime:
    return datetime.now(UTC)


def _today() -> date:
    """Return today's date in New York."""
    return datetime.now(NEW_YORK).date()


def _params(feed: Feed, context: Mapping[str, Any]) -> RunParams:
    return read_params(context["params"], **allowed(feed))


def allowed(feed: Feed) -> dict[str, Any]:
    """Return the values that the params of a feed's runs are validated against."""
    options, endpoints = options_of(feed.provider, feed.dataset), serving(feed.provider, feed.dataset)
    return {"options": options, "endpoints": endpoints, "today": _today(), "grains": grains_of(feed.dataset)}


def _attempt(step: Callable[[], T], errors: list[MarketDataError]) -> T | None:
    """Return the result of ``step``; if it fails, return None and append the error to ``errors``."""
    try:
        return step()
    except (ConfigError, ParamError, LakeError) as error:
        errors.append(error)
        return None


def _all_of(errors: Sequence[MarketDataError]) -> MarketDataError:
    """Return one error for all: ParamError before ConfigError before a transient failure."""
    if any(isinstance(error, ParamError) for error in errors):
        problems = [problem for error in errors for problem in getattr(error, "problems", (str(error),))]
        return ParamError(list(dict.fromkeys(problems)))  # an unknown universe is reported twice
    settings = [str(error) for error in errors if isinstance(error, ConfigError)]
    return ConfigError("; ".join(settings)) if settings else errors[0]


def _hook(feed: Feed, params: RunParams) -> ProviderHook:
    options, config = {**feed.options, **params.options}, provider_config(feed.conn_id)
    if config.limit_store is None:
        _tell_of_hosts()
    return provider(feed.provider)(config, options=options, connections=provider_config, retry=feed.retry)


def _tell_of_hosts() -> None:
    """Log that rate limits are those of this host, where tasks may run on others too."""
    from airflow.configuration import conf

    if said := note_of_executors(conf.get("core", "executor")):
        log.warning("rate limits: %s", said)


def run_of(context: Mapping[str, Any]) -> RunInfo:
    run = context["dag_run"]
    run_type = getattr(run.run_type, "value", run.run_type)  # an enum, whose str() is its member's name
    return RunInfo(run.dag_id, run.run_id, run_type, run.clear_number or 0, run.start_date or run.run_after)


def _run_context(feed: Feed, params: RunParams, context: Mapping[str, Any]) -> pipeline.RunContext:
    from market_data.config.layouts import layout_of

    source = pipeline.source_of_run(feed, params)

    def is_running(run: RunInfo) -> bool:
        # A count, not the state: a deleted run counts as 0, and any error is Airflow's and fails the task.
        return bool(context["ti"].get_dr_count(run.dag_id, run_ids=[run.run_id], states=list(UNFINISHED)))

    return pipeline.RunContext(feed, params, run_of(context), open_lake(), layout_of(feed), source, is_running, open_s3)


# -- task bodies ---------------------------------------------------------------------------------------------------------------------


def run_plan(feed: Feed, context: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Resolve dates and symbols, and plan the batches. No data is requested from the provider.

    :raises ParamError: listing every problem with params, symbols and connection. Too much work for one run is reported last, alone.
    :raises ConfigError: if only a connection is wrong, the provider's or the warehouse's.
    """
    try:
        return _plan(feed, context)
    except MarketDataError as error:
        task_notes.leave(context["ti"], error.with_page())
        context["ti"].xcom_push(key="summary", value={"error": str(error)})
        raise error.with_traceback(None) from None  # the message tells all that the frames below would


def _plan(feed: Feed, context: Mapping[str, Any]) -> list[dict[str, Any]]:
    params, problems = check_params(context["params"], **allowed(feed))
    errors: list[MarketDataError] = [ParamError(problems)] if problems else []
    moment, today = now(), _today()
    hook = _attempt(lambda: _hook(feed, params), errors)
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    interval = (start, end) if start and end else None
    scheduled = run_of(context).run_type == "scheduled"
    resolve = partial(resolve_sessions, params, interval, scheduled=scheduled, now=moment)
    wanted = None if params.cells else _attempt(lambda: resolve(calendars=[calendar(feed.calendar)]), errors)

    def check_provider(hook: ProviderHook) -> None:
        hook.validate_config()
        if wanted:
            pipeline.check_history(feed.dataset, params, hook, wanted)

    if hook is not None:
        _attempt(lambda: check_provider(hook), errors)
    if dataset(feed.dataset).table:
        _attempt(warehouse, errors)  # its settings only: fetching does not need the server
    run_context = _attempt(lambda: _run_context(feed, params, context), errors)
    if params.cells and hook and run_context:
        planned = _attempt(lambda: _plan_gaps(run_context, hook, params.cells or "", moment), errors) if not errors else None
        if planned is None:
            raise _all_of(errors)
        return _announce(run_context, planned, context)
    universe = _attempt(lambda: pipeline.universe_of(params, feed, open_lake, open_s3), errors)
    if errors or hook is None or run_context is None or wanted is None or universe is None:
        raise _all_of(errors)
    symbols = universe.symbols
    wanted = resolve(calendars=by_calendar(symbols, run_context.calendar_of))
    wanted = replace(wanted, lookback=without_active_runs(context, wanted.lookback))
    planned = pipeline.plan_run(run_context, hook, wanted, symbols, moment, universe.membership)
    batches = _announce(run_context, planned, context, changes="" if scheduled else planned.changes)
    if (index := pipeline.index_of(params)) and not params.dry_run:
        log.info("%s", pipeline.record_index(run_context.lake, index, universe.members, today))
    return batches


def _plan_gaps(run_context: pipeline.RunContext, hook: ProviderHook, key: str, now: datetime) -> pipeline.Planned:
    """Plan the cells of a list of gaps."""
    from market_data.pipeline.gap_list import read_gaps
    from market_data.pipeline.plan_gaps import plan_gaps

    gaps = read_gaps(run_context.lake, key, run_context.feed.dataset, run_context.source)
    return plan_gaps(run_context, hook, gaps, now)


def _announce(
    run_context: pipeline.RunContext, planned: pipeline.Planned, context: Mapping[str, Any], changes: str = ""
) -> list[dict[str, Any]]:
    """Log the plan and leave its note and summary. Return the batches, none in a dry run."""
    from market_data.lake.conditional import check_conditional_put

    dry_run = run_context.params.dry_run
    log.info("%s", planned.explain())
    large = _too_large(planned, context)
    for sentence in large:
        log.warning("%s", sentence)
    if planned.plan.batches and not dry_run:
        check_conditional_put(run_context.lake)
    task_notes.leave(context["ti"], ". ".join(filter(None, [*large, planned.note, changes])))
    run = run_context.run
    attempt = {"run_key": run.key, "run_started": run.started.isoformat()}
    context["ti"].xcom_push(key="summary", value={**planned.summary, "dry_run": dry_run, **attempt})
    return [] if dry_run else [batch.to_json() for batch in planned.plan.batches]


def _too_large(planned: pipeline.Planned, context: Mapping[str, Any]) -> list[str]:
    """Return what to do about a run that is larger than Airflow is set for."""
    from airflow.configuration import conf

    batches = len(planned.plan.batches)
    sessions = len(planned.sessions) if batches else 0
    found = (
        large_conf(getattr(context["dag_run"], "conf", None), batches),
        slow_publish(sessions, conf.getfloat("workers", "execution_api_timeout")),
    )
    return [sentence for sentence in found if sentence]


def run_fetch(feed: Feed, batch: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """Fetch one batch: hook -> gate -> lake -> receipt."""
    params = _params(feed, context)
    ti = context["ti"]
    not_cleared = ""
    try:
        run_context = _run_context(feed, params, context)
        if run_context.run.clear_number > 0:
            not_cleared = _withdraw(run_context, ti)
        with _hook(feed, params) as hook, metrics.of_calls(feed, hook):
            spare_what_is_loaded()
            receipt = pipeline.fetch_batch(run_context, hook, Batch.from_json(batch), now, ti.try_number)
    except Exception as error:
        # A failed task returns nothing; the report takes the reason from its note.
        task_notes.leave(ti, f"{type(error).__name__}: {error}")
        raise
    failed = [f"{symbol} failed: {why}" for symbol, why in receipt.failed.items()]
    task_notes.leave(ti, "\n".join(filter(None, [not_cleared, *failed])))
    return receipt.to_json()


def _withdraw(context: pipeline.RunContext, ti: Any) -> str:
    """Delete the run's completion flag before a cleared fetch writes rows, which are not loaded yet.

    :return: a sentence for the note if later tasks were not cleared, so that this run will not load the rows; else empty. The listener
        fails such a run.
    """
    published = ti.xcom_pull(task_ids="publish", map_indexes=-1)
    if published:
        pipeline.delete_flag(context.lake, published["report"])
    states = states_of(ti, LATER)
    done = [name for name in LATER if states.get(name) in ENDED]
    if not done:
        return ""
    names = ", ".join(f"`{name}`" for name in done)
    were = "was" if len(done) == 1 else "were"
    words = (
        f"fetched again, but {names} {were} not cleared: the rows wait in staging; "
        "clear them too, or the feed's next run loads the rows"
    )
    ti.xcom_push(key=task_notes.NOT_LOADED, value=words)
    log.warning("%s", words)
    return words


def run_check(
    feed: Feed,
    batches: Sequence[Mapping[str, Any]] | None,
    receipts: Sequence[Mapping[str, Any]] | None,
    context: Mapping[str, Any],
) -> dict[str, Any]:
    """Run the checkpoint over the fetched rows."""
    if batches is None:
        raise AirflowSkipException("the plan failed: nothing is checked")
    planned, landed = batches_of(batches), receipts_of(batches, receipts, summary_of(context), run_of(context))
    params = _params(feed, context)
    if not landed and params.dry_run:
        raise AirflowSkipException("dry run: nothing is checked")
    run_context = _run_context(feed, params, context)
    if not landed and not pipeline.has_leftovers(run_context, planned):
        raise AirflowSkipException("nothing was fetched and nothing waits in staging, so there is nothing to check")
    with warehouse() as opened:
        checked = pipeline.check_run(run_context, planned, landed, opened)
    log.info("%s", checked["table"])
    return checked


def run_load(feed: Feed, checked: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """Load the partitions that passed into the warehouse."""
    with warehouse() as opened:
        return pipeline.load_run(_run_context(feed, _params(feed, context), context), checked, opened)


def run_publish(
    feed: Feed,
    batches: Sequence[Mapping[str, Any]] | None,
    receipts: Sequence[Mapping[str, Any]] | None,
    checked: Mapping[str, Any] | None,
    loaded: Mapping[str, Any] | None,
    assets: Sequence[Asset],
    context: Mapping[str, Any],
) -> dict[str, Any]:
    """Coverage, report, flag, asset events.

    :param assets: that of the feed and that of its sessions, see `market_data.airflow.assets`.
    """
    if batches is None:
        raise AirflowSkipException("the plan failed: nothing is published")
    ti, params = context["ti"], _params(feed, context)
    if not batches and params.dry_run:
        raise AirflowSkipException("dry run: nothing is published")
    run_context, summary = _run_context(feed, params, context), summary_of(context)
    if not batches and checked is None and not pipeline.has_leftovers(run_context, ()):
        raise AirflowSkipException("nothing was planned and nothing waits in staging, so there is nothing to publish")
    landed = receipts_of(batches, receipts, summary, run_context.run)
    errors = _errors(ti, batches, {receipt.batch_id for receipt in landed})
    result = pipeline.RunResult(batches_of(batches), landed, errors, checked, loaded, summary)
    published = pipeline.publish_run(run_context, result, now())
    announce(context["outlet_events"], assets, published)
    _mirror(context, assets[0], published)
    metrics.of_run(feed, run_context, published["report"])
    return {**published, "run_key": run_context.run.key}


def own_published(published: Mapping[str, Any] | None, context: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what ``publish`` returned; None if that is of an attempt before the current plan.

    A cleared task that dies before a worker starts it leaves the XCom of the attempt before.
    """
    if published is None or states_of(context["ti"], ["publish"]).get("publish") not in (None, "success"):
        return None
    attempts = [int(found.get("run_key", "-0").rpartition("-")[2]) for found in (published, summary_of(context))]
    return published if attempts[0] >= attempts[1] else None


def run_verdict(
    batches: Sequence[Mapping[str, Any]] | None, published: Mapping[str, Any] | None, context: Mapping[str, Any]
) -> None:
    """Leave the verdict as a note, and fail the run if anything of it is missing, refused or not loaded.

    :raises QualityError: listing it.
    """
    ti, published = context["ti"], own_published(published, context)
    try:
        said = _verdict(batches, published, summary_of(context), _failed_tasks(ti) if published is None else ())
    except QualityError as error:
        task_notes.leave(ti, error.with_page())
        raise error.with_traceback(None) from None
    task_notes.leave(ti, "\n".join(said))


def _failed_tasks(ti: Any) -> list[str]:
    """Return the tasks before ``verdict`` that failed, so that nothing is published."""
    return [name for name, state in states_of(ti, ["check", "load", "publish"]).items() if state in FAILED]


def states_of(ti: Any, task_ids: Sequence[str]) -> Mapping[str, Any]:
    """Return the states of tasks of the same run."""
    if not hasattr(ti, "get_task_states"):  # outside Airflow
        return {}
    found: Mapping[str, Any] = ti.get_task_states(ti.dag_id, task_ids=list(task_ids), run_ids=[ti.run_id]).get(ti.run_id, {})
    return found


def _verdict(
    batches: Sequence[Mapping[str, Any]] | None,
    published: Mapping[str, Any] | None,
    summary: Mapping[str, Any],
    failed: Sequence[str],
) -> Sequence[str]:
    """Return the note of a run that is not red."""
    if batches is None:
        raise QualityError(f"the plan failed: {summary.get('error') or 'see the log of `plan`'}")
    standing = summary.get("standing") or {}
    if not batches and published is None and not failed:
        dry = "Dry run: nothing was fetched" if summary.get("dry_run") else ""
        why = (
            ". ".join(filter(None, [dry, dry and summary.get("figures"), summary.get("note")]))
            or "Nothing to do: every requested cell is covered already"
        )
        log.info("%s. See the log of `plan`.", why)
        red, warnings = standing.get("red", ()), standing.get("warnings", ())
        if red and not dry:
            raise QualityError(_listed("nothing was fetched, and the run is not complete:", red, warnings))
        return [why, *red, *_logged(warnings)]
    if published is None:
        names = f"{', '.join(f'`{name}`' for name in failed)} failed: " if failed else ""
        raise QualityError(f"{names}nothing was published; see the logs of `check`, `load` and `publish`")
    warnings = published["warnings"]
    if published["red"]:
        raise QualityError(_listed("the run is not complete:", published["red"], warnings, published["report"]))
    log.info("Every planned cell has a state, and what passed is loaded: %s", published["report"])
    return [*filter(None, [published.get("headline")]), *_logged(warnings)]


def _listed(head: str, red: Sequence[str], warnings: Sequence[str], report: str = "") -> str:
    """Return a red verdict: its reasons, then what else deserves a look."""
    more = len(red) - REASONS
    lines = [head, *red[:REASONS], *([f"and {more} more: see {report or 'the log of `plan`'}"] if more > 0 else [])]
    lines += [f"also: {warning}" for warning in warnings]
    return "\n  ".join([*lines, *([f"report: {report}"] if report else [])])


def _logged(warnings: Sequence[str]) -> Sequence[str]:
    for warning in warnings:
        log.warning("%s", warning)
    return warnings


def summary_of(context: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the summary of ``plan``; empty if it failed."""
    found: Mapping[str, Any] | None = context["ti"].xcom_pull(task_ids="plan", key="summary")
    return found or {}


def batches_of(batches: Sequence[Mapping[str, Any]] | None) -> list[Batch]:
    return [Batch.from_json(batch) for batch in batches or ()]


def receipts_of(
    batches: Sequence[Mapping[str, Any]] | None,
    receipts: Sequence[Mapping[str, Any]] | None,
    summary: Mapping[str, Any],
    run: RunInfo,
) -> list[Receipt]:
    """Return the receipts of the current plan only: a repeated plan leaves older receipts behind."""
    current = {batch["id"] for batch in batches or ()}
    made_anew = summary.get("run_key") == run.key
    # ``[:]`` is one call to the API; iterating would be one per receipt
    found = [
        Receipt.from_json(receipt) for receipt in (receipts[:] if receipts is not None else ()) if receipt["batch_id"] in current
    ]
    return [receipt for receipt in found if not made_anew or f"/run={run.key}/" in receipt.prefix]


def _errors(ti: Any, batches: Sequence[Mapping[str, Any]], landed: Collection[str]) -> dict[str, str]:
    """Return batch id -> error of each failed batch."""
    failed = [number for number, batch in enumerate(batches) if batch["id"] not in landed]
    said = ti.xcom_pull(task_ids="fetch", key=task_notes.KEY, map_indexes=failed) if failed else []
    return {batches[number]["id"]: error for number, error in zip(failed, said or (), strict=False) if error}


def _mirror(context: Mapping[str, Any], asset: Asset, published: Mapping[str, Any]) -> None:
    """Show the watermark in the UI; the manifest is authoritative."""
    try:
        context["asset_state_store"][asset].set("watermark", {"sessions": published["sessions"], "report": published["report"]})
    except Exception as error:  # noqa: BLE001 - each secrets backend has its own errors
        log.warning("failed to mirror the watermark: %s", error)
