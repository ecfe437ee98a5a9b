"""Prepare the Airflow database: create its tables and load `airflow_settings.yaml`.

Runs in a separate process, once per start.

The file is Astro's: ``airflow: {connections: [...], pools: [...], variables: [...]}``. Existing entries are kept, so a pool
resized in the UI keeps its size. Connections to the stack's own servers (sample API, S3 server, DuckDB file) get this stack's
values, unless the file contains credentials for them. They follow the stack to other ports until a user edits them. An
``AIRFLOW_CONN_*`` variable takes precedence over all of them, because Airflow looks there first.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sandbox.stack.environment import HOST, LocalError, Paths, Ports

if TYPE_CHECKING:
    from airflow.models.connection import Connection
    from sqlalchemy.orm import Session

SAMPLE_API_KEY = "sample-key"
FIELDS = {
    "conn_type": "conn_type",
    "host": "conn_host",
    "schema": "conn_schema",
    "login": "conn_login",
    "password": "conn_password",
}
MADE_HERE = "made by make run; yours once you edit it"


def load(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the connections, pools and variables of an Astro settings file, without empty placeholders.

    :raises LocalError: if it cannot be read.
    """
    try:
        content = (yaml.safe_load(file.read_text()) or {}).get("airflow") or {}
        names = {"connections": "conn_id", "pools": "pool_name", "variables": "variable_name"}
        return {kind: [item for item in content.get(kind) or [] if item.get(name)] for kind, name in names.items()}
    except (OSError, yaml.YAMLError, AttributeError) as error:
        raise LocalError(f"{file.name} cannot be read: {error}") from error


def local_connections(paths: Paths, ports: Ports) -> dict[str, dict[str, Any]]:
    """Return the connections to the stack's own servers by id, in the settings file's format."""
    from sandbox import ib_gateway
    from sandbox.vendors import VENDORS

    return {
        **{f"{name}_default": vendor.connection(ports.sample_api_url, SAMPLE_API_KEY) for name, vendor in VENDORS.items()},
        "ib_default": ib_gateway.connection(HOST, ports.gateway),
        "aws_default": {
            "conn_type": "aws",
            "conn_port": 0,
            "conn_login": "local",
            "conn_password": "sample-s3-key",  # Airflow masks it wherever it occurs, so no word of a path or message
            "conn_extra": {"endpoint_url": ports.s3_url, "region_name": "us-east-1"},
        },
        "warehouse_default": {"conn_type": "duckdb", "conn_port": 0, "conn_extra": {"path": str(paths.warehouse)}},
    }


def is_stub(item: Mapping[str, Any]) -> bool:
    """Return true if a connection of the settings file is a placeholder without credentials."""
    return not any(item.get(key) for key in ("conn_login", "conn_password", "conn_uri"))


def columns(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a connection of the settings file as columns of Airflow's table; empty values are None."""
    if item.get("conn_uri"):
        return {"uri": item["conn_uri"]}
    values: dict[str, Any] = {column: item.get(key) or None for column, key in FIELDS.items()}
    port = item.get("conn_port")  # 0: none, in a form that Airflow's Test button takes
    values["port"] = None if port in (None, "") else int(port)
    values["extra"] = _text(item.get("conn_extra")) or None
    return values


def fingerprint(values: Mapping[str, Any]) -> str:
    """Return a short hash of a connection's columns."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def apply(session: Session, settings: Mapping[str, list[dict[str, Any]]], local: Mapping[str, dict[str, Any]]) -> list[str]:
    """Write ``settings`` to Airflow's database and return a list of the changes.

    Stubs in ``local`` take its values.
    """
    changes = []
    for item in settings["connections"]:
        conn_id = item["conn_id"]
        follows = conn_id in local and is_stub(item)
        if _apply_connection(session, conn_id, columns(local[conn_id] if follows else item), follows=follows):
            changes.append(f"connection {conn_id}")
    changes += [f"pool {item['pool_name']}" for item in settings["pools"] if _create_pool(session, item)]
    changes += [f"variable {item['variable_name']}" for item in settings["variables"] if _create_variable(session, item)]
    return changes


def end_runs(session: Session) -> int:
    """Fail every run that has not ended, with its tasks; how many.

    For a lake that was lost: a run cannot go on in one that does not hold what its finished tasks brought, and it would keep its
    pool's slots and every later run waiting.
    """
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.state import DagRunState, State, TaskInstanceState
    from sqlalchemy import or_, select, update

    unfinished = DagRun.state.in_((DagRunState.QUEUED, DagRunState.RUNNING))
    runs = session.execute(select(DagRun.dag_id, DagRun.run_id).where(unfinished)).all()
    is_open = or_(TaskInstance.state.is_(None), TaskInstance.state.in_([state for state in State.unfinished if state]))
    end = {"end_date": datetime.now(UTC)}
    for dag_id, run_id in runs:
        of_run = (TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id, is_open)
        session.execute(update(TaskInstance).where(*of_run).values(state=TaskInstanceState.FAILED, **end))
    session.execute(update(DagRun).where(unfinished).values(state=DagRunState.FAILED, **end))
    return len(runs)


def _apply_connection(session: Session, conn_id: str, values: Mapping[str, Any], *, follows: bool) -> bool:
    from airflow.models.connection import Connection
    from sqlalchemy import select

    description = f"{MADE_HERE} [{fingerprint(values)}]" if follows else None
    existing = session.scalar(select(Connection).where(Connection.conn_id == conn_id))
    if existing is None:
        session.add(Connection(conn_id=conn_id, description=description, **values))
        return True
    if not follows or existing.description == description or not _untouched(existing):
        return False
    for column, value in {**values, "description": description}.items():
        setattr(existing, column, value)
    return True


def _untouched(connection: Connection) -> bool:
    """Return true if the connection is unchanged since this module wrote it."""
    values = {column: getattr(connection, column) for column in (*FIELDS, "port", "extra")}
    return bool(connection.description == f"{MADE_HERE} [{fingerprint(values)}]")


def _create_pool(session: Session, item: Mapping[str, Any]) -> bool:
    from airflow.models.pool import Pool

    if Pool.get_pool(item["pool_name"], session=session) is not None:
        return False
    description, deferred = item.get("pool_description") or "", bool(item.get("pool_include_deferred"))
    session.add(Pool(pool=item["pool_name"], slots=int(item["pool_slot"]), description=description, include_deferred=deferred))
    return True


def _create_variable(session: Session, item: Mapping[str, Any]) -> bool:
    from airflow.models.variable import Variable
    from sqlalchemy import select

    if session.scalar(select(Variable).where(Variable.key == item["variable_name"])) is not None:
        return False
    session.add(Variable(key=item["variable_name"], val=_text(item.get("variable_value")) or ""))
    return True


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def main(*, lake_is_new: bool) -> None:
    """Migrate the database of this environment and apply the settings."""
    paths, ports = Paths.of(Path.cwd(), os.environ), Ports.of(os.environ)
    settings = load(paths.settings)

    from airflow.utils.db import upgradedb
    from airflow.utils.session import create_session

    upgradedb()
    with create_session() as session:
        changes = apply(session, settings, local_connections(paths, ports))
        ended = end_runs(session) if lake_is_new else 0
    print("settings:", ", ".join(changes) or "nothing to do")
    print("runs of a lake that is gone:", ended)


if __name__ == "__main__":
    main(lake_is_new="--new-lake" in sys.argv[1:])
