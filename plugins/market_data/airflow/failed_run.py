"""Report a run that failed before ``publish`` could: it would be known only when its session is due."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

from airflow.sdk.exceptions import AirflowSkipException

from market_data.airflow import task_notes, tasks
from market_data.airflow.connections import open_lake, open_s3
from market_data.config.feeds import Feed
from market_data.config.param_checks import check_params
from market_data.config.run_params import RunParams
from market_data.core.calendar import calendar
from market_data.core.errors import MarketDataError
from market_data.pipeline.run_sessions import resolve_sessions
from market_data.providers.registry import known_provider
from market_data.providers.spec import source_of

log = logging.getLogger(__name__)

BEFORE_REPORT = ("plan", "check", "load", "publish")
"""Tasks whose failure may leave a run without a report."""


@contextmanager
def failure_note(context: Mapping[str, Any]) -> Iterator[None]:
    """Leave the error of the block as its task's note, from which the report of a failed run takes it."""
    try:
        yield
    except AirflowSkipException:
        raise
    except Exception as error:
        task_notes.leave(context["ti"], f"{type(error).__name__}: {error}")
        raise


def report_failure(
    feed: Feed,
    batches: Sequence[Mapping[str, Any]] | None,
    receipts: Sequence[Mapping[str, Any]] | None,
    published: Mapping[str, Any] | None,
    context: Mapping[str, Any],
) -> str | None:
    """Write the report of a run whose tasks failed before it had one, and return its key.

    Never fails: the verdict follows. A dry run has no report.

    :param batches: None if the plan failed.
    :return: None if there is nothing to report, or the lake cannot be written.
    """
    if published is not None or context["params"].get("dry_run"):
        return None
    try:
        errors = _errors(context["ti"], plan_failed=batches is None)
        return _report(feed, batches, receipts, errors, context) if errors else None
    except Exception as error:
        log.exception("the failed run could not be reported (%s); its session is reported when it is due", type(error).__name__)
        return None


def _errors(ti: Any, *, plan_failed: bool) -> dict[str, str]:
    """Return failed task -> its error."""
    states = tasks.states_of(ti, BEFORE_REPORT)
    failed = [name for name in BEFORE_REPORT if states.get(name) == "failed" or (plan_failed and name == "plan")]
    return {name: ti.xcom_pull(task_ids=name, key=task_notes.KEY) or f"see the log of `{name}`" for name in failed}


def _report(
    feed: Feed,
    batches: Sequence[Mapping[str, Any]] | None,
    receipts: Sequence[Mapping[str, Any]] | None,
    errors: Mapping[str, str],
    context: Mapping[str, Any],
) -> str:
    from market_data.pipeline.failed_run import FailedRun, report_failed_run
    from market_data.pipeline.open_cells import OwnCells
    from market_data.pipeline.run_result import RunResult

    run, summary, params = tasks.run_of(context), tasks.summary_of(context), _readable_params(feed, context)
    result = RunResult(tasks.batches_of(batches), tasks.receipts_of(batches, receipts, summary, run), summary=summary)
    own = OwnCells.of(summary, result.batches)
    sessions = own.sessions or _sessions(feed, params, context)
    symbols = own.symbols or result.symbols or _symbols(feed, params)
    source = source_of(known_provider(feed.provider), {**feed.options, **params.options})
    failed = FailedRun(run, source, feed.dataset, errors, sessions, symbols, result)
    return report_failed_run(open_lake(), failed, tasks.now())


def _readable_params(feed: Feed, context: Mapping[str, Any]) -> RunParams:
    """Return the params of a run; each invalid one has its default."""
    return check_params(context["params"], **tasks.allowed(feed))[0]


def _sessions(feed: Feed, params: RunParams, context: Mapping[str, Any]) -> Sequence[date]:
    """Return the sessions of a run without a plan; the last completed one if it has none."""
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    interval, own = (start, end) if start and end else None, calendar(feed.calendar)
    found = resolve_sessions(params, interval, scheduled=False, now=tasks.now(), calendars=[own])
    return found.own or (own.last_completed_session(tasks.now()),)


def _symbols(feed: Feed, params: RunParams) -> Sequence[str]:
    """Return the symbols of a run without a plan; none if they are not known."""
    from market_data.pipeline.run_symbols import universe_of

    try:
        return universe_of(params, feed, open_lake, open_s3).symbols
    except MarketDataError:
        return ()
