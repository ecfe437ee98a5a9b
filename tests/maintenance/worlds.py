"""A healthy world of daily bars, made at once: lake objects, receipts, ledger and warehouse agree in every cell."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from market_data.cli.warehouse import duckdb_file
from market_data.config.feeds import Feed, load_feeds
from market_data.config.universes import Member, Universe
from market_data.core import calendar
from market_data.core.batch import Batch, Block
from market_data.core.capabilities import Shape
from market_data.core.intervals import closed, coalesce
from market_data.core.outcome import Evidence, State
from market_data.core.run import RunInfo
from market_data.datasets.bars import OHLCV_1D
from market_data.lake import ledger, parquet, receipts
from market_data.lake.coverage import CELLS
from market_data.lake.layout import Layout
from market_data.lake.receipts import OBJECTS, CellRun, RequestReceipt
from market_data.lake.store import Lake
from market_data.pipeline.selection import Selection

SOURCE = "polygon"
EVIDENCE = Evidence(1, 0, 1, 1, 1, None, last_page_seen=True)
FIRST, LAST = date(2022, 1, 3), date(2023, 12, 29)
DAILY_FROM = date(2023, 12, 1)
"""Sessions before it are in year files, of one backfill; later ones in day files, one run each."""
NOW = datetime(2024, 1, 2, 12, tzinfo=UTC)


@dataclass
class World:
    """A lake and a warehouse over symbols x sessions of two years.

    :param empty: mask, symbols x sessions: the provider had no bar.
    """

    folder: Path
    symbols: tuple[str, ...]
    sessions: tuple[date, ...]
    empty: np.ndarray
    rows: pa.Table

    @cached_property
    def lake(self) -> Lake:
        return Lake.open(f"file://{self.folder}/lake")

    @cached_property
    def feed(self) -> Feed:
        return next(feed for feed in load_feeds() if feed.dag_id == "polygon_ohlcv_1d")

    @property
    def selection(self) -> Selection:
        return Selection(OHLCV_1D, SOURCE, Layout())

    @property
    def universe(self) -> Universe:
        return Universe("world", tuple(map(Member, self.symbols)))

    @cached_property
    def warehouse(self):
        return duckdb_file(str(self.folder / "warehouse.duckdb"))

    @property
    def root(self) -> Path:
        return self.folder / "lake"

    def key(self, symbol: str, session: date) -> str:
        """The key of the object that holds a cell."""
        return Layout().object_key(OHLCV_1D, SOURCE, symbol, session, "day" if session >= DAILY_FROM else "year")

    def change(self, *statements: str) -> None:
        """Change the warehouse by hand."""
        with self.warehouse._transaction():
            for statement in statements:
                self.warehouse._execute("change", statement)


def make_world(folder: Path, count: int, seed: int = 1) -> World:
    """Make a healthy world of ``count`` symbols."""
    generator = np.random.default_rng(seed)
    sessions = calendar.sessions(FIRST, LAST + timedelta(days=1))
    symbols = tuple(f"S{number:03d}" for number in range(count))
    empty = generator.random((count, len(sessions))) < 0.004
    empty[0, :30] = True  # not listed yet
    empty[:, 60] = False
    row, column = np.nonzero(~empty)
    days = np.array(sessions, dtype="datetime64[D]")[column]
    close = np.round(50 + generator.random(count)[row] * 100 + generator.random(len(row)), 2)  # no jumps: repairs are checked
    stamp = pa.scalar(datetime(2024, 1, 1, tzinfo=UTC), pa.timestamp("us", "UTC"))
    columns = {
        "symbol": pa.array(symbols).take(pa.array(row)),
        "timeframe": pa.repeat("1d", len(row)),
        "bar_time": pa.array(days.astype("datetime64[us]")).cast(OHLCV_1D.schema.field("bar_time").type),
        "session": pa.array(days),
        "open": close - 0.5,
        "high": close + 1,
        "low": close - 1,
        "close": close,
        "adj_close": pa.nulls(len(row), pa.float64()),
        "volume": np.round(generator.random(len(row)) * 1e6),
        "vwap": close + 0.1,
        "trade_count": generator.integers(1, 10_000, len(row)),
        "provider": pa.repeat(SOURCE, len(row)),
        "ingest_ts": pa.repeat(stamp, len(row)),
    }
    rows = pa.table([pa.array(columns[f.name]) if not isinstance(columns[f.name], pa.Array) else columns[f.name] for f in OHLCV_1D.schema],
                    names=OHLCV_1D.schema.names).cast(OHLCV_1D.schema)  # fmt: skip
    world = World(folder, symbols, sessions, empty, rows)
    _write(world, row, column)
    world.warehouse.migrate()
    for start in range(0, len(rows), 100_000):
        world.warehouse.load(OHLCV_1D, rows.slice(start, 100_000), f"load-{start}")
    return world


def _write(world: World, row: np.ndarray, column: np.ndarray) -> None:
    first_daily = world.sessions.index(calendar.XNYS.first_session(DAILY_FROM))
    year_of = np.array([session.year for session in world.sessions])
    backfill = RunInfo("polygon_ohlcv_1d", "backfill", "manual", 0, datetime(2023, 12, 1, 12, tzinfo=UTC))
    cells = []
    for number, symbol in enumerate(world.symbols):
        start, stop = np.searchsorted(row, [number, number + 1]).tolist()
        rows, columns = world.rows.slice(start, stop - start), column[start:stop]
        objects = []
        for year in (2022, 2023):
            part = rows.filter(pa.array((year_of[columns] == year) & (columns < first_daily)))
            objects.append(_put(world, symbol, part, "year"))
        _receive(world, backfill, (symbol,), range(first_daily), objects, cells, Shape.SYMBOL)
    _record(world, backfill, cells)
    for place in range(first_daily, len(world.sessions)):
        session = world.sessions[place]
        run = RunInfo(
            "polygon_ohlcv_1d",
            f"daily {session}",
            "scheduled",
            0,
            datetime(session.year, session.month, session.day, 22, tzinfo=UTC),
        )
        chosen = np.flatnonzero(column == place)
        objects = [_put(world, world.symbols[row[n]], world.rows.slice(int(n), 1), "day") for n in chosen.tolist()]
        cells = []
        _receive(world, run, world.symbols, range(place, place + 1), objects, cells, Shape.MARKET)
        _record(world, run, cells)


def _put(world: World, symbol: str, rows: pa.Table, grain: str) -> tuple:
    body = parquet.encode(parquet.by_key(rows, OHLCV_1D.key))
    key = Layout().object_key(OHLCV_1D, SOURCE, symbol, rows["session"][0].as_py(), grain)
    path = world.root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return key, symbol, len(rows), len(rows), hashlib.sha256(body).hexdigest()[:16]


def _receive(world, run, symbols, places, objects, cells, shape) -> None:
    """Write the receipt of a request and add its cells."""
    days = [world.sessions[place] for place in places]
    span = (closed(days[0], days[-1]),)
    numbers = [world.symbols.index(symbol) for symbol in symbols]
    runs = []
    for number in numbers:
        for state, mask in ((State.HAVE, ~world.empty[number, places]), (State.EMPTY, world.empty[number, places])):
            intervals = coalesce([days[n] for n in np.flatnonzero(mask)], world.sessions)
            if intervals:
                reason = "" if state is State.HAVE else "no trades"
                runs.append(CellRun((world.symbols[number],), state, reason, intervals, with_rows=state is State.HAVE))
    batch = Batch(f"b000-{symbols[0]}", "ohlcv-1d", "range", shape, (Block(tuple(symbols), span),), 1, 1, 1, of=1)
    request = next(iter(batch.requests(days)))
    counts = {"rows_quarantined": 0, "ingest_us": int(run.started.timestamp() * 1e6)}
    folder = receipts.prefix("ohlcv-1d", SOURCE, run, batch)
    columns = [pa.array(values, kind.type) for values, kind in zip(zip(*objects, strict=True), OBJECTS, strict=True)]
    receipts.write(world.lake, folder, RequestReceipt(request, EVIDENCE, counts, tuple(runs)), pa.table(columns, schema=OBJECTS))
    for number in numbers:
        for place in places:
            state = State.EMPTY if world.empty[number, place] else State.HAVE
            cells.append((world.symbols[number], world.sessions[place], str(state), "no trades" if state is State.EMPTY else ""))


def _record(world: World, run: RunInfo, cells: list) -> None:
    columns = [pa.array(values, kind.type) for values, kind in zip(zip(*cells, strict=True), CELLS, strict=True)]
    table, stamp = pa.table(columns, schema=CELLS), run.started + timedelta(hours=1)
    ledger.write_cells(world.lake, "ohlcv-1d", SOURCE, run, "b000-all", table, recorded_at=stamp)
