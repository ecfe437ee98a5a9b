"""The maintenance DAGs on a real scheduler: a hole is found, approved over REST and filled; files are folded; members are kept."""

import time
from datetime import date

import pytest

from sandbox.index_pages import Company, IndexPages, page
from sandbox.stack.environment import BUCKET
from tests.e2e.conftest import DAG, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

MAINTAIN = "maintain_coverage"
SYMBOLS = ["AAPL", "MSFT"]
FIRST, HOLE, LAST = date(2013, 1, 2), date(2013, 1, 4), date(2013, 1, 9)
KEY = f"raw/prices/provider=polygon/symbol=AAPL/year=2013/month=01/AAPL-{HOLE}.parquet"
SPAN = {"start_date": str(FIRST), "end_date": str(LAST)}


COMPANIES = [
    Company(f"{chr(65 + n % 26)}{chr(65 + n // 26)}", f"Company {n}", date(2011, 1, 3), f"{n + 1:010d}") for n in range(500)
]


@pytest.fixture(scope="module")
def pages():
    with IndexPages({"/page": page(COMPANIES)}) as pages:
        yield pages


@pytest.fixture(scope="module")
def world(tmp_path_factory, pages):
    with running(tmp_path_factory.mktemp("repair"), MARKET_DATA_SP500_SOURCES=f"{pages.url}/page") as world:
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
    assert "above the budget: 1 call, max_calls is 0" in asked["subject"]
    assert "1 cell in 1 call" in asked["body"]

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


def run_of(world, dag_id, **conf):
    world.parsed(dag_id)
    world.airflow.unpause(dag_id)
    return world.wait(world.airflow.trigger(dag_id, {"logical_date": None, "conf": conf}), seconds=900)


def test_members_are_shown_written_and_refused_when_many_leave_at_once(world, pages):
    key, only = "metadata/indices/sp500.csv", {"indices": ["sp500"]}
    shown = run_of(world, "maintain_universes", **only)
    assert shown["state"] == "success", world.trouble(shown)
    assert not world.versions("metadata/indices/")
    written = run_of(world, "maintain_universes", **only, dry_run=False)
    assert written["state"] == "success", world.trouble(written)
    first = world.read(key)
    assert first.count(b"\n") >= 500
    pages.pages["/page"] = page(COMPANIES[:400])
    refused = run_of(world, "maintain_universes", **only, dry_run=False)
    assert refused["state"] == "failed"
    log = f"/dags/maintain_universes/dagRuns/{refused['dag_run_id']}/taskInstances/update/logs/1?map_index=0"
    assert "100 leave at once" in str(world.api("GET", log)["content"])
    assert world.read(key) == first


def test_day_files_are_folded_and_a_run_of_the_same_dates_makes_no_call(world):
    """The last test of the module: the feed is paused before it."""
    days = "raw/prices/provider=polygon/symbol=MSFT/year=2013/month=01/"
    before = world.s3.list_objects_v2(Bucket=BUCKET, Prefix=days)["KeyCount"]
    assert before > 0
    only = {"feeds": [DAG], "retention": False, "wait_minutes": 0}
    shown = run_of(world, "maintain_lake", **only)
    assert shown["state"] == "success", world.trouble(shown)
    assert world.s3.list_objects_v2(Bucket=BUCKET, Prefix=days)["KeyCount"] == before
    folded = run_of(world, "maintain_lake", **only, dry_run=False)
    assert folded["state"] == "success", world.trouble(folded)
    assert world.s3.list_objects_v2(Bucket=BUCKET, Prefix=days)["KeyCount"] == 0
    assert len(world.read("raw/prices/provider=polygon/symbol=MSFT/year=2013/MSFT-2013.parquet"))
    world.airflow.unpause(DAG)
    world.forget_calls()
    again = world.run(symbols=["MSFT"], **SPAN)
    assert again["state"] == "success", world.trouble(again)
    assert not world.calls()
