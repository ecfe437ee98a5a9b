"""Page Run: a tab of every run. Airflow's own REST API clears batches; this route only reads."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Query
from fastapi.responses import RedirectResponse, Response

from market_data.airflow.web import deployment
from market_data.airflow.web.access import check_read
from market_data.airflow.web.account import account
from market_data.airflow.web.run_record import read_run
from market_data.config.feeds import load_feeds
from market_data.core.errors import MarketDataError
from market_data.core.messages import shown
from market_data.views.runs import run_of

router = APIRouter()

Id = Annotated[str, Query(max_length=250)]


@router.get("/run/{dag_id}/{run_id}")
def deep_link(dag_id: str, run_id: str) -> Response:
    """Lead to the page of a run."""
    return RedirectResponse(f"../../run?{urlencode({'dag_id': dag_id, 'run_id': run_id})}")


@router.get("/api/run")
def run(user: GetUserDep, dag_id: Id, run_id: Id) -> dict[str, Any]:
    """Return what the page shows of a run; a ``sentence`` alone where it has nothing to show."""
    feeds = {feed.dag_id: feed for feed in load_feeds()}
    if dag_id not in feeds:
        return {"sentence": f"{shown(dag_id)} is not the DAG of a feed: this page shows runs of feeds."}
    check_read(dag_id, user)
    found = read_run(dag_id, run_id)
    if found is None:
        return {"sentence": f"{dag_id} has no run {shown(run_id)}: it was deleted, or the address is wrong."}
    problem = ""
    try:
        lake = deployment.lake()
    except MarketDataError as error:
        lake, problem = None, str(error)
    page = run_of(found, lake, datetime.now(UTC))
    return {**page, "lake_problem": problem, "quota": account(feeds[dag_id])["quota"], "paused": deployment.paused([dag_id])}
