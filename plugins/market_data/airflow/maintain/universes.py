"""The DAG ``maintain_universes``."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, get_current_context, task

from market_data.airflow.maintain.base import dry_run_param, maintenance_dag
from market_data.config.trigger_form import KEPT_INDICES

DOC = """Keep the members of indices up to date: today's, and those of each date of the past.

### What it does
`update` reads the members of each index from its sources and writes `metadata/indices/{index}.csv` in the lake. A run with the universe
`index:sp500` then has the members of each of its sessions, those delisted since included. One task per index.

### How to use it
* **See what would change**: *Trigger*; the log of `update` shows the difference. Nothing is written in a dry run.
* **Every week**: unpause it. Scheduled runs write what is plausible. An implausible change is refused, and the task fails with the
  difference.
* **The change is right**: *Trigger* without dry run, with that index, a reason and your name. The journal keeps both.
* **No internet**: set `MARKET_DATA_SP500_SOURCES` and its like to addresses of your own mirror. A run that cannot read any address changes
  nothing and names them.
"""
SUNDAY = "0 12 * * 0"


def maintain_universes() -> DAG:
    """Return the DAG."""
    names = KEPT_INDICES
    count: dict[str, Any] = {"type": ["null", "integer"], "minimum": 1}
    text: dict[str, Any] = {"type": ["null", "string"], "maxLength": 500}
    params = {
        "indices": Param(
            list(names[:3]), type="array", items={"type": "string", "enum": list(names)}, title="Indices",
            description="listed: everything that Polygon lists, about two dozen calls.",
        ),
        "earlier": Param(
            [], type="array", items={"type": "string", "format": "date"}, title="Earlier dates",
            description="For listed: dates of which the listing narrows the first dates.",
        ),
        "dry_run": dry_run_param("Show the difference and write nothing. Scheduled runs write."),
        "min_members": Param(None, **count, title="Fewest members", description="Fewer are refused; empty: by index."),
        "max_members": Param(None, **count, title="Most members", description="More are refused; empty: by index."),
        "max_changes": Param(
            None, **count, title="Most changes", description="More names that join or leave at once are refused; empty: by index."
        ),
        "overrule": Param(None, **text, title="Overrule", description="Reason to write an implausible change all the same."),
        "by": Param(None, **text, title="Your name", description="With a reason to overrule; the journal keeps both."),
    }  # fmt: skip
    dag = maintenance_dag(
        "maintain_universes", "Keep the members of indices in the lake, today's and of each date.", DOC, params, SUNDAY
    )
    with dag:

        @task(task_id="indices")
        def indices() -> list[str]:
            found: list[str] = get_current_context()["params"]["indices"]
            return found

        @task(task_id="update", map_index_template="{{ index }}", multiple_outputs=False)
        def update(index: str) -> dict[str, Any]:
            context = get_current_context()
            context["index"] = index
            return update_index(index, context["params"], scheduled=str(context["dag_run"].run_type) == "scheduled")

        update.expand(index=indices())
    return dag


def update_index(name: str, params: dict[str, Any], *, scheduled: bool) -> dict[str, Any]:
    """Update one index and return its totals. The log has the difference.

    :raises QualityError: if the update is implausible; the message holds the difference.
    """
    import logging
    from datetime import UTC, date, datetime

    from market_data.airflow.connections import open_lake, provider_config
    from market_data.core.errors import QualityError
    from market_data.maintenance import universes
    from market_data.providers.registry import provider

    index, now = universes.index_of_name(name), datetime.now(UTC)
    terms = universes.Terms(
        bool(params["dry_run"]) and not scheduled,
        params["min_members"],
        params["max_members"],
        params["max_changes"],
        params["overrule"] or "",
        params["by"] or "",
    )
    if name == universes.LISTED:
        with provider("polygon")(provider_config("polygon_default"), connections=provider_config) as hook:
            earlier = [date.fromisoformat(text) for text in params["earlier"]]
            reading = universes.read_listing(hook.tickers, universes.day_of(now), earlier)  # type: ignore[attr-defined]
    else:
        reading = universes.read_index_sources(index)
    done = universes.update_universe(open_lake(), index, reading, now, terms)
    text = "\n".join(done.lines())
    logging.getLogger(__name__).info("%s", text)
    if done.refused and not terms.dry_run:
        raise QualityError(f"{text}\nTo do: correct the source, or trigger this DAG with a reason to overrule and your name")
    return {name: value for name, value in done.to_json().items() if not isinstance(value, dict | list)}
