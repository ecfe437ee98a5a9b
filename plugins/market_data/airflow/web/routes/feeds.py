"""Page Feeds: every feed at a glance."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter

from market_data.airflow.hosts import note
from market_data.airflow.web import deployment
from market_data.airflow.web.access import check_read
from market_data.airflow.web.account import account
from market_data.config.feeds import load_feeds
from market_data.views.feeds import feed_of
from market_data.views.places import place_of

router = APIRouter(prefix="/api")


@router.get("/feed")
def overview(user: GetUserDep, feed: str) -> dict[str, Any]:
    """Return what the page shows of a feed."""
    check_read(feed, user)  # before feeds or sources are named
    feeds, place = load_feeds(), place_of(deployment.lake(), feed)
    siblings = [one.dag_id for one in feeds if one.conn_id == place.feed.conn_id]
    found = feed_of(place, siblings, datetime.now(UTC))
    of_account, paused = account(place.feed), bool(deployment.paused([place.feed.dag_id]))
    hosts = "" if of_account["shared"] else note(place.feed.pool, of_account["longest_window"])
    return {**found, **of_account, "is_paused": paused, "hosts": hosts}
