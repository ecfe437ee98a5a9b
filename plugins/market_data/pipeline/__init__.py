"""What the tasks of a run do, without Airflow: plan, fetch, check, load, publish.

A run's data takes this path::

    plan     universe x sessions = cells, minus coverage -> requests -> batches
    fetch    each batch: hook -> gate -> lake and quarantine -> receipt objects        (many tasks)
    check    one Great Expectations checkpoint over what landed -> a verdict for each session
    load     passed sessions -> warehouse, in chunks, a transaction each
    publish  coverage, report, completion flag, and whether the run is red
"""

from market_data.pipeline.check import check_run
from market_data.pipeline.fetch import fetch_batch
from market_data.pipeline.load import load_run
from market_data.pipeline.plan import Planned, check_history, plan_run
from market_data.pipeline.publish import publish_run
from market_data.pipeline.run_context import Job
from market_data.pipeline.run_symbols import record_index, symbols_of

__all__ = [
    "Job",
    "Planned",
    "check_history",
    "check_run",
    "fetch_batch",
    "load_run",
    "plan_run",
    "publish_run",
    "record_index",
    "symbols_of",
]
