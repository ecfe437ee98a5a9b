"""From a connection to the store of the limits: which one, and what is wrong with it."""

import json

import pytest

from market_data.airflow import connections, tasks
from market_data.airflow.command import AirflowDeployment
from market_data.airflow.connections import provider_config, read_connection
from market_data.airflow.limit_stores import REDIS_EXTRA
from market_data.cli import setup
from market_data.config.feeds import load_feeds
from market_data.config.run_params import RunParams
from market_data.core.errors import ConfigError
from market_data.http.file_store import FileStore
from market_data.http.postgres_store import PostgresStore
from market_data.http.redis_store import RedisStore
from market_data.providers.ib.hook import InteractiveBrokersHook
from market_data.providers.polygon.hook import PolygonHook
from tests.services import postgres_server, redis_server

OF_WAREHOUSE = {"chunk_rows": 5, "lock_timeout": 5, "statement_timeout": 60}


def connect(monkeypatch, conn_id, **fields):
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))


@pytest.fixture
def polygon(monkeypatch):
    def set_extra(**extra):
        connect(monkeypatch, "polygon_default", conn_type="http", password="key", extra=extra)

    set_extra()
    return set_extra


def limiter():
    return PolygonHook(provider_config("polygon_default")).pacer().limiter


def test_without_a_setting_the_limits_are_in_a_file_of_the_host(polygon):
    assert isinstance(limiter().store, FileStore)


def test_limits_in_redis_through_airflows_connection(polygon, monkeypatch):
    server = redis_server.server().settings
    fields = {"host": server["host"], "port": server["port"], "password": server["password"], "extra": {"db": 3}}
    connect(monkeypatch, "limits", conn_type="redis", **fields)
    monkeypatch.setenv("MARKET_DATA_LIMITER_CONN_ID", "limits")
    found = limiter()
    assert isinstance(found.store, RedisStore)
    with found.acquire():
        assert len(limiter().store.read().text) > 0
    PolygonHook(provider_config("polygon_default")).validate_config()


def test_limits_in_postgresql_through_airflows_hook(polygon, monkeypatch, tmp_path):
    with postgres_server.empty_database(tmp_path) as made:
        fields = {"host": made.host, "port": made.port, "schema": made.schema, "login": made.login, "password": made.password}
        connect(
            monkeypatch,
            "limits",
            conn_type="postgres",
            **fields,
            extra={"cursor": "dictcursor", "sslmode": "prefer", **OF_WAREHOUSE},
        )
        polygon(limiter_conn_id="limits")
        monkeypatch.setenv("MARKET_DATA_LIMITER_CONN_ID", "another")  # the provider's own wins
        found = limiter()
        assert isinstance(found.store, PostgresStore)
        with found.acquire():
            found.penalise(30)
            other = limiter()
            assert other.paused() > 29
        found.store.server.close()
        other.store.server.close()


@pytest.mark.parametrize(
    ("extra", "limits", "text"),
    [
        (
            {"limiter_conn_id": 5},
            {},
            r"connection 'polygon_default': extra.limiter_conn_id is 5; the name of an Airflow connection",
        ),
        ({"limiter_conn_id": "none"}, {}, "connection 'none' cannot be read"),
        (
            {"limiter_conn_id": "limits"},
            {"conn_type": "mysql"},
            "'limits': conn_type is 'mysql'; allowed for limits: postgres, redis",
        ),
        (
            {"limiter_conn_id": "limits"},
            {"conn_type": "redis", "schema": "x"},
            "connection 'limits': the database is 'x'; a whole number",
        ),
        (
            {"limiter_conn_id": "limits"},
            {"conn_type": "redis", "extra": {"dbs": 1}},
            f"connection 'limits': extra has the unknown key 'dbs'.*known keys: {', '.join(REDIS_EXTRA)}",
        ),
        (
            {"limiter_conn_id": "limits"},
            {"conn_type": "redis", "host": "redis://:secret@server:6379"},
            "connection 'limits': host is a URL",
        ),
        ({"limiter_conn_id": "limits"}, {"conn_type": "redis", "host": ":secret@server"}, "connection 'limits': host is a URL"),
        (
            {"limiter_conn_id": "limits"},
            {"conn_type": "postgres", "schema": "a", "login": "u", "host": "postgresql://u:secret@server"},
            "connection 'limits': host is a URL",
        ),
        (
            {"limiter_conn_id": "limits"},
            {"conn_type": "postgres", "schema": "a", "login": "u", "host": "h", "extra": {"chunk_row": 5}},
            "connection 'limits': extra has chunk_row",
        ),
        ({"limiter_conn": "x"}, {}, "unknown key 'limiter_conn'.*limiter_conn_id"),
    ],
)
def test_what_is_wrong_with_it_is_named_before_a_call(polygon, monkeypatch, extra, limits, text):
    polygon(**extra)
    connect(monkeypatch, "limits", **{"conn_type": "redis", **limits})
    with pytest.raises(ConfigError, match=text) as caught:
        PolygonHook(provider_config("polygon_default")).validate_config()
    assert "secret" not in str(caught.value)


