"""Twelve scripted runs and the figures of what users get from them: lake, quarantine, ledger, warehouse and reports.

The runs use the pipeline as the DAGs do, without a scheduler: sample servers on 127.0.0.1, a lake in a folder, a DuckDB file. Every
moment is given, so the same code gives the same figures each time. `test_scripted_runs.py` compares them with a stored result.

Left out are texts of messages, receipts, staging objects, batch ids, load ids, and all that depends on the clock, a path or a port.
"""

import hashlib
import json
import os
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

# All imports of the project, and no others.
from market_data import pipeline
from market_data.core import calendar
from market_data.core.errors import ServerError
from market_data.lake.ledger import read_coverage
from market_data.pipeline.run_sessions import Wanted
from market_data.providers.base import ProviderConfig
from market_data.providers.registry import provider
from sandbox.http import SampleApi
from sandbox.ib_gateway import SampleGateway
from tests.pipeline.runs import World, feed_of

START = datetime(2026, 11, 20, 12, 0, 1, 123457, tzinfo=UTC)
"""The moment of the first run; each later one is an hour after the one before."""

SYMBOLS = (
    *("AAPL", "AMGN", "AMZN", "AXP", "BA", "BRK.B", "CAT", "CRM", "CSCO", "CVX", "DIS", "GS"),
    *("HD", "HON", "IBM", "JNJ", "JPM", "KO", "MCD", "MMM", "MRK", "MSFT", "NKE", "SPY"),
)
"""Enough for the checks that compare shares of symbols. AAPL, IBM and MSFT have recorded prices, the others generated ones."""
UNKNOWN = "NOSUCH"
KEY = "sample-key"

REPORTED = (
    *("provider", "dataset", "date_range", "clear_number", "sources", "total_batches", "total_tickers"),
    *("successful_tickers", "failed_tickers", "cells_planned", "cells"),
    *("files_written", "files_unchanged", "rows_landed", "rows_written", "rows_quarantined", "rows_loaded", "rows_changed"),
    *("sessions_loaded", "api_calls", "retries", "unserved"),
)
"""Fields of the run report that are kept as they are."""

BY_LOAD = {"load_id", "loaded_at"}
"""Columns of the warehouse that say which load wrote a row, and when by the clock."""

Rows = Iterable[Sequence[object]]
Figures = dict[str, object]


def sessions(first: str, last: str) -> tuple[date, ...]:
    """Return the exchange's sessions from ``first`` to ``last``, both inclusive."""
    return calendar.sessions(date.fromisoformat(first), date.fromisoformat(last) + timedelta(days=1))


WEEK = sessions("2013-01-02", "2013-01-09")
"""Six sessions."""


class QuickWorld(World):
    """A World whose HTTP calls are repeated without a pause; with one, all figures are the same."""

    def hook(self):
        hook = super().hook()
        hook.connect()
        if hasattr(hook, "_transport"):
            hook._transport.sleep = lambda _: None
        return hook


