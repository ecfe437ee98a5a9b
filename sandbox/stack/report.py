"""Print a run report from the lake: ``python -m sandbox.stack.report KEY``.

A process of its own, for it needs Airflow's connections.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from sandbox.stack.environment import LocalError, Paths, Ports, process_env


def read(key: str, environ: Mapping[str, str], paths: Paths, ports: Ports) -> dict[str, Any]:
    """The report at ``key``, read as the tasks wrote it: from the same lake, with the same connection.

    :raises LocalError: if it is not there, or cannot be read.
    """
    argv, env = [sys.executable, "-m", "sandbox.stack.report", key], process_env(environ, paths, ports)
    result = subprocess.run(argv, env=env, cwd=paths.project, capture_output=True, text=True, check=False)
    if result.returncode:
        raise LocalError(f"the run report {key} cannot be read: {(result.stderr.strip().splitlines() or ['no answer'])[-1]}")
    report: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return report


def main(key: str) -> None:
    """Print the report at ``key`` in one line."""
    from market_data.airflow.connections import open_lake

    _lend_connection("aws_default")
    found = open_lake().get(key)
    if found is None:
        raise SystemExit(f"nothing at {key} in {os.environ['MARKET_DATA_LAKE']}")
    print(json.dumps(json.loads(found.body)))


def _lend_connection(conn_id: str) -> None:
    """Outside a task Airflow looks for connections in the environment only: put there what its database has."""
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        connection = session.scalar(select(Connection).where(Connection.conn_id == conn_id))
        if connection is not None:
            os.environ.setdefault(f"AIRFLOW_CONN_{conn_id.upper()}", connection.as_json())


if __name__ == "__main__":
    main(sys.argv[1])
