"""The params of a run and their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from market_data.core.run import Grain

RECHECK_SESSIONS = 3
"""Default of ``recheck_sessions``, except for providers that charge."""


@dataclass(frozen=True)
class RunParams:
    """The validated params of a run, with the project's defaults. A feed may override them (``params``).

    :param recheck_sessions: None: ``RECHECK_SESSIONS``, or 0 for a provider that charges.
    """

    universe: str = "sp500_etf"
    symbols: tuple[str, ...] | None = None
    tickers_path: str | None = None
    index_name: str | None = None
    start_date: date | None = None
    end_date: date | None = None
    backfill_days: int | None = None
    file_grain: Grain = "day"
    force: bool = False
    dry_run: bool = False
    batch_size: int = 25
    max_retries: int = 5
    retry_delay_seconds: int = 60
    lookback_days: int = 7
    recheck_sessions: int | None = None
    endpoint: str = "auto"
    max_missing_ratio: float = 0.0
    circuit_breaker: int = 5
    data_docs: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
