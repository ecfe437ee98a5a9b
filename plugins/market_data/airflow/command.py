"""The console script ``market-data``: the command with the connections of this machine's Airflow.

``query --duckdb``, ``config`` and ``bootstrap --url`` work without Airflow.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from market_data.cli.deployment import port_of
from market_data.cli.main import main as run
from market_data.core import settings
from market_data.core.errors import ConfigError

if TYPE_CHECKING:
    from market_data.alerts.sent import Send
    from market_data.cli.deployment import Item, Registry
    from market_data.config.alerts import Alerts, Notifier
    from market_data.core.run import RunInfo
    from market_data.lake.store import Lake
    from market_data.providers.base import ProviderConfig, ProviderHook
    from market_data.warehouse.base import Warehouse

log = logging.getLogger(__name__)

CONN_ENV = "AIRFLOW_CONN_"


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``market-data`` and return its exit code."""
    return run(argv, AirflowDeployment())


class AirflowDeployment:
    """The local Airflow deployment: connections from environment, secrets backends or Airflow's database."""

    def registry(self) -> Registry:
        """Return the connections and pools of Airflow's database."""
        return DatabaseRegistry()

    def lake(self) -> Lake:
        """Return the lake at ``MARKET_DATA_LAKE``; on S3 with the connection ``aws_default`` if it exists."""
        from market_data import api
        from market_data.airflow.connections import open_lake

        url = settings.value("MARKET_DATA_LAKE")
        if url.startswith("s3://") and _lend("aws_default"):
            return open_lake()
        return api.open_lake(url)

    def open_s3(self, address: str) -> bytes:
        """Return the object at an ``s3://`` address, read with the connection ``aws_default``."""
        from market_data.airflow.connections import open_s3

        _lend("aws_default")
        return open_s3(address)

    def warehouse(self) -> Warehouse:
        """Return the warehouse of the connection ``warehouse_default``."""
        from market_data.airflow.connections import warehouse

        _lend("warehouse_default")
        return warehouse()

    def hook(self, provider: str, conn_id: str, options: Mapping[str, Any]) -> ProviderHook:
        """Return the hook of a provider with its connection. No call is made."""
        from market_data.airflow.connections import provider_config
        from market_data.airflow.limit_stores import limiter_conn_id
        from market_data.providers.registry import provider as hook_of

        def config(name: str) -> ProviderConfig:
            _lend(name)
            found = provider_config(name)
            if isinstance(limiter := limiter_conn_id(found.extra), str) and limiter:
                _lend(limiter)
            return found

        return hook_of(provider)(config(conn_id), options=options, connections=config)

    def is_running(self, run: RunInfo) -> bool | None:
        """Return True if a run is active, False if it has ended or was deleted.

        None if that is not known: Airflow's database cannot be used, or it is another one, without runs of the DAG.
        """
        from market_data.airflow.known_runs import is_active

        try:
            with _session() as session:
                return is_active(session, run)
        except ConfigError as error:
            log.warning("whether %s is active is not known: %s", run.run_id, error)
            return None

    def hosts(self, pool: str, longest: float) -> Collection[str]:
        """Return the hosts that ran tasks of a pool and share a window of its account.

        :param longest: seconds of the account's longest window.
        """
        from market_data.airflow.hosts import sharing

        with _session() as session:
            return sharing(session, pool, datetime.now(UTC), longest)

    def check_notifier(self, notifier: Notifier) -> None:
        """Raise ``ConfigError`` if a notifier's package is missing or its arguments are wrong.

        Nothing is sent.
        """
        from market_data.airflow.notify import build

        build(notifier)

    def notifiers(self, alerts: Alerts) -> tuple[Mapping[str, Send], str]:
        """Return the functions that send messages, by name; and the address of Airflow, or nothing."""
        from market_data.airflow.notify import base_url, senders

        for one in alerts.notifiers:
            if one.connection:
                _lend(one.connection)
        return senders(alerts), base_url()


class DatabaseRegistry:
    """Connections and pools in Airflow's database, and connections in the environment."""

    def connections(self) -> Collection[str]:
        """Return the ids of the connections that exist."""
        from airflow.models.connection import Connection
        from sqlalchemy import select

        with _session() as session:
            stored = set(session.scalars(select(Connection.conn_id)))
        given = {name.removeprefix(CONN_ENV).lower() for name in settings.environment() if name.startswith(CONN_ENV)}
        return stored | given

    def pools(self) -> Collection[str]:
        """Return the names of the pools that exist."""
        from airflow.models.pool import Pool
        from sqlalchemy import select

        with _session() as session:
            return set(session.scalars(select(Pool.pool)))

    def add_connection(self, item: Item) -> None:
        """Create a connection from its entry in ``airflow_settings.yaml``."""
        from airflow.models.connection import Connection

        extra = item.get("conn_extra")
        with _session() as session:
            session.add(
                Connection(
                    conn_id=item["conn_id"],
                    conn_type=item["conn_type"],
                    host=item.get("conn_host"),
                    schema=item.get("conn_schema"),
                    login=item.get("conn_login"),
                    port=port_of(item),
                    extra=extra if isinstance(extra, str) else json.dumps(extra) if extra else None,
                )
            )

    def add_pool(self, item: Item) -> None:
        """Create a pool from its entry in ``airflow_settings.yaml``."""
        from airflow.models.pool import Pool

        deferred = bool(item.get("pool_include_deferred"))
        with _session() as session:
            session.add(
                Pool(
                    pool=item["pool_name"],
                    slots=int(item["pool_slot"]),
                    description=item.get("pool_description") or "",
                    include_deferred=deferred,
                )
            )


@contextmanager
def _session() -> Iterator[Any]:
    """Yield a session of Airflow's database; commit at the end.

    :raises ConfigError: the database cannot be used. Its own words may hold a password, so they are left out.
    """
    from airflow.utils.session import create_session
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with create_session() as session:
            yield session
    except SQLAlchemyError as error:
        raise ConfigError(
            f"Airflow's database cannot be used ({type(error).__name__}); has `airflow db migrate` been run?"
        ) from None


def _lend(conn_id: str) -> bool:
    """Copy a connection from Airflow's database to this process's environment.

    Outside a task, Airflow does not read connections from its database.

    :return: True if the connection exists.
    """
    from airflow.models.connection import Connection
    from sqlalchemy import select

    name = f"{CONN_ENV}{conn_id.upper()}"
    if settings.environment().get(name):
        return True
    try:
        with _session() as session:
            found = session.scalar(select(Connection).where(Connection.conn_id == conn_id))
            if found is not None:
                settings.lend(name, found.as_json())
    except ConfigError:
        return False  # what reads the connection says that there is none
    return found is not None
