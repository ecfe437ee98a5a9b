"""The components of the local stack: commands, keys, and checks that one responds."""

from __future__ import annotations

import base64
import json
import secrets
import socket

import requests

from sandbox.stack.environment import ADMIN, HOST, Paths, Ports
from sandbox.stack.settings import SAMPLE_API_KEY

AIRFLOW_SERVICES = ("scheduler", "dag-processor", "api-server", "triggerer")
SERVER_PORTS = {"s3": "s3", "sample-api": "sample_api", "sample-gateway": "gateway"}


def command(name: str, paths: Paths, ports: Ports, data: str | None) -> tuple[str, ...]:
    """Return the arguments of a component, for Python.

    :param data: a Parquet file for the sample API to serve.
    """
    logs = paths.logs
    api = (
        "--port",
        str(ports.sample_api),
        "--api-key",
        SAMPLE_API_KEY,
        "--call-log",
        str(logs / "sample-api-calls.jsonl"),
    )
    gateway = ("--port", str(ports.gateway), "--call-log", str(logs / "sample-gateway-calls.jsonl"))
    return {
        "s3": ("-m", "sandbox.s3", "--port", str(ports.s3), "--folder", str(paths.s3)),
        "sample-api": ("-m", "sandbox.http", *api, *(("--data", data) if data else ())),
        "sample-gateway": ("-m", "sandbox.ib_gateway", *gateway),
        "scheduler": ("-m", "sandbox.stack.scheduler"),
        "dag-processor": ("-m", "airflow", "dag-processor"),
        "api-server": ("-m", "airflow", "api-server"),
        "triggerer": ("-m", "airflow", "triggerer", "--skip-serve-logs"),
        "watchdog": ("-m", "sandbox.stack.watchdog"),
    }[name]


def write_secrets(paths: Paths) -> None:
    """Write the admin's password and Airflow's shared keys, unless they exist.

    New keys would make the stored connections unreadable.
    """
    paths.airflow_home.mkdir(parents=True, exist_ok=True)
    config = paths.airflow_home / "airflow.cfg"
    if not config.exists():
        fernet, api, jwt = (base64.urlsafe_b64encode(secrets.token_bytes(size)).decode() for size in (32, 64, 64))
        config.write_text(f"[core]\nfernet_key = {fernet}\n\n[api]\nsecret_key = {api}\n\n[api_auth]\njwt_secret = {jwt}\n")
    if not paths.passwords.exists():
        paths.passwords.write_text(json.dumps({ADMIN: secrets.token_urlsafe(12)}))
    for file in (config, paths.passwords):
        file.chmod(0o600)


def listens(port: int) -> bool:
    """Return True if something accepts connections at a port of this machine."""
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


def responds(url: str, method: str = "GET") -> bool:
    """Return True if the server at ``url`` responds with a status below 500."""
    try:
        with requests.Session() as http:
            http.trust_env = False
            return http.request(method, url, timeout=30).status_code < 500
    except requests.RequestException:
        return False
