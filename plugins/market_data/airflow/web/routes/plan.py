"""Page Plan: what a run would take, while its params are filled in; then its start."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Depends, HTTPException
from pydantic import BaseModel, Field

from market_data.airflow.connections import open_s3
from market_data.airflow.maintain.coverage_tasks import hooks_of
from market_data.airflow.web import deployment
from market_data.airflow.web.access import check_read, check_trigger, may_trigger, own_site
from market_data.config.feed_form import form_of
from market_data.config.feeds import Feed
from market_data.core.errors import ConfigError, ParamError, ProviderError
from market_data.views.places import feed_called
from market_data.views.plan import RunPlan, by_field, plan_of, sections_of

router = APIRouter(prefix="/api/plan")

AT_ONCE = 2
"""Plans that the api-server makes at a time: each is up to 2 s of work."""

PATIENCE = 5.0
"""Seconds that a plan waits for its turn."""

_TURNS = threading.BoundedSemaphore(AT_ONCE)
_PRICES = threading.BoundedSemaphore(1)
"""A charge that is being requested from a provider takes no turn of the plans."""


class Asked(BaseModel):
    """The params of a run that differ from the feed's defaults."""

    feed: str = Field(max_length=200)
    params: dict[str, Any] = Field(max_length=100)


class Agreed(Asked):
    """The params, and the calls and the charge that the person has seen.

    :param cost_usd: in US dollars; None: it is known at the start of the run only.
    """

    calls: int = Field(ge=0)
    cost_usd: float | None = Field(None, ge=0)


@router.get("/form")
def form(user: GetUserDep, feed: str) -> dict[str, Any]:
    """Return the fields of a feed, and whether the user may start its runs."""
    check_read(feed, user)
    found = feed_called(feed)
    return {"feed": found.dag_id, "sections": sections_of(found), "may_start": may_trigger(feed, user)}


@router.post("/ask", dependencies=[Depends(own_site)])
def ask(user: GetUserDep, asked: Asked) -> dict[str, Any]:
    """Return the figures of the run, or what is wrong with its params, by field.

    There is no run, and no call to the provider.
    """
    feed = _feed(asked, user)
    return _answer(feed, lambda: _planned(feed, asked))


@router.post("/price", dependencies=[Depends(own_site)])
def price(user: GetUserDep, asked: Asked) -> dict[str, Any]:
    """Return the same with what only the provider knows: the charge, and the instruments of a symbol.

    The provider is called, without a charge, under the limits of the account: hence the permission to trigger the feed's DAG.
    """
    check_trigger(asked.feed, user)
    feed = _feed(asked, user)
    return _answer(feed, lambda: _priced(feed, asked))


def _priced(feed: Feed, asked: Asked) -> RunPlan:
    _planned(feed, asked).check_priceable()
    with _turn(_PRICES):
        return _planned(feed, asked, ask_provider=True)


def _answer(feed: Feed, make: Callable[[], RunPlan]) -> dict[str, Any]:
    """Return a plan as the page shows it, or what is wrong with its params, by field."""
    try:
        found = make().to_json()
    except ParamError as error:
        return {"problems": by_field(error.problems, form_of(feed))}
    except (ConfigError, ProviderError) as error:
        return {"problems": [{"field": "", "text": str(error)}]}
    return {**found, "paused": _paused(feed)}


@router.post("/start", dependencies=[Depends(own_site)])
def start(user: GetUserDep, agreed: Agreed) -> dict[str, Any]:
    """Return DAG and conf of the run, and whether the DAG is paused; the browser triggers it.

    :raises ParamError: if a param is wrong, or the run takes more than the person has seen.
    """
    check_trigger(agreed.feed, user)
    feed = _feed(agreed, user)
    found = _planned(feed, agreed)
    found.check_agreed(agreed.calls, agreed.cost_usd)
    return {"dag_id": feed.dag_id, "conf": found.agreed_conf(agreed.cost_usd), "paused": _paused(feed)}


def _paused(feed: Feed) -> bool:
    return bool(deployment.paused([feed.dag_id]))


def _feed(asked: Asked, user: Any) -> Feed:
    check_read(asked.feed, user)  # before feeds are named
    if asked.params.get("tickers_path"):
        check_trigger(asked.feed, user)  # the file is read here, as a run would read it
    return feed_called(asked.feed)


def _planned(feed: Feed, asked: Asked, *, ask_provider: bool = False) -> RunPlan:
    with nullcontext() if ask_provider else _turn(_TURNS):
        return plan_of(
            feed, asked.params, deployment.lake(), hooks_of(feed), datetime.now(UTC),
            deployment.is_running, open_s3, ask_provider=ask_provider,
        )  # fmt: skip


@contextmanager
def _turn(turns: threading.BoundedSemaphore) -> Iterator[None]:
    if not turns.acquire(timeout=PATIENCE):
        raise HTTPException(503, "others are planning or requesting a charge: try again")
    try:
        yield
    finally:
        turns.release()
