"""The FastAPI app of the pages. Every route needs a user of Airflow."""

from __future__ import annotations

import logging
from typing import Any

from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response

from market_data.airflow.web.pages import PAGES, STATIC, TABS, TYPES, shell
from market_data.airflow.web.routes import coverage, feeds, plan, prices, quality, run
from market_data.core.errors import MarketDataError, ParamError

log = logging.getLogger(__name__)

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def create_app() -> FastAPI:
    """Return the app."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, dependencies=[Depends(get_user)])
    app.include_router(feeds.router)
    app.include_router(coverage.router)
    app.include_router(plan.router)
    app.include_router(prices.router)
    app.include_router(quality.router)
    app.include_router(run.router)
    app.add_api_route("/", _start, methods=["GET"])
    app.add_api_route("/static/{name}", _static, methods=["GET"])
    app.add_api_route("/{page}", _page, methods=["GET"])
    app.add_exception_handler(MarketDataError, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.middleware("http")(_with_headers)
    return app


def _start() -> Response:
    return RedirectResponse(next(iter(PAGES)))


def _page(page: str) -> Response:
    if page not in PAGES | TABS:
        raise HTTPException(404, "there is no such page")
    return HTMLResponse(shell(page))


def _static(name: str) -> Response:
    known = {path.name: path for path in STATIC.iterdir() if path.suffix in TYPES}
    if name not in known:
        raise HTTPException(404, "there is no such file")
    return FileResponse(known[name], media_type=TYPES[known[name].suffix])


def _problem(request: Request, error: Exception) -> Response:
    """Report an expected error in words. Ours never have a secret."""
    if isinstance(error, ParamError):
        return JSONResponse({"problems": list(error.problems)}, 400)
    log.warning("page %s: %s", request.url.path, error)
    return JSONResponse({"problems": [str(error)]}, 503)


def _invalid(request: Request, error: Exception) -> Response:  # noqa: ARG001 - FastAPI's signature
    """Report each parameter that is missing or wrong in a sentence, without its value."""
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    return JSONResponse({"problems": [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in problems]}, 422)


async def _with_headers(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    response.headers.update(HEADERS)
    return response
