"""Defects that campaigns must find: ``--mutants all`` breaks the code in each task's process, and a small campaign has to fail.

One that holds shows a hole in the invariants or in what is drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pyarrow as pa

from market_data.core import calendar
from market_data.http.call_state import CallState, Rules
from market_data.lake import object_writer
from market_data.lake.store import Lake
from market_data.pipeline import plan, publish
from market_data.quality import gate
from market_data.warehouse.duckdb import DuckDBWarehouse
from tests.chaos.draw import KINDS, LIMITS, Campaign, Step
from tests.chaos.points import Fault


def _no_transaction() -> None:
    """Each statement of a load is committed by itself (DuckDB)."""
    for name in ("_begin", "_commit", "_rollback"):
        setattr(DuckDBWarehouse, name, lambda self: None)


def _receipt_first() -> None:
    """The objects of a request are written after its receipt, before the next call of the lake."""
    waiting: list[Callable[[], Any]] = []
    receipts: list[str] = []

    def later(inner: Callable[..., Any], *, writes: bool) -> Callable[..., Any]:
        def call(lake: Lake, key: str, *rest: Any, **named: Any) -> Any:
            if receipts and waiting:
                due, waiting[:] = list(waiting), []
                for write in due:
                    write()
            if writes and key.startswith("raw/"):
                receipts.clear()
                waiting.append(lambda: inner(lake, key, *rest, **named))
                return True
            receipts.extend([key] if writes and key.startswith("receipts/") else [])
            return inner(lake, key, *rest, **named)

        return call

    for name in ("get", "list", "put_new", "put_if"):
        setattr(Lake, name, later(getattr(Lake, name), writes=name.startswith("put")))


def _unconditional_put() -> None:
    """An object is replaced, whichever version is stored."""

    def put_if(lake: Lake, key: str, body: bytes, etag: str) -> bool:
        import obstore

        obstore.put(lake._store, key, body, use_multipart=False)
        return True

    Lake.put_if = put_if  # type: ignore[method-assign]


def _always_complete() -> None:
    """The completion flag is written, whatever is missing."""
    inner = publish.write_flag
    publish.write_flag = lambda lake, key, document: inner(lake, key, {**document, "complete": True})


def _bad_rows_pass() -> None:
    """Rows that the gate rejects are stored and loaded too."""
    inner = gate.gate

    def judged(*args: Any) -> Any:
        found = inner(*args)
        again = found.bad.select(found.good.column_names).cast(found.good.schema)
        return replace(found, good=pa.concat_tables([found.good, again]))

    gate.gate = judged


def _forgotten_calls() -> None:
    """The call of a killed process counts for no window, and not for the gap between two calls."""
    inner = CallState.advance

    def advance(state: CallState, rules: Rules, now: float) -> None:
        alive = {permit: end for permit, end in state.running.items() if end > now}
        if len(alive) < len(state.running):
            state.running, state.last = alive, 0.0
        inner(state, rules, now)

    CallState.advance = advance  # type: ignore[method-assign]
    Rules.__init__.__defaults__ = (*(Rules.__init__.__defaults__ or ())[:-1], 0.03)


def _clear_keeps() -> None:
    """A cleared run requests only what is missing."""
    inner = plan.plan_run

    def planned(context: Any, *args: Any) -> Any:
        return inner(replace(context, run=replace(context.run, clear_number=0)), *args)

    from market_data import pipeline

    pipeline.plan_run = planned


def _drops_values() -> None:
    """A response without a value replaces it, where the stored one is in a file of another grain."""
    object_writer._completed = lambda dataset, own, rows, beside: rows


@dataclass(frozen=True)
class Mutant:
    """A defect, and the campaign that has to find it: two sessions of two symbols in DuckDB and a folder.

    :param apply: breaks the code of this process. ``dag_id``: the feed.
    """

    apply: Callable[[], None]
    steps: tuple[Step, ...]
    grain: str = "day"
    limit: tuple[int, float] = LIMITS[0]
    dag_id: str = KINDS[0].dag_id


BAD = (Step("bad"), Step("run", 0, 2))
MUTANTS = {
    # Killed between the rows of the load and its audit row.
    "no-transaction": Mutant(_no_transaction, (Step("run", 0, 2, faults=(Fault("kill", "load", "warehouse", 14),)),)),
    "receipt-first": Mutant(_receipt_first, (Step("run", faults=(Fault("kill", "fetch", "lake", 6, True),)),)),
    "unconditional-put": Mutant(
        _unconditional_put,
        # The stopped process has read the symbol's file and has to write it; meanwhile the other session gets into the file.
        (Step("run"), Step("correct"), Step("force", faults=(Fault("stop", "fetch", "lake", 5),))),
        grain="year",
    ),
    "always-complete": Mutant(_always_complete, BAD),
    "bad-rows-pass": Mutant(_bad_rows_pass, BAD),
    "forgotten-calls": Mutant(
        _forgotten_calls, (Step("run", 0, 2, faults=(Fault("kill", "fetch", "sent", 1, True),)),), "year", (2, 15.0)
    ),
    "clear-keeps": Mutant(_clear_keeps, (Step("run", 0, 2), Step("correct"), Step("clear", 0, 2))),
    # A bulk file has adjusted closes, the histories that fill a year file have none.
    "drops-values": Mutant(_drops_values, (Step("run"), Step("force", grain="year")), dag_id="fmp_ohlcv_1d"),
}


def campaign_of(name: str) -> Campaign:
    """Return the campaign that has to fail with a defect."""
    mutant = MUTANTS[name]
    kind = next(kind for kind in KINDS if kind.dag_id == mutant.dag_id)
    sessions = calendar.sessions(kind.first, kind.first + timedelta(days=7))[:2]
    return Campaign(
        0, kind, "file", "duckdb", mutant.grain, ("AAPL", "IBM"), sessions, mutant.steps, 25, limit=mutant.limit, mutant=name
    )
