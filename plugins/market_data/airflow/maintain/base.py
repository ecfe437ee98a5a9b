"""Common parts of the maintenance DAGs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Param

from market_data.airflow.retry import MarketDataRetryPolicy

if TYPE_CHECKING:
    from market_data.config.feeds import Feed
    from market_data.lake.store import Lake
    from market_data.pipeline.selection import Selection

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


def selected(lake: Lake, params: Mapping[str, Any]) -> list[tuple[Feed, Selection]]:
    """Return what ``selection_params``, and ``source`` where a DAG has it, select.

    :raises ParamError: naming every wrong param and what is allowed. Nothing has been done then.
    """
    from market_data.config.feeds import load_feeds
    from market_data.config.symbols import symbol_problem
    from market_data.core.dates import read_date
    from market_data.core.errors import ParamError
    from market_data.core.messages import shortened, shown, suggestion
    from market_data.pipeline.selection import selections

    feeds, names, symbols = {feed.dag_id: feed for feed in load_feeds()}, params.get("feeds") or [], params.get("symbols") or []
    problems = [f"feeds has {name}{suggestion(name, feeds)}; feeds: {', '.join(feeds)}" for name in names if name not in feeds]
    problems += [f"symbols: {shown(symbol)} {problem}" for symbol in symbols if (problem := symbol_problem(symbol))]
    span: list[date | None] = []
    for name in ("start_date", "end_date"):
        try:
            span.append(read_date(params[name]) if params.get(name) else None)
        except ValueError:
            problems.append(f"{name} is {shown(params[name])}; a date such as 2026-11-02 is needed")
    if len(span) == 2 and span[0] and span[1] and span[0] > span[1]:
        problems.append(f"start_date is {span[0]} and end_date {span[1]}; the start must not come after the end")
    if problems:
        raise ParamError(shortened(problems))
    chosen = [feeds[name] for name in names] or list(feeds.values())
    source = params.get("source") or None
    return list(selections(lake, chosen, source, symbols, (span[0], span[1]), named=bool(names)))


def dry_run_param(text: str, *, default: bool = True) -> Param:
    """Return the param of the dry run; ``text`` says what it shows."""
    return Param(default, type="boolean", title="Dry run", description=text)
