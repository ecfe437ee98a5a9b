"""The Databricks edition: its SQL parses, has the warehouse's columns and views, and means the same.

Databricks itself is not here. Each statement is read by sqlglot in Databricks' dialect; what sqlglot does not know is checked by hand and
named in ``databricks_edition``. Then the statements are run: sqlglot puts them into DuckDB's dialect, the test plays Auto Loader (each
file that is new or was replaced is read again, whole), and what comes out is held against the lake's reader and our own warehouse.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from bokeh_sampledata import stocks
from sqlglot import exp

from market_data.config.feeds import load_feeds
from market_data.core.calendar import CALENDARS
from market_data.core.run import Grain
from market_data.datasets.bars import OHLCV_1D
from market_data.datasets.base import Dataset
from market_data.datasets.corporate_actions import CORPORATE_ACTIONS
from market_data.lake.layout import Layout
from market_data.lake.reader import read_rows
from market_data.lake.store import Lake
from market_data.lake.writer import land
from market_data.warehouse import WarehouseConnection, migrations, open_warehouse
from market_data.warehouse.base import Warehouse
from market_data.warehouse.duckdb import DUCKDB
from market_data.warehouse.schema import TABLES, Type
from market_data.warehouse.sessions import counted_sessions
from tests.warehouse.databricks_edition import FILES, FOLDER, ZONE, Databricks, of_kind, source, statements, text
from tests.warehouse.rows import SEEN, bar, dividend, later, midnight, split, table
from tools import databricks_sessions

pytestmark = pytest.mark.slow

LAID = {"prices": OHLCV_1D, "corporate_actions": CORPORATE_ACTIONS}
WORDS = {
    Type.STRING: "STRING",
    Type.TIMESTAMP: "TIMESTAMP_NTZ",
    Type.DATE: "DATE",
    Type.DECIMAL: "DECIMAL(20, 8)",
    Type.INTEGER: "BIGINT",
    Type.SMALL: "INT",
}


# --- the text -------------------------------------------------------------------------------------------------------------------


def test_there_is_nothing_but_what_is_tested() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {*(f"{name}.sql" for name in FILES), "databricks.yml"}


@pytest.mark.parametrize("name", FILES)
def test_every_statement_is_understood(name: str) -> None:
    found = statements(name)
    assert [statement.sql("databricks") for statement in found if isinstance(statement, exp.Command)] == [ZONE] * (name == "merge")
    assert [
        inner for statement in found if not isinstance(statement, exp.Command) for inner in statement.find_all(exp.Command)
    ] == []
    kinds = {
        "landing": {exp.Create},
        "tables": {exp.Use, exp.Create},
        "sessions": {exp.Use, exp.Create},
        "merge": {exp.Use, exp.Command, exp.Merge},
        "gold": {exp.Use, exp.Create},
    }
    assert {type(statement) for statement in found} == kinds[name]
    assert len(found) == text(name).count(";")


def test_every_function_is_known() -> None:
    """A misspelled one would be taken for one of the user's."""
    called = {call.name.lower() for name in FILES for s in statements(name) for call in s.find_all(exp.Anonymous)}
    assert called <= {"read_files", "identifier"}


@pytest.mark.parametrize("name", FILES[1:])
def test_catalog_and_schema_are_parameters(name: str) -> None:
    uses = [statement.sql("databricks") for statement in statements(name)[:2]]
    assert uses == ["USE CATALOG IDENTIFIER(:catalog)", "USE SCHEMA IDENTIFIER(:schema)"]
    assert {p.name for statement in statements(name) for p in statement.find_all(exp.Placeholder)} == {"catalog", "schema"}
    assert not [found for statement in statements(name) for found in statement.find_all(exp.Table) if found.db]


def test_the_clock_is_set_before_moments_lose_their_zone() -> None:
    assert statements("merge")[2].sql("databricks") == ZONE
    casts = [
        c for name in FILES for s in statements(name) for c in s.find_all(exp.Cast) if c.to.this == exp.DataType.Type.TIMESTAMPNTZ
    ]
    assert len(casts) > 4
    assert not [c for s in statements("landing") for c in s.find_all(exp.Cast)]


