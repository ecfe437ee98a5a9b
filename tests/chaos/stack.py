"""Kill processes of the real stack while runs are at work: scheduler, api-server, supervisors, tasks and the rest.

The stack's watchdog starts components again; Airflow's retries and heartbeats do the rest. A run that is red all the same is cleared
once everything is well. In the end every bar is there once, and no window of the limit is over.
"""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil

from market_data.config.universes import members
from sandbox.http import Call, max_in_window
from tests.e2e.conftest import LIMITS

SYMBOLS = list(members("sp500_etf")[:24])
SESSIONS = 22
"""Of May 2012."""
COMPONENTS = ("scheduler", "api-server", "dag-processor", "triggerer", "s3")
TARGETS = (*COMPONENTS, "supervisor", "supervisor", "task", "task")
WORKER = "airflow worker -- LocalExecutor"
"""First words of the title of a worker's process; then come the task's id, or ``<idle>``."""
FAULTS = ("server_error", "truncated", "reset", "throttled", "html", "bad_gzip")


@dataclass
class Killed:
    """What a campaign on the stack did.

    :param targets: what was killed, in order.
    """

    targets: list[str] = field(default_factory=list)
    cleared: int = 0


def stack_campaign(world: Any, seed: int, kills: int = 6) -> Killed:
    """Make two runs of the same sessions, kill ``kills`` processes meanwhile, and check what there is in the end.

    :raises AssertionError: an invariant does not hold.
    """
    rng = random.Random(seed)
    done = Killed()
    world.resize("polygon_api", 2)
    for kind in rng.sample(FAULTS, 3):
        world.control("POST", "faults", kind=kind, match="range", times=2)
    dates = {"start_date": "2012-05-01", "end_date": "2012-05-31", "endpoint": "range", "batch_size": 3, "max_retries": 5}
    half = len(SYMBOLS) // 2
    runs = [world.trigger(symbols=SYMBOLS[:half], **dates), world.trigger(symbols=SYMBOLS[half:], **dates)]
    calls = 0
    for _ in range(kills):
        calls += rng.randint(1, 4)
        _await(lambda wanted=calls: len(_calls(world)) >= wanted or _ended(world, runs))
        if target := _kill(world, rng.choice(TARGETS)):
            done.targets.append(target)
    world.resize("polygon_api", 2)
    for run in runs:
        for _ in range(3):
            if _tried(lambda run=run: world.wait(run, 900))["state"] == "success":
                break
            world.control("DELETE", "faults")
            _tried(lambda run=run: world.clear(run))
            done.cleared += 1
        found = _tried(lambda run=run: world.wait(run, 900))
        assert found["state"] == "success", world.trouble(found)
    _check(world)
    return done


def _check(world: Any) -> None:
    where = "provider = 'polygon' AND timeframe = '1d' AND bar_time BETWEEN TIMESTAMP '2012-05-01' AND TIMESTAMP '2012-05-31'"
    found = world.query(f"SELECT COUNT(*) AS n, COUNT(DISTINCT (symbol, bar_time)) AS cells FROM silver_prices WHERE {where}")
    assert found == [{"n": len(SYMBOLS) * SESSIONS, "cells": len(SYMBOLS) * SESSIONS}]
    bronze = world.query(f"SELECT COUNT(*) AS n FROM bronze_prices WHERE {where}")
    assert bronze == [{"n": len(SYMBOLS) * SESSIONS}], "a bar has more than one version"
    for symbol in SYMBOLS:
        objects = world.versions(f"raw/prices/provider=polygon/symbol={symbol}/year=2012/month=05/")
        assert len(objects) == SESSIONS, symbol
    staged = world.s3.list_objects_v2(Bucket="market-data", Prefix="staging/ohlcv-1d/provider=polygon/")
    assert staged["KeyCount"] == 0, [one["Key"] for one in staged["Contents"]]
    calls = [Call(**call) for call in world.calls()]
    over = [(w, max_in_window(calls, w["seconds"])) for w in LIMITS if max_in_window(calls, w["seconds"]) > w["calls"]]
    assert over == [], "a window of the limit is over"


def _kill(world: Any, target: str) -> str:
    """Send SIGKILL to a process of the stack; return what it was, empty if there is none now."""
    records = world.stack.registry.records()
    if target in COMPONENTS:
        if target not in records:
            return ""
        os.kill(records[target].pid, signal.SIGKILL)
        return target
    process = _of_task(psutil.Process(records["scheduler"].pid), target)
    if process is None:
        return ""
    os.kill(process.pid, signal.SIGKILL)
    return target


def _of_task(scheduler: psutil.Process, target: str) -> psutil.Process | None:
    """Return a process below the scheduler: the supervisor of a task, which is a worker of the executor at work, or the task below it.

    Idle workers are left alone: one of them holds the lock of Airflow's queue, and with it killed no other worker gets a task.
    """
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with contextlib.suppress(psutil.Error):
            titles = {one: " ".join(one.cmdline()) for one in scheduler.children(recursive=True)}
            at_work = [one for one, title in titles.items() if title.startswith(WORKER) and "<idle>" not in title]
            tasks = [task for one in at_work for task in one.children() if task.status() != psutil.STATUS_ZOMBIE]
            if tasks:
                return tasks[-1] if target == "task" else tasks[-1].parent()
        time.sleep(0.1)
    return None


def _calls(world: Any) -> list[Any]:
    return _tried(world.calls)


def _ended(world: Any, runs: list[Any]) -> bool:
    return all(
        _tried(lambda run=run: world.airflow.run(run["dag_id"], run["dag_run_id"]))["state"] in ("success", "failed")
        for run in runs
    )


def _await(holds: Callable[[], bool], seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "nothing goes on"
        time.sleep(0.1)


def _tried(call: Callable[[], Any], seconds: float = 180) -> Any:
    """Return the result of a call to a server that may be down for a moment."""
    until = time.monotonic() + seconds
    while True:
        try:
            return call()
        except AssertionError:
            raise
        except Exception:
            if time.monotonic() > until:
                raise
            time.sleep(1)
