"""How Airflow finds the pages.

Every component imports this, so FastAPI is imported with the first request only.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from market_data.core.paths import PAGES

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


class LateApp:
    """The app, built with the first request."""

    def __init__(self) -> None:
        self._app: App | None = None

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if self._app is None:
            from market_data.airflow.web.app import create_app

            self._app = create_app()
        await self._app(scope, receive, send)


class ReadAhead:
    """Middleware that changes nothing: it lets the api-server read ledgers and modules when it starts.

    Whatever fails, Airflow starts.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        try:
            from market_data.airflow.web.ahead import read_ahead

            read_ahead()
        except Exception:
            log.exception("the coverage ledgers are not read ahead")

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)


def root() -> str:
    """Return the path of Airflow's own pages: that of ``base_url``, without a closing slash."""
    from airflow.configuration import conf

    return urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")


def fastapi_apps() -> list[dict[str, Any]]:
    """Return what the plugin registers."""
    return [{"app": LateApp(), "url_prefix": PAGES, "name": "Market data"}]


def root_middlewares() -> list[dict[str, Any]]:
    """Return the middlewares that the plugin registers."""
    return [{"middleware": ReadAhead, "args": [], "kwargs": {}, "name": "Market data: read the ledgers ahead"}]


def external_views() -> list[dict[str, Any]]:
    """Return the navigation entry, and the tab of every run."""
    place = f"{root()}{PAGES}"
    return [
        {
            "name": "Market data",
            "href": f"{place}/feeds",
            "destination": "nav",
            "icon": f"{place}/static/icon.svg",
            "url_route": "market_data",
        },
        {
            "name": "Market data",
            "href": f"{place}/run?dag_id={{DAG_ID}}&run_id={{RUN_ID}}",
            "destination": "dag_run",
            "icon": f"{place}/static/icon.svg",
            "url_route": "market_data_run",
        },
    ]
