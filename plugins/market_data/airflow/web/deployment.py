"""Lake, warehouse and DAGs of the deployment, as the pages use them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from market_data.airflow.connections import open_lake

if TYPE_CHECKING:
    from market_data.lake.store import Lake

log = logging.getLogger(__name__)

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


def read_ahead() -> None:
    """Import the pages and read the ledgers of all feeds in the background: the first page need not wait for them."""
    from market_data.views.ledgers import warm

    warm(lake, _places)


def _places(opened: Lake) -> Iterable[tuple[str, str]]:
    import market_data.airflow.web.app  # noqa: F401
    from market_data.config.feeds import load_feeds
    from market_data.views.places import own_source

    feeds = load_feeds()
    recorded = {(feed.dataset, own_source(feed)) for feed in feeds}
    folders = {folder for name in {feed.dataset for feed in feeds} for folder in opened.folders(f"manifest/{name}")}
    return sorted(one for one in recorded if f"manifest/{one[0]}/provider={one[1]}" in folders)


def paused(dag_ids: Sequence[str]) -> list[str]:
    """Return those DAGs that are paused."""
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session(scoped=False) as session:
        return sorted(session.scalars(select(DagModel.dag_id).where(DagModel.dag_id.in_(dag_ids), DagModel.is_paused)))