@pytest.mark.parametrize("name", LAID)
def test_the_tables_have_the_columns_and_keys_of_the_warehouse(name: str) -> None:
    made = {create.this.this.name: create for create in of_kind("tables", exp.Create)}
    assert len(made) == 2 * len(LAID)
    columns = TABLES[name]
    for layer, key in ((columns.bronze, columns.version_key), (columns.silver, columns.key)):
        defined = [definition.sql("databricks") for definition in made[layer].find_all(exp.ColumnDef)]
        assert defined == [f"{c.name} {WORDS[c.type]}{'' if c.nullable else ' NOT NULL'}" for c in columns.columns]
        (primary,) = made[layer].find_all(exp.PrimaryKey)
        assert [found.name for found in primary.expressions] == [c.name for c in key]
        assert "USING DELTA" in made[layer].sql("databricks")


@pytest.mark.parametrize("name", LAID)
def test_landing_reads_the_lake_as_it_is(name: str) -> None:
    columns, dataset = TABLES[name], LAID[name]
    (create,) = [c for c in of_kind("landing", exp.Create) if c.find(exp.Table).name == f"landed_{name}"]
    assert re.match(rf"CREATE OR REFRESH STREAMING TABLE landed_{name}\b", create.sql("databricks"))
    path, options = source(create)
    assert path == f"${{market_data.raw}}/{dataset.folder}"
    schema = options.pop("schema")
    assert options == {"format": "parquet", "rescuedDataColumn": "_rescued_data", "partitionColumns": "", "allowOverwrites": True}
    words = {pa.string(): "STRING", pa.float64(): "DOUBLE", pa.int64(): "BIGINT", pa.int32(): "INT", pa.date32(): "DATE"}
    words |= {pa.timestamp("us", "UTC"): "TIMESTAMP", pa.bool_(): "BOOLEAN"}
    assert schema == ", ".join(f"{field.name} {words[field.type]}" for field in dataset.schema)
    selected = create.expression.named_selects
    made = ["source_file", "landed_at", "_rescued_data"]
    assert selected[-3:] == made
    assert set(selected[:-3]) == {c.source for c in columns.columns if c.source}


def portable(name: str) -> str:
    """A view of ours in Databricks' words: three of them differ."""
    shown = re.sub(r"(?m)^--.*\n", "", (migrations.MIGRATIONS / f"{name}.sql").read_text("utf-8")).strip()
    shown = shown.replace("CREATE OR REPLACE VIEW", "CREATE VIEW")
    for ours, theirs in (
        ("CREATE VIEW", "CREATE OR REPLACE VIEW"),
        ("COALESCE(s.confirmed_ts, s.ingest_ts)", "s.ingest_ts"),  # the edition does not confirm values
        ("DOUBLE PRECISION", "DOUBLE"),
        ("AS TIMESTAMP)", "AS TIMESTAMP_NTZ)"),
    ):
        shown = shown.replace(ours, theirs)
    return shown


def test_gold_is_the_warehouses_text() -> None:
    views = re.findall(r"^CREATE .*?(?=;$)", text("gold"), re.MULTILINE | re.DOTALL)
    restatements = portable("0028_gold_restatements")
    for run in (",\n       l.dag_id, l.run_id\n", "  LEFT JOIN load_audit l ON (l.load_id = v.load_id)\n"):
        assert restatements.count(run) == 1
        restatements = restatements.replace(run, "\n" if run.startswith(",") else "")
    names = ["0056_gold_corporate_actions", "0057_gold_adjusted_prices", "0058_gold_action_differences", "0038_gold_price_features"]
    assert views[0].startswith("CREATE OR REPLACE VIEW action_coverage AS\nSELECT DISTINCT a.symbol, a.provider, ")
    assert views[1:] == [*map(portable, names), restatements]
    last = {m.name: m for m in migrations.migrations(DUCKDB) if m.name.startswith("gold_")}
    newest = [str(last[re.search(r"VIEW (\w+)", view)[1]]) for view in views[1:]]  # type: ignore[index]
    assert newest == [*names, "0028_gold_restatements"]


