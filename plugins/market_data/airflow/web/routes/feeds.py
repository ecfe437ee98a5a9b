"""Page Feeds: every feed at a glance."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter

from market_data.airflow.maintain.coverage_tasks import hooks_of
from market_data.airflow.web import deployment
from market_data.airflow.web.access import check_read
from market_data.config.feeds import load_feeds
from market_data.core.errors import ConfigError
from market_data.core.messages import dollars
from market_data.views.feeds import daily_limit, feed_of, quota_text
from market_data.views.places import place_of

if TYPE_CHECKING:
    from market_data.config.feeds import Feed

router = APIRouter(prefix="/api")


@router.get("/feed")
def overview(user: GetUserDep, feed: str) -> dict[str, Any]:
    """Return what the page shows of a feed."""
    feeds, place = load_feeds(), place_of(deployment.lake(), feed)
    check_read(place.feed.dag_id, user)
    siblings = [one.dag_id for one in feeds if one.conn_id == place.feed.conn_id]
    found = feed_of(place, siblings, datetime.now(UTC))
    return {**found, **account(place.feed), "is_paused": bool(deployment.paused([place.feed.dag_id]))}


def account(feed: Feed) -> dict[str, Any]:
    """Return quota and cap of a feed's connection, or what is wrong with it; never a secret."""
    head = {"connection": feed.conn_id, "problem": "", "quota": "", "daily_limit": None, "charges": False, "cap": ""}
    try:
        with hooks_of(feed)(dict(feed.options)) as hook:
            hook.validate_config()
            cap = hook.option("max_cost_usd") if "max_cost_usd" in hook.known_options else None
            quota = {"quota": quota_text(hook.quota), "daily_limit": daily_limit(hook.quota)}
            return {**head, **quota, "charges": hook.spec.charges, "cap": "" if cap is None else dollars(cap)}
    except ConfigError as error:
        return {**head, "problem": str(error)}
