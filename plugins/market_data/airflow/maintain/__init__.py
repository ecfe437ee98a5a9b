"""The DAGs of ``dags/maintain.py``.

Each runs a job of :mod:`market_data.maintenance`, with a dry run first, and on a schedule where that helps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from market_data.airflow.maintain.adopt import maintain_adopt
from market_data.airflow.maintain.coverage import maintain_coverage
from market_data.airflow.maintain.lake import maintain_lake
from market_data.airflow.maintain.state import state_dag
from market_data.airflow.maintain.universes import maintain_universes
from market_data.airflow.maintain.watch import watch_feeds

if TYPE_CHECKING:
    from airflow.sdk import DAG

JOBS: Mapping[str, Callable[[], DAG]] = {
    "maintain_adopt": maintain_adopt,
    "maintain_coverage": maintain_coverage,
    "maintain_lake": maintain_lake,
    "maintain_state": state_dag,
    "maintain_universes": maintain_universes,
    "watch_feeds": watch_feeds,
}
"""Name of a DAG -> what builds it."""
