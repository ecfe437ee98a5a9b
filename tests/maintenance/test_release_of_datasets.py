"""A release and a confirmation of each kind of dataset, file grain and warehouse: bars, minutes, trades, statements."""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import date

import pytest

from market_data.airflow.warehouse_connections import open_with_hooks
from market_data.core.outcome import CONFIRMED_WRONG, SOME_QUARANTINED, State
from market_data.lake.decisions import Kind
from market_data.maintenance import journal
from market_data.maintenance.release import decide
from market_data.pipeline.selection import Selection
from tests.maintenance.altered import DAYS, SYMBOLS, TONIGHT, Nights
from tests.maintenance.test_release import ADA
from tests.services import postgres_server
from tests.tiers import tiers

FEW = SYMBOLS[:2]


@dataclass(frozen=True)
class Case:
    """The values that the gate rejects, which the warehouse could hold, and where they are then.

    :param never: values that it could not hold.
    """

    dataset: str
    grain: str
    table: str
    value: dict
    never: dict
    session: date = TONIGHT
    now: date | None = None

    @property
    def places(self):
        place = DAYS.index(self.session)
        return DAYS[place - 4 : place], DAYS[place : place + 2]


BARS = ("silver_prices", {"close": 1.0}, {"open": None})
CASES = {
    "bars by day": Case("ohlcv-1d", "day", *BARS),
    "bars by year": Case("ohlcv-1d", "year", *BARS),
    "minutes by day": Case("ohlcv-1m", "day", *BARS),
    "minutes by month": Case("ohlcv-1m", "year", *BARS),
    "trades": Case("trades", "day", "silver_trades", {"side": "X"}, {"price": None}),
    "statements": Case(
        "fundamentals", "day", "silver_fundamentals", {"fiscal_year": 1950}, {"currency": "U" * 20}, date(2013, 2, 7), DAYS[-1]
    ),
}


class World(Nights):
    """Runs of the mock feed of a dataset, with the warehouse of a test; time goes on in the evening of one day."""

    def __init__(self, folder, case, connection=None, symbols=FEW):
        super().__init__(folder, "mock_ohlcv_1m" if case.dataset == "ohlcv-1m" else "mock_ohlcv_1d")
        self.case, self.connection, self.symbols, self.number = case, connection, symbols, 0
        self.feed = replace(self.feed, dataset=case.dataset, params={**self.feed.params, "file_grain": case.grain})
        self.evening(case.now or case.places[1][-1])

    def warehouse(self):
        return super().warehouse() if self.connection is None else open_with_hooks(self.connection)

    def fetch(self, *, sessions=None, lookback=(), run_type="manual", **params):
        self.number += 1
        context = self.context(f"run-{self.number}", run_type=run_type, **params)
        return self.run(context, sessions or self.case.places[1], self.symbols, lookback)

    def decide(self, kind=Kind.RELEASE, **options):
        context = self.context()
        where = Selection(context.dataset, context.source, context.layout, None, DAYS[0], DAYS[-1])
        options = {"grain": self.case.grain, "dry_run": False, **options}
        with self.warehouse() as warehouse:
            return decide(self.lake, warehouse, where, kind, ADA, self.now, **options)

    def stored(self, values):
        """The number of rows in silver with the altered values."""
        [(column, value)] = values.items()
        column = {"close": "close_px"}.get(column, column)
        literal = f"'{value}'" if isinstance(value, str) else value
        return self.query(f"SELECT COUNT(*) AS n FROM {self.case.table} WHERE {column} = {literal}")[0]["n"]

    def rows(self):
        return self.query(f"SELECT COUNT(*) AS n FROM {self.case.table} WHERE symbol = 'S00'")[0]["n"]

    def states(self):
        return {self.state("S00", self.case.session), *(self.state(symbol, self.case.session) for symbol in self.symbols)}

    def log(self):
        found = self.query("SELECT event, decided_by, reason, cells FROM gold_quality_log")
        return sorted(((row["event"], row["decided_by"], row["cells"]) for row in found), key=str)


