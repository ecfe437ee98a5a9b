"""A short way to tell what happens to a feed: nights, runs by hand, corrections, and what there is afterwards."""

from datetime import date, timedelta

from market_data.core import calendar
from market_data.core.capabilities import Shape
from market_data.core.outcome import State
from market_data.core.run import RunInfo
from tests.pipeline.model_checks import Checks
from tests.pipeline.model_run import MemoryWarehouse, ModelWorld, Run
from tests.pipeline.model_vendor import Bar, Kind, Vendor

LISTED = ("AAPL", "IBM", "KO")
UNKNOWN = "APPL"
FIRST = date(2026, 9, 22)
"""The first session of the feed."""
LAST = date(2026, 10, 12)
"""The last session that is stored when a story begins."""


class Story:
    """A feed that has three symbols and fifteen sessions. ``session`` is the last completed one."""

    def __init__(self, shape: Shape = Shape.SYMBOL, grain: str = "day", **params) -> None:
        self.vendor, self.warehouse, self.session = Vendor(LISTED), MemoryWarehouse(), LAST
        self.world = ModelWorld(self.vendor, shape, grain, ModelWorld.run_moment(LAST), self.warehouse)
        self.world.params = params
        self.checks = Checks(self.world, (*LISTED, UNKNOWN))
        self.world.judge = lambda run: None
        assert self.run(start=FIRST, end=LAST).green

    def back(self, count: int) -> date:
        """Return the session ``count`` sessions before the last completed one."""
        session = self.session
        for _ in range(count):
            session = calendar.previous_session(session)
        return session

    def nights(self, count: int = 1, symbols=LISTED) -> list[Run]:
        """Let nights pass, with a run each; return the runs."""
        return [self.night(symbols) for _ in range(count)]

    def night(self, symbols=LISTED) -> Run:
        """Let a night pass; return its run."""
        self.pass_sessions(1)
        run = self.world.new("scheduled", symbols, self.session)
        self.world.work(run)
        return run

    def pass_sessions(self, count: int) -> None:
        """Let nights pass without a run."""
        for _ in range(count):
            self.session = calendar.next_session(self.session)
        self.world.now = max(self.world.now, self.world.run_moment(self.session)) + timedelta(seconds=3)

    def run(self, symbols=LISTED, steps: int = 99, start=None, end=None, **params) -> Run:
        """Make a run by hand; by default of the last session."""
        start = start or self.session
        run = self.world.new("manual", symbols, start_date=start, end_date=end or start, **params)
        self.world.work(run, steps)
        return run

    def cleared(self, run: Run, steps: int = 99) -> Run:
        """Clear a run and let it run again."""
        info = RunInfo(run.info.dag_id, run.info.run_id, run.info.run_type, run.info.clear_number + 1, run.info.started)
        params = {name: getattr(run.context.params, name) for name in ("start_date", "end_date", "force")}
        again = self.world.make(info, run.symbols, run.wanted.own[0] if info.run_type == "scheduled" else None, **params)
        self.world.work(again, steps)
        return again

    def serve(self, symbol: str, session: date, bar: Bar | None, sessions_later: int = 0) -> None:
        """Let the vendor serve another bar, now or some sessions later."""
        moment = self.world.now
        if sessions_later:
            later = self.session
            for _ in range(sessions_later):
                later = calendar.next_session(later)
            moment = self.world.run_moment(later) - timedelta(hours=1)
        self.vendor.change((symbol, session), bar, moment)

    def correct(self, symbol: str, session: date, version: int = 2) -> None:
        self.serve(symbol, session, Bar(version))

    def requested(self, run: Run) -> set:
        """Return the cells that a run requested."""
        return {cell for name, cell in self.vendor.calls if name == run.name}

    def passed(self, session: date) -> int:
        """Return how many sessions were completed since ``session``."""
        return len(calendar.sessions(session, self.session + timedelta(days=1))) - 1

    def state(self, symbol: str, session: date) -> State | None:
        return self.checks.ledger().get((symbol, session), (None, ""))[0]

    def reason(self, symbol: str, session: date) -> str:
        return self.checks.ledger().get((symbol, session), (None, ""))[1]

    def values(self, symbol: str, session: date) -> tuple:
        """Return the version of the bar in the lake and in silver; None where there is none."""
        cell = (symbol, session)
        first = Bar(0).close(cell)
        found = (self.checks.lake().get(cell), self.checks.silver().get(cell))
        return tuple(None if close is None else round((close - first) * 4) for close in found)

    def agrees(self, *cells) -> bool:
        """Return true if nothing waits and ledger, lake and silver have what the vendor serves for each of ``cells``."""
        ledger, lake, silver = self.checks.ledger(), self.checks.lake(), self.checks.silver()
        good = all(
            ledger[cell][0] is State.HAVE and lake[cell] == silver[cell] == self.vendor.serves(cell, self.world.now).close(cell)
            for cell in cells
        )
        return good and not self.checks.staged()


__all__ = ["FIRST", "LAST", "LISTED", "UNKNOWN", "Bar", "Kind", "Story"]
