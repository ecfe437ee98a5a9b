"""What every dataset keeps to: the suite that its test class inherits.

A subclass says how a good row looks, how rows go wrong and with what reason, what is odd and still fine, and what a restatement is.
The lake is a folder, the gate, the suites and Great Expectations are the real ones. No clock, no network.
"""

import random
import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.intervals import closed
from market_data.core.outcome import Evidence
from market_data.core.run import RunInfo
from market_data.datasets.base import UTC_MICROS, UTC_NANOS
from market_data.datasets.registry import dataset as find
from market_data.lake import parquet, quarantine, staging, writer
from market_data.lake.layout import Layout
from market_data.lake.reader import read_rows
from market_data.lake.receipts import RequestReceipt
from market_data.lake.staging import StagedInfo
from market_data.lake.store import Lake
from market_data.quality.checkpoint import Scope, run_checkpoint
from market_data.quality.gate import gate
from market_data.quality.great_expectations import Validator
from market_data.quality.row_counts import RowCounts, row_rules
from market_data.quality.suites import family, rows_suite

# Both days around each change of the clocks, an early close in summer and one in winter.
SESSIONS = [date(2024, 3, 8), date(2024, 3, 11), date(2024, 7, 3), date(2024, 11, 1), date(2024, 11, 4), date(2024, 11, 29)]
SYMBOLS = ("AAPL", "BRK.B", "X:BTC-USD")
DAY = SESSIONS[2]
EXCHANGE = calendar.sessions(SESSIONS[0], SESSIONS[-1] + timedelta(1))
T0 = datetime(2024, 12, 2, tzinfo=UTC)
LATER = T0 + timedelta(hours=1)
RUN = RunInfo("mock_dataset", "manual__1", "manual", 0, T0)
PROJECT = Path(__file__).parents[2]
GUIDE = (PROJECT / "docs" / "reference" / "lake.md").read_text()
SQL = PROJECT / "include" / "sql" / "lake"
PROVIDER = "mock"


def new_york(day, hour, minute=0, second=0, days=0):
    """UTC of a time on New York's clocks, ``days`` after ``day``."""
    wall = datetime(day.year, day.month, day.day, hour, minute, second, tzinfo=calendar.NEW_YORK) + timedelta(days)
    return wall.astimezone(UTC)


