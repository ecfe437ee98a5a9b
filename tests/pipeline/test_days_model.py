"""A stateful property: whatever happens to the runs of a feed, what is green is true.

A model vendor serves, corrects, delays and loses bars; runs are made, cleared, killed and interleaved. After each step, the lake, the
warehouse, the ledger and the verdicts are compared with what the vendor has responded.
"""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from market_data.core import calendar
from market_data.core.capabilities import Shape
from market_data.core.run import RunInfo
from tests.pipeline.model_checks import Checks
from tests.pipeline.model_quick import quick  # noqa: F401  fixture
from tests.pipeline.model_run import MemoryLake, MemoryWarehouse, ModelWorld
from tests.pipeline.model_story import FIRST, LAST, LISTED, UNKNOWN
from tests.pipeline.model_vendor import Bar, Kind, Vendor

pytestmark = pytest.mark.usefixtures("quick")

SYMBOLS = (*LISTED, UNKNOWN)
WAREHOUSE = MemoryWarehouse()
HISTORY: dict[type, tuple] = {}

recent = st.integers(-4, 1)
symbols = st.sampled_from(LISTED)


class DaysModel(RuleBasedStateMachine):
    """Nights, runs by hand, clears, failures and corrections, in any order."""

    shape = Shape.SYMBOL
    grain = "day"

    def __init__(self):
        super().__init__()
        WAREHOUSE.broken = False
        self.vendor = Vendor(LISTED)
        self.session = LAST
        start = ModelWorld.run_moment(self.session)
        self.world = ModelWorld(self.vendor, self.shape, self.grain, start, WAREHOUSE)
        self.checks = Checks(self.world, SYMBOLS)

    @initialize()
    def history(self):
        """Store the sessions before the first night; the first example does it, the others have a copy."""
        known = HISTORY.get(type(self))
        if known is None:
            WAREHOUSE.restore({})
            run = self.world.new("manual", LISTED, start_date=FIRST, end_date=self.session)
            self.world.work(run)
            assert run.green, run.text
            HISTORY[type(self)] = self.world.lake.objects(), WAREHOUSE.contents(), list(self.vendor.responses), run, self.world.now
            return
        objects, contents, responses, run, now = known
        self.world.lake = MemoryLake(objects)
        WAREHOUSE.restore(contents)
        self.vendor.responses, self.world.ended, self.world.now = list(responses), [run], now

    # -- nights --------------------------------------------------------------------------------------------------------------------

    def _days(self, count):
        """Let ``count`` nights pass; return their sessions."""
        passed = []
        for _ in range(count):
            self.session = calendar.next_session(self.session)
            passed.append(self.session)
        self.world.now = max(self.world.now, self.world.run_moment(self.session)) + timedelta(seconds=3)
        return passed

    @rule()
    def night(self):
        for session in self._days(1):
            self.world.work(self.world.new("scheduled", SYMBOLS, session))

    @rule(steps=st.integers(0, 6))
    def night_begins(self, steps):
        """Let tonight's run stop half way; it goes on later."""
        for session in self._days(1):
            self.world.work(self.world.new("scheduled", SYMBOLS, session), steps)

    @rule(count=st.sampled_from([2, 4, 10]))
    def away(self, count):
        """Switch everything off for some sessions; each of them gets its run afterwards."""
        for session in self._days(count):
            self.world.work(self.world.new("scheduled", SYMBOLS, session))

    # -- runs by hand --------------------------------------------------------------------------------------------------------------

    @rule(back=st.integers(0, 6), long=st.integers(1, 4), force=st.booleans(), steps=st.sampled_from([2, 4, 99, 99]))
    def range_run(self, back, long, force, steps):
        first = self._back(back + long - 1)
        run = self.world.new("manual", SYMBOLS, start_date=first, end_date=self._back(back), force=force)
        self.world.work(run, steps)

    @rule(force=st.booleans())
    def manual_run(self, force):
        """Make a run of the last session."""
        self.world.work(self.world.new("manual", SYMBOLS, force=force))

    @rule(back=st.integers(0, 6), force=st.booleans())
    def dry_run(self, back, force):
        before, loads, calls = self.world.lake.objects(), self.checks.silver(), len(self.vendor.calls)
        run = self.world.new("manual", SYMBOLS, start_date=self._back(back), end_date=self._back(0), force=force, dry_run=True)
        self.world.work(run)
        assert run.green, f"a dry run is red: {run.text}"
        assert len(self.vendor.calls) == calls, "a dry run requested data"
        assert self.world.lake.objects() == before, "a dry run wrote to the lake"
        assert self.checks.silver() == loads, "a dry run changed the warehouse"

    def _back(self, count):
        session = self.session
        for _ in range(count):
            session = calendar.previous_session(session)
        return session

    @precondition(lambda self: self._clearable())
    @rule(data=st.data(), only_fetch=st.booleans())
    def clear(self, data, only_fetch):
        """Clear a whole run, or its fetch tasks without what is downstream."""
        old = data.draw(st.sampled_from(self._clearable()), "run")
        info = RunInfo(old.info.dag_id, old.info.run_id, old.info.run_type, old.info.clear_number + 1, old.info.started)
        params = {name: getattr(old.context.params, name) for name in ("start_date", "end_date", "force")}
        session = old.wanted.own[0] if info.run_type == "scheduled" else None
        self.world.now += timedelta(minutes=1)
        run = self.world.make(info, old.symbols, session, **params)
        if not only_fetch:
            self.world.work(run)
            return
        run.batches = old.batches
        for batch in run.batches:
            self.world._fetch(run, batch)
        self.world.kill(run)

    def _clearable(self):
        """Return the last attempt of each of the last ended runs with sessions."""
        active = {run.info.run_id for run in self.world.active}
        last = {run.info.run_id: run for run in self.world.ended if run.wanted.own and not run.dry}
        return [run for name, run in last.items() if name not in active and len(run.wanted.own) < 9][-6:]

    # -- what happens to runs ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.world.active)
    @rule(data=st.data(), steps=st.sampled_from([1, 2, 99]))
    def work(self, data, steps):
        self.world.work(data.draw(st.sampled_from(self.world.active), "run"), steps)

    @precondition(lambda self: self.world.active)
    @rule(data=st.data())
    def end_run(self, data):
        """Let a run end as it is, for instance marked as failed by hand."""
        self.world.kill(data.draw(st.sampled_from(self.world.active), "run"))

    @rule(after=st.integers(0, 12))
    def kill_worker(self, after):
        """Let the next worker die after some changes of the lake."""
        self.world.lake.left = after

    @rule(good=st.booleans())
    def warehouse_fails(self, good):
        WAREHOUSE.broken = not good

    @rule(seconds=st.sampled_from([-4, 4]), session_back=st.integers(0, 2))
    def skewed_worker(self, seconds, session_back):
        """Fetch again on a worker whose clock differs by less than the limit."""
        session = self._back(session_back)
        run = self.world.new("manual", SYMBOLS, start_date=session, end_date=session, force=True, skew=timedelta(seconds=seconds))
        self.world.work(run)

    @rule(back=st.integers(0, 2), before=st.booleans(), symbol=symbols, version=st.integers(1, 3))
    def overlap(self, back, before, symbol, version):
        """Let a forced run wait, for the quota or before it writes, while another one gets a value that differs."""
        session = self._back(back)
        same = {"start_date": session, "end_date": session, "force": True}
        slow, fast = self.world.new("manual", SYMBOLS, **same), self.world.new("manual", SYMBOLS, **same)

        def interruption():
            self.world.now += timedelta(minutes=2)
            if not before:
                self.vendor.change((symbol, session), Bar(version), self.world.now)
            self.world.work(fast)
            if before:
                self.vendor.change((symbol, session), Bar(version), self.world.now)

        if before:
            slow.hook.waiting = interruption
        else:
            self.world.lake.interruption = interruption
        self.world.work(slow)
        self.world.lake.interruption = None
        self.world.work(fast)

    # -- the vendor ----------------------------------------------------------------------------------------------------------------

    @rule(symbol=symbols, day=recent, version=st.integers(1, 3))
    def correct(self, symbol, day, version):
        self._serve(symbol, day, Bar(version))

    @rule(symbol=symbols, day=recent, nights=st.sampled_from([0, 1, 2, 5, None]))
    def late(self, symbol, day, nights):
        """Let a bar be missing, for some nights or for good."""
        self._serve(symbol, day, None)
        if nights is not None:
            self.vendor.change((symbol, self._at(day)), Bar(), self.world.now + timedelta(days=nights, hours=1))

    @rule(symbol=symbols, day=recent, version=st.integers(1, 2), kind=st.sampled_from([Kind.ODD, Kind.STRANGE]))
    def wrong(self, symbol, day, version, kind):
        self._serve(symbol, day, Bar(version, kind))

    def _at(self, day):
        return calendar.next_session(self.session) if day > 0 else self._back(-day)

    def _serve(self, symbol, day, bar):
        self.world.now += timedelta(seconds=1)
        self.vendor.change((symbol, self._at(day)), bar, self.world.now)

    @rule(failing=st.sampled_from([(), ("KO",), ("AAPL", "IBM")]))
    def request_fails(self, failing):
        self.vendor.failing = set(failing)

    # -- at dawn -------------------------------------------------------------------------------------------------------------------

    @rule()
    def dawn(self):
        """End all trouble; then two nights without any must bring the lake and the warehouse to what the vendor serves."""
        self.vendor.failing, WAREHOUSE.broken, self.world.lake.left = set(), False, None
        while self.world.active:
            self.world.work(self.world.active[0])
        for session in self._days(2):
            self.world.now = max(self.world.now, self.world.run_moment(session))
        for session in (self._back(1), self._back(0)):
            self.world.work(self.world.new("scheduled", SYMBOLS, session))
        self.checks.dawn(self.session)

    @invariant()
    def values_agree(self):
        self.checks.values()

    @invariant()
    def requests_are_allowed(self):
        self.checks.requests()


class MarketDays(DaysModel):
    """The same with requests of the whole market."""

    shape = Shape.MARKET


class YearFiles(DaysModel):
    """The same with a file a year."""

    shape, grain = Shape.MULTI, "year"


class SessionFiles(DaysModel):
    """The same with a file a session."""

    shape, grain = Shape.MULTI, "session"


def explore(model, examples, steps, phases):
    given = {"max_examples": examples, "stateful_step_count": steps, "suppress_health_check": list(HealthCheck)}
    run_state_machine_as_test(model, settings=settings(phases=phases, **given))


@pytest.mark.parametrize(("model", "examples"), [(DaysModel, 4), (MarketDays, 2), (YearFiles, 2)])
def test_what_is_green_is_true_whatever_happens(model, examples):
    explore(model, examples, 12, [Phase.generate])  # a failure has twelve steps at most: to shrink them takes minutes


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("model", "examples"), [(DaysModel, 8), (MarketDays, 4), (YearFiles, 4), (SessionFiles, 4)])
def test_what_is_green_is_true_whatever_happens_for_long(model, examples):
    explore(model, examples, 18, [Phase.generate])
