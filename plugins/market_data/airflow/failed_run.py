"""Report a run that failed before ``publish`` could: it would be known only when its session is due."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
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
from market_data.providers.registry import calendar_of_source, known_provider
from market_data.providers.spec import source_of

log = logging.getLogger(__name__)

BEFORE_REPORT = ("plan", "check", "load", "publish")
"""Tasks whose failure may leave a run without a report."""
DATES = ("start_date", "end_date", "backfill_days")
SYMBOLS = ("universe", "symbols", "tickers_path", "index_name", "as_of")
"""Params that choose the sessions and the symbols of a run."""


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
    """Write the report of a run that has none, and return its key.

    Its tasks failed before they wrote it, or it is red with nothing to do.
    Never fails: the verdict follows. A dry run has no report.

    :param batches: None if the plan failed.
    :return: None if there is nothing to report, or the lake cannot be written.
    """
    try:
        if tasks.own_published(published, context) is not None or context["params"].get("dry_run"):
            return None
        errors = _errors(context["ti"], plan_failed=batches is None)
        red = _standing_red(batches, context)
        return _report(feed, batches, receipts, errors, red, context) if errors or red else None
    except Exception as error:
        log.exception("the failed run could not be reported (%s); its session is reported when it is due", type(error).__name__)
        return None


def _errors(ti: Any, *, plan_failed: bool) -> dict[str, str]:
    """Return failed task -> its error."""
    states = tasks.states_of(ti, BEFORE_REPORT)
    failed = [name for name in BEFORE_REPORT if states.get(name) == "failed" or (plan_failed and name == "plan")]
    return {name: ti.xcom_pull(task_ids=name, key=task_notes.KEY) or f"see the log of `{name}`" for name in failed}


def _standing_red(batches: Sequence[Mapping[str, Any]] | None, context: Mapping[str, Any]) -> Sequence[str]:
    """Return why a run with nothing to do is red."""
    standing: Mapping[str, Any] = tasks.summary_of(context).get("standing") or {}
    return standing.get("red", ()) if batches is not None and not batches else ()


def _report(
    feed: Feed,
    batches: Sequence[Mapping[str, Any]] | None,
    receipts: Sequence[Mapping[str, Any]] | None,
    errors: Mapping[str, str],
    red: Sequence[str],
    context: Mapping[str, Any],
) -> str:
    from market_data.pipeline.failed_run import FailedRun, report_failed_run
    from market_data.pipeline.open_cells import OwnCells
    from market_data.pipeline.run_result import RunResult

    run, summary, params = tasks.run_of(context), tasks.summary_of(context), _readable_params(feed, context)
    dates, names = _given(feed, params, context)
    result = RunResult(tasks.batches_of(batches), tasks.receipts_of(batches, receipts, summary, run), summary=summary)
    own = OwnCells.of(summary, result.batches)
    source = source_of(known_provider(feed.provider), {**feed.options, **params.options})
    sessions = own.sessions or (_sessions(feed, params, context) if dates else ())
    symbols = own.symbols or result.symbols or (_symbols(feed, params, source, sessions) if names else ())
    failed = FailedRun(run, source, feed.dataset, errors, sessions, symbols, result, red)
    return report_failed_run(open_lake(), failed, tasks.now())


def _readable_params(feed: Feed, context: Mapping[str, Any]) -> RunParams:
    """Return the params of a run; each invalid one has its default."""
    return check_params(context["params"], **tasks.allowed(feed))[0]


def _given(feed: Feed, params: RunParams, context: Mapping[str, Any]) -> tuple[bool, bool]:
    """Return True if the params tell the sessions of a run, and True if they tell its symbols.

    Nobody knows what a person meant by a mistyped value: a default would be about something else. The cells of a list are not read.
    A scheduled run is about its data interval in any case.
    """
    raw, allowed = context["params"], tasks.allowed(feed)
    known = {one.name for one in fields(RunParams)}.union(allowed["options"])

    def valid(names: Sequence[str]) -> bool:
        given = {name: value for name, value in raw.items() if name in names or name not in known}
        return not check_params(given, **allowed)[1]

    if tasks.run_of(context).run_type == "scheduled":
        return True, True
    symbols = valid(SYMBOLS)
    dates = valid(DATES) and not params.cells and (symbols or any(raw.get(name) for name in DATES))
    return dates, dates and symbols


def _sessions(feed: Feed, params: RunParams, context: Mapping[str, Any]) -> Sequence[date]:
    """Return the sessions of a run without a plan; the last completed one if it has none."""
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    interval, own = (start, end) if start and end else None, calendar(feed.calendar)
    found = resolve_sessions(params, interval, scheduled=False, now=tasks.now(), calendars=[own])
    return found.own or (own.last_completed_session(tasks.now()),)


def _symbols(feed: Feed, params: RunParams, source: str, sessions: Sequence[date]) -> Sequence[str]:
    """Return the symbols of a run without a plan that have cells; none if they are not known."""
    from market_data.pipeline.open_cells import OwnCells
    from market_data.pipeline.run_symbols import universe_of

    try:
        universe = universe_of(params, feed, open_lake, open_s3)
        return OwnCells.on(universe.symbols, sessions, calendar_of_source(source), universe.membership).symbols
    except MarketDataError:
        return ()
