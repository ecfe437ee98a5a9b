"""The params of a run and their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from market_data.core.run import Grain

TOLERATE: Mapping[str, float] = {"pending": 1.0, "quarantined": 0.5}
"""Default of ``tolerate``: the greatest share of a run's own cells that may be in a state before the run is red."""

RECHECK_SESSIONS = 3
"""Default of ``recheck_sessions``, except for providers that charge."""


@dataclass(frozen=True)
class RunParams:
    """The validated params of a run, with the project's defaults. A feed may override them (``params``).

    :param universe: a file of ``include/universes``, or ``index:NAME`` for an index of the lake.
    :param as_of: the members on this date in all sessions; None: each session has its own members.
    :param follow_renames: a company is requested by the symbol that it had in each session.
    :param cells: lake key of a list of gaps: the run requests exactly these cells, see ``pipeline.gap_list``.
    :param recheck_sessions: None: ``RECHECK_SESSIONS``, or 0 for a provider that charges.
    """

    universe: str = "sp500_etf"
    symbols: tuple[str, ...] | None = None
    tickers_path: str | None = None
    as_of: date | None = None
    follow_renames: bool = False
    index_name: str | None = None
    cells: str | None = None
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
    tolerate: Mapping[str, float] = field(default_factory=lambda: dict(TOLERATE))
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tolerated(self) -> Mapping[str, float]:
        """``tolerate`` with the defaults of the states that it leaves out."""
        return {**TOLERATE, **self.tolerate}
