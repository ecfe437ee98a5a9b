"""The attempts of a run: what each of them fetched, and what it cost.

A clear begins a new attempt. Batches that are not cleared keep the receipts of an earlier one, so the new report has their figures again.
Whoever adds up reports counts each attempt once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from market_data.core.run import RunInfo
from market_data.pipeline.run_result import RunResult

_ATTEMPT = re.compile(r"/run=[0-9a-f]+-(\d+)/")


def attempt_of(prefix: str, run: RunInfo) -> int:
    """Return the clear number of the attempt that wrote the receipts below ``prefix``.

    It is that of ``run`` if the prefix does not tell.
    """
    found = _ATTEMPT.search(f"{prefix}/")
    return int(found[1]) if found else run.clear_number


def attempts_of(run: RunInfo, result: RunResult, calls: int) -> list[dict[str, Any]]:
    """Return what each attempt fetched: ``attempt``, ``started`` (ISO, UTC), ``api_calls``, ``cost_usd``.

    The charge is the planned one: the attempt that planned has it as a whole, a later one in proportion to the cells of its batches.

    :param calls: made for all batches of the run, those of earlier attempts included.
    """
    cost, own = result.summary.get("cost_usd"), run.clear_number
    planned = int(str(result.summary.get("run_key", run.key)).rpartition("-")[2])
    size, cells, made = {batch.id: batch.cells for batch in result.batches}, Counter[int](), Counter[int]()
    for receipt in result.receipts:
        attempt = attempt_of(receipt.prefix, run)
        cells[attempt] += size.get(receipt.batch_id, 0)
        made[attempt] += receipt.calls
    made[own] += calls - made.total()  # of failed batches
    shares = {attempt: count / max(1, result.planned) for attempt, count in cells.items()} | {planned: 1.0}
    started = {planned: result.summary.get("run_started"), own: run.started.isoformat()}
    return [
        {
            "attempt": attempt,
            "started": started.get(attempt) or started[own],
            "api_calls": made[attempt],
            "cost_usd": None if cost is None else cost * shares.get(attempt, 0.0),
        }
        for attempt in sorted({planned, own, *cells})
    ]


def each_once(reports: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the attempts in reports, each once, with ``dag_id`` and ``end_time``.

    The larger of two figures on an attempt counts.

    :param reports: have ``dag_id``, ``run_id``, ``end_time`` (ISO, UTC) and ``attempts``. ``end_time`` is that of the first report on the
        attempt. A report of an earlier version has no ``attempts``; its own ``api_calls`` and ``cost_usd`` count.
    """
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for number, report in enumerate(sorted(reports, key=lambda one: str(one["end_time"]))):
        common = {"dag_id": report["dag_id"], "end_time": report["end_time"]}
        if not report.get("attempts"):
            found[number,] = {"started": report.get("start_time"), **common, **{name: report.get(name) for name in FIGURES}}
            continue
        for one in report["attempts"]:
            known = found.setdefault((report["dag_id"], report["run_id"], one["attempt"]), {**common, **one})
            known.update({name: max(known[name], one[name]) for name in FIGURES if None not in (known[name], one[name])})
    return list(found.values())


FIGURES = ("api_calls", "cost_usd")
