"""An audit finds a hole, approval is asked for and given over REST, and the feed's own run fills it: on a real scheduler."""

import time
from datetime import date

import pytest

from sandbox.stack.environment import BUCKET
from tests.e2e.conftest import DAG, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

MAINTAIN = "maintain_coverage"
SYMBOLS = ["AAPL", "MSFT"]
FIRST, HOLE, LAST = date(2013, 1, 2), date(2013, 1, 4), date(2013, 1, 9)
KEY = f"raw/prices/provider=polygon/symbol=AAPL/year=2013/month=01/AAPL-{HOLE}.parquet"
SPAN = {"start_date": str(FIRST), "end_date": str(LAST)}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with running(tmp_path_factory.mktemp("repair")) as world:
        world.stack.holds.add(DAG)
        for dag_id in (DAG, MAINTAIN):
            world.parsed(dag_id)
            world.airflow.unpause(dag_id)
        run = world.run(symbols=SYMBOLS, **SPAN)
        assert run["state"] == "success", world.trouble(run)
        yield world


def maintain(world, **conf):
    body = {
        "logical_date": None,
        "conf": {"feeds": [DAG], "symbols": SYMBOLS, **SPAN, "repair": True, "dry_run": False, "max_calls": 0, **conf},
    }
    return world.airflow.trigger(MAINTAIN, body)


def details(run):
    return f"/dags/{MAINTAIN}/dagRuns/{run['dag_run_id']}/taskInstances/approve/-1/hitlDetails"


def decide(world, run, option):
    """Respond as often as approval is requested: a response within a second may end the attempt, which is then repeated."""
    world.until(lambda: asks(world, run), seconds=600)
    time.sleep(5)  # the scheduler has seen the end of the task's process by then, as before any person responds
    asked = world.api("GET", details(run))
    assert "above the budget: 1 calls, max_calls is 0" in asked["subject"]
    assert "1 cells in 1 calls" in asked["body"]

    def ended():
        if asks(world, run) and not world.api("GET", details(run))["response_received"]:
            world.api("PATCH", details(run), {"chosen_options": [option], "params_input": {}})
        return world.airflow.run(MAINTAIN, run["dag_run_id"])["state"] in ("success", "failed")

    world.until(ended, seconds=1200)
    return world.airflow.run(MAINTAIN, run["dag_run_id"])


def asks(world, run):
    return world.states(run).get(("approve", -1)) == "awaiting_input"


def exists(world):
    return world.s3.list_objects_v2(Bucket=BUCKET, Prefix=KEY)["KeyCount"] == 1


def test_a_hole_is_found_approved_and_filled_by_the_feeds_own_run(world):
    before = world.versions("raw/")
    body = world.read(KEY)
    world.s3.delete_object(Bucket=BUCKET, Key=KEY)
    world.forget_calls()

    shown = world.wait(maintain(world, dry_run=True), seconds=900)
    assert shown["state"] == "success", world.trouble(shown)
    assert not world.calls()

    rejected = maintain(world)
    assert decide(world, rejected, "Reject")["state"] == "success", world.trouble(rejected)
    assert not world.calls()
    assert not exists(world)
    assert "nothing was requested" in world.airflow.run(MAINTAIN, rejected["dag_run_id"])["note"]

    approved = maintain(world)
    done = decide(world, approved, "Approve")
    assert done["state"] == "success", world.trouble(approved)
    assert len(world.calls()) == 1
    assert exists(world)
    assert len(world.read(KEY)) == len(body)
    after = world.versions("raw/")
    assert {key for key in after if after[key] != before[key]} == {KEY}

    again = world.wait(maintain(world), seconds=900)
    assert again["state"] == "success", world.trouble(again)
    assert world.states(again)["approve", -1] == "skipped"
    assert len(world.calls()) == 1


def test_a_paused_feed_is_named_and_nothing_is_requested(world):
    world.s3.delete_object(Bucket=BUCKET, Key=KEY)
    world.forget_calls()
    world.api("PATCH", f"/dags/{DAG}?update_mask=is_paused", {"is_paused": True})
    run = world.wait(maintain(world, max_calls=10), seconds=900)
    assert run["state"] == "failed"
    assert f"{DAG}: paused" in world.trouble(run)
    assert not world.calls()