class Scene:
    """The sample servers, one lake and one warehouse for all runs, and the present moment.

    :param folder: holds ``lake`` and ``warehouse.duckdb``.
    """

    def __init__(self, folder: Path, api: SampleApi, gateway: SampleGateway) -> None:
        self.folder, self.api, self.gateway = folder, api, gateway
        self.now = START
        self.steps: list[Figures] = []
        self.ledgers: list[tuple[World, str, str]] = []
        """World, dataset and provider of each step."""

    def control(self, method: str, route: str, **body: object) -> None:
        """Call a control route of the sample API."""
        url, data = f"{self.api.url}/_control/{route}", json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200

    def alter(self, session: date, symbol: str | None = None, **change: object) -> None:
        """Change the prices of a session: of one symbol, or of all."""
        self.control("POST", "prices", session=session.isoformat(), symbol=symbol, **change)

    def hide(self, session: date, **which: object) -> None:
        """Leave symbols out of a session: ``symbols``, or a ``fraction`` of all."""
        self.control("POST", "missing", session=session.isoformat(), **which)

    def fault(self, kind: str, vendor: str, **options: object) -> None:
        """Let a vendor's answers go wrong until the faults are cleared."""
        self.control("POST", "faults", kind=kind, vendor=vendor, times=None, **options)

    def restore(self) -> None:
        """Take back all faults and changes."""
        for route in ("faults", "prices", "missing"):
            self.control("DELETE", route)

    def hook(self, feed):
        """Return a hook of the feed's provider that asks the sample servers."""
        url = self.api.url
        configs = {
            "polygon": {"base_url": url, "password": KEY},
            "alpaca": {"base_url": f"{url}/alpaca", "login": "sample", "password": KEY},
            "fmp": {"base_url": f"{url}/fmp", "password": KEY},
            "databento": {"base_url": f"{url}/databento", "password": f"db-{KEY}"},
            "ib": {"base_url": self.gateway.address},
            "mock": {"base_url": ""},
        }
        extra = {"ib": {"plan": "sample", "client_id": 1}, "mock": {}}.get(feed.provider, {"plan": "sample"})
        config = ProviderConfig(feed.conn_id, **configs[feed.provider], extra=extra)
        return provider(feed.provider)(options=feed.options, config=config)

    def run(
        self,
        dag_id: str,
        run_id: str,
        own: Sequence[date],
        symbols: Sequence[str],
        *,
        clear_number: int = 0,
        run_type: str = "manual",
        lookback: Sequence[date] = (),
        tries: int = 1,
        **params: object,
    ) -> None:
        """Run a feed once and keep the figures of its report.

        :param own: the run's own sessions.
        :param tries: with 2, the first try of the fetch tasks fails, and the second one finds the servers restored.
        """
        feed = feed_of(dag_id)
        world = QuickWorld(feed, self.folder, lambda: self.hook(feed))
        world.now = self.now
        context = world.context(run_id, clear_number, run_type, **params)
        if tries > 1:
            self._fail(world, context, Wanted(tuple(own), tuple(lookback)), symbols)
        planned, report = world.run(own, symbols, context, lookback)
        self.now = world.now
        self.ledgers.append((world, feed.dataset, context.source))
        self.steps.append({"run": f"{dag_id} {run_id} {clear_number}", "covered": planned.covered, **_reported(world, report)})

    def _fail(self, world: World, context: pipeline.RunContext, wanted: Wanted, symbols: Sequence[str]) -> None:
        """Make a first try of the fetch tasks, each of which must fail; then restore the servers."""
        with world.hook() as hook:
            for batch in pipeline.plan_run(context, hook, wanted, symbols, world.now).plan.batches:
                try:
                    pipeline.fetch_batch(context, hook, batch, lambda: world.now)
                except ServerError:
                    continue
                raise AssertionError(f"batch {batch.id} did not fail")
        self.restore()


def _reported(world: World, report: dict | None) -> Figures:
    """Return the figures of a run report; of a run with nothing to do, that it had nothing to do."""
    if report is None:
        return {"nothing_to_do": True}
    flag = report["key"].removesuffix("json") + "flag"
    return {
        **{name: report[name] for name in REPORTED},
        "failed_tickers_list": sorted(report["failed_tickers_list"]),  # 0.4.0 gives some of them in the order of a set
        "red": len(report["red"]),
        "warnings": len(report["warnings"]),
        "refused": [verdict["partition"] for verdict in report["refused"]],
        "batches": Counter(batch["state"] for batch in report["batch_results"]),
        "events": [event["kind"] for event in report["events"]],
        "by_symbol": {
            result["symbol"]: f"{result['files_written']} files, {result['rows_written']} rows, {len(result['errors'])} errors"
            for result in report["results"]
        },
        "report": report["key"],
        "has_completion_flag": world.lake.get(flag) is not None,
    }


# -- the twelve runs -------------------------------------------------------------------------------------------------------------


def daily_first(scene: Scene) -> None:
    """Fetch daily bars: an unknown symbol, two bad rows, and two sessions that the checks refuse."""
    scene.alter(WEEK[0], "AAPL", replace={"open": None})
    scene.alter(WEEK[0], "IBM", replace={"high": 1.0})
    scene.hide(WEEK[2], fraction=0.4)
    scene.alter(WEEK[4], multiply=10)
    scene.run("polygon_ohlcv_1d", "daily", WEEK, (*SYMBOLS, UNKNOWN))


def daily_cleared_and_corrected(scene: Scene) -> None:
    """Clear the run when the provider is right again: bad rows and refused sessions are loaded."""
    scene.run("polygon_ohlcv_1d", "daily", WEEK, (*SYMBOLS, UNKNOWN), clear_number=1)


def daily_cleared_with_equal_values(scene: Scene) -> None:
    """Clear the run again: nothing is different and nothing is written. A run without force has nothing to do."""
    scene.run("polygon_ohlcv_1d", "daily", WEEK, (*SYMBOLS, UNKNOWN), clear_number=2)
    scene.run("polygon_ohlcv_1d", "again", WEEK, (*SYMBOLS, UNKNOWN))


