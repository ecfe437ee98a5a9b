"""Defects that campaigns must find: ``--mutant NAME`` breaks the code in each task's process. A campaign that holds then is too weak."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa

from market_data.http.call_state import CallState, Rules
from market_data.lake.store import Lake
from market_data.pipeline import plan, publish
from market_data.quality import gate
from market_data.warehouse.duckdb import DuckDBWarehouse


def _no_transaction() -> None:
    """Each statement of a load is committed by itself (DuckDB)."""
    for name in ("_begin", "_commit", "_rollback"):
        setattr(DuckDBWarehouse, name, lambda self: None)


def _receipt_first() -> None:
    """The objects of a request are written after its receipt."""
    waiting: list[tuple[Callable[..., bool], tuple[Any, ...]]] = []

    def later(inner: Callable[..., bool]) -> Callable[..., bool]:
        def put(lake: Lake, key: str, *rest: Any) -> bool:
            if key.startswith("raw/"):
                waiting.append((inner, (lake, key, *rest)))
                return True
            done = inner(lake, key, *rest)
            if key.startswith("receipts/"):
                while waiting:
                    put_now, values = waiting.pop(0)
                    put_now(*values)
            return done

        return put

    for name in ("put_new", "put_if"):
        setattr(Lake, name, later(getattr(Lake, name)))


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
    """The call of a killed process counts for no window."""
    inner = CallState.advance

    def advance(state: CallState, rules: Rules, now: float) -> None:
        state.running = {permit: end for permit, end in state.running.items() if end > now}
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


MUTANTS: dict[str, Callable[[], None]] = {
    "no-transaction": _no_transaction,
    "receipt-first": _receipt_first,
    "unconditional-put": _unconditional_put,
    "always-complete": _always_complete,
    "bad-rows-pass": _bad_rows_pass,
    "forgotten-calls": _forgotten_calls,
    "clear-keeps": _clear_keeps,
}
