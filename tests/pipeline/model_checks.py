"""The invariants: what must hold of lake, warehouse, ledger and verdicts after each step."""

from datetime import date, timedelta
from functools import lru_cache

import pyarrow as pa

from market_data.core import calendar
from market_data.core.outcome import EARLIER_VALUE, State
from market_data.datasets.registry import dataset as find_dataset
from market_data.lake import parquet, staging
from market_data.lake.ledger import read_coverage
from market_data.lake.reader import newest
from market_data.lake.store import Lake
from tests.pipeline.model_run import ModelWorld, Run
from tests.pipeline.model_vendor import Bar, Cell, Kind

FINAL = (State.HAVE, State.EMPTY)
OPEN = (State.PENDING, State.QUARANTINED, State.REFUSED)
RECHECKED = 3
YOUNG = 3
REPEATED = 7
DUE = (3, 10, 30, 90)


class Checks:
    """Compare what there is with what the vendor has responded.

    :param symbols: all symbols of the runs.
    """

    def __init__(self, world: ModelWorld, symbols) -> None:
        self.world, self.symbols = world, tuple(symbols)
        self.seen_calls = 0
        world.judge, world.states = self.verdict, self.ledger

    # -- what there is -------------------------------------------------------------------------------------------------------------

    def silver(self) -> dict[Cell, float]:
        found = self.world.warehouse.query("SELECT symbol, CAST(bar_time AS DATE) AS session, close_px FROM silver_prices")
        return {(row["symbol"], row["session"]): float(row["close_px"]) for row in found.to_pylist()}

    def lake(self) -> dict[Cell, float]:
        lake, dataset = self.world.lake, find_dataset("ohlcv-1d")
        tables = [dataset.schema.empty_table(), *(_rows(lake.get(key).body) for key, _ in lake.list("raw"))]
        rows = newest(pa.concat_tables(tables), dataset)
        return dict(
            zip(zip(rows["symbol"].to_pylist(), rows["session"].to_pylist(), strict=True), rows["close"].to_pylist(), strict=True)
        )

    def ledger(self) -> dict[Cell, tuple[State, str]]:
        return recorded_states(self.world.lake, "ohlcv-1d", "mock")

    def staged(self) -> dict[Cell, list[str]]:
        """Return cell -> ids of the runs whose rows of it wait in staging."""
        return staged_cells(self.world.lake, "ohlcv-1d", "mock")

    def received(self) -> dict[Cell, list[Bar | None]]:
        """Return cell -> the bars that may be stored: the newest good one received, and newer ones of which nobody knows."""
        found: dict[Cell, list[Bar | None]] = {}
        for response in self.world.vendor.responses:
            for cell, bar in response.cells.items():
                if bar is not None and bar.kind is not Kind.ODD:
                    found[cell] = [bar] if response.stored else [*found.get(cell, [None]), bar]
        return found

    # -- invariants ----------------------------------------------------------------------------------------------------------------

    @staticmethod
    def demand(holds: bool, what: str, *details: object) -> None:
        """Fail with ``what`` and the details unless the condition holds."""
        if not holds:
            raise AssertionError(": ".join([what, *map(str, details)]))

    def values(self) -> None:
        """Lake, warehouse and ledger have the newest response (points 1, 6 and 7)."""
        lake = self.lake()
        for cell, bars in self.received().items():
            allowed = {bar and bar.close(cell) for bar in bars}
            self.demand(lake.get(cell) in allowed, "the lake has not the newest response", cell, lake.get(cell), allowed)
        self.loaded()

    def loaded(self) -> None:
        """A cell that the ledger has as ``have`` is in the lake, and in silver with the same values unless it waits in staging."""
        lake, silver, ledger, staged = self.lake(), self.silver(), self.ledger(), self.staged()
        for cell, (state, _) in ledger.items():
            if state is State.HAVE:
                self.demand(cell in lake, "have without an object", cell)
                if cell not in staged:
                    equal = silver.get(cell) == lake.get(cell)
                    self.demand(equal, "have, and silver differs from the lake", cell, silver.get(cell), lake.get(cell))

    def verdict(self, run: Run) -> None:
        """A green run names what is open, the flag is true, and so are the counts (points 2, 3 and 6)."""
        if run.dry:
            return
        in_staging = self.staged()
        staged = {cell: left for cell, names in in_staging.items() if (left := [n for n in names if not self._running(n)])}
        planned = {cell for batch in run.batches for cell in cells_of(batch)}
        open_cells = self._open({*run.own, *planned}, staged)
        # A symbol that the vendor does not know is named by the runs that request it.
        open_cells |= {cell: "unknown" for cell in planned - {*open_cells} if cell[0] not in self.world.vendor.listed}
        if run.green:
            for cell, why in open_cells.items():
                if not run.batches and why == "different in silver" and cell in in_staging:
                    continue  # it was covered when the run was planned; an active run has fetched it again since, and loads it
                self.demand(self._names(run.text, cell, why), "green, and an open cell is not named", why, cell, repr(run.text))
            self.demand(not staged, "green, and rows wait in staging", some(staged))
        if self.world.has_flag(run):
            mine = {cell: why for cell, why in open_cells.items() if cell in run.own and why != "unknown"}
            self.demand(not mine, "the flag is there, and cells are open", some(mine), sorted(set(mine.values())))
        document = self.world.report(run)
        if document and run.batches:
            # A cell of the lookback that stays open is named; the ticker is complete if the run's own cells are.
            mine = {symbol for (symbol, session), why in open_cells.items() if session in run.wanted.own or why == "not loaded"}
            bad = mine & {symbol for batch in run.batches for symbol in batch.symbols}
            ok, total = document["successful_tickers"], document["total_tickers"]
            self.demand(ok <= total - len(bad), "too many successful tickers", f"{ok} of {total}", some(open_cells))

    def _open(self, cells, staged: dict[Cell, list[str]]) -> dict[Cell, str]:
        """Return the cells that are not final and loaded, and why."""
        ledger, lake, silver = self.ledger(), self.lake(), self.silver()
        found = {}
        for cell in sorted(cells):
            state, _ = ledger.get(cell, (None, ""))
            if cell in staged:
                found[cell] = "not loaded"
            elif state not in FINAL:
                found[cell] = str(state or "without a state")
            elif state is State.HAVE and silver.get(cell) != lake.get(cell):
                found[cell] = "different in silver"
            elif state is State.EMPTY and self._is_gap(cell, lake):
                found[cell] = "suspected gap"
        return found

    def _running(self, run_id: str) -> bool:
        return any(run.info.run_id == run_id for run in self.world.active)

    def _is_gap(self, cell: Cell, lake) -> bool:
        """Return true if the symbol has bars in the three sessions before and in the three after."""
        symbol, session = cell
        before, after = session, session
        for _ in range(3):
            before, after = calendar.previous_session(before), calendar.next_session(after)
            if (symbol, before) not in lake or (symbol, after) not in lake:
                return False
        return True

    def _names(self, text: str, cell: Cell, why: str) -> bool:
        symbol, session = cell
        if any(run.info.run_id + " (" in text for run in self.world.active):
            return True  # an active run has fetched some of the cells
        return symbol in text or (session.isoformat() in text and why in ("refused", "without a state", "not loaded"))

    def requests(self) -> None:
        """Check points 4 and 5: only what the rules allow was requested."""
        calls = self.world.vendor.calls
        runs = {run.name: run for run in [*self.world.active, *self.world.ended]}
        for name, cell in calls[self.seen_calls :]:
            run = runs[name]
            self.demand(not run.dry, "a dry run made a request", cell)
            allowed = self.why_requested(run, cell)
            self.demand(bool(allowed), "a request against the rules", run.info.run_type, cell, run.before.get(cell))
        self.seen_calls = len(calls)

    def why_requested(self, run: Run, cell: Cell) -> str:
        """Return the rule by which a run may request a cell; empty if there is none."""
        state, reason = run.before.get(cell, (None, ""))
        scheduled, age = run.info.run_type == "scheduled", self._age(cell[1], run)
        if state is None:
            return "without a state"
        if cell in run.own and (run.context.params.force or run.info.clear_number > 0):
            return "again"
        if state is State.PENDING or (state in OPEN and age <= YOUNG):
            return "young" if scheduled or age > YOUNG else ""
        rejected = reason.endswith(EARLIER_VALUE) or (state is State.REFUSED and self.world.grain == "year")
        repeated = len(calendar.sessions(cell[1], run.wanted.own[-1])) <= RECHECKED + REPEATED
        if scheduled and state in OPEN and rejected and repeated:
            return "rejected recheck"
        own = run.wanted.own[0]
        if scheduled and state is State.HAVE and cell[1] < own and len(calendar.sessions(cell[1], own)) <= RECHECKED:
            return "recheck"
        if state is State.EMPTY and scheduled and age >= DUE[0]:
            return "suspected gap"
        return ""

    @staticmethod
    def _age(session: date, run: Run) -> int:
        last = calendar.last_completed_session(run.info.started)
        return len(calendar.sessions(session, last + timedelta(1))) - 1

    def dawn(self, session: date) -> None:
        """The last sessions are as the vendor serves them, and nothing waits (points 1, 2, 3 and 6)."""
        world, lake, silver, ledger, staged = self.world, self.lake(), self.silver(), self.ledger(), self.staged()
        self.demand(not staged, "rows wait in staging after two good nights", some(staged))
        last = world.ended[-1]
        for _ in range(RECHECKED + 1):
            for symbol in self.symbols:
                cell, bar = (symbol, session), world.vendor.serves((symbol, session), world.now)
                state = ledger.get(cell, (None, ""))[0]
                if bar is not None and bar.kind is Kind.GOOD and not self._spoilt(cell):
                    self.demand(state is State.HAVE, "not have after two good nights", cell, state, bar)
                    values = (lake.get(cell), silver.get(cell), bar.close(cell))
                    self.demand(len({*values}) == 1, "lake, silver and vendor differ after two good nights", cell, *values)
                elif bar is not None and bar.kind is not Kind.GOOD:
                    named = not last.green or self._names(last.text, cell, str(state))
                    self.demand(named, "a bad bar is not named", bar.kind, cell, state, repr(last.text))
            session = calendar.previous_session(session)

    def _spoilt(self, cell: Cell) -> bool:
        """Return true if the checkpoint refuses the cell because of another one: of its session, or with year files of its symbol."""
        symbol, session = cell
        with_it = [(other, session) for other in self.symbols]
        if self.world.grain == "year":
            with_it = [(symbol, day) for day in calendar.sessions(session - timedelta(40), session + timedelta(40))]
        bars = [self.world.vendor.serves(other, self.world.now) for other in with_it]
        return any(bar is not None and bar.kind is Kind.STRANGE for bar in bars)


