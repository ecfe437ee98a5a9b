"""An empty store of each kind. A further kind is one more line in ``STORES``."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial

import psycopg

from market_data.http.file_store import FileStore
from market_data.http.postgres_store import PostgresServer
from market_data.http.redis_store import RedisServer
from tests.services import postgres_server, redis_server


def _connect(connection):
    return psycopg.connect(
        host=connection.host,
        port=connection.port,
        dbname=connection.schema,
        user=connection.login,
        password=connection.password,
        connect_timeout=5,
    )


@contextmanager
def file_store(folder):
    yield partial(_file, folder)


def _file(folder, account):
    return FileStore(folder / f"{account}.json")


@contextmanager
def postgres_store(folder):
    opened = []

    def store(account):
        opened.append(PostgresServer(partial(_connect, connection), "limits"))
        return opened[-1].store(account)

    with postgres_server.empty_database(folder) as connection:
        store.connection = connection
        try:
            yield store
        finally:
            for one in opened:
                one.close()


@contextmanager
def redis_store(folder):
    server = redis_server.server()
    server.client().flushall()

    def store(account):
        return RedisServer(server.settings, "limits").store(account)

    yield store


STORES = {"file": file_store, "postgres": postgres_store, "redis": redis_store}
CUT = {
    "postgres": lambda: (
        postgres_server.server()
        .admin()
        .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [postgres_server.LOGIN])
    ),
    "redis": lambda: redis_server.server().client().client_kill_filter(_type="normal", skipme=True),
}
"""Kind -> what cuts its open connections."""
SERVERS = {"postgres": postgres_server.server, "redis": redis_server.server}
