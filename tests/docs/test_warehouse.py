"""The code of the warehouse page runs on a warehouse with every table, and returns its rows."""

import re
import shlex
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from market_data.airflow.warehouse_connections import open_with_hooks
from market_data.core import calendar
from market_data.core.run import RunInfo
from market_data.datasets.registry import DATASETS, dataset
from market_data.warehouse import ENGINES, WarehouseConnection
from market_data.warehouse.schema import TABLES
from sandbox.stack.command import run_command
from sandbox.stack.environment import Paths
from tests.services import oracle_server, postgres_server

PROJECT = Path(__file__).parents[2]
TEXT = (PROJECT / "docs" / "reference" / "warehouse.md").read_text()
BLOCK = re.compile(r"^#+ (?P<heading>[^\n]+)$|^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
SEEN = datetime(2024, 3, 4, tzinfo=UTC)
DAYS = [date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 1)]
RUN = RunInfo("polygon_ohlcv_1d", "scheduled__2024-03-05", "scheduled", 0, SEEN)


def blocks():
    """(heading, language, code) of each block of code, in order."""
    heading = ""
    for match in BLOCK.finditer(TEXT):
        if match["heading"]:
            heading = match["heading"]
        else:
            yield heading, match["language"], match["code"]


BLOCKS = list(blocks())


def code(heading, language):
    return [text for of, kind, text in BLOCKS if (of, kind) == (heading, language)]


def rows(name, *values, at=SEEN, provider="polygon"):
    found = dataset(name)
    common = {"provider": provider, "ingest_ts": at}
    return found, pa.Table.from_pylist([common | value for value in values], schema=found.schema)


def bar(day, close, symbol="AAPL"):
    where = {"symbol": symbol, "timeframe": "1d", "bar_time": datetime(day.year, day.month, day.day, tzinfo=UTC), "session": day}
    return where | {"open": close, "high": close, "low": close, "close": close, "volume": 100.0}


def figure(statement, item, value, filed=date(2024, 2, 2)):
    where = {"symbol": "AAPL", "session": filed, "statement": statement, "period": "Q1", "fiscal_year": 2024}
    return where | {"period_end": date(2023, 12, 30), "filing_date": filed, "currency": "USD", "item": item, "value": value}


def fill(warehouse):
    """Load three bars, a correction, another provider's bars, a dividend, its correction and two figures."""
    action = {"symbol": "AAPL", "session": DAYS[2], "ex_date": DAYS[2], "action": "dividend", "action_id": "1", "amount": 2.0}
    warehouse.migrate()
    for number, load in enumerate(
        [
            rows("ohlcv-1d", *(bar(day, 100.0 + n) for n, day in enumerate(DAYS)), bar(DAYS[0], 400.0, "BRK.B")),
            rows("ohlcv-1d", bar(DAYS[1], 100.0), at=SEEN + timedelta(days=1, seconds=1)),
            rows("ohlcv-1d", bar(DAYS[0], 100.0), bar(DAYS[2], 102.02), provider="fmp"),
            rows("ohlcv-1d", bar(DAYS[1], 400.0, "GE"), bar(DAYS[2], 100.0, "GE")),
            rows("corporate-actions", action),
            rows("corporate-actions", action | {"amount": 2.04}, at=SEEN + timedelta(days=1)),
            rows("fundamentals", figure("income", "revenue", 119575e6), figure("income", "netIncome", 33916e6), provider="fmp"),
        ]
    ):
        warehouse.load(*load, f"load {number}", RUN)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "warehouse.duckdb"
    with open_with_hooks(WarehouseConnection("duckdb", extra={"path": str(file)})) as warehouse:
        fill(warehouse)
    return file