def test_the_bundle_holds_together() -> None:
    bundle = yaml.safe_load((FOLDER / "databricks.yml").read_text("utf-8"))
    (pipeline,), (job,) = (list(bundle["resources"][kind].values()) for kind in ("pipelines", "jobs"))
    assert [library["file"]["path"] for library in pipeline["libraries"]] == ["landing.sql"]
    assert set(re.findall(r"\$\{([\w.]+)\}", text("landing"))) == set(pipeline["configuration"])
    tasks = {task["task_key"]: task for task in job["tasks"]}
    after = {key: [d["task_key"] for d in task.get("depends_on", [])] for key, task in tasks.items()}
    assert after == {"land": [], "tables": [], "sessions": [], "merge": ["land", "tables"], "gold": ["tables", "sessions"]}
    for key in FILES[1:]:
        assert tasks[key]["sql_task"]["file"]["path"] == f"{key}.sql"
        assert tasks[key]["sql_task"]["parameters"] == {"catalog": "${var.catalog}", "schema": "${var.schema}"}
    minutes, hour = job["schedule"]["quartz_cron_expression"].split()[1:3]
    begun = max(feed.schedule for feed in load_feeds() if feed.dataset in ("ohlcv-1d", "corporate-actions") and feed.schedule)
    first, second = (int(h) * 60 + int(m) for h, m in (begun.split(":"), (hour, minutes)))
    assert second - first >= 60  # so much time to land
    used = set(re.findall(r"\$\{var\.(\w+)\}", (FOLDER / "databricks.yml").read_text("utf-8")))
    assert used == set(bundle["variables"])
    assert tasks["land"]["pipeline_task"]["pipeline_id"] == "${resources.pipelines.landing.id}"
    assert list(bundle["resources"]["pipelines"]) == ["landing"]


# --- the meaning ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def quiet() -> Iterator[None]:
    """sqlglot says what DuckDB lacks: clustering, Delta."""
    log = logging.getLogger("sqlglot")
    level = log.level
    log.setLevel(logging.ERROR)
    yield
    log.setLevel(level)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.open(f"file://{tmp_path}/lake")


@pytest.fixture
def edition(tmp_path: Path, quiet: None) -> Databricks:
    return Databricks(tmp_path / "lake")


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Warehouse]:
    with open_warehouse(WarehouseConnection("duckdb", extra={"path": str(tmp_path / "ours.duckdb")})) as opened:
        opened.migrate()
        yield opened


def put(lake: Lake, rows: pa.Table, grain: Grain = "day", dataset: Dataset = OHLCV_1D, provider: str = "polygon") -> None:
    land(lake, Layout(), dataset, provider, rows, grain, refetch=True)


def load(ours: Warehouse, lake: Lake, symbols: list[str], number: int) -> None:
    """Our warehouse, loaded with what the lake's reader reads."""
    for dataset in LAID.values():
        rows = read_rows(lake, Layout(), dataset, "polygon", symbols, date(2000, 1, 1), date(2026, 1, 1))
        ours.load(dataset, rows, f"{dataset.name} {number}")


def compare(edition: Databricks, ours: Warehouse, layer: str) -> None:
    """Both hold the same rows, but for who loaded them when."""
    for name, columns in TABLES.items():
        if name in LAID:
            own = [column.name for column in columns.columns if column.name not in {"load_id", "loaded_at"}]
            select = f"SELECT {', '.join(own)} FROM {layer}_{name} ORDER BY ALL"
            assert edition.rows(select) == [tuple(row.values()) for row in ours.query(select).to_pylist()]


DAY = [date(2024, 1, 2) + timedelta(days=n) for n in range(8)]


def bars(symbol: str, days: list[date], close: float, at: datetime = SEEN, **values: Any) -> pa.Table:
    return table(*(bar(symbol, midnight(day), close=close + n, ingest_ts=at, **values) for n, day in enumerate(days)))


