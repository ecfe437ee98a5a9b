"""Page Coverage: the cells of a feed, one cell, the gaps and their repair."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from market_data.airflow.maintain.coverage_tasks import hooks_of
from market_data.airflow.web import deployment
from market_data.airflow.web.access import check_read, check_trigger, may_read, own_site
from market_data.config.feeds import load_feeds
from market_data.core.errors import ParamError
from market_data.core.messages import counted, dollars
from market_data.maintenance.chosen_gaps import write_chosen
from market_data.views import gaps
from market_data.views.cell import cell_of
from market_data.views.coverage import current_grid, summary
from market_data.views.places import Place, place_of

router = APIRouter(prefix="/api")

REPAIR = "maintain_coverage"


class ChosenGaps(BaseModel):
    """The gaps that a person chose, by id."""

    feed: str = Field(max_length=200)
    source: str | None = Field(None, max_length=200)
    ids: list[Annotated[str, Field(max_length=64)]] = Field(max_length=gaps.MOST)


class Agreed(ChosenGaps):
    """The chosen gaps, and the calls and the charge in US dollars that the person has seen and agreed to."""

    calls: int = Field(ge=0)
    cost_usd: float = Field(ge=0)


@router.get("/feeds")
def feeds(user: GetUserDep) -> list[str]:
    """Return the feeds that the user may see."""
    return [feed.dag_id for feed in load_feeds() if may_read(feed.dag_id, user)]


@router.get("/coverage")
def coverage(user: GetUserDep, feed: str, source: str | None = None) -> dict[str, Any]:
    """Return the cells of a feed's source."""
    place = _place(feed, source, user)
    grid = current_grid(place, datetime.now(UTC))
    head = {"feed": feed, "source": place.source, "sources": list(place.sources), "timeframe": place.selection.dataset.timeframe}
    return {**head, "summary": summary(grid.counts), **grid.to_json()}


@router.get("/coverage/cell")
def cell(user: GetUserDep, feed: str, symbol: str, session: date, source: str | None = None) -> dict[str, Any]:
    """Return a cell, why it is as it is, and its history."""
    place, now = _place(feed, source, user), datetime.now(UTC)
    return cell_of(place, current_grid(place, now), symbol, session, now)


@router.get("/coverage/gaps")
def gap_list(user: GetUserDep, feed: str, source: str | None = None) -> dict[str, Any]:
    """Return the gaps of a feed's source."""
    place, now = _place(feed, source, user), datetime.now(UTC)
    return gaps.gaps_of(place, current_grid(place, now), now).to_json()


@router.post("/coverage/plan", dependencies=[Depends(own_site)])
def plan(user: GetUserDep, chosen: ChosenGaps) -> dict[str, Any]:
    """Return calls, minutes and cost of the repair of exactly these gaps. Nothing is written."""
    _check_repair(chosen, user)
    return _planned(_place(chosen.feed, chosen.source, user), chosen, datetime.now(UTC))


@router.post("/coverage/repair", dependencies=[Depends(own_site)])
def repair(user: GetUserDep, chosen: Agreed) -> dict[str, Any]:
    """Write the list of the chosen gaps; return DAG and conf of the run that repairs them.

    The browser triggers it. Its budget is what the person agreed to.

    :raises ParamError: if the repair has become more expensive than that.
    """
    _check_repair(chosen, user)
    place, now = _place(chosen.feed, chosen.source, user), datetime.now(UTC)
    findings = gaps.chosen(gaps.gaps_of(place, current_grid(place, now), now), chosen.ids)
    planned = gaps.plan(place, findings, hooks_of(place.feed), now)
    if planned.calls > chosen.calls or (planned.cost or 0) > chosen.cost_usd:
        raise ParamError(
            [
                f"the repair takes {counted(planned.calls, 'call')} and {dollars(planned.cost or 0)} now; agreed: "
                f"{counted(chosen.calls, 'call')} and {dollars(chosen.cost_usd)}: plan it again"
            ]
        )
    key = write_chosen(place.lake, place.feed.dag_id, place.selection, findings, now)
    limits = {"max_calls": chosen.calls, "max_cost_usd": chosen.cost_usd}
    return {"dag_id": REPAIR, "conf": {"report": key, "repair": True, "dry_run": False, **limits}}


def _planned(place: Place, chosen: ChosenGaps, now: datetime) -> dict[str, Any]:
    findings = gaps.chosen(gaps.gaps_of(place, current_grid(place, now), now), chosen.ids)
    planned = gaps.plan(place, findings, hooks_of(place.feed), now)
    needed = [REPAIR, *([place.feed.dag_id] if planned.calls else [])]
    return {**planned.to_json(), "paused": deployment.paused(needed)}


def _check_repair(chosen: ChosenGaps, user: Any) -> None:
    check_trigger(REPAIR, user)
    check_trigger(chosen.feed, user)  # its calls and charges are made


def _place(feed: str, source: str | None, user: Any) -> Place:
    check_read(feed, user)  # before feeds or sources are named
    return place_of(deployment.lake(), feed, source)
