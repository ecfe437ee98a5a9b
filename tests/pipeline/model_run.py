"""The runs of a feed against the model vendor, task by task, as the scheduler makes them: retried, killed, cleared, interleaved."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from tempfile import NamedTemporaryFile
from typing import Any

import duckdb
import pyarrow as pa
from obstore.store import MemoryStore

from market_data import pipeline
from market_data.airflow import tasks
from market_data.config.run_params import RunParams
from market_data.core import calendar
from market_data.core.batch import Batch
from market_data.core.capabilities import Shape
from market_data.core.errors import MarketDataError, QualityError, WarehouseError
from market_data.core.outcome import Receipt, Verdict
from market_data.core.run import RunInfo
from market_data.lake import parquet
from market_data.lake.layout import Layout
from market_data.lake.store import Lake
from market_data.pipeline.run_sessions import Wanted, resolve_sessions
from market_data.quality.checkpoint_result import CheckpointResult
from market_data.warehouse import WarehouseConnection
from market_data.warehouse.duckdb import DuckDBWarehouse
from tests.pipeline.model_vendor import ModelHook, Vendor
from tests.pipeline.runs import feed_of, migrated

DECODE = parquet.decode
RUN_AT = time(21)
"""When the run of a session is due, New York."""


class Killed(BaseException):
    """The worker ends here."""


class MemoryLake(Lake):
    """A lake in memory, without threads.

    It ends the worker after ``left`` more changes, unless that is None. ``interruption`` is called once, before the next row is written.
    """

    def __init__(self, objects: Mapping[str, bytes] | None = None) -> None:
        super().__init__("memory:///lake", MemoryStore())
        self.left: int | None = None
        self.interruption: Callable[[], None] | None = None
        for key, body in (objects or {}).items():
            super().put_new(key, body)

    def objects(self) -> dict[str, bytes]:
        return {key: self.get(key).body for key, _ in self.list("")}

    def each(self, operation, items, *, concurrency=1):
        return map(operation, items)

    def _change(self, name, *args):
        interruption = self.interruption
        if interruption is not None and args[0].startswith("raw/"):
            self.interruption = None
            interruption()
        done = getattr(Lake, name)(self, *args)
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise Killed
        return done

    def put_new(self, key, body):
        return self._change("put_new", key, body)

    def put_if(self, key, body, etag):
        return self._change("put_if", key, body, etag)

    def delete(self, key):
        self._change("delete", key)


class MemoryWarehouse(DuckDBWarehouse):
    """DuckDB in memory, open all the time: the same SQL without a file. ``broken``: every load fails for good."""

    broken = False

    def __init__(self) -> None:
        super().__init__(WarehouseConnection("duckdb", extra={"path": "/nowhere/warehouse.duckdb"}))
        self.memory = duckdb.connect(":memory:", config={"threads": 1})
        with NamedTemporaryFile(suffix=".duckdb") as file:
            file.write(migrated())
            file.flush()
            self.memory.execute(f"ATTACH '{file.name}' AS migrated (READ_ONLY)")
            self.memory.execute("COPY FROM DATABASE migrated TO memory")
            self.memory.execute("DETACH migrated")

    @contextmanager
    def _session(self, *, write):
        with self.memory.cursor() as self._open:  # has temporary tables of its own
            yield

    def migrate(self):
        return []

    def _merge(self, target, wire):
        if self.broken:
            raise WarehouseError("the disk is full", retriable=False)
        return super()._merge(target, wire)

    def contents(self) -> dict[str, pa.Table]:
        """Return all rows, by table."""
        names = self.memory.sql("SELECT table_name FROM duckdb_tables() WHERE table_name <> 'schema_version'").fetchall()
        return {name: self.memory.table(name).to_arrow_table() for (name,) in names}

    def restore(self, contents: dict[str, pa.Table]) -> None:
        """Replace all rows."""
        for name in self.contents():
            self.memory.execute(f"DELETE FROM {name}")
            if name in contents and len(contents[name]):
                self.memory.register("rows_before", contents[name])
                self.memory.execute(f"INSERT INTO {name} SELECT * FROM rows_before")
                self.memory.unregister("rows_before")


def quick_checkpoint(dataset, scope, chunks, *, run_name, thresholds=None, docs=None):
    """Refuse each session with a strange price, in place of Great Expectations; with ``grain`` year, the symbol's year."""
    refused = set()
    for chunk in chunks:
        for row in chunk.select(["symbol", "session", "close"]).to_pylist():
            if row["close"] >= 9000 and row["session"] in scope.planned:
                year = f"{row['symbol']}/{row['session'].year}"
                refused.add(year if scope.grain == "year" else row["session"].isoformat())
    partitions = [*(s.isoformat() for s in sorted(scope.planned)), *sorted(p for p in refused if "/" in p)]
    verdicts = tuple(Verdict(p, p not in refused, ("strange price",) if p in refused else ()) for p in partitions)
    return CheckpointResult(verdicts, not refused, {}, [], "", {})