@pytest.fixture
def world(request, tmp_path):
    name, engine = request.param
    with postgres_server.empty_database(tmp_path) if engine == "postgres" else nullcontext() as connection:
        yield World(tmp_path, CASES[name], connection)


MANY = [name for name, case in CASES.items() if case.dataset != "ohlcv-1d"]
"""Cases with several rows per cell."""


def each(*quick, names=tuple(CASES), engines=("duckdb",)):
    """Each case and engine; all but ``quick`` in the slow tier."""
    every = [(name, engine) for name in names for engine in engines]
    params = [pytest.param(one, id=" on ".join(one), marks=[] if one in quick else [pytest.mark.slow]) for one in every]
    return pytest.mark.parametrize("world", params, indirect=True)


def quarantined(world, value):
    """Fill the warehouse; the gate rejects the rows of one cell."""
    world.fetch(sessions=world.case.places[0])
    world.alter("S00", world.case.session, **value)
    _, report = world.fetch()
    assert {(cell["symbol"], cell["session"]) for cell in report["quarantined"]} == {("S00", world.case.session.isoformat())}
    return report["rows_quarantined"]


@each(("trades", "duckdb"), ("statements", "duckdb"), ("minutes by month", "postgres"), engines=("duckdb", "postgres"))
def test_released_rows_are_loaded_stay_and_are_replaced_by_a_correction(world):
    count, session, calls = quarantined(world, world.case.value), world.case.session, len(world.calls)
    stored = world.rows()
    assert world.decide(dry_run=True).rows == count
    found = world.decide()
    assert (found.cells, found.rows, found.changed, found.impossible, found.gone) == (1, count, count, {}, 0)
    assert (world.stored(world.case.value), world.rows()) == (count, stored + count)
    assert world.state("S00", session) is State.RELEASED
    assert world.log() == [("quarantined", None, 1), ("released", "Ada", 1)]
    assert len(world.calls) == calls
    before = world.objects()
    assert world.decide().cells == 0
    assert world.objects() == before

    planned, _ = world.fetch()  # nothing is requested again
    assert session not in {day for batch in planned.plan.batches for block in batch.blocks for day in block.sessions}
    _, report = world.fetch(lookback=(session,), sessions=world.case.places[1][1:], run_type="scheduled", force=True)
    assert (report["red"], report["rows_quarantined"]) == ([], 0)
    _, report = world.fetch(force=True)
    assert (report["red"], report["rows_quarantined"], report["restated"]) == ([], 0, [])
    assert world.state("S00", session) is State.RELEASED
    assert (world.stored(world.case.value), world.rows()) == (count, stored + count)

    world.changes.clear()
    _, report = world.fetch(force=True)
    assert report["red"] == []
    assert {cell["session"] for cell in report["restated"]} == {session.isoformat()}
    assert (world.stored(world.case.value), world.rows()) == (0, stored + count)
    assert world.state("S00", session) is State.HAVE


@each(("statements", "duckdb"), ("minutes by day", "duckdb"))
def test_confirmed_rows_are_never_loaded_until_a_correction(world):
    count, session, stored = quarantined(world, world.case.value), world.case.session, world.rows()
    found = world.decide(Kind.CONFIRM)
    assert (found.cells, found.rows, found.loaded) == (1, count, 0)
    assert world.reason("S00", session).startswith(CONFIRMED_WRONG)
    assert world.log() == [("confirmed", "Ada", 1), ("quarantined", None, 1)]
    before = world.objects()
    assert world.decide(Kind.CONFIRM).cells == world.decide().cells == 0
    assert world.objects() == before
    _, report = world.fetch(force=True)
    assert (report["red"], report["rows_quarantined"]) == ([], 0)
    assert world.reason("S00", session).startswith(CONFIRMED_WRONG)
    assert world.rows() == stored
    world.changes.clear()
    _, report = world.fetch(force=True)
    assert (report["red"], world.rows(), world.state("S00", session)) == ([], stored + count, State.HAVE)


