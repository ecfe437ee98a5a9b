"""Load runs: what is expected, and that nothing wrong passes."""

import json
from dataclasses import replace
from datetime import date
from types import SimpleNamespace

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.load_runs import make, page
from benchmarks.load_runs.cases import CASES, SMALL, TICKERS, Case, Rows, tickers
from benchmarks.load_runs.results import Found, Reader, problems_of_figures, problems_of_rows, problems_of_run
from sandbox.stack.holds import Holds

GOOD = Found("2 batches", 9.0, 8.0, 2, 2, 5, 5, {"plan": 200, "fetch": 300}, (200, 210), (9, 2000, 500), 0.1, {"plan": 1.0})
CASE = Case("2 batches", [Rows("polygon", "ohlcv-1d", 2, 2)])


@pytest.mark.parametrize("name", CASES)
def test_every_case_has_a_small_size(name):
    small, full = CASES[name](**SMALL[name]), CASES[name]()
    assert small.title != full.title or name == "feeds"
    assert [(rows.provider, rows.dataset) for rows in small.rows] == [(rows.provider, rows.dataset) for rows in full.rows]


def test_the_sizes_are_those_that_are_claimed():
    rows = {name: CASES[name]().rows[0] for name in ("wide", "batches", "minutes", "years")}
    assert {name: (one.count, one.objects) for name, one in rows.items()} == {
        "wide": (10_000, 10_000),
        "batches": (1024, 1024),
        "minutes": (100 * (249 * 390 + 3 * 210), 1200),
        "years": (523 * 2516, 5230),
    }
    assert len(CASES["feeds"]().runs) == 10
    assert len(CASES["month"]().scheduled) == 21
    assert len(set(tickers(10_000))) == 10_000


def test_figures_within_their_bounds_are_no_problem():
    assert problems_of_figures(CASE, GOOD) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"peaks": {"plan": 200, "fetch": 601}}, "fetch takes 601 MB"),
        ({"scheduler_mb": (200, 261)}, "the scheduler grew by 61 MB"),
        ({"calls": 6}, "6 calls on the server's log, 5 planned"),
        ({"calls": 4}, "4 calls on the server's log, 5 planned"),
        ({"page_seconds": 3.1}, "the page Run takes 3.1 s"),
        ({"peaks": {"plan": 0, "fetch": 0}}, "no process of a task was seen"),
    ],
)
def test_a_figure_beyond_its_bound_is_a_problem(change, word):
    (problem,) = problems_of_figures(CASE, replace(GOOD, **change))
    assert word in problem


def test_fewer_calls_are_right_where_pages_are_planned_at_their_maximum():
    assert problems_of_figures(replace(CASE, calls_may_be_fewer=True), replace(GOOD, calls=4)) == []


@pytest.mark.parametrize(("name", "dags"), [("month", 1), ("feeds", 10)])
def test_airflow_creates_no_run_that_is_not_the_case_s(tmp_path, monkeypatch, name, dags):
    monkeypatch.setattr(make, "wait_for_dag", lambda *_: None)
    holds, held = Holds(tmp_path), []
    airflow = SimpleNamespace(unpause=lambda dag_id: held.append(dag_id in holds.dag_ids()))
    make.unpause(SimpleNamespace(holds=holds, airflow=airflow), CASES[name]())
    assert held == [True] * dags


def test_a_run_of_many_tasks_has_a_small_configuration(tmp_path):
    ((_, conf),) = CASES["batches"]().runs
    made = make._conf(SimpleNamespace(paths=SimpleNamespace(local=tmp_path)), conf)
    assert len(json.dumps(made)) < 500
    assert made["tickers_path"] == str(tmp_path / TICKERS)


@pytest.fixture
def reader(tmp_path):
    folder = tmp_path / "lake" / "raw" / "prices" / "provider=polygon"
    folder.mkdir(parents=True)
    for symbol in ("A", "B"):
        pq.write_table(pa.table({"symbol": [symbol]}), folder / f"{symbol}.parquet")
    with duckdb.connect(str(tmp_path / "w.duckdb")) as warehouse:
        warehouse.execute("CREATE TABLE silver_prices (symbol TEXT, bar_time DATE, provider TEXT, timeframe TEXT)")
        warehouse.executemany("INSERT INTO silver_prices VALUES (?, DATE '2024-03-04', 'polygon', '1d')", [["A"], ["B"]])
    return Reader(SimpleNamespace(paths=SimpleNamespace(warehouse=tmp_path / "w.duckdb")), tmp_path / "lake")


def change(reader, sql):
    with duckdb.connect(str(reader._stack.paths.warehouse)) as warehouse:
        warehouse.execute(sql)


def test_rows_as_expected_are_no_problem(reader):
    assert problems_of_rows(CASE, reader) == ([], 2, 2)


def test_a_missing_row_of_the_warehouse_is_a_problem(reader):
    change(reader, "DELETE FROM silver_prices WHERE symbol = 'A'")
    problems, _, _ = problems_of_rows(CASE, reader)
    assert problems == [
        "polygon ohlcv-1d: 1 rows in the warehouse, not 2",
        "polygon ohlcv-1d: 1 rows in the warehouse, different keys, not 2",
    ]


def test_a_key_that_is_there_twice_is_a_problem(reader):
    change(reader, "UPDATE silver_prices SET symbol = 'A'")
    assert problems_of_rows(CASE, reader)[0] == ["polygon ohlcv-1d: 1 rows in the warehouse, different keys, not 2"]


def test_an_object_too_many_is_a_problem(reader):
    pq.write_table(pa.table({"symbol": pa.array([], pa.string())}), reader._lake / "raw/prices/provider=polygon/C.parquet")
    assert problems_of_rows(CASE, reader)[0] == ["polygon ohlcv-1d: 3 objects, not 2"]


def test_nothing_at_all_is_a_problem_where_the_count_is_not_known(reader):
    change(reader, "DELETE FROM silver_prices")
    for file in (reader._lake / "raw").rglob("*.parquet"):
        file.unlink()
    assert len(problems_of_rows(replace(CASE, rows=[Rows("polygon", "ohlcv-1d")]), reader)[0]) == 3


def test_a_run_without_flag_or_report_is_a_problem():
    good = {"red": [], "flag": True}
    assert problems_of_run("r", {"state": "success"}, good) == []
    assert problems_of_run("r", {"state": "failed"}, {}) == ["r is failed", "r has no report"]
    assert problems_of_run("r", {"state": "success"}, {"red": ["x"], "flag": False}) == ["r: x", "r has no flag"]


def test_the_row_of_a_case_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "PAGE", tmp_path / "load-runs.md")
    page.PAGE.write_text(f"# Load runs\n\n| {' | '.join(page.HEAD)} |\n{page.RULE}\n\nEnd.\n")
    page.write(GOOD)
    page.write(replace(GOOD, case="other"))
    page.write(replace(GOOD, seconds=77.0))
    page.write(replace(GOOD, seconds=88.0, problems=["wrong"]))
    text = page.PAGE.read_text()
    assert text.count("| 2 batches |") == 1
    assert text.index("| 2 batches |") < text.index("| other |")
    assert "| 77 | 8 | 300 (`fetch`) | 200 → 210 | 2 | 0.1 |" in text
    assert text.endswith("\n\nEnd.\n")
    assert f"{date.today():%Y}" in text  # noqa: DTZ011
