"""`deploy/kubernetes`: keys of the chart and of a pod, no secrets, what a pod may do, and the memory of each task.

The pod template was valid against the strict schema of Kubernetes 1.37 (package kubernetes-validate) when it was written. That package
has 100 MB, so the keys are checked against a list here.
"""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from market_data.core import settings

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
VALUES = yaml.safe_load((FOLDER / "values.yaml").read_text())
POD = yaml.safe_load((FOLDER / "pod_template.yaml").read_text())

# https://airflow.apache.org/docs/helm-chart/stable/parameters-ref.html; workers.kubernetes since 1.20, its release notes
CHART = {
    "executor", "airflowVersion", "airflowHome", "defaultAirflowRepository", "defaultAirflowTag", "data.metadataSecretName",
    "fernetKeySecretName", "apiSecretKeySecretName", "jwtSecretName", "extraEnvFrom", "env", "config", "uid", "gid",
    "securityContexts.pod", "securityContexts.containers", "volumes", "volumeMounts", "airflowLocalSettings",
    "workers.kubernetes.resources", "scheduler.replicas", "scheduler.resources", "apiServer.replicas", "apiServer.resources",
    "dagProcessor.resources", "triggerer.persistence.enabled", "triggerer.resources", "postgresql.enabled", "redis.enabled",
    "statsd.enabled",
}  # fmt: skip
# https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
SPEC = {"restartPolicy", "serviceAccountName", "automountServiceAccountToken", "securityContext", "containers", "volumes"}
CONTAINER = {"name", "image", "env", "envFrom", "resources", "securityContext", "volumeMounts"}
POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": 50000,
    "runAsGroup": 0,
    "fsGroup": 0,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
UNITS = {"Mi": 1, "Gi": 1024}


def mebibytes(text):
    return float(text[:-2]) * UNITS[text[-2:]]


def paths(value, known, path=""):
    """Yield the paths of a mapping down to those that are known."""
    for key, inner in value.items():
        here = f"{path}{key}"
        if here in known or not isinstance(inner, dict):
            yield here
        else:
            yield from paths(inner, known, f"{here}.")


def test_values_have_keys_of_the_chart_only():
    assert set(paths(VALUES, CHART)) == CHART


def test_settings_of_airflow_exist_in_this_version():
    from airflow.configuration import conf

    described = conf.configuration_description
    for section, options in VALUES["config"].items():
        if section != "kubernetes_executor":  # of a provider that is not installed here
            assert set(options) <= set(described[section]["options"]), section
        assert all(isinstance(value, str) for value in options.values())
    scheduler = VALUES["config"]["scheduler"]
    names = "task_instance_heartbeat_timeout", "task_instance_heartbeat_timeout_detection_interval"
    assert sum(float(scheduler[name]) for name in names) <= 25


def test_the_pod_template_has_keys_of_a_pod_only():
    assert (POD["apiVersion"], POD["kind"], set(POD)) == ("v1", "Pod", {"apiVersion", "kind", "metadata", "spec"})
    assert set(POD["spec"]) == SPEC
    (container,) = POD["spec"]["containers"]
    assert set(container) == CONTAINER
    assert container["name"] == "base"
    assert POD["spec"]["restartPolicy"] == "Never"


def test_pods_are_not_root_and_write_to_tmp_only():
    (container,) = POD["spec"]["containers"]
    assert POD["spec"]["securityContext"] == VALUES["securityContexts"]["pod"] == POD_SECURITY
    assert container["securityContext"] == VALUES["securityContexts"]["containers"] == CONTAINER_SECURITY
    assert container["volumeMounts"] == VALUES["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert POD["spec"]["volumes"] == VALUES["volumes"]
    assert (VALUES["uid"], VALUES["gid"]) == (50000, 0)


@pytest.mark.parametrize("env", [VALUES["env"], POD["spec"]["containers"][0]["env"]], ids=["values", "pod"])
def test_environment_has_known_variables_and_no_secret(env):
    names = {entry["name"] for entry in env}
    assert {name for name in names if name.startswith("MARKET_DATA_")} <= set(settings.BY_NAME)
    assert "MARKET_DATA_LIMITER_CONN_ID" in names
    assert not [name for name in names if name.startswith("AIRFLOW_CONN_") or name.endswith(("_SECRET", "_KEY"))]
    assert all(isinstance(entry["value"], str) for entry in env)


@pytest.mark.parametrize(("task", "least", "limit"), [("fetch", 300, 1024), ("check", 500, 2048), ("load", 500, 2048)])
def test_the_pod_of_each_task_has_the_memory_it_needs(task, least, limit):
    names = {}
    exec(VALUES["airflowLocalSettings"], names)
    resources = SimpleNamespace(requests={"cpu": "250m", "memory": "1Mi"}, limits=None)
    other = SimpleNamespace(name="sidecar", resources=None)
    containers = [SimpleNamespace(name="base", resources=resources), other]
    pod = SimpleNamespace(metadata=SimpleNamespace(labels={"task_id": task}), spec=SimpleNamespace(containers=containers))
    names["pod_mutation_hook"](pod)
    assert least + 150 <= mebibytes(resources.requests["memory"]) < mebibytes(resources.limits["memory"]) == limit
    assert resources.requests["cpu"] == "250m"
    assert other.resources is None


def test_a_template_without_labels_has_memory_too():
    names = {}
    exec(VALUES["airflowLocalSettings"], names)
    base = SimpleNamespace(name="base", resources=SimpleNamespace(requests=None, limits=None))
    pod = SimpleNamespace(metadata=SimpleNamespace(labels=None), spec=SimpleNamespace(containers=[base]))
    names["pod_mutation_hook"](pod)
    assert (base.resources.requests, base.resources.limits) == ({"memory": "512Mi"}, {"memory": "1Gi"})
