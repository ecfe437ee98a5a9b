"""`deploy/compose`: the keys of the Compose Specification, no secrets, and what a container may do."""

import re

import pytest
import yaml

from market_data.core import settings
from tests.deploy import compose_file

FOLDER = compose_file.FILE.parent
WORDS = {
    "POSTGRES_PASSWORD": "pg", "REDIS_PASSWORD": "rd", "API_SECRET_KEY": "api", "JWT_SECRET": "jwt", "FERNET_KEY": "fernet",
    "ADMIN_PASSWORDS": "{}",
    "MARKET_DATA_LAKE": "s3://b/lake", "LOG_FOLDER": "s3://b/logs",
}  # fmt: skip
COMPOSE = compose_file.resolved(WORDS)
AIRFLOW = ["init", "api-server", "scheduler", "dag-processor", "triggerer", "worker"]
# https://github.com/compose-spec/compose-spec, schema/compose-spec.json: those that are used here. A service takes no other key than
# those of the specification, so a misspelled one is an error there, too.
SERVICE = {
    "image", "build", "restart", "env_file", "environment", "user", "read_only", "tmpfs", "cap_drop", "security_opt", "depends_on",
    "configs", "volumes", "healthcheck", "command", "ports", "stop_grace_period", "deploy",
}  # fmt: skip
NESTED = {
    "healthcheck": {"test", "interval", "timeout", "retries", "start_period"},
    "deploy": {"replicas", "resources"},
}
TOP = {"name", "services", "configs", "volumes"}


def test_the_file_has_keys_of_the_specification_only():
    assert {key for key in COMPOSE if not key.startswith("x-")} == TOP
    for name, service in COMPOSE["services"].items():
        assert set(service) <= SERVICE, name
        for key, allowed in NESTED.items():
            assert set(service.get(key, ())) <= allowed, (name, key)
        assert all(isinstance(value, str) for value in service["environment"].values()), name
        assert {source["source"] for source in service.get("configs", ())} <= set(COMPOSE["configs"])
        assert set(service.get("depends_on", ())) <= set(COMPOSE["services"])


def test_every_component_is_there_and_there_are_two_workers():
    assert set(COMPOSE["services"]) == {"postgres", "redis", *AIRFLOW}
    assert COMPOSE["services"]["worker"]["deploy"]["replicas"] == 2


@pytest.mark.parametrize("name", AIRFLOW)
def test_a_container_is_not_root_and_writes_to_tmp_only(name):
    service = COMPOSE["services"][name]
    assert service["user"] == "50000:0"
    assert service["read_only"] is True
    assert [place.partition(":")[0] for place in service["tmpfs"]] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"volumes", "secrets", "configs"} & set(service)  # Docker cannot put a secret into a read-only container


def test_only_the_api_server_is_reached_from_outside_and_only_from_this_host():
    published = {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service}
    assert published == {"api-server": ["127.0.0.1:8080:8080"]}


def test_no_secret_is_in_the_files():
    example = (FOLDER / ".env.example").read_text()
    empty = re.findall(r"^([A-Z_]+)=$", example, re.MULTILINE)
    assert re.findall(r"^[A-Z_]+=.+$", example, re.MULTILINE) == []
    assert compose_file.variables() == set(empty)
    assert [name for name, service in COMPOSE["services"].items() if "ADMIN_PASSWORDS" in service["environment"]] == ["api-server"]
    text = compose_file.FILE.read_text()
    for line in text.splitlines():
        if (
            re.search(r"PASSWORD|SECRET_KEY|JWT_SECRET|FERNET|//airflow:", line)
            and ":" in line
            and not line.lstrip().startswith("#")
        ):
            assert "${" in line or "$$" in line or "PASSWORDS_FILE" in line or "PASSWORDS" in line, line


def test_variables_of_ours_are_known_and_a_slot_is_free_in_time():
    environment = COMPOSE["x-airflow"]["environment"]
    assert {name for name in environment if name.startswith("MARKET_DATA_")} <= set(settings.BY_NAME)
    scheduler = "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT"
    assert float(environment[scheduler]) + float(environment[f"{scheduler}_DETECTION_INTERVAL"]) <= 25
    for name in AIRFLOW:
        assert environment.items() <= COMPOSE["services"][name]["environment"].items()


def test_every_line_of_the_connections_example_is_a_connection():
    lines = [line for line in (FOLDER / "connections.env.example").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == 2
    for line in lines:
        name, _, value = line.partition("=")
        assert name.startswith("AIRFLOW_CONN_")
        assert {"conn_type", "password", "extra"} <= set(yaml.safe_load(value))
