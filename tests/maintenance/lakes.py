"""Random lakes, and a lake that dies at a chosen write."""

from datetime import UTC, date, datetime, timedelta

from hypothesis import strategies as st

from market_data.datasets.bars import OHLCV_1D
from market_data.lake.layout import Layout
from market_data.lake.reader import read_rows
from market_data.lake.store import Lake
from market_data.lake.writer import land
from market_data.pipeline.selection import Selection
from tests.lake.rows import T0, bars

LAYOUT = Layout()
NOW = datetime(2024, 11, 20, 12, tzinfo=UTC)
SOURCE = "polygon"
SELECTION = Selection(OHLCV_1D, SOURCE, LAYOUT)
SYMBOLS = ["A", "BRK.B", "z:1"]
SPAN = (date(2023, 12, 1), date(2024, 12, 1))
DAYS = [
    date(2023, 12, 28), date(2023, 12, 29), date(2024, 1, 2), date(2024, 1, 3), date(2024, 10, 30), date(2024, 10, 31),
    date(2024, 11, 1), date(2024, 11, 18),
]  # fmt: skip
OPEN = (2024, 11)


class Killed(BaseException):
    """The process died."""


class Mortal(Lake):
    """A lake whose user dies before or after a write; ``between`` is called before and after each.

    :ivar die_at: number of the write, from 1; 0: never.
    """

    def arm(self, die_at=0, *, after=False, between=lambda: None):
        self.writes, self.die_at, self.after, self.between = 0, die_at, after, between

    def _write(self, operation, *args):
        self.writes += 1
        dies = self.writes == self.die_at
        self.between()
        if dies and not self.after:
            raise Killed
        done = operation(*args)
        self.between()
        if dies:
            raise Killed
        return done

    def put_new(self, key, body):
        return self._write(super().put_new, key, body)

    def put_if(self, key, body, etag):
        return self._write(super().put_if, key, body, etag)

    def delete(self, key):
        return self._write(super().delete, key)

    def delete_if(self, key, etag):
        return self._write(super().delete_if, key, etag)

    def each(self, operation, items, *, concurrency=1):
        return map(operation, list(items))


def mortal(url, access=None):
    lake = Mortal.open(url, access)
    lake.arm()
    return lake


cells = st.dictionaries(st.tuples(st.sampled_from(SYMBOLS), st.sampled_from(DAYS)), st.integers(0, 2), min_size=1, max_size=8)
landings = st.lists(
    st.tuples(st.sampled_from(["day", "day", "year"]), cells, st.integers(0, 3), st.booleans()), min_size=1, max_size=4
)


def fill(lake, steps, selection=SELECTION):
    """Write random bars: (file grain, cell -> close, day of the response, requested again) each."""
    for grain, values, at, refetch in steps:
        for cell, close in values.items():
            rows = bars([cell], close=float(close), at=T0 + timedelta(at))
            land(lake, selection.layout, selection.dataset, selection.source, rows, grain, refetch=refetch)


def read(lake, selection=SELECTION, symbols=SYMBOLS):
    return read_rows(lake, selection.layout, selection.dataset, selection.source, symbols, *SPAN)


def day_files(lake, selection=SELECTION):
    """The sessions of the day files."""
    found = (selection.layout.parse(key) for key, _ in lake.list("raw"))
    return [one.session for one in found if one and one.session]


def contents(lake, prefix=""):
    """Key -> bytes of every object."""
    return {key: lake.get(key).body for key, _ in lake.list(prefix)}