class DatasetContract:
    """Inherit, say the below, and every test here holds the dataset to what the others rely on."""

    name: ClassVar[str]
    correction: ClassVar[dict]
    """Columns as a vendor may restate them."""
    bad: ClassVar[dict[str, tuple[dict, str]]]
    """What is wrong -> the columns that make a good row of ``AAPL`` in the session ``DAY`` so, and the reason the gate gives."""
    fine: ClassVar[dict[str, dict]] = {}
    """Odd, and still good."""
    slipped: ClassVar[dict[str, dict]]
    """Rule of the rows suite -> columns of a landed row that break it and no other."""

    def row(self, symbol, session, n=0):
        """A good row as received, the ``n``-th of its cell."""
        raise NotImplementedError

    # -- what the tests are made of ----------------------------------------------------------------------------------------------

    @property
    def dataset(self):
        return find(self.name)

    def rows(self, sessions=SESSIONS, symbols=SYMBOLS, size=2):
        """Good rows by key: ``size`` in each cell, one of daily bars."""
        size = 1 if self.dataset.timeframe == "1d" else size
        return [self.row(symbol, session, n) for symbol in symbols for session in sessions for n in range(size)]

    def received(self, rows):
        return pa.Table.from_pylist(rows, schema=pa.schema([pa.field(f.name, f.type) for f in self.dataset.received]))

    def landed(self, rows, at=T0, **values):
        extra = {"timeframe": self.dataset.timeframe, "provider": PROVIDER, "ingest_ts": at, **values}
        schema = pa.schema([pa.field(f.name, f.type) for f in self.dataset.schema])
        table = pa.Table.from_pylist([{**extra, **row, **values} for row in rows], schema=schema)
        return parquet.by_key(pa.table(table.columns, schema=self.dataset.schema), self.dataset.key)

    def judge(self, rows, symbols=SYMBOLS, sessions=EXCHANGE):
        asked = Request(self.name, "any", symbols, (closed(SESSIONS[0], SESSIONS[-1]),))
        return gate(self.dataset, self.received(rows), asked, sessions)

    def land(self, lake, rows, grain="day", *, refetch=False):
        return writer.land(lake, Layout(), self.dataset, PROVIDER, rows, grain, refetch=refetch)

    def parts(self, rows, grain="day"):
        """The keys of the objects that ``land`` brings the rows to, one for each time that it does: each should come once."""
        return [key for key, _, _ in writer._keys(Layout(), self.dataset, PROVIDER, self.landed(rows), grain)]

    def read(self, lake, start=SESSIONS[0], days=300, symbols=SYMBOLS):
        return read_rows(lake, Layout(), self.dataset, PROVIDER, symbols, start, start + timedelta(days))

    @pytest.fixture
    def lake(self, tmp_path):
        return Lake.open(f"file://{tmp_path}/lake")

    # -- what it says of itself --------------------------------------------------------------------------------------------------

    def test_its_columns_have_one_meaning_each(self):
        dataset = self.dataset
        assert dataset.name == self.name
        named = {*dataset.key, *dataset.values, "symbol", "session", "provider", "ingest_ts"} | ({"timeframe"} & {*dataset.key})
        assert named == {*dataset.schema.names}
        assert {*dataset.key}.isdisjoint(dataset.values)
        assert all(not dataset.schema.field(name).nullable for name in (*dataset.key, "session", "provider", "ingest_ts"))
        assert [
            name for name in dataset.schema.names if name not in {"timeframe", "provider", "ingest_ts", dataset.withdrawn}
        ] == dataset.received.names

    def test_moments_are_utc_dates_are_dates_and_numbers_are_wide(self):
        allowed = [pa.string(), pa.date32(), pa.float64(), pa.int64(), pa.int32()]
        for field in self.dataset.schema:
            if pa.types.is_timestamp(field.type):
                assert (field.type.tz, field.type.unit) in {("UTC", "us"), ("UTC", "ns")}
            else:
                assert field.type in allowed or (field.name, field.type) == (self.dataset.withdrawn, pa.bool_())

    def test_the_guide_describes_its_columns_in_order(self):
        (section,) = re.findall(rf"^### [^\n]*`{self.name}`.*?(?=^##)", GUIDE, re.MULTILINE | re.DOTALL)
        lines = [[cell.strip() for cell in line.split("|")] for line in section.splitlines() if line.startswith("| `")]
        named = [(name, kind) for _, names, kind, *_ in lines for name in re.findall(r"`(\w+)`", names)]
        common = {"provider", "ingest_ts"}  # described once, for all
        assert [name for name, _ in named] == [name for name in self.dataset.schema.names if name not in common]
        words = {pa.float64(): "double", pa.date32(): "date", UTC_MICROS: "timestamp", UTC_NANOS: "timestamp, nanoseconds"}
        for name, kind in named:
            arrow = self.dataset.schema.field(name).type
            assert kind in {words.get(arrow, str(arrow)), ""}  # none where another dataset's table has it
        assert all(kind or "as of `trades`" in said for _, _, kind, said, *_ in lines)

    def test_its_rules_have_names_demands_and_reasons(self):
        rules = self.dataset.rules
        assert len({rule.name for rule in rules}) == len(rules)
        assert all(rule.demand and rule.reason for rule in rules)

    # -- the gate ----------------------------------------------------------------------------------------------------------------

    def test_good_rows_pass_on_every_kind_of_day(self):
        gated = self.judge(self.rows())
        assert gated.bad["reasons"].to_pylist() == []
        assert gated.good.to_pylist() == self.rows()
        assert gated.good.schema.equals(self.dataset.received)

    def test_a_null_in_a_required_column_is_rejected(self):
        for field in self.dataset.received:
            if not field.nullable:
                gated = self.judge([{**self.row("AAPL", DAY), field.name: None}, self.row("BRK.B", DAY)])
                (reasons,) = gated.bad["reasons"].to_pylist()
                assert f"{field.name} is null" in reasons
                assert gated.good["symbol"].to_pylist() == ["BRK.B"]

    def test_a_bad_row_is_rejected_with_its_reason(self):
        for what, (change, reason) in self.bad.items():
            gated = self.judge([self.row("BRK.B", DAY), {**self.row("AAPL", DAY), **change}])
            assert (what, gated.bad["reasons"].to_pylist()) == (what, [reason])
            assert gated.good["symbol"].to_pylist() == ["BRK.B"]

    def test_unusual_rows_pass(self):
        for what, change in self.fine.items():
            assert (what, self.judge([{**self.row("AAPL", DAY), **change}]).bad["reasons"].to_pylist()) == (what, [])

    def test_only_requested_cells_pass(self):
        gated = self.judge([self.row("AAPL", DAY), self.row("MSFT", DAY)])
        assert gated.bad["reasons"].to_pylist() == ["symbol MSFT was not requested"]
        holiday = tuple(day for day in EXCHANGE if day != DAY)
        assert self.judge([self.row("AAPL", DAY)], sessions=holiday).bad["reasons"].to_pylist() == [
            f"session {DAY} not a session of the exchange"
        ]
        early = SESSIONS[0] - timedelta(1)
        assert self.judge([self.row("AAPL", early)]).bad["reasons"].to_pylist() == [f"session {early} outside the request"]

    def test_one_copy_lands_and_none_of_two_versions(self):
        one, other = self.row("AAPL", DAY), self.row("BRK.B", DAY)
        gated = self.judge([one, other, one, {**other, **self.correction}])
        assert gated.good.to_pylist() == [one]
        assert gated.bad["reasons"].to_pylist() == ["conflicting duplicate", "duplicate row", "conflicting duplicate"]

    # -- the lake ----------------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("grain", ["day", "year"])
    def test_rows_are_read_as_they_were_written(self, lake, grain):
        rows = self.landed(self.rows())
        shuffled = rows.take(pa.array(random.Random(1).sample(range(len(rows)), len(rows))))
        assert self.land(lake, shuffled, grain).rows.equals(rows)
        assert self.read(lake).equals(rows)
        for session in SESSIONS:  # few days: by key, where keys tell the session
            assert self.read(lake, session, 1).equals(parquet.by_key(self.landed(self.rows([session])), self.dataset.key))
        assert len(self.read(lake, SESSIONS[-1] + timedelta(1), 1)) == 0

    @pytest.mark.parametrize("grain", ["day", "year"])
    def test_an_object_is_written_once_and_its_key_says_what_it_holds(self, lake, grain):
        landed = self.land(lake, self.landed(self.rows()), grain)
        keys = [key for key, _ in lake.list("raw")]
        assert sorted(self.parts(self.rows(), grain)) == keys
        assert landed.written == len(keys)
        held = Counter()
        for key in keys:
            found, rows = Layout().parse(key), parquet.decode(lake.get(key).body, key, self.dataset.schema)
            assert (found.folder, found.provider) == (self.dataset.folder, PROVIDER)
            assert rows["symbol"].unique().to_pylist() == [found.symbol]
            assert rows["session"].unique().to_pylist() == [found.session] or found.session is None
            assert pc.all(pc.equal(pc.year(rows[self.dataset.files.date]), found.year)).as_py()
            held[found.symbol] += len(rows)
        assert held == Counter(row["symbol"] for row in self.rows())

    @pytest.mark.parametrize("grain", ["day", "year"])
    def test_equal_values_change_nothing(self, lake, grain):
        self.land(lake, self.landed(self.rows()), grain)
        before = {key: lake.get(key) for key, _ in lake.list("raw")}
        again = self.land(lake, self.landed(self.rows(), LATER), grain, refetch=True)
        assert (again.written, again.unchanged) == (0, len(before))
        assert again.rows.equals(self.landed(self.rows()))
        assert {key: lake.get(key) for key, _ in lake.list("raw")} == before

    @pytest.mark.parametrize("grain", ["day", "year"])
    def test_a_correction_replaces_its_row_alone(self, lake, grain):
        rows = self.rows()
        self.land(lake, self.landed(rows), grain)
        corrected = [{**row, **self.correction} if n == 1 else row for n, row in enumerate(rows)]
        assert self.land(lake, self.landed(corrected, LATER), grain, refetch=True).written == 1
        found = self.read(lake)
        stamps = [LATER if n == 1 else T0 for n in range(len(rows))]
        assert found["ingest_ts"].to_pylist() == stamps
        assert found.drop_columns(["ingest_ts"]).equals(self.landed(corrected).drop_columns(["ingest_ts"]))

    def test_the_newest_row_counts_whatever_the_grain(self, lake):
        rows = self.rows(SESSIONS[:3])
        self.land(lake, self.landed(rows), "year")
        corrected = [{**row, **self.correction} for row in rows[:1]]
        self.land(lake, self.landed(corrected, LATER), "day")
        assert self.read(lake)["ingest_ts"].to_pylist() == [LATER, *[T0] * (len(rows) - 1)]

    def test_the_duckdb_macro_gives_what_the_reader_gives(self, lake):
        rows = self.rows(SESSIONS[:3])
        self.land(lake, self.landed(rows), "year")
        self.land(lake, self.landed([{**row, **self.correction} for row in rows[:2]], LATER), "day")
        self.land(lake, self.landed([{**rows[-1], **self.correction}]), "day")  # equally new: the day file's counts
        connection = duckdb.connect()
        folder, macro = self.dataset.folder, f"lake_{self.dataset.folder}"
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET VARIABLE {macro} = '{lake.url.removeprefix('file://')}/raw/{folder}/provider={PROVIDER}'")
        (text,) = [text for file in SQL.glob("*.sql") if f"MACRO {macro}(" in (text := file.read_text())]
        connection.execute(text)

        def found(call):
            table = connection.sql(f"SELECT * FROM {call} ORDER BY {', '.join(self.dataset.key)}").to_arrow_table()
            return table.select(self.dataset.schema.names).cast(self.dataset.schema)

        assert found(f"{macro}()").equals(self.read(lake))
        for key in ("X%3ABTC-USD", "X%3A*"):
            assert found(f"{macro}(symbol_key := '{key}')").equals(self.read(lake, symbols=SYMBOLS[2:]))

    @pytest.mark.parametrize("whole", [True, False], ids=["from the lake object", "encoded"])
    def test_staging_and_quarantine_keep_every_column(self, lake, whole):
        good, wrong = self.landed(self.rows()), next(iter(self.bad.values()))[0]
        request = Request(self.name, "any", SYMBOLS, (closed(SESSIONS[0], SESSIONS[-1]),))
        receipt = RequestReceipt(request, Evidence(1, 0, 1, 9, 9, None, True), {"ingest_us": 0})
        with staging.Rows() as rows:
            rows.add(good, parquet.encode(good) if whole else None)
            key = staging.write(lake, self.name, PROVIDER, 16 * "a", StagedInfo(RUN, "b000", "day", receipt), rows)
        (stored,) = staging.read_rows(lake, [(key, len(lake.get(key).body))], lambda _: ())
        assert stored.equals(good)
        bad = self.judge([{**self.row("AAPL", DAY), **wrong}, {**self.row("AAPL", DAY), "session": None}]).bad
        assert quarantine.write(lake, self.name, PROVIDER, RUN, "b000", bad) == 2
        kept = [parquet.decode(lake.get(key).body, key) for key, _ in lake.list(f"quarantine/{self.name}")]
        assert [len(table) for table in kept] == [1, 1]
        assert all({*self.dataset.received.names, "reasons"} < {*table.column_names} for table in kept)

    # -- the checkpoint ----------------------------------------------------------------------------------------------------------

    def test_the_suite_passes_good_rows_and_names_each_broken_rule(self):
        rows = self.rows(size=3)
        odd = [{**self.row(f"F{n}", DAY), **change} for n, change in enumerate(self.fine.values())]
        assert self._broken_rules(self.landed([*rows, *odd])) == {}
        # One row per rule breaks it, all in one table; partitions by symbol and year show which row was found.
        wrong = {rule: {**self.row(f"S{n}", DAY), **change} for n, (rule, change) in enumerate(self.slipped.items())}
        found = self._broken_rules(self._loose([*rows, *wrong.values()]))
        assert found == {rule: [f"{row['symbol']}/{DAY.year}"] for rule, row in wrong.items()}

    def _broken_rules(self, table):
        """Return rule -> the partitions that Great Expectations finds it broken in."""
        counts = RowCounts(self.dataset, row_rules(self.dataset, PROVIDER), "year")
        counts.add(table)
        assert counts.rows == len(table)
        suite = rows_suite(self.dataset, counts)
        assert suite.name == f"{family(self.dataset)}.rows"
        validator = Validator("test")
        broken = validator.run(validator.checkpoint(suite), counts.table())
        return {one.rule: [counts.partitions[place] for place in one.places] for one in broken}

    def _loose(self, rows):
        """As landed, by no gate and in no order: columns may be null, and may say another provider."""
        extra = {"timeframe": self.dataset.timeframe, "provider": PROVIDER, "ingest_ts": T0}
        schema = pa.schema([pa.field(f.name, f.type) for f in self.dataset.schema])
        return pa.Table.from_pylist([{**extra, **row} for row in rows], schema=schema)

    def test_a_good_run_passes_the_checkpoint(self):
        previous = pa.table({"symbol": pa.array([], pa.string()), "session": pa.array([], pa.date32())})
        table = self.landed(self.rows())
        result = run_checkpoint(
            self.dataset,
            Scope(dict.fromkeys(SESSIONS, len(SYMBOLS)), previous, provider=PROVIDER),
            [table.slice(0, 5), table.slice(5)],
            run_name="test",
        )
        assert [(v.partition, v.passed, v.reasons) for v in result.verdicts] == [(str(day), True, ()) for day in SESSIONS]
        assert result.statistics["rows"] == len(table)
        assert {v["suite_name"].partition(".")[0] for v in result.document["validations"]} == {family(self.dataset)}