@pytest.mark.slow
@pytest.mark.parametrize("server", [postgres_server, oracle_server], ids=["postgres", "oracle"])
def test_sql_returns_the_same_on_every_engine(server, path, tmp_path):
    asked = [text for _, kind, text in BLOCKS if kind == "sql"]
    asked += [shlex.split(line)[-1].removeprefix("SQL=") for line in re.findall(r"^make query SQL=.*$", TEXT, re.MULTILINE)]
    asked = [sql for sql in asked if not sql.startswith("$")] + [(PROJECT / "include/sql/queries/reconcile.sql").read_text()]
    assert len(asked) > 8
    when = {"loaded_at", "restated_at"}  # of the load, which is another here
    with (
        server.empty_database(tmp_path) as connection,
        open_with_hooks(connection) as other,
        open_with_hooks(WarehouseConnection("duckdb", extra={"path": str(path)})) as ours,
    ):
        fill(other)
        for sql in asked:
            there, here = other.query(sql), ours.query(sql)
            assert there.column_names == here.column_names
            assert there.num_rows == here.num_rows > 0, sql
            for name in set(here.column_names) - when:
                wanted = here[name].to_pylist()
                if pa.types.is_floating(here[name].type) or pa.types.is_decimal(here[name].type):
                    found, wanted = ([float("-inf") if v is None else float(v) for v in t[name].to_pylist()] for t in (there, here))
                    assert found == pytest.approx(wanted, rel=1e-9), (name, sql)
                else:
                    assert there[name].to_pylist() == wanted, (name, sql)


def answers(path, heading):
    """Return the rows of each SQL statement below a heading."""
    with duckdb.connect(path, read_only=True) as connection:
        statements = [s for text in code(heading, "sql") for s in connection.extract_statements(text)]
        return [connection.execute(statement).fetchall() for statement in statements]


def run(path, heading):
    """Return the namespace of each Python block below a heading."""
    namespaces = []
    for text in code(heading, "python"):
        namespace = {}
        exec(compile(text.replace("/data/warehouse.duckdb", str(path)), heading, "exec"), namespace)
        namespaces.append(namespace)
    return namespaces


def test_python_queries(path):
    ours, plain = run(path, "Query")
    assert ours["bars"]["close_px"].astype(float).tolist() == [100.0, 100.0, 102.0]
    assert plain["bars"]["close_px"].tolist() == [400.0]


@pytest.mark.parametrize("heading", ["Query", "Where providers disagree"])
def test_make_query_prints_rows(path, heading, monkeypatch, capfd):
    monkeypatch.chdir(PROJECT)
    (line,) = code(heading, "sh")
    make, target, setting = shlex.split(line)
    assert (make, target) == ("make", "query")
    sql = setting.removeprefix("SQL=")
    if inner := re.fullmatch(r"\$\(cat (\S+)\)", sql):
        sql = Path(inner[1]).read_text()
        assert "$" not in sql  # make would take it for its own
    assert run_command("query", Paths(PROJECT, path.parent), {"SQL": sql}) == 0
    assert "AAPL" in capfd.readouterr().out


def test_versions_are_listed(path):
    changed, by_provider, actions, known, loads = answers(path, "What changed, and what was known when")
    ((symbol, moment, old, new, *volumes, _, dag_id, run_id),) = changed
    assert (symbol, moment.date(), float(old), float(new), *map(float, volumes)) == ("AAPL", DAYS[1], 101.0, 100.0, 100.0, 100.0)
    assert (dag_id, run_id) == (RUN.dag_id, RUN.run_id)
    assert by_provider == [("polygon", 1, pytest.approx(1e4 / 101))]
    assert [(row[0], row[1], float(row[3])) for row in actions] == [("AAPL", DAYS[2], 2.0), ("AAPL", DAYS[2], 2.04)]
    assert [row[-1] for row in actions] == [RUN.run_id] * 2
    assert [float(close) for *_, close in known] == [100.0, 101.0, 102.0]
    assert [load[1:] for load in loads][-1] == ("silver_prices", 4, 4, RUN.dag_id, RUN.run_id)
    assert len(loads) == 7


def test_features_are_computed(path):
    (found,) = answers(path, "Features")
    assert [row[0].date() for row in found] == DAYS
    assert [row[2] for row in found] == [None, 0.0, pytest.approx(0.02)]
    assert found[-1][-1] == pytest.approx(102 / (100 * (1 - 2.04 / 100)) - 1)


