"""Page Prices: bars of a symbol, with marks, closes of other providers, and features. Only reads."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Query

from market_data.airflow.connections import warehouse
from market_data.airflow.web import deployment
from market_data.airflow.web.access import check_read, may_read
from market_data.config.feeds import load_feeds
from market_data.datasets.registry import dataset
from market_data.views.places import Place, place_of
from market_data.views.price_gold import gold_of
from market_data.views.price_range import choose
from market_data.views.prices import RAW, head_of, prices_of

router = APIRouter(prefix="/api/prices")

Symbol = Annotated[str, Query(max_length=250)]
First = Annotated[str, Query(alias="from", max_length=40)]
Last = Annotated[str, Query(alias="to", max_length=40)]
Sources = Annotated[str, Query(max_length=500)]


@router.get("/feeds")
def feeds(user: GetUserDep) -> list[str]:
    """Return the feeds of bars that the user may see."""
    return [feed.dag_id for feed in load_feeds() if dataset(feed.dataset).is_bars and may_read(feed.dag_id, user)]


@router.get("/place")
def place(user: GetUserDep, feed: str, source: str | None = None) -> dict[str, Any]:
    """Return what can be chosen of a feed's source."""
    return head_of(_place(feed, source, user), lambda dag_id: may_read(dag_id, user))


@router.get("")
def prices(
    user: GetUserDep, feed: str, symbol: Symbol, source: str | None = None, first: First = "", last: Last = "",
    over: Sources = "", adjust: str = RAW,
) -> dict[str, Any]:  # fmt: skip
    """Return the bars of a symbol.

    :param over: other sources, separated by commas.
    """
    now = datetime.now(UTC)
    chosen = choose(_place(feed, source, user), symbol, first, last, now)
    names = list(dict.fromkeys(filter(None, over.split(","))))
    return prices_of(chosen, names, adjust, lambda dag_id: may_read(dag_id, user), warehouse, now)


@router.get("/gold")
def gold(
    user: GetUserDep, feed: str, symbol: Symbol, source: str | None = None, first: First = "", last: Last = ""
) -> dict[str, Any]:
    """Return what the warehouse has of the same bars."""
    return gold_of(choose(_place(feed, source, user), symbol, first, last, datetime.now(UTC)), warehouse)


def _place(feed: str, source: str | None, user: Any) -> Place:
    check_read(feed, user)  # before feeds or sources are named
    return place_of(deployment.lake(), feed, source)
