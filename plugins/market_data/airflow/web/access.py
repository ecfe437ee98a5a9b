"""Who may do what: Airflow's own users and permissions, and requests that another site cannot forge."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.models.dag import DagModel
from fastapi import HTTPException, Request

from market_data.airflow.notify import base_url


def may_read(dag_id: str, user: Any) -> bool:
    """Return True if the user may see the runs of a DAG."""
    return _may("GET", dag_id, user)


def check_read(dag_id: str, user: Any) -> None:
    """Raise 403 unless the user may see the runs of a DAG."""
    if not may_read(dag_id, user):
        raise HTTPException(403, f"you lack the permission to see runs of {dag_id}")


def may_trigger(dag_id: str, user: Any) -> bool:
    """Return True if the user may trigger a DAG."""
    return _may("POST", dag_id, user)


def check_trigger(dag_id: str, user: Any) -> None:
    """Raise 403 unless the user may trigger a DAG."""
    if not may_trigger(dag_id, user):
        raise HTTPException(403, f"you lack the permission to trigger {dag_id}")


def _may(method: Any, dag_id: str, user: Any) -> bool:
    details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
    found: bool = get_auth_manager().is_authorized_dag(method=method, access_entity=DagAccessEntity.RUN, details=details, user=user)
    return found


def own_site(request: Request) -> None:
    """Raise 403 or 415 unless a request comes from Airflow's own pages, or has no cookie.

    Browsers send the session's cookie with requests of other sites, too. Those cannot send JSON, and browsers say where they come from:
    in ``Sec-Fetch-Site``, which no script can set, or in ``Origin`` where pages are served without TLS.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "Content-Type must be application/json")
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is None and origin is None and "cookie" in request.headers:
        raise HTTPException(
            403, "the request has a cookie, but neither Sec-Fetch-Site nor Origin: send a token in Authorization instead"
        )
    own = site == "same-origin" if site is not None else origin is None or _is_own(origin, request.headers.get("host"))
    if not own:
        raise HTTPException(403, "the request comes from another site, or [api] base_url is not the address of this Airflow")


def _is_own(origin: str, host: str | None) -> bool:
    """Return True for the host of the request, which a proxy may rewrite, and for ``base_url``."""
    place = _place(origin)
    return place is not None and (origin.partition("://")[2].lower() == (host or "").lower() or place == _place(base_url()))


def _place(address: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port of an address; None if it has none, such as the origin ``null``."""
    try:
        parts = urlsplit(address)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname and port else None
