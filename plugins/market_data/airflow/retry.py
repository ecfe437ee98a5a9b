"""The one table that maps errors to what Airflow does about them."""

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
    ParamError,
    RetriableError,
    TerminalError,
    WarehouseError,
)

RETRIES = PARAMS["max_retries"][1]["maximum"]
"""What Airflow is told; how many are really made is the run's ``max_retries``."""

LONGEST_DELAY = 24 * 3600
"""Seconds: no quota is renewed later than after a day."""

FAIL_NOW = (ConfigError, ParamError, TerminalError, DataError)
RETRY = (RetriableError, LakeError, WarehouseError)


class MarketDataRetryPolicy(RetryPolicy):
    """What Airflow does about an error: the one table.

    * ``ConfigError``, ``ParamError``, ``TerminalError``, ``DataError``: fail now, no retry can help.
    * ``RetriableError``, ``LakeError``, ``WarehouseError``: again after the run's ``retry_delay_seconds``, or after what the provider
      asked for; the pool slot is free meanwhile. A second or so is added by map index, lest all batches come back at once.
    * anything else is a defect or the machine's trouble: retried likewise.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Mapping[str, Any] | None = None
    ) -> RetryDecision:
        if isinstance(exception, FAIL_NOW) or (isinstance(exception, WarehouseError) and not exception.retriable):
            return RetryDecision.fail(reason=str(exception)[:300])
        params = (context or {}).get("params", {})
        # Tries go on counting after a clear; what came before it is in ``max_tries``.
        tries = try_number - (max_tries - RETRIES)
        if tries > int(params.get("max_retries", PARAMS["max_retries"][0])):
            return RetryDecision.fail(reason=f"{tries} tries, no more are allowed (max_retries): {exception}"[:300])
        delay = float(params.get("retry_delay_seconds", PARAMS["retry_delay_seconds"][0]))
        delay = max(delay, getattr(exception, "retry_after", None) or 0.0)
        map_index = max(0, getattr((context or {}).get("ti"), "map_index", 0) or 0)
        return RetryDecision.retry(
            delay=timedelta(seconds=min(delay, LONGEST_DELAY) + map_index % 16 / 8), reason=str(exception)[:300]
        )