def daily_restated(scene: Scene) -> None:
    """Refetch restated values, and a bar that is gone; then the first values again; then some with the other file grain.

    In the end, files of both grains hold the same bars: equal rows keep their ``ingest_ts`` beside a restated one, and a value that comes
    back in the older file is newer than what the other file has.
    """
    scene.alter(WEEK[0], "AAPL", replace={"close": 549.001953125})  # half of the warehouse's last place
    scene.alter(WEEK[1], "AAPL", multiply=1.01)
    scene.alter(WEEK[2], "IBM", replace={"volume": 4_000_000.0})
    scene.hide(WEEK[3], symbols=["MSFT"])
    scene.run("polygon_ohlcv_1d", "restated", WEEK, SYMBOLS, force=True)
    scene.restore()
    scene.run("polygon_ohlcv_1d", "restored", WEEK, SYMBOLS, force=True)
    few = ("AAPL", "IBM", "KO")
    scene.alter(WEEK[5], "KO", multiply=1.02)
    scene.run("polygon_ohlcv_1d", "regrained", WEEK, few, force=True, file_grain="year")
    scene.restore()
    scene.run("polygon_ohlcv_1d", "years", WEEK, few, force=True, file_grain="year")
    scene.alter(WEEK[1], "IBM", multiply=1.03)
    scene.run("polygon_ohlcv_1d", "days", WEEK, few, force=True)
    scene.restore()
    scene.run("polygon_ohlcv_1d", "years again", WEEK, few, force=True, file_grain="year")


def daily_of_alpaca(scene: Scene) -> None:
    """Fetch daily bars with a file a year; then scheduled runs: a young cell without a bar is pending and asked again a day later."""
    scene.run("alpaca_ohlcv_1d", "years", sessions("2012-12-17", "2013-01-09"), (*SYMBOLS, UNKNOWN), file_grain="year")
    young = sessions("2026-11-16", "2026-11-19")
    scene.hide(young[2], symbols=["KO"])
    scene.run("alpaca_ohlcv_1d", "first", young[:3], ("AAPL", "IBM", "KO"), run_type="scheduled")
    scene.restore()
    scene.hide(young[3], symbols=["IBM"])
    scene.run("alpaca_ohlcv_1d", "second", young[3:], ("AAPL", "IBM", "KO"), run_type="scheduled", lookback=young[:3])


def intraday(scene: Scene) -> None:
    """Fetch minutes with both file grains."""
    scene.run("polygon_ohlcv_1m", "days", WEEK[:2], ("AAPL", "KO", UNKNOWN))
    scene.run("alpaca_ohlcv_1m", "years", WEEK[:2], ("AAPL", "IBM", "KO"), file_grain="year")


LONG = sessions("2012-11-01", "2013-01-31")
DOZEN = (*SYMBOLS[:8], "IBM", "KO", "MSFT", UNKNOWN)


def provider_failure(scene: Scene) -> None:
    """Lose a batch in its middle to a server that fails for one symbol; and have one symbol's year refused."""
    for number, session in enumerate(LONG):
        if session.year == 2012 and number % 3:
            scene.hide(session, symbols=["IBM"])
    scene.fault("server_error", "fmp", match="symbol=BRK-B")
    scene.run("fmp_ohlcv_1d", "years", LONG, DOZEN, file_grain="year", batch_size=4)


def retry_after_the_failure(scene: Scene) -> None:
    """Repeat the same run, and in another run a task: what was finished is not asked again, and the batch is loaded."""
    scene.run("fmp_ohlcv_1d", "years", LONG, DOZEN, file_grain="year", batch_size=4)
    scene.fault("server_error", "fmp", match="symbol=CAT")
    february = sessions("2013-02-01", "2013-02-28")
    scene.run("fmp_ohlcv_1d", "february", february, SYMBOLS[4:8], file_grain="year", tries=2)


def fundamentals(scene: Scene) -> None:
    """Fetch statements; then amended ones; then the first ones again, which must not replace the amended ones."""
    symbols = ("AAPL", "KO")
    scene.run("fmp_fundamentals", "filed", sessions("2013-01-15", "2013-02-08"), symbols)
    scene.fault("restated", "fmp", days=30)
    scene.run("fmp_fundamentals", "amended", sessions("2013-02-11", "2013-03-15"), symbols)
    scene.run("fmp_fundamentals", "refetched", sessions("2013-01-15", "2013-02-08"), symbols, force=True, file_grain="year")


def corporate_actions(scene: Scene) -> None:
    """Fetch splits and dividends with both file grains."""
    scene.run("polygon_corporate_actions", "days", sessions("2012-10-01", "2013-01-15"), SYMBOLS)
    scene.run("polygon_corporate_actions", "years", sessions("2012-07-02", "2012-09-28"), SYMBOLS, file_grain="year")


