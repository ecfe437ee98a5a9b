"""Common parts of the maintenance DAGs."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Any

from airflow.sdk import DAG, Param

from market_data.airflow.retry import MarketDataRetryPolicy

FIRST = datetime(2024, 1, 1, tzinfo=UTC)


def maintenance_dag(
    dag_id: str, description: str, doc: str | None, params: dict[str, Param | Any], schedule: str | None = None, **default_args: Any
) -> DAG:
    """Return a DAG for one maintenance job; use it with ``with``.

    One run at a time, no catch-up: maintenance acts on what is there now.

    :param schedule: a cron expression in UTC; None: by hand only.
    """
    return DAG(
        dag_id,
        description=description,
        doc_md=doc,
        schedule=schedule,
        start_date=FIRST,
        catchup=False,
        max_active_runs=1,
        params=params,
        tags=["maintenance", "market-data"],
        default_args={"owner": "market-data", "retries": 2, "retry_policy": MarketDataRetryPolicy(), **default_args},
    )


@cache
def _feeds() -> tuple[str, ...]:
    from market_data.config.feeds import load_feeds

    return tuple(feed.dag_id for feed in load_feeds())


def selection_params() -> dict[str, Param]:
    """Return the params that select a part of the lake."""
    text: dict[str, Any] = {"type": ["null", "string"]}
    return {
        "feeds": Param(
            [], type="array", items={"type": "string"}, examples=list(_feeds()), title="Feeds", description="Empty: all feeds."
        ),
        "symbols": Param(
            [], type="array", items={"type": "string"}, title="Symbols", description="One per line; empty: all symbols."
        ),
        "start_date": Param(
            None, **text, format="date", title="First session", description="Inclusive; empty: the first there is."
        ),
        "end_date": Param(None, **text, format="date", title="Last session", description="Inclusive; empty: the last there is."),
    }


def dry_run_param(text: str, *, default: bool = True) -> Param:
    """Return the param of the dry run; ``text`` says what it shows."""
    return Param(default, type="boolean", title="Dry run", description=text)
