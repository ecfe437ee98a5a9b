"""`publish` of a run of ten years has the time that its events take, wherever Airflow is set up by files of ours."""

from pathlib import Path

import pytest
import yaml

from market_data.airflow.large_runs import slow_publish
from sandbox.stack.environment import Paths, Ports, process_env
from tests.deploy import compose_file

DEPLOY = Path(__file__).parents[2] / "deploy"
NAME = "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT"


def of_compose():
    return yaml.safe_load(compose_file.FILE.read_text())["x-airflow"]["environment"][NAME]


def of_chart():
    return yaml.safe_load((DEPLOY / "kubernetes" / "values.yaml").read_text())["config"]["workers"]["execution_api_timeout"]


def of_pod():
    (container,) = yaml.safe_load((DEPLOY / "kubernetes" / "pod_template.yaml").read_text())["spec"]["containers"]
    return next(one["value"] for one in container["env"] if one["name"] == NAME)


def of_local_stack():
    return process_env({}, Paths.of(DEPLOY.parent, {}), Ports())[NAME]


@pytest.mark.parametrize("setting", [of_compose, of_chart, of_pod, of_local_stack])
def test_ten_years_are_reported_before_the_time_out(setting):
    assert slow_publish(2516, float(setting())) == ""