def databento(scene: Scene) -> None:
    """Fetch trades, a dataset that stays in the lake, and daily bars."""
    scene.run("databento_trades", "days", WEEK[:1], ("AAPL", "KO", UNKNOWN))
    scene.run("databento_statistics", "years", WEEK[:2], ("AAPL", "KO"), file_grain="year")
    scene.run("databento_ohlcv_1d", "days", WEEK, ("AAPL", "BRK.B", "IBM", "SPY"))


def gateway_and_mock(scene: Scene) -> None:
    """Fetch futures, an index and a share from the sample gateway; and what the mock provider makes."""
    recent = sessions("2026-11-12", "2026-11-16")
    scene.run("ib_ohlcv_1d", "days", recent, ("ES.c.0", "MES.c.0", "VIX", "IBM"))
    scene.run("ib_ohlcv_5m", "years", recent[:2], ("ES.c.0", "VIX"), file_grain="year")
    scene.run("mock_ohlcv_1d", "years", LONG, SYMBOLS[:6], file_grain="year")
    scene.run("mock_ohlcv_1m", "days", WEEK[:1], SYMBOLS[:3])


RUNS: tuple[Callable[[Scene], None], ...] = (
    daily_first,
    daily_cleared_and_corrected,
    daily_cleared_with_equal_values,
    daily_restated,
    daily_of_alpaca,
    intraday,
    provider_failure,
    retry_after_the_failure,
    fundamentals,
    corporate_actions,
    databento,
    gateway_and_mock,
)


def scripted_runs(folder: Path) -> Figures:
    """Make the twelve runs and return their figures, as JSON has them.

    :param folder: an empty one, for lake and warehouse.
    """
    found: Figures = {}
    limits = {"MARKET_DATA_LIMITS": str(folder / "limits")}
    now = {"now": lambda: START}
    with patch.dict(os.environ, limits), SampleApi(api_key=KEY, **now) as api, SampleGateway(**now) as gateway:
        scene, lake = Scene(folder, api, gateway), RawObjects(folder / "lake")
        for number, run in enumerate(RUNS, 1):
            before, done = lake.objects(), len(scene.steps)
            run(scene)
            scene.restore()
            after = lake.objects()
            found[f"{number:02d} {run.__name__}"] = {
                "steps": scene.steps[done:],
                "raw_total": lake.total(after),
                "raw_written": {key: text for key, text in after.items() if before.get(key) != text},
                "raw_removed": sorted(before.keys() - after.keys()),
                "quarantine": quarantine(folder / "lake"),
                "ledger": ledgers(scene.ledgers[done:]),
                "warehouse": warehouse(folder / "warehouse.duckdb"),
            }
        found["final"] = {
            "raw": lake.objects(),
            "raw_total": lake.total(lake.objects()),
            "quarantine": quarantine(folder / "lake"),
            "ledger": ledgers(scene.ledgers),
            "warehouse": warehouse(folder / "warehouse.duckdb"),
        }
    return json.loads(json.dumps(found))


# -- figures ---------------------------------------------------------------------------------------------------------------------


def checksum(columns: Sequence[str], rows: Rows) -> str:
    """Return a hash of the columns and of all rows, in whatever order these come. Numbers count to their last digit."""
    lines = sorted(json.dumps(row, default=str) for row in rows)
    return hashlib.sha256("\n".join([json.dumps(columns), *lines]).encode()).hexdigest()[:16]


def table_checksum(table: pa.Table) -> str:
    """Return the checksum of an Arrow table. Moments count as the whole numbers that they are stored as."""
    moments = [column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in table.columns]
    columns = [f"{field.name} {field.type}{'' if field.nullable else ' not null'}" for field in table.schema]
    return checksum(columns, zip(*(column.to_pylist() for column in moments), strict=True))


def read_parquet(path: Path) -> pa.Table:
    """Return the columns that are in the file, and none that a folder's name may stand for."""
    with pq.ParquetFile(path) as file:
        return file.read()


