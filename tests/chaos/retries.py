"""What Airflow decides on a task's error, and the empty warehouse that campaigns begin with."""

from functools import cache

from market_data.airflow.retry import RETRIES, MarketDataRetryPolicy
from tests.chaos.processes import Child
from tests.pipeline.model_run import Run
from tests.pipeline.runs import migrated

TRIES = 3
"""Tries of a task: the first one and two retries."""
POLICY = MarketDataRetryPolicy()


def judged(error: BaseException, run: Run | None = None, number: int = 1) -> tuple[bool, float]:
    """Return Airflow's decision on an error: retry, and after how many seconds."""
    decision = POLICY.evaluate(error, number, RETRIES, {"params": {"max_retries": TRIES, "retry_delay_seconds": 30}})
    delay = decision.retry_delay.total_seconds() if decision.retry_delay else 0.0
    return decision.action.name == "RETRY", delay


@cache
def migrated_file() -> bytes:
    """Return an empty warehouse of DuckDB, made once."""
    outcome = Child(lambda struck: migrated(), judged).wait()
    assert outcome is not None, "the migrations hang"
    return outcome.value
