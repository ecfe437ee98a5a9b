"""What the pages use of a deployment: a warehouse that they wait for shortly, and a start of Airflow that nothing stops."""

import json
import logging

import pytest

from market_data.airflow.web import deployment, mount
from market_data.core.errors import ConfigError
from market_data.views.places import empty_note
from market_data.warehouse.registry import engine


@pytest.mark.parametrize("extra", [{}, {"lock_timeout": 300}])
def test_a_page_waits_two_seconds_for_a_warehouse_file(monkeypatch, tmp_path, extra):
    found = {"conn_type": "duckdb", "extra": {"path": f"{tmp_path}/w.duckdb", **extra}}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_DEFAULT", json.dumps(found))
    assert deployment.warehouse().lock_timeout == deployment.PATIENCE == 2


def test_a_lake_that_this_machine_does_not_have_is_named_and_not_made(monkeypatch, tmp_path):
    monkeypatch.setattr(deployment, "_OPENED", [])
    monkeypatch.setenv("MARKET_DATA_LAKE", f"file://{tmp_path}/no%20lake")
    with pytest.raises(ConfigError, match=r"the lake file://.*/no%20lake does not exist on this machine .*mount its folder here"):
        deployment.lake()
    assert not list(tmp_path.iterdir())
    (tmp_path / "no lake").mkdir()
    (note,) = empty_note(deployment.lake())
    assert "has nothing on this machine" in note
    deployment.lake().put_new("x", b"x")
    assert empty_note(deployment.lake()) == ()
    (tmp_path / "no lake" / "x").unlink()
    (tmp_path / "no lake").rmdir()  # unmounted since
    with pytest.raises(ConfigError, match="does not exist on this machine"):
        deployment.lake()


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
