"""CeleryExecutor as the compose file sets it up: two workers on hosts of their own, one of them killed in mid-run."""

import os
import signal
import time
from contextlib import suppress

import psutil
import pytest

from market_data.config.universes import members
from tests.e2e.celery_stack import BUCKET, running
from tests.services.network import needed, network

pytestmark = pytest.mark.slow

DAG = "polygon_ohlcv_1d"
CALLS, SECONDS = 6, 5.0
SYMBOLS = list(members("sp500_etf")[:24])
SESSIONS = 20  # of January 2012
FREE_WITHIN = 30.0
"""Seconds until a slot is free again whose supervisor was killed."""


@pytest.fixture
def stack():
    needed()
    with network("control", "worker-1", "worker-2") as hosts, running(hosts, [{"calls": CALLS, "seconds": SECONDS}]) as found:
        found.up()
        found.until(
            lambda: all(found.airflow.health().get(part) == "healthy" for part in ("scheduler", "dag_processor", "triggerer"))
        )
        found.until(lambda: found.airflow.dag(DAG))
        yield found


def fetches(stack, state=None):
    instances = stack.airflow.task_instances(DAG, "first")
    return {t["map_index"]: t for t in instances if t["task_id"] == "fetch" and state in (None, t["state"])}


def on(instances, host):
    return {place for place, instance in instances.items() if instance["hostname"] == host.name}


def kill_a_supervisor(worker, running):
    """SIGKILL the supervisor of a running fetch, as the kernel does when memory is short; return the fetch's map index."""
    places = {f"airflow supervisor: {instance['id']}": place for place, instance in running.items()}
    for pid in worker.pids():
        with suppress(psutil.NoSuchProcess):
            if (place := places.get(psutil.Process(pid).cmdline()[0])) is not None:
                os.kill(pid, signal.SIGKILL)
                return place
    raise AssertionError(places)


def seconds_until_free(stack, places):
    """Return for how long fetches that were killed just now keep their slots."""
    begun = time.monotonic()
    stack.until(
        lambda: not places & {place for place, instance in fetches(stack, "running").items() if instance["try_number"] == 1}
    )
    return time.monotonic() - begun


@pytest.mark.timeout(900)
def test_a_worker_is_killed_in_mid_run_and_the_run_ends_green_with_everything_there(stack):
    first, second = stack.workers
    stack.airflow._some(
        "PATCH", "/pools/polygon_api?update_mask=slots", {"pool": "polygon_api", "slots": 8, "include_deferred": False}
    )
    conf = {"symbols": SYMBOLS, "start_date": "2012-01-03", "end_date": "2012-01-31", "endpoint": "range", "batch_size": 3}
    stack.airflow.unpause(DAG)
    stack.airflow.trigger(DAG, {"logical_date": None, "dag_run_id": "first", "conf": {**conf, "max_retries": 3}})

    stack.until(lambda: len(stack.api.calls) >= 2 * CALLS and all(on(fetches(stack, "running"), host) for host in stack.workers))
    fetching = fetches(stack, "running")
    killed = {*on(fetching, first), kill_a_supervisor(second, fetching)}
    assert first.kill() > 4  # with it goes all that the host has on its disk
    assert seconds_until_free(stack, killed) <= FREE_WITHIN

    state = stack.until(lambda: (found := stack.airflow.run(DAG, "first")["state"]) in ("success", "failed") and found, 240)
    assert state == "success"
    tries = {place: instance["try_number"] for place, instance in fetches(stack).items()}
    assert {place for place, number in tries.items() if number > 1} == killed
    assert stack.query("SELECT COUNT(*), COUNT(DISTINCT symbol) FROM silver_prices") == [(len(SYMBOLS) * SESSIONS, len(SYMBOLS))]
    assert len(raw_objects(stack)) == len(SYMBOLS) * SESSIONS
    # Without a limiter that the hosts share, each would make as many calls.
    assert CALLS - 1 <= stack.api.max_in_window(SECONDS) <= CALLS

    assert log_of(stack, next(place for place in range(8) if place not in killed and tries[place] == 1))
    said = stack.python("-m", "airflow", "config", "get-value", "core", "executor")
    assert "CeleryExecutor" in said
    check = "import sys; from market_data.airflow.command import main; sys.exit(main(['check-config']))"
    assert "2 hosts" not in stack.python("-c", check)
    told = stack.python("-c", check, MARKET_DATA_LIMITER_CONN_ID="")
    assert f"tasks ran on 2 hosts ({first.name}, {second.name})" in told, told


def raw_objects(stack):
    import boto3

    client = boto3.client(
        "s3", endpoint_url=stack.s3.endpoint, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="lake/raw/prices/")
    return [found["Key"] for page in pages for found in page["Contents"]]


def log_of(stack, place):
    """Return the lines of a fetch's log; they are in the object store."""
    path = f"/dags/{DAG}/dagRuns/first/taskInstances/fetch/logs/1?map_index={place}"
    lines = stack.airflow._some("GET", path)["content"]
    return [line for line in lines if isinstance(line, dict) and line.get("batch_id")]