def test_columns_of_features_match_the_view(path):
    with duckdb.connect(path, read_only=True) as connection:
        made = [row[0] for row in connection.execute("DESCRIBE gold_price_features").fetchall()]
    days = [(day, 10 + n % 7) for n, day in enumerate(calendar.sessions(date(2020, 1, 1), date(2021, 4, 1))[:300])]
    lines = [line for line in TEXT.split("## Features")[1].split("\n## ")[0].splitlines() if line.startswith("| `")]
    first = {}
    for line in lines:
        names, _, nulls = (cell.strip() for cell in line.strip("|").split("|"))
        names = re.findall(r"`(\w+)`", names)
        first |= dict(zip(names, [int(n) for n in nulls.split(", ")] * (1 if "," in nulls else len(names)), strict=True))
    assert list(first) == made[6:]
    action = {"symbol": "X", "session": DAYS[0], "ex_date": DAYS[0], "action": "dividend", "action_id": "1", "amount": 2.0}
    with open_with_hooks(WarehouseConnection("duckdb", extra={"path": str(path)})) as warehouse:
        warehouse.load(*rows("ohlcv-1d", *(bar(day, float(close), "X") for day, close in days)), "many")
        warehouse.load(*rows("corporate-actions", action), "one action")
        found = warehouse.query("SELECT * FROM gold_price_features WHERE symbol = 'X'").to_pandas()
    assert found[list(first)].isna().sum().to_dict() == first


def test_prices_are_adjusted(path):
    adjusted, moves = answers(path, "Adjusted prices")
    assert [row[3] for row in adjusted] == pytest.approx([97.96, 97.96, 102.0])
    assert [(row[0], row[2].date()) for row in moves] == [("GE", DAYS[2])]


def test_fundamentals_are_side_by_side(path):
    ((row,),) = answers(path, "Fundamentals")
    assert row[:5] == ("AAPL", 2024, "Q1", date(2023, 12, 30), date(2024, 2, 2))
    assert [float(value) for value in row[5:7]] == [119575e6, 33916e6]


def test_providers_are_reconciled(path, monkeypatch):
    monkeypatch.chdir(PROJECT)
    (namespace,) = run(path, "Where providers disagree")
    wanted = [("2024-03-01", "close"), ("2024-02-29", "missing at provider_a")]
    for name, count in (("findings", 2), ("of_one", 1)):
        found = namespace[name]
        assert list(zip(found["session_date"].astype(str), found["finding"], strict=True)) == wanted[:count]


def test_all_code_is_run():
    versions = "What changed, and what was known when"
    assert {heading for heading, _, _ in BLOCKS} == {
        *("Query", "On a server", versions, "Features", "Adjusted prices", "Fundamentals", "Where providers disagree")
    }
    assert {language for _, language, _ in BLOCKS} == {"sh", "python", "sql"}


def test_columns_match_the_tables():
    lines = [line for line in TEXT.split("## Columns")[1].split("##")[0].splitlines() if line.startswith("| `")]
    named = {
        cells[0].strip(" `"): [re.findall(r"`(\w+)`", cell) for cell in cells[1:3]]
        for cells in (row.split("|")[1:] for row in lines)
    }
    assert named == {name: [[c.name for c in table.key], [c.name for c in table.values]] for name, table in TABLES.items()}


def test_all_engines_are_named():
    rows = [line.split("|")[1:3] for line in TEXT.split("| engine |")[1].split("\n\n")[0].splitlines()[2:]]
    assert [engine.strip(" `") for _, engine in rows] == list(ENGINES)


def test_all_datasets_are_named():
    table = TEXT.split("| dataset |")[1].split("\n\n")[0]
    for name in DATASETS:
        (line,) = [line for line in table.splitlines() if f"`{name}`" in line]
        assert (f"`silver_{dataset(name).table}`" in line) == (dataset(name).table is not None)


def test_linked_files_exist():
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", TEXT):
        assert (PROJECT / "docs" / "reference" / path).exists()
