"""The few calls of Airflow's REST API that `make run` needs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import requests

from sandbox.stack.environment import ADMIN, LocalError

PAGE = 100  # the most that Airflow returns at a time by default
TIMEOUT = 40.0  # Airflow itself waits up to 30 for its database
RETRY_PAUSES = (1.0, 2.0, 4.0, 0.0)


class Airflow:
    """Airflow's REST API, as the admin of the local stack.

    :param url: base URL, without a slash at the end.
    :param passwords: SimpleAuthManager's file.
    """

    def __init__(self, url: str, passwords: Path) -> None:
        self.url, self._passwords = url, passwords
        self._http = requests.Session()
        self._http.trust_env = False  # local calls must not go through a proxy

    @property
    def password(self) -> str:
        return str(json.loads(self._passwords.read_text())[ADMIN])

    def health(self) -> dict[str, str]:
        """Return the status of each component; empty if Airflow does not respond."""
        try:
            response = self._http.get(f"{self.url}/api/v2/monitor/health", timeout=TIMEOUT)
            parts = response.json() if response.ok else {}
        except (requests.RequestException, ValueError):
            return {}
        return {name: part["status"] for name, part in parts.items() if isinstance(part, dict) and part.get("status")}

    def dag(self, dag_id: str) -> dict[str, Any] | None:
        return self._call("GET", f"/dags/{dag_id}", tolerated=404)

    def dag_ids(self) -> list[str]:
        return [dag["dag_id"] for dag in self._all("/dags", "dags")]

    def import_errors(self) -> list[dict[str, Any]]:
        return self._all("/importErrors", "import_errors")

    def connection_extra(self, conn_id: str) -> dict[str, Any]:
        """Return the extra of a connection in Airflow's database; empty without one."""
        extra = (self._call("GET", f"/connections/{conn_id}", tolerated=404) or {}).get("extra")
        return json.loads(extra) if extra else {}

    def trigger(self, dag_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """Make a run; ``body`` names it, so that doing it again changes nothing."""
        return self._call("POST", f"/dags/{dag_id}/dagRuns", body, tolerated=409) or self.run(dag_id, body["dag_run_id"])

    def pause(self, dag_id: str) -> None:
        """Pause a DAG. Repeating it changes nothing."""
        self._some("PATCH", f"/dags/{dag_id}", {"is_paused": True})

    def unpause(self, dag_id: str) -> None:
        """Unpause a DAG. Repeating it changes nothing."""
        self._some("PATCH", f"/dags/{dag_id}", {"is_paused": False})

    def resize(self, pool: str, slots: int) -> None:
        """Set the slots of a pool. Repeating it changes nothing."""
        body = {"pool": pool, "slots": slots, "include_deferred": False}
        self._some("PATCH", f"/pools/{pool}?update_mask=slots", body)

    def active_runs(self, dag_id: str = "~") -> list[dict[str, Any]]:
        """Return the queued and running runs of a DAG, or of all DAGs."""
        return self._all(f"/dags/{dag_id}/dagRuns?state=queued&state=running", "dag_runs")

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        return self._some("GET", f"/dags/{dag_id}/dagRuns/{run_id}")

    def fail_run(self, dag_id: str, run_id: str) -> None:
        self._some("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}", {"state": "failed"})

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        return self._all(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances", "task_instances")

    def result(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, key: str = "return_value") -> Any:
        """Return the result of a task, or the value it pushed under ``key``; None until there is one."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        entry = self._call("GET", f"{path}?map_index={map_index}", tolerated=404)
        value = (entry or {}).get("value")
        return json.loads(value) if isinstance(value, str) else value

    def why(self, dag_id: str, run_id: str, instance: dict[str, Any]) -> str:
        """Return the error that ended a task, from its log."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{instance['task_id']}/logs/{instance['try_number']}"
        log = self._some("GET", f"{path}?map_index={instance['map_index']}&full_content=true")
        errors = [
            entry["error_detail"][-1] for entry in log.get("content", []) if isinstance(entry, dict) and entry.get("error_detail")
        ]
        return str(errors[-1]["exc_value"]) if errors else "no error in its log"

    def _all(self, path: str, key: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = self._some("GET", f"{path}{'&' if '?' in path else '?'}limit={PAGE}&offset={len(found)}")
            found += page[key]
            if not page[key] or len(found) >= page["total_entries"]:
                return found

    def _some(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._call(method, path, body) or {}

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, tolerated: int | None = None
    ) -> dict[str, Any] | None:
        """Call the API and return the content; None if the status is ``tolerated``.

        Every call made here is safe to repeat.
        """
        for pause in RETRY_PAUSES:  # SQLite on a busy machine: "database is locked"
            response = self._request(method, path, body)
            if response.status_code < 500:
                break
            time.sleep(pause)
        if response.status_code == tolerated:
            return None
        if not response.ok:
            raise LocalError(f"Airflow responds with status {response.status_code}: {_detail(response).splitlines()[0]}")
        content: dict[str, Any] = response.json()
        return content

    def _request(self, method: str, path: str, body: dict[str, Any] | None) -> requests.Response:
        if "Authorization" not in self._http.headers:
            self._log_in()
        try:
            return self._http.request(method, f"{self.url}/api/v2{path}", json=body, timeout=TIMEOUT)
        except requests.RequestException as error:
            raise UnreachableError(f"Airflow at {self.url} does not respond ({type(error).__name__})") from None

    def _log_in(self) -> None:
        body = {"username": ADMIN, "password": self.password}
        try:
            response = self._http.post(f"{self.url}/auth/token", json=body, timeout=TIMEOUT)
        except requests.RequestException as error:
            raise UnreachableError(f"Airflow at {self.url} does not respond ({type(error).__name__})") from None
        if not response.ok:
            raise LocalError(f"Airflow at {self.url} refuses the password in {self._passwords}")
        self._http.headers["Authorization"] = f"Bearer {response.json()['access_token']}"


class UnreachableError(LocalError):
    """Airflow does not respond: still starting, stopped, or overloaded."""


def _detail(response: requests.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]
