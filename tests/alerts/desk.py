"""A lake, a clock that a test moves, and somebody who is told."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from market_data.alerts.watch import watch
from market_data.config.alerts import Alerts
from market_data.config.universes import read_universe
from market_data.core.run import RunInfo
from market_data.lake.coverage import CELLS
from market_data.lake.ledger import write_cells
from market_data.lake.store import Lake
from tests.pipeline.runs import feed_of

NEW_YORK = ZoneInfo("America/New_York")
MEMBERS = read_universe("dow30").symbols
FEED = replace(feed_of("polygon_ohlcv_1d"), universe="dow30", due="07:00")
TUESDAY, DAY, THURSDAY = date(2024, 3, 5), date(2024, 3, 6), date(2024, 3, 7)


def new_york(day, hour, minute=0):
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=NEW_YORK).astimezone(UTC)


class Desk:
    """Watches feeds; ``inbox`` has what was sent, as (moment, message)."""

    def __init__(self, folder, *feeds, alerts=None):
        self.lake = Lake.open(f"file://{folder}/lake")
        self.feeds, self.alerts, self.inbox, self.runs = feeds or (FEED,), alerts or Alerts(), [], 0
        self.now = new_york(DAY, 20, 0)
        self.more = {}
        self.notifiers = {"desk": lambda message: self.inbox.append((self.now, message))}

    def cells(self, session, state="have", symbols=MEMBERS, reason="", feed=None, at=None):
        """Record cells, as a run's publish does."""
        self.runs += 1
        feed = feed or self.feeds[0]
        run = RunInfo(feed.dag_id, f"r{self.runs}", "scheduled", 0, self.now)
        rows = [{"symbol": name, "session": session, "state": state, "reason": reason} for name in symbols]
        write_cells(
            self.lake, feed.dataset, feed.provider, run, "b", CELLS.empty_table().from_pylist(rows, schema=CELLS),
            recorded_at=at or self.now,
        )  # fmt: skip

    def report(
        self, first, last=None, *, feed=None, run="s1", clear=0, red=(), errors=(), restated=(), cost=None, symbols=30, lookback=0,
        started=None, minutes=0, tasks=None, requested=None,
    ):  # fmt: skip
        """Write the report of a run, with the keys of the real ones.

        :param tasks: failed task -> error; ``requested``: symbols that were requested, if others are covered.
        """
        self.runs += 1
        begin, last, started = first - timedelta(days=lookback), last or first, started or self.now
        attempt = {"attempt": clear, "started": started.isoformat(), "api_calls": 1, "cost_usd": cost}
        body = {
            "dag_id": (feed or self.feeds[0]).dag_id, "run_id": run, "clear_number": clear,
            "total_tickers": symbols if requested is None else requested, "own_tickers": symbols,
            "date_range": {"from": str(begin), "to": str(last)}, "own_range": {"from": str(first), "to": str(last)},
            "red": [*red, *(f"`{name}` failed: {error}" for name, error in (tasks or {}).items())], "failed_tickers_list": [],
            "failed_tasks": [{"task": name, "error": error} for name, error in (tasks or {}).items()],
            "total_batches": 0 if "plan" in (tasks or {}) else 1,
            "batch_results": [{"state": "failed", "error": error} for error in errors],
            "restated": [{"symbol": s, "session": str(d), "rows": n, "attempt": clear} for s, d, n in restated], "cost_usd": cost,
            "attempts": [attempt], "end_time": (self.now + timedelta(minutes=minutes)).isoformat(),
        }  # fmt: skip
        self.lake.put_new(f"logs/ingest/date={started:%Y-%m-%d}/run-{self.runs}.json", json.dumps(body).encode())

    def watch(self, **more):
        """Watch once; return the messages that were sent."""
        before = len(self.inbox)
        self.found, self.done = watch(self.lake, self.feeds, self.alerts, self.notifiers, lambda: self.now, **self.more, **more)
        return [message for _, message in self.inbox[before:]]

    def until(self, moment, step=5):
        """Let time pass with a watch every ``step`` minutes; return the titles that were sent."""
        before = len(self.inbox)
        while self.now < moment:
            self.now = min(moment, self.now + timedelta(minutes=step))
            self.watch()
        return [message.title for _, message in self.inbox[before:]]
