"""Connection types: forms that fit Airflow's schema and the hooks, and a Test button that works."""

import json
from importlib.resources import files

import jsonschema
import pytest
from airflow.sdk._shared.module_loading import import_string

from market_data.airflow.connections import provider_config
from market_data.airflow.provider_info import get_provider_info
from market_data.core.retry_policy import RetryPolicy
from market_data.http.rate_limit import Pacer
from market_data.providers.ib.hook import InteractiveBrokersHook
from market_data.providers.registry import provider, providers
from market_data.warehouse import WarehouseConnection, open_warehouse

PROVIDERS = providers()
TYPES = {found["connection-type"]: found for found in get_provider_info()["connection-types"]}


def set_connection(monkeypatch, conn_id, **fields):
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))


def test_each_provider_and_duckdb_have_a_type():
    assert set(TYPES) == {*(f"market_data_{name}" for name in PROVIDERS), "duckdb"}


def test_the_info_fits_airflows_schemas():
    airflow = files("airflow")
    info = get_provider_info()
    jsonschema.validate(info, json.loads(airflow.joinpath("provider_info.schema.json").read_text()))
    shape = json.loads(airflow.joinpath("provider.yaml.schema.json").read_text())["properties"]["connection-types"]
    jsonschema.validate(info["connection-types"], shape)


@pytest.mark.parametrize("name", TYPES)
def test_the_class_is_found_under_its_name_and_has_the_type(name):
    found = import_string(TYPES[name]["hook-class-name"])
    assert found.conn_type == name
    assert found.conn_name_attr == "conn_id"


@pytest.mark.parametrize("name", PROVIDERS)
def test_the_forms_plans_are_the_hooks(name):
    hook = provider(name)
    plans = PROVIDERS[name].form.plans
    assert plans[0] == hook.default_plan
    assert set(plans) == set(hook.plans) - {"sample"}
    assert set(PROVIDERS[name].form.extra) == set(hook.known_extra)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_form_as_it_comes_is_a_valid_configuration_but_for_the_key(name, monkeypatch):
    fields = TYPES[f"market_data_{name}"]["conn-fields"]
    extra = {field: found["schema"].get("default") for field, found in fields.items()}
    host = {"conn_type": f"market_data_{name}", "extra": extra}
    if name == "ib":
        host |= {"host": "127.0.0.1", "port": 4002}
    set_connection(monkeypatch, f"{name}_default", **host)
    monkeypatch.setattr(InteractiveBrokersHook, "default_retry", RetryPolicy(attempts=1))  # its limit is a call in 10 s
    monkeypatch.setattr(Pacer, "gap", 0.0)
    ok, message = import_string(TYPES[f"market_data_{name}"]["hook-class-name"])(f"{name}_default").test_connection()
    assert "extra" not in message
    assert ok or "password" in message or "login" in message or name == "ib"


def test_the_button_of_mock_works(monkeypatch):
    set_connection(monkeypatch, "mine", conn_type="market_data_mock", extra={"plan": "free"})
    assert import_string(TYPES["market_data_mock"]["hook-class-name"])("mine").test_connection()[0] is True


def test_the_button_of_duckdb_says_what_is_missing_and_then_works(monkeypatch, tmp_path):
    path = str(tmp_path / "w.duckdb")
    set_connection(monkeypatch, "mine", conn_type="duckdb", extra={"path": path, "lock_timeout": None, "chunk_rows": None})
    hook = import_string(TYPES["duckdb"]["hook-class-name"])("mine")
    ok, message = hook.test_connection()
    assert (ok, "create it" not in message, "w.duckdb" in message) == (False, True, True)
    with open_warehouse(WarehouseConnection("duckdb", extra={"path": path})) as warehouse:
        applied = warehouse.migrate()
    assert hook.test_connection() == (True, f"the warehouse opens; {len(applied)} migrations are applied")


def test_the_button_does_not_name_the_copy_that_airflow_tests(monkeypatch):
    set_connection(monkeypatch, "xYz12", conn_type="market_data_polygon", extra={"plan": "basic"})
    found = import_string(TYPES["market_data_polygon"]["hook-class-name"])("xYz12").test_connection()
    assert found == (False, "this connection: password is empty; the API key is needed there")


@pytest.mark.parametrize("name", TYPES)
def test_the_form_shows_a_port_because_airflow_tests_no_connection_without_one(name):
    """Airflow 3.3.2: its page sends 0 for a missing port, which its API takes for another server."""
    behaviour = TYPES[name]["ui-field-behaviour"]
    assert "port" not in behaviour["hidden-fields"]
    needs_one = name == "market_data_ib"
    assert (behaviour["placeholders"]["port"], "port" in behaviour["relabeling"]) == ("4002" if needs_one else "0", not needs_one)


def test_port_zero_is_not_part_of_the_address(monkeypatch):
    set_connection(monkeypatch, "mine", conn_type="market_data_polygon", host="https://api.massive.com", port=0)
    assert provider_config("mine").base_url == "https://api.massive.com"


def test_the_button_names_a_connection_that_does_not_exist():
    ok, message = import_string(TYPES["market_data_mock"]["hook-class-name"])("nowhere").test_connection()
    assert (ok, "'nowhere'" in message) == (False, True)
