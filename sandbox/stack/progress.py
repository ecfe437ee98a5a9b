"""How a run is getting on: worked out of what Airflow's REST API says, and put into words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

STAGES = {
    "plan": "planning",
    "fetch": "fetching",
    "check": "checking",
    "load": "loading",
    "publish": "publishing",
    "verdict": "judging",
}
FINISHED = ("success", "failed", "skipped", "upstream_failed", "removed")
START_SPAN = timedelta(seconds=8)  # a run that may start does so sooner
FAILED = ("failed", "upstream_failed")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment.

    :param state: Airflow's word: ``queued``, ``running``, ``success``, ``failed``.
    :param stage: what it is doing, one word.
    :param is_behind: it waits for an earlier run of the DAG.
    :param batches: batches planned, or None while the plan is not made.
    :param elapsed: since the run began.
    :param remaining: an estimate for the batches to come; None where there is nothing to go by.
    :param failed_tasks: tasks that are red, with the batch's label where there is one.
    """

    state: str
    stage: str
    is_behind: bool = False
    batches: int | None = None
    batches_done: int = 0
    batches_failed: int = 0
    batches_retrying: int = 0
    symbols: int = 0
    symbols_ok: int = 0
    symbols_failed: int = 0
    rows: int = 0
    quarantined: int = 0
    calls: int = 0
    elapsed: timedelta = timedelta()
    remaining: timedelta | None = None
    failed_tasks: tuple[str, ...] = ()

    @property
    def is_over(self) -> bool:
        return self.state in ("success", "failed")


def observe(
    run: Mapping[str, Any],
    instances: Sequence[Mapping[str, Any]],
    plan: Sequence[Mapping[str, Any]] | None,
    receipts: Mapping[int, Mapping[str, Any]],
    now: datetime,
) -> Snapshot:
    """Return a snapshot of a run.

    :param run: the dag run from Airflow's REST API.
    :param instances: its task instances.
    :param plan: the batches from ``plan``, as JSON; None until it has finished.
    :param receipts: the results of the finished ``fetch`` tasks, by map index.
    :param now: UTC.
    """
    fetches = [instance for instance in instances if instance["task_id"] == "fetch" and instance["map_index"] >= 0]
    done = [instance for instance in fetches if instance["state"] in FINISHED]
    failed = [instance for instance in fetches if instance["state"] in FAILED]
    ok, not_ok = _symbols(plan or [], receipts, {instance["map_index"] for instance in failed})
    return Snapshot(
        state=run["state"],
        stage=_stage(run["state"], instances),
        is_behind=run["state"] == "queued" and now - (_moment(run.get("queued_at")) or now) > START_SPAN,
        batches=None if plan is None else len(plan),
        batches_done=len(done),
        batches_failed=len(failed),
        batches_retrying=sum(instance["state"] == "up_for_retry" for instance in fetches),
        symbols=len(symbols(plan or [])),
        symbols_ok=len(ok),
        symbols_failed=len(not_ok),
        rows=_sum(receipts, "rows_landed"),
        quarantined=_sum(receipts, "rows_quarantined"),
        calls=_sum(receipts, "calls"),
        elapsed=_elapsed(run, now),
        remaining=_remaining(fetches, done, now),
        failed_tasks=tuple(_name(instance) for instance in instances if instance["state"] == "failed"),
    )


def symbols(batches: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return all symbols in ``batches``."""
    return {symbol for batch in batches for block in batch["blocks"] for symbol in block["symbols"]}


def line(snapshot: Snapshot) -> str:
    """Return a snapshot as one line of plain text."""
    return ", ".join([f"{snapshot.stage} {_batches(snapshot)}".strip(), *figures(snapshot), *times(snapshot)])


def figures(snapshot: Snapshot) -> list[str]:
    """Return the progress so far as text; empty before the first batch has finished."""
    if snapshot.is_behind:
        return ["an earlier run of the DAG goes first"]
    if not snapshot.batches_done:
        return []
    parts = [f"{snapshot.symbols_ok:,} of {snapshot.symbols:,} symbols fetched", f"{snapshot.symbols_failed:,} failed"]
    parts += [f"{snapshot.rows:,} rows"]
    parts += [f"{snapshot.quarantined:,} quarantined"] if snapshot.quarantined else []
    parts += [f"{snapshot.calls:,} calls"]
    parts += [f"{snapshot.batches_failed} batches failed"] if snapshot.batches_failed else []
    parts += [f"{snapshot.batches_retrying} batches to be tried again"] if snapshot.batches_retrying else []
    return parts


def times(snapshot: Snapshot) -> list[str]:
    """Return the elapsed time, and the estimated time that the batches still need."""
    remaining = [f"about {seconds(snapshot.remaining)} left"] if snapshot.remaining else []
    return [seconds(snapshot.elapsed), *remaining]


def seconds(span: timedelta) -> str:
    """Format a duration: ``12 s``, ``3 min 05 s``, ``2 h 07 min``."""
    total = round(span.total_seconds())
    if total < 60:
        return f"{total} s"
    return f"{total // 60} min {total % 60:02} s" if total < 3600 else f"{total // 3600} h {total % 3600 // 60:02} min"


def _batches(snapshot: Snapshot) -> str:
    return f"{snapshot.batches_done}/{snapshot.batches} batches" if snapshot.batches else ""


def _stage(state: str, instances: Iterable[Mapping[str, Any]]) -> str:
    if state in ("queued", "success", "failed"):
        return {"queued": "waiting", "success": "done", "failed": "failed"}[state]
    open_tasks = {instance["task_id"] for instance in instances if instance["state"] not in FINISHED}
    return next((word for task, word in STAGES.items() if task in open_tasks), "ending")


def _symbols(
    plan: Sequence[Mapping[str, Any]], receipts: Mapping[int, Mapping[str, Any]], failed: set[int]
) -> tuple[set[str], set[str]]:
    """Return the symbols in finished batches, and those that failed in any batch.

    A market-wide batch counts for all symbols.
    """
    not_ok = {symbol for receipt in receipts.values() for symbol in receipt["failed"]}
    not_ok |= symbols(plan[index] for index in failed if index < len(plan))
    came = symbols(plan[index] for index in receipts if index < len(plan))
    return came - not_ok, not_ok


def _sum(receipts: Mapping[int, Mapping[str, Any]], key: str) -> int:
    return sum(int(receipt[key]) for receipt in receipts.values())


def _elapsed(run: Mapping[str, Any], now: datetime) -> timedelta:
    begin = _moment(run.get("start_date"))
    return (_moment(run.get("end_date")) or now) - begin if begin else timedelta()


def _remaining(fetches: Sequence[Mapping[str, Any]], done: Sequence[Mapping[str, Any]], now: datetime) -> timedelta | None:
    starts = [moment for instance in fetches if (moment := _moment(instance.get("start_date")))]
    if not starts or not done or len(done) == len(fetches):
        return None
    return (now - min(starts)) / len(done) * (len(fetches) - len(done))


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _name(instance: Mapping[str, Any]) -> str:
    if instance["map_index"] < 0:
        return str(instance["task_id"])
    label = instance.get("rendered_map_index") or instance["map_index"]
    return f"{instance['task_id']}[{label}]"
