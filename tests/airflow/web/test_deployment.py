"""What the pages use of a deployment: a warehouse that they wait for shortly, and a start of Airflow that nothing stops."""

import json
import logging

import pytest

from market_data.airflow.web import deployment, mount
from market_data.core.errors import ConfigError
from market_data.warehouse.registry import engine


@pytest.mark.parametrize("extra", [{}, {"lock_timeout": 300}])
def test_a_page_waits_two_seconds_for_a_warehouse_file(monkeypatch, tmp_path, extra):
    found = {"conn_type": "duckdb", "extra": {"path": f"{tmp_path}/w.duckdb", **extra}}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_DEFAULT", json.dumps(found))
    assert deployment.warehouse().lock_timeout == deployment.PATIENCE == 2


def test_a_driver_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(ConfigError, match="warehouse duckdb: package duckdb is not installed on this machine"):
        engine("duckdb")


def test_airflow_starts_even_if_nothing_can_be_read_ahead(monkeypatch, caplog):
    def fail():
        raise ImportError("numpy is broken")

    monkeypatch.setattr("market_data.airflow.web.ahead.read_ahead", fail)
    with caplog.at_level(logging.ERROR):
        mount.ReadAhead(None)
    assert "not read ahead" in caplog.text
