"""Lake, warehouse and DAGs of the deployment, as the pages use them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from market_data.airflow import connections
from market_data.core.errors import ConfigError

if TYPE_CHECKING:
    from market_data.core.run import RunInfo
    from market_data.lake.store import Lake
    from market_data.warehouse.base import Warehouse

KEPT_SECONDS = 60.0
"""Time after which the lake is opened again: its connection may have changed."""

PATIENCE = 2.0
"""Seconds that a page waits for a warehouse that a load holds: it has a thread of the api-server meanwhile."""

_LOCK = threading.Lock()
_OPENED: list[tuple[float, Any]] = []


def lake() -> Lake:
    """Return the lake; a client is used for a minute.

    :raises ConfigError: if it is a folder that this machine does not have. A page does not make one: it would hide what is wrong.
    """
    _check_folder(connections.lake_url())
    with _LOCK:
        if not _OPENED or monotonic() - _OPENED[0][0] > KEPT_SECONDS:
            _OPENED[:] = [(monotonic(), connections.open_lake())]
        found: Lake = _OPENED[0][1]
        return found


def _check_folder(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "file" and not Path(unquote(parts.path)).is_dir():
        raise ConfigError(
            f"the lake {url} does not exist on this machine ({socket.gethostname()}), where the api-server runs. If no run has ended yet, "
            "trigger one; otherwise the lake is on another machine: mount its folder here under the same path, or use s3://"
        )


def warehouse() -> Warehouse:
    """Return the warehouse for a page to read.

    A DuckDB file and locks are waited for shortly. Oracle has no such setting: its readers wait for nobody.
    """
    kind = connections.read_connection("warehouse_default").conn_type
    return connections.warehouse() if kind == "oracle" else connections.warehouse(lock_timeout=PATIENCE)


def paused(dag_ids: Sequence[str]) -> list[str]:
    """Return those DAGs that are paused."""
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session(scoped=False) as session:
        return sorted(session.scalars(select(DagModel.dag_id).where(DagModel.dag_id.in_(dag_ids), DagModel.is_paused)))


def is_running(run: RunInfo) -> bool | None:
    """Return True if a run is active, False if it has ended, None if this Airflow has no run of the DAG."""
    from airflow.utils.session import create_session

    from market_data.airflow.known_runs import is_active

    with create_session(scoped=False) as session:
        return is_active(session, run)
