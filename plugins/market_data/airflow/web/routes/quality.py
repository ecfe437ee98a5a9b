"""Page Quality: what was rejected, restated or differs.

Decisions are runs of ``maintain_state``, which the browser triggers.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter

from market_data.airflow.web import deployment
from market_data.airflow.web.access import check_read
from market_data.views.places import place_of
from market_data.views.quality import quality_of

router = APIRouter(prefix="/api")

DECIDE = "maintain_state"


@router.get("/quality")
def quality(user: GetUserDep, feed: str, source: str | None = None) -> dict[str, Any]:
    """Return what the page shows of a feed's source."""
    check_read(feed, user)  # before feeds or sources are named
    place = place_of(deployment.lake(), feed, source)
    found = quality_of(place, deployment.warehouse, datetime.now(UTC))
    return {"feed": feed, "source": place.source, "sources": list(place.sources), "paused": deployment.paused([DECIDE]), **found}