@each(("statements", "duckdb"), ("trades", "duckdb"))
def test_rows_that_cannot_be_stored_are_named_and_write_nothing_however_often(world):
    count = quarantined(world, world.case.never)
    before, log = world.objects(), world.log()
    for _ in range(2):
        found = world.decide()
        assert (found.cells, found.rows, sum(found.impossible.values())) == (1, 0, count)
    assert world.objects() == before
    assert world.log() == log
    assert list(journal.entries(world.lake)) == []


@each(("trades", "duckdb"), names=MANY)
def test_a_cell_of_which_some_rows_cannot_be_stored_is_released_once(world):
    world.alter("S00", world.case.session, first=3, **world.case.never)
    stored = quarantined(world, world.case.value) - 3
    found = world.decide()
    assert (found.rows, sum(found.impossible.values())) == (stored, 3)
    assert world.stored(world.case.value) == stored
    assert world.reason("S00", world.case.session).startswith(SOME_QUARANTINED)
    before = world.objects()
    again = world.decide()
    assert (again.rows, again.loaded, sum(again.impossible.values())) == (0, 0, 3)
    assert world.objects() == before
    world.decide(Kind.CONFIRM)  # the other three
    assert world.state("S00", world.case.session) is State.HAVE
    assert world.decide(Kind.CONFIRM).cells == 0
    _, report = world.fetch(force=True)
    assert (report["red"], report["rows_quarantined"]) == ([], 0)
    assert world.stored(world.case.value) == stored


@each(("trades", "duckdb"), names=MANY)
def test_rows_of_one_reason_are_decided_on_after_those_of_another(world):
    [(column, _)] = world.case.never.items()
    count = quarantined(world, world.case.value)
    assert world.decide(only="no such reason").cells == 0
    world.changes.clear()
    world.alter("S00", world.case.session, first=5, **world.case.never)
    world.alter("S00", world.case.session, after=5, **world.case.value)
    _, report = world.fetch(force=True)
    assert report["rows_quarantined"] == count
    assert world.decide(Kind.CONFIRM, only=column).rows == 5
    assert world.state("S00", world.case.session) is State.QUARANTINED
    before = world.objects()
    assert world.decide(Kind.CONFIRM, only=column).rows == 0
    assert world.objects() == before
    assert world.decide().rows == count - 5
    assert world.state("S00", world.case.session) is State.RELEASED


def refused(world):
    world.fetch(sessions=world.case.places[0])
    for symbol in world.symbols:
        world.alter(symbol, world.case.session, multiply=10)
    _, report = world.fetch(sessions=world.case.places[1][:1])
    assert report["red"]
    assert world.states() == {State.REFUSED}
    assert world.stored({"symbol": "S00"}) == world.rows()


REFUSABLE = [(name, engine) for name in CASES for engine in ("duckdb", "postgres") if CASES[name].dataset.startswith("ohlcv")]


@pytest.mark.parametrize(
    "world",
    [
        pytest.param(one, id=" on ".join(one), marks=[] if one == ("bars by year", "postgres") else [pytest.mark.slow])
        for one in REFUSABLE
    ],
    indirect=True,
)
@pytest.mark.parametrize("kind", tiers([Kind.RELEASE, Kind.CONFIRM], Kind.RELEASE))
def test_refused_sessions_and_years_are_decided_on(world, kind):
    world.symbols = SYMBOLS
    refused(world)
    rows = world.rows()
    found = world.decide(kind)
    assert found.cells == len(SYMBOLS)
    assert found.rows >= len(SYMBOLS)
    released = kind is Kind.RELEASE
    assert (world.rows() > rows) == released
    assert world.states() == {State.RELEASED if released else State.EMPTY}
    before = world.objects()
    assert world.decide(kind).cells == 0
    assert world.objects() == before
    _, report = world.fetch(sessions=world.case.places[1][:1], force=True)
    assert report["red"] == []
    assert world.states() == {State.RELEASED if released else State.EMPTY}
    for symbol in world.symbols:
        world.alter(symbol, world.case.places[1][1], multiply=10 if released else 1)
    _, report = world.fetch(lookback=world.case.places[1][:1], sessions=world.case.places[1][1:], run_type="scheduled")
    assert report["red"] == []
    world.changes.clear()
    _, report = world.fetch(force=True)
    assert world.states() == {State.HAVE}
