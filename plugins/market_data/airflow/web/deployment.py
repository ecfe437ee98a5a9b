"""Lake, warehouse and DAGs of the deployment, as the pages use them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from market_data.airflow.connections import open_lake

if TYPE_CHECKING:
    from market_data.lake.store import Lake

KEPT_SECONDS = 60.0
"""Time after which the lake is opened again: its connection may have changed."""

_LOCK = threading.Lock()
_OPENED: list[tuple[float, Any]] = []


def lake() -> Lake:
    """Return the lake; a client is used for a minute."""
    with _LOCK:
        if not _OPENED or monotonic() - _OPENED[0][0] > KEPT_SECONDS:
            _OPENED[:] = [(monotonic(), open_lake())]
        found: Lake = _OPENED[0][1]
        return found


def paused(dag_ids: Sequence[str]) -> list[str]:
    """Return those DAGs that are paused."""
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session(scoped=False) as session:
        return sorted(session.scalars(select(DagModel.dag_id).where(DagModel.dag_id.in_(dag_ids), DagModel.is_paused)))
