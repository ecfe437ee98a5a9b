"""Metrics through Airflow's stats (StatsD, OpenTelemetry).

Nothing is sent unless Airflow's metrics are on. ``docs/reference/metrics.md`` lists the names. Observability never fails a task.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from market_data.config.feeds import Feed
from market_data.core.calendar import calendar
from market_data.pipeline.open_cells import KINDS

if TYPE_CHECKING:
    from market_data.pipeline import RunContext
    from market_data.providers.base import ProviderHook

log = logging.getLogger(__name__)

CALLS = ("calls", "throttled", "retries", "bytes", "wait")
"""Metrics of a batch, sent when it ends, one that failed too."""
RUN = ("rows", "rows_loaded", "quarantined", "restated", "spend_micro_usd", "coverage", "lag_seconds")
"""Metrics of a run, sent when it is published."""
GAUGES = ("coverage", "lag_seconds")
NOT_SENT = "metrics are not sent: %s"
OPEN = (*KINDS, "missing")
"""Kinds of cells that are not final."""


def name_of(feed: Feed, metric: str) -> str:
    """Return the name of a metric: plain StatsD has no tags, so it has the feed."""
    return f"market_data.{feed.dag_id}.{metric}"


@contextmanager
def of_calls(feed: Feed, hook: ProviderHook) -> Iterator[None]:
    """Send what a batch has added to the counters of ``hook``, whether it succeeds or fails."""
    try:
        yield
    finally:
        try:
            counters = hook.counters
            values = {name: getattr(counters, name) for name in CALLS if name != "wait"}
            _send(feed, {**values, "wait": timedelta(seconds=counters.waited)})
        except Exception as error:  # noqa: BLE001 - observability never fails a task
            log.warning(NOT_SENT, type(error).__name__)


def of_run(feed: Feed, context: RunContext, report: str) -> None:
    """Send the figures of a published run.

    :param report: lake key of its report; read only if metrics are on.
    """
    try:
        if not _is_on():
            return
        stored = context.lake.get(report)
        _send(feed, figures(feed, json.loads(stored.body) if stored else {}, context.run.run_type))
    except Exception as error:  # noqa: BLE001 - observability never fails a task
        log.warning(NOT_SENT, type(error).__name__)


def figures(feed: Feed, report: Mapping[str, Any], run_type: str) -> dict[str, float]:
    """Return the metrics of a run.

    ``lag_seconds``, from the close of its last session to its end, is that of scheduled runs: those of the past tell of no delay.
    """
    if not report:
        return {}
    found: dict[str, float] = {
        "rows": report["rows_landed"],
        "rows_loaded": report["rows_loaded"],
        "quarantined": report["rows_quarantined"],
        "restated": sum(one["rows"] for one in report["restated"] if one["attempt"] == report["clear_number"]),
        "spend_micro_usd": sum(
            round((one["cost_usd"] or 0) * 1_000_000) for one in report["attempts"] if one["attempt"] == report["clear_number"]
        ),
    }
    if report["cells_own"]:
        found["coverage"] = 1 - sum(report["open_cells"].get(state, 0) for state in OPEN) / report["cells_own"]
    if run_type == "scheduled" and report["date_range"]["to"] and report["complete"]:
        closed = calendar(feed.calendar).session_close(date.fromisoformat(report["date_range"]["to"]))
        found["lag_seconds"] = (datetime.fromisoformat(report["end_time"]) - closed).total_seconds()
    return found


def _send(feed: Feed, values: Mapping[str, float | timedelta]) -> None:
    from airflow.sdk.observability import stats

    tags = {"provider": feed.provider, "dataset": feed.dataset, "dag_id": feed.dag_id}
    for metric, value in values.items():
        name = name_of(feed, metric)
        if isinstance(value, timedelta):
            stats.timing(name, value, tags=tags)
        elif metric in GAUGES:
            stats.gauge(name, value, tags=tags)
        elif value:
            stats.incr(name, int(value), tags=tags)


def _is_on() -> bool:
    from airflow.configuration import conf

    return any(conf.getboolean("metrics", name, fallback=False) for name in ("statsd_on", "otel_on"))