class RawObjects:
    """The objects below ``raw/`` in a lake. Those that have not changed are not read twice.

    :param lake: the lake's folder.
    """

    def __init__(self, lake: Path) -> None:
        self.lake = lake
        self._known: dict[tuple[str, int, int], tuple[int, str]] = {}

    def objects(self) -> dict[str, str]:
        """Return key -> rows and checksum. All columns count, ``ingest_ts`` among them."""
        found = {}
        for path in sorted((self.lake / "raw").rglob("*")):
            if path.is_file():
                rows, digest = self._figures(path)
                found[path.relative_to(self.lake).as_posix()] = f"{rows} rows, {digest}"
        return found

    def total(self, objects: dict[str, str]) -> dict[str, dict[str, int]]:
        """Return folder and provider -> how many objects and rows."""
        totals: dict[str, Counter] = defaultdict(Counter)
        for key, text in objects.items():
            totals["/".join(key.split("/")[1:3])].update(objects=1, rows=int(text.split()[0]))
        return {name: dict(total) for name, total in totals.items()}

    def _figures(self, path: Path) -> tuple[int, str]:
        status = path.stat()
        version = (str(path), status.st_mtime_ns, status.st_ino)
        if version not in self._known:
            table = read_parquet(path)
            self._known[version] = len(table), table_checksum(table)
        return self._known[version]


def quarantine(lake: Path) -> dict[str, list[str]]:
    """Return folder -> for each row its symbol, how many rules it breaks, and a checksum of its values as received."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted((lake / "quarantine").rglob("*.parquet")):
        table = read_parquet(path)
        values = table.drop_columns(["reasons", "batch_id"])
        for place, row in enumerate(table.select(["symbol", "reasons"]).to_pylist()):
            rules = len(row["reasons"].split("; "))
            found[path.parent.relative_to(lake).as_posix()].append(
                f"{row['symbol']}: {rules} rules, {table_checksum(values.slice(place, 1))}"
            )
    return {folder: sorted(rows) for folder, rows in found.items()}


def ledgers(worlds: Sequence[tuple[World, str, str]]) -> dict[str, Figures]:
    """Return for each ledger that the runs wrote the states of all its cells, and which cells are not ``have``."""
    found: dict[str, Figures] = {}
    for dataset, source in sorted({(dataset, source) for _, dataset, source in worlds}):
        lake = worlds[0][0].lake
        cells = read_coverage(lake, dataset, source).table.select(["symbol", "session", "state", "reason"]).to_pylist()
        rows = sorted((cell["symbol"], str(cell["session"]), cell["state"], bool(cell["reason"])) for cell in cells)
        others: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for symbol, session, state, _ in rows:
            if state != "have":
                others[state][symbol].append(session)
        found[f"{dataset}/{source}"] = {
            "states": Counter(state for _, _, state, _ in rows),
            "with_a_reason": sum(reason for *_, reason in rows),
            "checksum": checksum(["symbol", "session", "state", "reason"], rows),
            "others": {state: {symbol: _short(days) for symbol, days in symbols.items()} for state, symbols in others.items()},
        }
    return found


def _short(days: Sequence[str]) -> str:
    """Return a few dates as they are, and of many the first, the last, how many and a checksum."""
    return " ".join(days) if len(days) <= 6 else f"{days[0]}..{days[-1]}, {len(days)}, {checksum(['session'], [days])}"


def warehouse(path: Path) -> dict[str, str]:
    """Return table -> rows and checksum of each silver and bronze table: all columns but those of ``BY_LOAD``."""
    found = {}
    with duckdb.connect(path, read_only=True) as connection:
        tables = connection.sql(
            "SELECT table_name, column_name, data_type FROM information_schema.columns"
            " WHERE starts_with(table_name, 'silver_') OR starts_with(table_name, 'bronze_') ORDER BY table_name, ordinal_position"
        ).fetchall()
        for name in dict.fromkeys(table for table, _, _ in tables):
            columns = {column: kind for table, column, kind in tables if table == name and column not in BY_LOAD}
            rows = connection.sql(f"SELECT {', '.join(columns)} FROM {name}").fetchall()
            found[name] = f"{len(rows)} rows, {checksum([f'{column} {kind}' for column, kind in columns.items()], rows)}"
    return found


# -- comparison ------------------------------------------------------------------------------------------------------------------


def differences(before: object, after: object, where: str = "") -> Iterator[str]:
    """Yield a line for each figure that is different, missing or new, with the place where it is."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in [*before, *(name for name in after if name not in before)]:
            place = f"{where} > {name}" if where else name
            if name not in after:
                yield f"{place}: missing; it was {_brief(before[name])}"
            elif name not in before:
                yield f"{place}: new; it is {_brief(after[name])}"
            else:
                yield from differences(before[name], after[name], place)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for place, pair in enumerate(zip(before, after, strict=True)):
            yield from differences(*pair, f"{where}[{place}]")
    elif before != after:
        yield f"{where}: it was {_brief(before)}, it is {_brief(after)}"


def _brief(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