def recorded_states(lake: Lake, dataset: str, source: str) -> dict[Cell, tuple[State, str]]:
    """Return the state of each cell that the ledger has, and its reason."""
    rows = read_coverage(lake, dataset, source).table.select(["symbol", "session", "state", "reason"]).to_pylist()
    return {(row["symbol"], row["session"]): (State(row["state"]), row["reason"]) for row in rows}


def staged_cells(lake: Lake, dataset: str, source: str) -> dict[Cell, list[str]]:
    """Return cell -> ids of the runs whose rows of it wait in staging."""
    infos, broken = staging.describe(lake, staging.waiting(lake, dataset, source))
    assert not broken
    found: dict[Cell, list[str]] = {}
    for info in infos.values():
        for run in info.receipt.cells:
            for session in calendar.sessions_in(run.intervals):
                for symbol in run.symbols:
                    found.setdefault((symbol, session), []).append(info.run.run_id)
    return found


def cells_of(batch):
    return [
        (symbol, session) for block in batch.blocks for symbol in block.symbols for session in calendar.sessions_in(block.intervals)
    ]


def some(cells: dict) -> str:
    """Return the first cells in short."""
    shown = [f"{symbol} {session}: {why}" for (symbol, session), why in list(cells.items())[:3]]
    return ", ".join([*shown, *(["..."] if len(cells) > 3 else [])])


@lru_cache(maxsize=4096)
def _rows(body: bytes) -> pa.Table:
    return parquet.decode(body, "key", find_dataset("ohlcv-1d").schema)
