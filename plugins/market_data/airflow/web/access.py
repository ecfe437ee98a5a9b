"""Who may do what: Airflow's own users and permissions, and requests that another site cannot forge."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.models.dag import DagModel
from fastapi import HTTPException, Request


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
    """Raise 403 or 415 unless the request comes from Airflow's own pages, or from no browser at all.

    The session's cookie is sent with requests of other sites, too. Those cannot send JSON, and name their origin.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "Content-Type must be application/json")
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site not in (None, "same-origin") or (origin and urlsplit(origin).netloc != request.headers.get("host")):
        raise HTTPException(403, "the request comes from another site")
