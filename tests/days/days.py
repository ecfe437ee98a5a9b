"""Five weeks of two feeds on a movable clock: ``python -m tests.days.days FACTS``, in an Airflow home of its own.

Writes what happened as JSON: `test_days.py` judges it.
"""

import json
import logging
import os
import sys
import time
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from sandbox.http import SampleApi

POLYGON, ALPACA = DAGS = ("polygon_ohlcv_1d", "alpaca_ohlcv_1d")
SWITCHED_ON = date(2026, 10, 24)  # a Saturday
LAST = date(2026, 12, 1)
LATE, FAILED = date(2026, 10, 27), date(2026, 10, 29)
RESTATED, REFUSED = date(2026, 11, 3), date(2026, 11, 5)
AWAY = (date(2026, 11, 9), date(2026, 11, 20))  # the ten sessions
BACKFILLED = (date(2026, 10, 12), date(2026, 10, 14))
TOGETHER = date(2026, 11, 23)
SYMBOL = "IBM"
DAY = timedelta(days=1)


class Story:
    """What the vendor, the users and the clock do."""

    def __init__(self, api, air, folder):
        self.api, self.air, self.folder = api, air, folder
        self.dawns, self.reached, self.seconds, self.ended, self.calls = [], {}, {}, set(), {}

    def tell(self):
        for dag_id in DAGS:
            self.air.pause(dag_id, False)
        self.air.run_all()
        day = date(2026, 10, 26)
        while day <= LAST:
            self.morning(day)
            if not AWAY[0] <= day < AWAY[1]:
                self.night(day)
            self.dawn(day + timedelta(days=1))
            day += timedelta(days=1)

    def morning(self, day):
        """At ten: whatever happens between two nights."""
        self.air.go_to(day, 10)
        events = {
            LATE: self.a_bar_is_late,
            LATE + DAY: self.api.edits.clear_hidden,
            FAILED: self.the_vendor_fails,
            FAILED + DAY: self.api.faults.clear,
            RESTATED + DAY: self.correct,
            RESTATED + 2 * DAY: self.clear_the_restated_and_serve_nonsense,
            REFUSED + DAY: self.mend_and_clear_the_refused,
            TOGETHER: self.trigger_two_runs_of_the_same_dates,
            TOGETHER + DAY: self.backfill,
            TOGETHER + 2 * DAY: self.trigger_a_run_that_takes_too_long,
        }
        events.get(day, lambda: None)()

    def a_bar_is_late(self):
        self.api.hide(LATE, ["AAPL"])

    def the_vendor_fails(self):
        for vendor in ("polygon", "alpaca"):
            self.api.fault("server_error", status=401, times=None, vendor=vendor)  # 5xx would be tried again for a minute

    def correct(self):
        close = self.price(SYMBOL, RESTATED)
        self.api.alter(SYMBOL, RESTATED, close=round(close * 1.001, 2), high=round(close * 1.2, 2))

    def clear_the_restated_and_serve_nonsense(self):
        self.reached["restated"] = [self.air.clear(dag_id, RESTATED) for dag_id in DAGS]
        self.api.alter(None, REFUSED, multiply=10)

    def mend_and_clear_the_refused(self):
        self.api.edits.clear_changes()
        self.correct()
        self.reached["refused"] = [self.air.clear(dag_id, REFUSED) for dag_id in DAGS]

    def trigger_two_runs_of_the_same_dates(self):
        for dag_id in DAGS:
            for number in (1, 2):
                self.air.trigger(dag_id, f"together_{number}", start_date="2026-11-16", end_date="2026-11-20", force=True)

    def backfill(self):
        for dag_id in DAGS:
            self.air.backfill(dag_id, *BACKFILLED)

    def trigger_a_run_that_takes_too_long(self):
        """Three batches, the first of which takes five hours."""

        def five_hours(*task):
            if task == ("too_long", "fetch", 0):
                self.air.moment.shift(5 * 3600)

        self.air.after_task = five_hours
        dates = {"start_date": "2026-10-05", "end_date": "2026-10-06"}
        self.air.trigger(POLYGON, "too_long", endpoint="range", batch_size=10, **dates)

    def night(self, day):
        self.api.log.clear()
        self.air.go_to(day, 22)
        began = time.perf_counter()
        self.ended = self.air.run_all()
        self.seconds[str(day)] = time.perf_counter() - began
        self.calls[str(day)] = Counter(call.vendor for call in self.api.calls)

    def dawn(self, day):
        """At six: what the server serves and what silver has, of each feed."""
        self.air.go_to(day, 6)
        served = {}
        for session in sessions_until(day):
            served |= {(bar.symbol, str(session)): bar.close for bar in self.api.market.session(session)}
        for dag_id in DAGS:
            stored = self.silver(dag_id.partition("_")[0])
            served_here = {key: close for key, close in served.items() if key[0] in SYMBOLS}
            differ = [
                [*key, stored.get(key), served_here.get(key)]
                for key in sorted({*stored, *served_here})
                if stored.get(key) != served_here.get(key) and key[1] >= "2026-10-26"
            ]
            notes = [self.air.notes(*run).get("verdict -1", "") for run in sorted(self.ended) if run[0] == dag_id]
            self.dawns.append({"day": str(day), "dag_id": dag_id, "differ": differ, "verdicts": notes})
        self.ended = set()

    def silver(self, provider):
        import duckdb

        if not (self.folder / "warehouse.duckdb").exists():
            return {}
        with duckdb.connect(str(self.folder / "warehouse.duckdb"), read_only=True) as warehouse:
            rows = warehouse.execute(
                "SELECT symbol, CAST(bar_time AS DATE), close_px FROM silver_prices WHERE provider = ? AND timeframe = '1d'",
                [provider],
            ).fetchall()
        return {(symbol, str(session)): float(close) for symbol, session, close in rows}

    def price(self, symbol, session):
        return next(bar.close for bar in self.api.market.session(session) if bar.symbol == symbol)

    def facts(self):
        runs = {
            dag_id: [
                {"run_id": name, "state": state, "type": kind, "session": str(logical and logical.date()), "run_after": str(after),
                 "notes": self.air.notes(dag_id, name)}
                for name, (state, kind, logical, after) in self.air.runs(dag_id).items()
            ]
            for dag_id in DAGS
        }  # fmt: skip
        too_long = sum(session in ("2026-10-05", "2026-10-06") for _, session in self.silver("polygon"))
        told = {"dawns": self.dawns, "reached": self.reached, "seconds": self.seconds, "calls": self.calls}
        return {"runs": runs, "loaded_of_too_long": too_long, **told}