def test_it_holds_what_the_warehouse_holds(edition: Databricks, ours: Warehouse, lake: Lake) -> None:
    """Step by step: grains mixed, files grown and replaced, values there and back again, an odd symbol, actions restated."""
    steps: list[list[tuple[Any, ...]]] = [
        [(bars("AAPL", DAY[:5], 100.0), "year"), (bars("X:BTC-USD", DAY[:3], 7.0, volume=0.12345678), "year")],
        [(bars("AAPL", DAY[5:7], 105.0, later(60)), "day"), (bars("AAPL", DAY[2:3], 50.0, later(60)), "day")],
        [(bars("AAPL", DAY[5:6], 205.5, later(120), volume=None, adj_close=1.5), "day")],
        [(bars("AAPL", DAY[5:6], 105.0, later(180)), "day"), (bars("AAPL", DAY[7:], 107.0, later(180)), "year")],
        [
            (
                table(dividend(kind="a|b\\c", currency="d|e\\f"), split(ex_date=DAY[3]), dataset=CORPORATE_ACTIONS),
                "day",
                CORPORATE_ACTIONS,
            )
        ],
        [],
        [(table(split(ex_date=DAY[3], ratio=(1, 2), ingest_ts=later(240)), dataset=CORPORATE_ACTIONS), "day", CORPORATE_ACTIONS)],
    ]
    for number, step in enumerate(steps):
        for rows in step:
            put(lake, *rows)
        edition.update()
        load(ours, lake, ["AAPL", "X:BTC-USD"], number)
        compare(edition, ours, "silver")
        compare(edition, ours, "bronze")
    assert edition.rows("SELECT COUNT(*) FROM landed_prices")[0][0] > edition.rows("SELECT COUNT(*) FROM bronze_prices")[0][0]
    assert len(edition.rows("SELECT * FROM gold_restatements")) == 3
    before = edition.rows("SELECT * FROM bronze_prices ORDER BY ALL"), edition.rows("SELECT * FROM silver_prices ORDER BY ALL")
    edition.run("merge")  # again
    assert (
        edition.rows("SELECT * FROM bronze_prices ORDER BY ALL"),
        edition.rows("SELECT * FROM silver_prices ORDER BY ALL"),
    ) == before
    views = ("gold_restatements", "gold_adjusted_prices", "gold_price_features")
    for view in views:
        theirs = edition.connection.sql(f"SELECT * FROM {view}").to_arrow_table().to_pandas()
        our = ours.query(f"SELECT * FROM {view}").to_pandas().drop(columns=["dag_id", "run_id"], errors="ignore")
        assert list(theirs) == list(our)


def test_of_equally_new_values_the_day_files_stands(edition: Databricks, lake: Lake) -> None:
    put(lake, bars("BRK.B", DAY[:2], 1.0), "year")
    put(lake, bars("BRK.B", DAY[:1], 2.0), "day")
    edition.update()
    found = read_rows(lake, Layout(), OHLCV_1D, "polygon", ["BRK.B"], DAY[0], DAY[1])["close"].to_pylist()
    assert (
        [float(close) for (close,) in edition.rows("SELECT close_px FROM silver_prices ORDER BY bar_time")]
        == [*found, 2.0]
        == [2.0, 2.0]
    )
    assert len(edition.rows("SELECT * FROM bronze_prices")) == 3


def test_of_equally_new_values_the_one_loaded_last_stands(edition: Databricks, lake: Lake) -> None:
    put(lake, bars("BRK.B", DAY[:1], 2.0), "day")
    edition.update()
    put(lake, bars("BRK.B", DAY[:1], 1.0), "year")
    edition.update()
    put(lake, bars("AAPL", DAY[:1], 3.0), "year")
    edition.update()
    assert [float(close) for (close,) in edition.rows("SELECT close_px FROM silver_prices ORDER BY symbol")] == [3.0, 1.0]


def test_an_older_value_that_lands_late_stays_in_bronze(edition: Databricks, lake: Lake) -> None:
    put(lake, bars("BRK.B", DAY[:1], 2.0, later(60)), "day")
    edition.update()
    put(lake, bars("BRK.B", DAY[:1], 1.0), "year")
    edition.update()
    assert edition.rows("SELECT CAST(close_px AS DOUBLE) FROM silver_prices") == [(2.0,)]
    assert len(edition.rows("SELECT * FROM bronze_prices")) == 2


