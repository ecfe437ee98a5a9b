"""The table that maps errors to Airflow's retries."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy

from market_data.config.trigger_form import PARAMS
from market_data.core.errors import (
    ConfigError,
    DataError,
    LakeError,
    MarketDataError,
    ParamError,
    RetriableError,
    RunTimeout,
    TerminalError,
    WarehouseError,
)

RETRIES = PARAMS["max_retries"][1]["maximum"]
"""Retries configured in Airflow, an upper bound; the run's ``max_retries`` limits the actual number."""

LONGEST_DELAY = 24 * 3600
"""Seconds; every quota is renewed within a day."""

LONGEST_REASON = 300
"""Characters of an error in the reason of a decision; Airflow keeps it in the log."""

FAIL_NOW = (ConfigError, ParamError, TerminalError, DataError, RunTimeout)
RETRY = (RetriableError, LakeError, WarehouseError)


class MarketDataRetryPolicy(RetryPolicy):
    """Map an error to Airflow's decision.

    * ``ConfigError``, ``ParamError``, ``TerminalError``, ``DataError``, ``RunTimeout``: fail now; a retry cannot help.
    * ``RetriableError``, ``LakeError``, ``WarehouseError``: retry after the run's ``retry_delay_seconds``, or later if the provider
      requests it. The pool slot is free meanwhile. Up to two seconds are added by map index, so that batches do not resume all at once.
    * any other error is a defect or a problem of the machine: retried the same way.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Mapping[str, Any] | None = None
    ) -> RetryDecision:
        if isinstance(exception, FAIL_NOW) or (isinstance(exception, WarehouseError) and not exception.retriable):
            return RetryDecision.fail(reason=_reason(exception))
        params = (context or {}).get("params", {})
        # Airflow continues to count tries after a clear; ``max_tries`` includes those before it.
        tries = try_number - (max_tries - RETRIES)
        if tries > int(params.get("max_retries", PARAMS["max_retries"][0])):
            return RetryDecision.fail(reason=f"{tries} tries, max_retries allows no more: {_reason(exception)}")
        delay = float(params.get("retry_delay_seconds", PARAMS["retry_delay_seconds"][0]))
        delay = max(delay, getattr(exception, "retry_after", None) or 0.0)
        map_index = max(0, getattr((context or {}).get("ti"), "map_index", 0) or 0)
        return RetryDecision.retry(
            delay=timedelta(seconds=min(delay, LONGEST_DELAY) + map_index % 16 / 8), reason=_reason(exception)
        )


def _reason(exception: BaseException) -> str:
    """Return what the task's log says last: the error, shortened, and where the documentation explains it."""
    said = str(exception)
    said = said if len(said) <= LONGEST_REASON else f"{said[:LONGEST_REASON]} ..."
    return f"{said}. See {exception.page}" if isinstance(exception, MarketDataError) else said