def sessions_until(day):
    from market_data.core import calendar

    return calendar.sessions(date(2026, 10, 26), day)


def main(facts):
    from market_data.config.universes import members

    global SYMBOLS  # noqa: PLW0603
    SYMBOLS = set(members("dow30"))
    folder = Path(os.environ["AIRFLOW_HOME"])
    logging.disable(logging.WARNING)
    with SampleApi(api_key="sample-key", symbols=SYMBOLS) as api:
        for name, path in (("POLYGON", ""), ("ALPACA", "/alpaca")):
            connection = {"conn_type": "http", "host": api.url + path, "login": "sample", "password": "sample-key"}
            os.environ[f"AIRFLOW_CONN_{name}_DEFAULT"] = json.dumps({**connection, "extra": {"plan": "sample"}})
        from market_data.quality import checkpoint
        from tests.days.clocked import ClockedAirflow
        from tests.quality.quick_validator import QuickValidator

        checkpoint.Validator = QuickValidator  # it decides the same: test_quick_validator.py

        noon = datetime(SWITCHED_ON.year, SWITCHED_ON.month, SWITCHED_ON.day, 16, tzinfo=UTC)
        story = Story(api, ClockedAirflow(Path(__file__).parent / "dags", noon), folder)
        story.tell()
    facts.write_text(json.dumps(story.facts(), indent=1, default=str))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
