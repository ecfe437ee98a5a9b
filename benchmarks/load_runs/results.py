"""Results of a load run: states, rows, objects, XComs, calls, times."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import duckdb
import pyarrow.parquet as pq

from benchmarks.load_runs.cases import Case, Rows
from market_data.datasets.registry import dataset
from sandbox.stack.launcher import Stack


@dataclass(frozen=True)
class Found:
    """The measured figures of a case.

    :param problems: sentences; empty where everything is as expected.
    :param peaks: task id -> peak MB. ``scheduler_mb``: before and after.
    :param xcoms: number and bytes of all XComs, and bytes of the largest.
    :param calls: on the server's log; ``planned``: by the planner.
    """

    case: str
    seconds: float
    cpu_seconds: float
    rows: int
    objects: int
    calls: int
    planned: int
    peaks: Mapping[str, int]
    scheduler_mb: tuple[int, int]
    xcoms: tuple[int, int, int]
    page_seconds: float
    tasks: Mapping[str, float]
    problems: Sequence[str] = field(default_factory=tuple)


class Reader:
    """Read what runs left, past the code that wrote it.

    :param lake: folder of the lake.
    """

    def __init__(self, stack: Stack, lake: Path) -> None:
        self._stack, self._lake = stack, lake

    def lake(self, rows: Rows) -> tuple[int, int]:
        """Return the rows and the objects of a dataset in the lake."""
        folder = self._lake / "raw" / dataset(rows.dataset).folder / f"provider={rows.provider}"
        files = list(folder.rglob("*.parquet"))
        return sum(pq.read_metadata(file).num_rows for file in files), len(files)

    def warehouse(self, rows: Rows) -> tuple[int, int]:
        """Return the rows of a dataset in silver, and how many different keys they have."""
        table = dataset(rows.dataset).table
        where, key = f"provider = '{rows.provider}'", "*"
        if rows.dataset.startswith("ohlcv"):
            where, key = f"{where} AND timeframe = '{rows.dataset[-2:]}'", "DISTINCT (symbol, bar_time)"
        with duckdb.connect(str(self._stack.paths.warehouse), read_only=True) as warehouse:
            found = warehouse.execute(f"SELECT COUNT(*), COUNT({key}) FROM silver_{table} WHERE {where}").fetchone()
        return found or (0, 0)

    def report(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return the report of a run; ``flag`` tells if its flag is there. Empty without a report."""
        published = self._stack.airflow.result(dag_id, run_id, "publish") or {}
        if not published.get("report"):
            return {}
        file = self._lake / published["report"]
        return {**json.loads(file.read_text()), "flag": file.with_suffix(".flag").exists()}

    def xcoms(self) -> tuple[int, int, int]:
        """Return the number and bytes of all XComs, and the bytes of the largest."""
        with sqlite3.connect(f"file:{self._stack.paths.airflow_home / 'airflow.db'}?mode=ro", uri=True) as database:
            found = database.execute("SELECT COUNT(*), COALESCE(SUM(LENGTH(value)), 0), COALESCE(MAX(LENGTH(value)), 0) FROM xcom")
            return tuple(found.fetchone())

    def page(self, dag_id: str, run_id: str) -> float:
        """Return the seconds that the data of the page Run takes."""
        airflow = self._stack.airflow
        airflow.run(dag_id, run_id)  # logs in
        url, began = f"{airflow.url}/market-data/api/run", perf_counter()
        response = airflow._http.get(url, params={"dag_id": dag_id, "run_id": run_id}, timeout=120)  # noqa: SLF001  it has the token
        response.raise_for_status()
        return perf_counter() - began


def problems_of_rows(case: Case, reader: Reader) -> tuple[list[str], int, int]:
    """Compare lake and warehouse with what was expected; return the problems, the rows and the objects."""
    problems, total, objects = [], 0, 0
    for rows in case.rows:
        name = f"{rows.provider} {rows.dataset}"
        (stored, files), (loaded, distinct) = reader.lake(rows), reader.warehouse(rows)
        wanted = stored if rows.count is None else rows.count
        for where, found in (("lake", stored), ("warehouse", loaded), ("warehouse, different keys", distinct)):
            if found != wanted or not found:
                problems.append(f"{name}: {found:,} rows in the {where}, not {wanted:,}")
        if rows.objects is not None and files != rows.objects:
            problems.append(f"{name}: {files:,} objects, not {rows.objects:,}")
        total, objects = total + stored, objects + files
    return problems, total, objects


def problems_of_run(name: str, run: Mapping[str, Any], report: Mapping[str, Any]) -> list[str]:
    """Return why a run is not green and complete."""
    problems = [] if run["state"] == "success" else [f"{name} is {run['state']}"]
    if not report:
        return [*problems, f"{name} has no report"]
    problems += [f"{name}: {reason}" for reason in report["red"][:5]]
    problems += [] if report["flag"] else [f"{name} has no flag"]
    return problems


def problems_of_figures(case: Case, found: Found) -> list[str]:
    """Return which bounds are exceeded."""
    problems = [f"{task} takes {peak} MB, more than {case.peak_mb}" for task, peak in found.peaks.items() if peak > case.peak_mb]
    if not any(found.peaks.values()):
        problems.append("no process of a task was seen")
    grown = found.scheduler_mb[1] - found.scheduler_mb[0]
    if grown > case.scheduler_mb:
        problems.append(f"the scheduler grew by {grown} MB, more than {case.scheduler_mb}")
    if found.calls > found.planned or (found.calls < found.planned and not case.calls_may_be_fewer):
        problems.append(f"{found.calls:,} calls on the server's log, {found.planned:,} planned")
    if found.page_seconds > case.page_seconds:
        problems.append(f"the page Run takes {found.page_seconds:.1f} s, more than {case.page_seconds}")
    return problems