def test_a_missing_package_is_named(polygon, monkeypatch):
    polygon(limiter_conn_id="limits")
    connect(monkeypatch, "limits", conn_type="redis")
    monkeypatch.setattr("market_data.airflow.limit_stores.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="the package redis is not installed: pip install"):
        PolygonHook(provider_config("polygon_default")).validate_config()


def test_the_command_lends_the_connection_of_the_limits_too(monkeypatch):
    lent = []
    monkeypatch.setattr("market_data.airflow.command._lend", lent.append)
    connect(monkeypatch, "polygon_default", conn_type="http", password="key", extra={"limiter_conn_id": "limits"})
    AirflowDeployment().hook("polygon", "polygon_default", {})
    assert lent == ["polygon_default", "limits"]


def test_a_hook_reads_the_connection_of_the_limits_once_and_closes_its_client(monkeypatch):
    server, read = redis_server.server(), []
    fields = {name: server.settings[name] for name in ("host", "port", "password")}
    connect(monkeypatch, "limits", conn_type="redis", **fields)
    connect(monkeypatch, "ib_default", conn_type="generic", host="localhost", port=4002, extra={"limiter_conn_id": "limits"})
    monkeypatch.setattr(
        connections, "read_connection", lambda conn_id, real=read_connection: (read.append(conn_id), real(conn_id))[1]
    )
    hook = InteractiveBrokersHook(provider_config("ib_default"))

    def clients():
        return sum(one["name"] == "airflow-market-data" for one in server.client().client_list())

    before = clients()
    for question in "abc":
        hook._repeats(question).acquire().done()
    hook.pacer().limiter.acquire().done()
    assert read == ["ib_default", "limits"]
    assert clients() == before + 1
    hook.close()
    assert clients() == before


@pytest.mark.parametrize(
    ("password", "state"), [("", "valid"), ("wrong-secret", "the limiter cannot use connection 'limits': AuthenticationError")]
)
def test_check_config_reads_the_limits_once(polygon, monkeypatch, password, state):
    server = redis_server.server().settings
    fields = {"host": server["host"], "port": server["port"], "password": password or server["password"]}
    connect(monkeypatch, "limits", conn_type="redis", **fields)
    polygon(limiter_conn_id="limits")
    monkeypatch.setattr("market_data.airflow.command._lend", lambda _: None)
    feeds = [feed for feed in load_feeds() if feed.conn_id == "polygon_default"]
    [finding] = setup._limits(feeds, AirflowDeployment())
    assert (finding.what, finding.ok) == ("rate limits of connection polygon_default", state == "valid")
    assert finding.state.startswith(state)
    assert "wrong-secret" not in finding.state


@pytest.mark.parametrize(
    ("executor", "shared", "told"), [("LocalExecutor", False, 0), ("CeleryExecutor", False, 1), ("CeleryExecutor", True, 0)]
)
def test_a_task_logs_that_its_limits_are_those_of_its_host(polygon, monkeypatch, caplog, executor, shared, told):
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    connect(monkeypatch, "limits", conn_type="redis")
    polygon(**({"limiter_conn_id": "limits"} if shared else {}))
    feed = next(feed for feed in load_feeds() if feed.dag_id == "polygon_ohlcv_1d")
    tasks._hook(feed, RunParams())
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("rate limits: ")]
    assert len(said) == told
    assert all("CeleryExecutor may run tasks on several hosts, and each host knows its own calls only" in one for one in said)
