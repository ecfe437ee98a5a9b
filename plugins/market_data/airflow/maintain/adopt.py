"""The DAG ``maintain_adopt``."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, get_current_context, task

from market_data.airflow.maintain.base import dry_run_param, maintenance_dag

DOC = """Take over a bucket of an older tool, so that runs extend it and request only what is missing.

### What it does
`adopt` reads every file, reports what does not fit, and records all other cells in the coverage ledger. It makes no API calls.
Files of another form are rewritten if you tick it; the old ones are kept under `adopted/`.

### How to use it
1. Give the feed `provider_level: false` in `feeds.yaml`.
2. *Trigger* with the feed: the log shows what fits and what does not. Nothing is written in a dry run.
3. *Trigger* without dry run, with *Rewrite* if files have another form.
4. `market-data rebuild-warehouse` loads the rows into the warehouse.
"""


def maintain_adopt() -> DAG:
    """Return the DAG; it runs by hand only."""
    text: dict[str, Any] = {"type": ["null", "string"]}
    params = {
        "feed": Param("", type="string", title="Feed", description="DAG id of a feed with provider_level: false."),
        "prefix": Param(None, **text, title="Folder", description="Folder of the symbol= folders; empty: the feed's own."),
        "symbols": Param([], type="array", items={"type": "string"}, title="Symbols", description="Empty: all symbols."),
        "rewrite": Param(
            False, type="boolean", title="Rewrite", description="Give files of another form ours; the old ones are kept."
        ),
        "zone": Param(
            None, **text, enum=[None, "UTC", "exchange"], title="Time zone",
            description="For times without one; empty: as the hours of trading show.",
        ),
        "dry_run": dry_run_param("Report what fits and what does not. Nothing is written."),
        "by": Param(None, **text, maxLength=100, title="Your name", description="The journal keeps it."),
    }  # fmt: skip
    dag = maintenance_dag("maintain_adopt", "Take over a bucket of an older tool without fetching it again.", DOC, params)
    with dag:

        @task(task_id="adopt", multiple_outputs=False)
        def adopt() -> dict[str, Any]:
            return adopt_feed(get_current_context()["params"])

        adopt()
    return dag


def adopt_feed(params: dict[str, Any]) -> dict[str, Any]:
    """Adopt the bucket of a feed and return the totals.

    :raises ParamError: if the bucket has no file of what is selected.
    """
    import logging
    from dataclasses import replace
    from datetime import UTC, datetime

    from market_data.airflow.connections import open_lake
    from market_data.cli.arguments import feed_of
    from market_data.cli.output import as_table
    from market_data.core.errors import ParamError
    from market_data.core.messages import some
    from market_data.maintenance import adopt as job

    log = logging.getLogger(__name__)
    selection = replace(job.selection_of(feed_of(params["feed"])), symbols=tuple(params["symbols"]) or None)
    terms = job.Terms(params["dry_run"], params["rewrite"], params["zone"] or "", params["by"] or "maintain_adopt")
    done = job.adopt(open_lake(), selection, datetime.now(UTC), terms, params["prefix"])
    if not done.files:
        where = f"prefix is {params['prefix']!r}" if params["prefix"] else f"feed is {params['feed']!r}"
        symbols = f" of {some(params['symbols'])}" if params["symbols"] else ""
        raise ParamError(
            [f"{where}; the lake has no file{symbols} there: a folder of the lake with symbol= folders in it is needed"]
        )
    if done.problems:
        log.info("what does not fit:\n%s", as_table(done.table().slice(0, 200), 200))
    for line in done.lines():
        log.info("%s", line)
    return {name: value for name, value in done.to_json().items() if name != "problems"}
