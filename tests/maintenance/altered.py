"""Runs of the mock feeds whose values a test alters, without a server: nights of twenty-one symbols."""

from datetime import date, time
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.compute as pc

from market_data.core import calendar
from market_data.lake.ledger import read_coverage
from market_data.providers.base import ProviderConfig
from market_data.providers.mock.hook import MockHook
from tests.pipeline.runs import World, feed_of

SYMBOLS = tuple(f"S{number:02d}" for number in range(21))
DAYS = calendar.sessions(date(2012, 12, 12), date(2013, 4, 1))
HISTORY, TONIGHT = DAYS[4:8], DAYS[8]
PRICES = ("open", "high", "low", "close", "vwap")


class AlteredHook(MockHook):
    """The mock with other values in some cells."""

    changes = ()
    calls = ()

    def fetch(self, request):
        self.calls.append(request)
        found = super().fetch(request)
        table = found.table
        for symbol, session, columns in self.changes:
            table = changed(table, symbol, session, columns)
        return found.__class__(table, found.evidence)


def changed(table, symbol, session, columns):
    here = pc.equal(table["session"], pa.scalar(session))
    if symbol is not None:
        here = pc.and_(here, pc.equal(table["symbol"], symbol))
    columns = dict(columns)
    first, after = columns.pop("first", None), columns.pop("after", 0)
    if first is not None or after:
        number = pc.subtract(pc.cumulative_sum(here.cast(pa.int64())), 1)
        end = table.num_rows if first is None else first
        here = pc.and_(here, pc.and_(pc.greater_equal(number, after), pc.less(number, end)))
    for name, value in columns.items():
        for column in PRICES if name == "multiply" else ("volume",) if name == "volume" else (name,):
            if column not in table.column_names:
                continue
            kind, place = table.schema.field(column).type, table.column_names.index(column)
            old = table[column]
            new = pc.multiply(old, value).cast(kind) if name in ("multiply", "volume") else pa.scalar(value, kind)
            table = table.set_column(place, pa.field(column, kind), pc.if_else(here, new, old))
    return table


class Nights(World):
    """Scheduled runs, one a session, in the evening of New York."""

    def __init__(self, folder, feed="mock_ohlcv_1d"):
        self.calls, self.changes = [], []
        edits = SimpleNamespace(clear_changes=self.changes.clear)
        self.api = SimpleNamespace(alter=self.alter, edits=edits, calls=self.calls)
        super().__init__(feed_of(feed), folder, self.altered)

    def altered(self):
        hook = AlteredHook(ProviderConfig("mock_default", ""))
        hook.changes, hook.calls = self.changes, self.calls
        return hook

    def alter(self, symbol, session, **columns):
        """Alter a cell, or those of all symbols: ``multiply`` its prices or its ``volume``, or set columns.

        ``first``: only as many of its rows; ``after``: only those after as many.
        """
        self.changes.append((symbol, session, columns))

    def run(self, context, sessions, symbols, lookback=()):
        return super().run(sessions, symbols, context, lookback)

    def evening(self, session):
        self.now = calendar.at(session, time(19, 30))  # a run adds an hour

    def history(self):
        self.evening(HISTORY[-1])
        return self.run(self.context("history"), HISTORY, SYMBOLS)

    def night(self, place):
        """Run the night of ``DAYS[place]`` with a lookback of five sessions."""
        self.evening(DAYS[place])
        context = self.context(f"night-{place}", run_type="scheduled")
        return self.run(context, DAYS[place : place + 1], SYMBOLS, DAYS[max(0, place - 5) : place])

    def coverage(self):
        return read_coverage(self.lake, self.feed.dataset, self.make_hook().source)

    def state(self, symbol, session):
        return self.coverage().state(symbol, session)

    def reason(self, symbol, session):
        rows = self.coverage().table.to_pylist()
        return next(row["reason"] for row in rows if (row["symbol"], row["session"]) == (symbol, session))

    def has_flag(self, report):
        return self.lake.get(report["key"].removesuffix("json") + "flag") is not None