def decode_once(body, key, schema=None, *, dictionary=(), columns=None):
    """Read a Parquet object; equal ones once."""
    return _decoded(body, key, schema, tuple(dictionary), None if columns is None else tuple(columns))


@lru_cache(maxsize=4096)
def _decoded(body, key, schema, dictionary, columns):
    return DECODE(body, key, schema, dictionary=dictionary, columns=columns)


@dataclass
class Run:
    """One attempt of a run; ``steps`` are its tasks.

    :param own: the run's own sessions.
    """

    info: RunInfo
    context: Any
    wanted: Wanted
    symbols: tuple[str, ...]
    hook: ModelHook
    skew: timedelta = timedelta()
    planned: Any = None
    before: dict = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    checked: Any = None
    loaded: Any = None
    published: Any = None
    green: bool | None = None
    text: str = ""
    failed: list[str] = field(default_factory=list)
    steps: Iterator[str] = field(default_factory=lambda: iter(()))

    @property
    def name(self) -> str:
        return f"{self.info.run_id}#{self.info.clear_number}"

    @property
    def dry(self) -> bool:
        return self.context.params.dry_run

    @property
    def own(self) -> list[tuple[str, date]]:
        return [(symbol, session) for symbol in self.symbols for session in self.wanted.own]


class ModelWorld:
    """A lake, a warehouse, a vendor, a clock, and the runs of a feed.

    :param judge: is called with a run after its verdict. ``states``: returns the recorded states before a plan.
    """

    def __init__(self, vendor: Vendor, shape: Shape, grain: str, now: datetime, warehouse: MemoryWarehouse) -> None:
        self.feed = feed_of("mock_ohlcv_1d")
        self.vendor, self.shape, self.grain, self.now = vendor, shape, grain, now
        self.lake, self.warehouse = MemoryLake(), warehouse
        self.params: dict[str, Any] = {}
        self.active: list[Run] = []
        self.ended: list[Run] = []
        self.judge: Callable[[Run], None] = lambda run: None
        self.states: Callable[[], dict] = dict

    # -- runs ----------------------------------------------------------------------------------------------------------------------

    def make(self, info: RunInfo, symbols, session: date | None = None, skew: timedelta = timedelta(), **params: Any) -> Run:
        """Return a run that is queued.

        :param session: of a scheduled run.
        """
        defaults = {name: value for name, value in self.feed.params.items() if name in RunParams.__dataclass_fields__}
        given = replace(RunParams("sp500_etf"), **{**defaults, "file_grain": self.grain, "batch_size": 2, **self.params, **params})
        interval = None
        if session is not None:
            interval = (datetime(session.year, session.month, session.day, tzinfo=UTC), self.run_moment(session))
        wanted = resolve_sessions(given, interval, scheduled=info.run_type == "scheduled", now=self.now)
        context = pipeline.RunContext(self.feed, given, info, self.lake, Layout(), self.feed.provider, self.is_running)
        run = Run(info, context, wanted, tuple(symbols), self.hook_of(info), skew)
        run.steps = self._steps(run)
        self.active.append(run)
        return run

    def hook_of(self, info: RunInfo) -> ModelHook:
        return ModelHook(self.vendor, self.shape, f"{info.run_id}#{info.clear_number}", lambda: self.now)

    def new(self, run_type: str, symbols, session: date | None = None, **params: Any) -> Run:
        number = len(self.active) + len(self.ended)
        self.now += timedelta(seconds=61)
        return self.make(RunInfo(self.feed.dag_id, f"r{number}", run_type, 0, self.now), symbols, session, **params)

    def is_running(self, info: RunInfo) -> bool:
        return any((run.info.dag_id, run.info.run_id) == (info.dag_id, info.run_id) for run in self.active)

    @staticmethod
    def run_moment(session: date) -> datetime:
        """Return when the run of a session is due."""
        return calendar.at(session, RUN_AT)

    def work(self, run: Run, steps: int = 99) -> None:
        """Run up to ``steps`` tasks of ``run``."""
        for _ in range(steps):
            if run not in self.active or next(run.steps, None) is None:
                return

    def kill(self, run: Run) -> None:
        """End a run as a whole: nothing of it runs any more."""
        self.active.remove(run)
        self.ended.append(run)

    def task(self, run: Run, name: str, body: Callable[[], Any]) -> Any:
        """Return the result of a task; None if it fails or its worker is killed, as no retry is left."""
        self.now += timedelta(seconds=7)
        try:
            return body()
        except Killed:
            run.failed.append(f"{name}: killed")
        except MarketDataError as error:
            run.failed.append(f"{name}: {type(error).__name__}: {error}")
        return None

    def _steps(self, run: Run) -> Iterator[str]:
        """Run the tasks one by one, under the trigger rules of the DAG."""
        yield "queued"
        run.before = self.states()
        planned = self.task(run, "plan", lambda: self._plan(run))
        run.planned = planned
        run.batches = [] if planned is None or run.dry else list(planned.plan.batches)
        yield "plan"
        for batch in run.batches:
            self._fetch(run, batch)
            yield "fetch"
        left = self.has_leftovers(run) if planned is not None and not run.dry else False
        if run.receipts or left:
            run.checked = self.task(run, "check", lambda: self._check(run))
            yield "check"
            if run.checked is not None:
                run.loaded = self.task(run, "load", lambda: pipeline.load_run(run.context, run.checked, self.warehouse))
                yield "load"
        if run.batches or left:
            run.published = self.task(run, "publish", lambda: self._publish(run))
            yield "publish"
        self._verdict(run)
        self.active.remove(run)
        self.ended.append(run)
        self.judge(run)

    def _plan(self, run: Run) -> Any:
        return pipeline.plan_run(run.context, run.hook, run.wanted, run.symbols, self.now)

    def has_leftovers(self, run: Run) -> bool:
        return pipeline.has_leftovers(run.context, run.batches)

    def _fetch(self, run: Run, batch: Batch) -> None:
        since = len(self.vendor.responses)
        receipt = self.task(run, "fetch", lambda: pipeline.fetch_batch(run.context, run.hook, batch, lambda: self.now + run.skew))
        mine = [response for response in self.vendor.responses[since:] if response.run == run.name]
        for response in mine:
            response.stored = True
        if receipt is None:
            run.errors[batch.id] = run.failed[-1]
            if mine and "ServerError" not in run.failed[-1]:
                mine[-1].stored = False
        else:
            run.receipts.append(Receipt.from_json(json.loads(json.dumps(receipt.to_json()))))

    def _check(self, run: Run) -> Any:
        return json.loads(json.dumps(pipeline.check_run(run.context, run.batches, run.receipts, self.warehouse)))

    def _publish(self, run: Run) -> Any:
        result = pipeline.RunResult(run.batches, run.receipts, run.errors, run.checked, run.loaded, run.planned.summary)
        return pipeline.publish_run(run.context, result, self.now)

    def _verdict(self, run: Run) -> None:
        summary = {**run.planned.summary, "dry_run": run.dry} if run.planned else {}
        batches = None if run.planned is None else [batch.to_json() for batch in run.batches]
        try:
            failed = [failure.partition(":")[0] for failure in run.failed if not failure.startswith("fetch")]
            said = tasks._verdict(batches, run.published, summary, failed if run.published is None else [])
            run.green, run.text = True, "\n".join([*said, summary.get("note") or ""])
        except QualityError as error:
            run.green, run.text = False, str(error)

    # -- what there is -------------------------------------------------------------------------------------------------------------

    def report(self, run: Run) -> dict[str, Any]:
        return json.loads(self.lake.get(run.published["report"]).body) if run.published else {}

    def has_flag(self, run: Run) -> bool:
        return bool(run.published) and self.lake.get(run.published["report"].removesuffix(".json") + ".flag") is not None