def test_so_it_does_when_the_newer_one_is_no_longer_looked_at(edition: Databricks, lake: Lake) -> None:
    put(lake, bars("BRK.B", DAY[:1], 2.0, later(60)), "day")
    edition.update()
    for name, column in (("landed_prices", "landed_at"), ("bronze_prices", "loaded_at"), ("silver_prices", "loaded_at")):
        edition.connection.execute(f"UPDATE {name} SET {column} = {column} - INTERVAL 9 DAY")
    put(lake, bars("AAPL", DAY[:1], 3.0), "day")
    edition.update()
    put(lake, bars("BRK.B", DAY[:1], 1.0), "year")
    edition.update()
    assert edition.rows("SELECT CAST(close_px AS DOUBLE) FROM silver_prices ORDER BY symbol") == [(3.0,), (2.0,)]
    assert len(edition.rows("SELECT * FROM bronze_prices")) == 3


def test_a_merge_that_failed_is_caught_up_with(edition: Databricks, lake: Lake) -> None:
    put(lake, bars("AAPL", DAY[:1], 1.0))
    edition.update()
    for table_name in ("bronze_prices", "silver_prices"):
        edition.connection.execute(f"DELETE FROM {table_name}")  # as if it had not come to pass
    edition.connection.execute("UPDATE landed_prices SET landed_at = landed_at - INTERVAL 9 DAY")
    put(lake, bars("AAPL", DAY[1:2], 2.0))
    edition.update()
    assert edition.rows("SELECT CAST(close_px AS DOUBLE) FROM silver_prices ORDER BY bar_time") == [(1.0,), (2.0,)]


def test_sessions_are_those_of_the_warehouse(edition: Databricks, ours: Warehouse) -> None:
    assert (FOLDER / "sessions.sql").read_text("utf-8") == databricks_sessions.text()
    select = "SELECT calendar, CAST(session_date AS DATE) AS day, session_no FROM market_sessions ORDER BY calendar, day"
    wanted = [(*key, number) for name in sorted(CALENDARS) for key, number in counted_sessions(name).items()]
    assert edition.rows(select) == wanted
    assert {tuple(row.values()) for row in ours.query(select).to_pylist()} == {row for row in wanted if row[0] == "XNYS"}
    assert edition.rows("SELECT * FROM symbol_calendars") == []


def test_gold_is_what_the_warehouse_computes(edition: Databricks, ours: Warehouse, lake: Lake) -> None:
    """Of recorded prices, in files of both grains."""
    for symbol, rows in (("AAPL", 600), ("IBM", 300)):
        frame = pd.DataFrame(getattr(stocks, symbol)).iloc[-rows:]
        days = [date.fromisoformat(str(day)) for day in frame["date"]]
        values = frame[["open", "high", "low", "close", "volume"]].to_dict("records")
        made = [bar(symbol, midnight(day), **value) for day, value in zip(days, values, strict=True)]
        made[-7]["volume"] = None
        del made[40:43]  # three sessions are missing
        put(lake, table(*made[:-10]), "year")
        put(lake, table(*made[-10:]))
    actions = [dividend(ex_date=day, amount=2.65) for day in (date(2012, 8, 9), date(2012, 11, 7), date(2013, 2, 7))]
    put(lake, table(*actions, split("IBM", date(2012, 5, 1), (1, 2)), dataset=CORPORATE_ACTIONS), "day", CORPORATE_ACTIONS)
    edition.update()
    load(ours, lake, ["AAPL", "IBM"], 0)
    compare(edition, ours, "silver")
    for view in ("gold_adjusted_prices", "gold_price_features"):
        select = f"SELECT * FROM {view} ORDER BY symbol, bar_time"
        theirs, our = edition.connection.sql(select).to_arrow_table().to_pandas(), ours.query(select).to_pandas()
        assert list(theirs) == list(our)
        assert len(theirs) == 894
        for name in our:
            if name in {"symbol", "timeframe", "provider", "bar_time"}:
                assert theirs[name].tolist() == our[name].tolist()
            else:
                np.testing.assert_allclose(
                    theirs[name].astype(float), our[name].astype(float), rtol=1e-12, atol=1e-12, err_msg=name
                )
        assert our.notna().any().all()
