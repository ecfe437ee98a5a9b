"""``make query`` and ``make migrate``: run ``market-data`` in a process with the stack's environment.

It uses the warehouse that ``AIRFLOW_CONN_WAREHOUSE_DEFAULT`` names, or else the local stack's DuckDB file.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping

from sandbox.stack.environment import LocalError, Paths, Ports, process_env

WAREHOUSE_VARIABLE = "AIRFLOW_CONN_WAREHOUSE_DEFAULT"
_PROGRAM = "import sys; from market_data.airflow.command import main; sys.exit(main())"


def arguments(command: str, paths: Paths, environ: Mapping[str, str]) -> list[str]:
    """Return the arguments of ``market-data``; ``SQL`` and ``ARGS`` hold a query's statement and options.

    :raises LocalError: a query without a warehouse file, or ``ARGS`` has a quote that does not end.
    """
    local = not environ.get(WAREHOUSE_VARIABLE)
    if command == "query" and local and not paths.warehouse.exists():
        raise LocalError(f"there is no warehouse at {paths.warehouse} yet; `make run` creates it")
    where = ["--duckdb", str(paths.warehouse)] if local else []
    if command != "query":
        return [command, *where]
    statement = ["--", environ["SQL"]] if environ.get("SQL") else []
    return [command, *where, *_options(environ.get("ARGS", "")), *statement]


def _options(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise LocalError(f"ARGS is {text!r}: {error}") from None


def run_command(command: str, paths: Paths, environ: Mapping[str, str]) -> int:
    """Run ``market-data`` and return its exit code.

    :raises LocalError: a query without a warehouse file.
    """
    argv = [sys.executable, "-c", _PROGRAM, *arguments(command, paths, environ)]
    return subprocess.run(argv, env=process_env(environ, paths, Ports.of(environ)), check=False).returncode  # noqa: S603  our own program
