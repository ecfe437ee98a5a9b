"""The steps of a run, without Airflow: plan, fetch, check, load, publish.

A run's data takes this path::

    plan     universe x sessions = cells, minus coverage -> requests -> batches
    fetch    each batch: hook -> gate -> lake and quarantine -> staging -> receipt     (many tasks)
    check    one Great Expectations checkpoint over what staging holds -> a verdict for each session
    load     passed sessions -> warehouse, in chunks, a transaction each; leftovers of earlier runs first
    publish  coverage, staging emptied, report, completion flag, and whether the run is red

The public names are imported when first used: a task needs the modules of its own step only.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from market_data.pipeline.check import check_run
    from market_data.pipeline.fetch import fetch_batch
    from market_data.pipeline.leftovers import has_leftovers
    from market_data.pipeline.load import load_run
    from market_data.pipeline.plan import check_history, plan_run
    from market_data.pipeline.planned import Planned
    from market_data.pipeline.publish import publish_run
    from market_data.pipeline.rebuild import Rebuilt, rebuild_warehouse
    from market_data.pipeline.report_document import delete_flag
    from market_data.pipeline.run_context import RunContext, source_of_run
    from market_data.pipeline.run_result import RunResult
    from market_data.pipeline.run_symbols import index_of, record_index, universe_of
    from market_data.pipeline.selection import Selection

__all__ = [
    "Planned",
    "Rebuilt",
    "RunContext",
    "RunResult",
    "Selection",
    "check_history",
    "check_run",
    "delete_flag",
    "fetch_batch",
    "has_leftovers",
    "index_of",
    "load_run",
    "plan_run",
    "publish_run",
    "rebuild_warehouse",
    "record_index",
    "source_of_run",
    "universe_of",
]

_MODULES = {
    "Planned": "planned",
    "Rebuilt": "rebuild",
    "RunContext": "run_context",
    "RunResult": "run_result",
    "Selection": "selection",
    "check_history": "plan",
    "check_run": "check",
    "delete_flag": "report_document",
    "fetch_batch": "fetch",
    "has_leftovers": "leftovers",
    "index_of": "run_symbols",
    "load_run": "load",
    "plan_run": "plan",
    "publish_run": "publish",
    "rebuild_warehouse": "rebuild",
    "record_index": "run_symbols",
    "source_of_run": "run_context",
    "universe_of": "run_symbols",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
