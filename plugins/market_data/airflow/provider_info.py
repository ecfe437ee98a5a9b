"""Connection types with forms for Airflow's UI, found by the entry point ``apache_airflow_provider``.

Every Airflow component imports this module, so it must stay light. The hooks are imported when a user presses *Test*.
"""

from __future__ import annotations

from typing import Any

import market_data
from market_data.providers.registry import providers
from market_data.providers.spec import ConnectionForm, ProviderSpec

HOOKS = "market_data.airflow.hooks"
FIELDS = ("host", "port", "login", "password", "schema", "extra")
PREFIX = "market_data_"
NO_PORT = "Port (enter 0)"
"""Label of the port where none is needed. Airflow 3.3.2 refuses to test a stored connection without one."""


def get_provider_info() -> dict[str, Any]:
    """Return what Airflow wants to know of a provider package."""
    return {
        "package-name": "airflow-market-data",
        "name": "Market data",
        "description": "Market data from provider APIs into a lake and a warehouse",
        "versions": [market_data.__version__],
        "connection-types": [*(connection_type(spec) for spec in providers().values()), DUCKDB],
    }


def connection_type(spec: ProviderSpec) -> dict[str, Any]:
    """Return the connection type of a provider: its form, and the class that tests it."""
    form = spec.form
    shown = {"host": bool(form.host), "port": True, "login": bool(form.login_label), "password": bool(form.key_label)}
    labels = {"port": "" if form.port else NO_PORT, "login": form.login_label, "password": form.key_label}
    placeholders = {"host": form.host, "port": form.port or "0"}
    return {
        "connection-type": f"{PREFIX}{spec.name}",
        "hook-class-name": f"{HOOKS}.{class_name(spec.name)}",
        "hook-name": spec.label or spec.name,
        "ui-field-behaviour": {
            "hidden-fields": [name for name in FIELDS if not shown.get(name)],
            "relabeling": {name: label for name, label in labels.items() if label},
            "placeholders": {name: text for name, text in placeholders.items() if text},
        },
        "conn-fields": _fields(form),
    }


def class_name(provider: str) -> str:
    """Return the name of a provider's class in ``market_data.airflow.hooks``."""
    return f"{provider.title().replace('_', '')}Connection"


def _fields(form: ConnectionForm) -> dict[str, Any]:
    plan: dict[str, Any] = {"type": ["string", "null"]}
    if form.plans:
        plan = {"type": "string", "enum": list(form.plans), "default": form.plans[0]}
    return {
        "plan": {"label": "Subscription plan", "schema": plan, "description": "Sets calls per minute and years of history."},
        "calls_per_minute_per_slot": {
            "label": "Calls per minute per pool slot",
            "schema": {"type": ["number", "null"], "exclusiveMinimum": 0},
            "description": "Empty: the plan's rate.",
        },
        "limits": {
            "label": "Account limits",
            "schema": {"type": ["array", "null"], "items": {"type": "object"}},
            "description": 'A list such as [{"calls": 5, "seconds": 60}]; all hold at once. Left untouched: the plan\'s limits.',
        },
        "limiter_conn_id": {
            "label": "Connection of the rate limits",
            "schema": {"type": ["string", "null"]},
            "description": "PostgreSQL or Redis, shared by the workers of all hosts. Empty: MARKET_DATA_LIMITER_CONN_ID, else each host.",
        },
        **{name: {"label": label, "schema": {"type": [kind, "null"]}} for name, (label, kind) in form.extra.items()},
    }


DUCKDB = {
    "connection-type": "duckdb",
    "hook-class-name": f"{HOOKS}.DuckDBConnection",
    "hook-name": "DuckDB",
    "ui-field-behaviour": {
        "hidden-fields": [name for name in FIELDS if name != "port"],
        "relabeling": {"port": NO_PORT},
        "placeholders": {"port": "0"},
    },
    "conn-fields": {
        "path": {
            "label": "File",
            "schema": {"type": "string", "minLength": 1},
            "description": "Absolute path of the DuckDB file, on a disk that all workers share.",
        },
        "lock_timeout": {
            "label": "Seconds to wait for the file",
            "schema": {"type": ["number", "null"], "minimum": 0},
            "description": "Empty: 300.",
        },
        "chunk_rows": {
            "label": "Rows per load transaction",
            "schema": {"type": ["integer", "null"], "minimum": 1},
            "description": "Empty: 122,880.",
        },
    },
}
