"""The Databricks page matches the edition; its queries run on the edition in DuckDB."""

import logging
import re
import shlex
from pathlib import Path

import pytest
import sqlglot
import yaml
from sqlglot import exp

from market_data.datasets.bars import OHLCV_1D
from market_data.lake.layout import Layout
from market_data.lake.store import Lake
from market_data.lake.writer import land
from tests.docs.conftest import CORRECTED, bars, weekdays
from tests.warehouse.databricks_edition import FOLDER, Databricks, source, statements

PROJECT = Path(__file__).parents[2]
TEXT = (PROJECT / "docs" / "reference" / "databricks.md").read_text()
BLOCK = re.compile(r"^#+ (?P<heading>[^\n]+)$|^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
SET_UP = {  # what an administrator runs once, and sqlglot takes as it is: statement by statement
    r"CREATE EXTERNAL LOCATION IF NOT EXISTS \w+ URL 's3://[\w-]+' WITH \(STORAGE CREDENTIAL \w+\)",
    r"GRANT READ FILES ON EXTERNAL LOCATION \w+ TO `[\w-]+`",
    r"GRANT USE CATALOG ON CATALOG \w+ TO `[\w-]+`",
}


def code(heading, language):
    found, at = [], ""
    for match in BLOCK.finditer(TEXT):
        at = match["heading"] or at
        if (at, match["language"]) == (heading, language):
            found.append(match["code"])
    return found


@pytest.fixture
def edition(tmp_path):
    """A year file of AAPL, and a day that was corrected a day later."""
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    lake = Lake.open(f"file://{tmp_path}/lake")
    made = Databricks(tmp_path / "lake")
    days = weekdays(CORRECTED.date(), CORRECTED.date().replace(day=20))
    for rows, grain in ((bars("AAPL", days, 100.0), "year"), (bars("AAPL", days[1:2], 50.0, CORRECTED), "day")):
        land(lake, Layout(), OHLCV_1D, "polygon", rows, grain, refetch=True)
        made.update()
    yield made
    logging.getLogger("sqlglot").setLevel(logging.NOTSET)


def test_queries_return_rows(edition):
    restated, features = (
        [edition.rows(statement.sql("duckdb")) for statement in sqlglot.parse(text, read="databricks") if statement]
        for text in code("Versions", "sql")
    )
    (((symbol, _, old, new, _, file),),) = restated
    assert (symbol, float(old), float(new)) == ("AAPL", 101.0, 50.0)
    assert re.search(r"/AAPL-\d{4}-\d\d-\d\d\.parquet$", file)
    assert [float(row[1]) for row in features[0]][:3] == [100.0, 50.0, 102.0]


def test_all_sql_parses():
    assert len(re.findall(r"```sql", TEXT)) == len(code("Set up", "sql")) + len(code("Versions", "sql")) == 3
    (text,) = code("Set up", "sql")
    made = [statement for statement in text.split(";") if statement.strip()]
    taken = [s.strip() for s in made if isinstance(sqlglot.parse_one(s, read="databricks"), exp.Command)]
    assert all(any(re.fullmatch(known, statement) for known in SET_UP) for statement in taken), taken


def test_variables_match_the_bundle():
    bundle = yaml.safe_load((FOLDER / "databricks.yml").read_text())
    rows = re.findall(r"^\| `(\w+)` \|", TEXT.split("| variable |")[1].split("\n\n")[0], re.MULTILINE)
    assert rows == list(bundle["variables"])
    (lines,) = code("Set up", "sh")
    login, *words = (shlex.split(line) for line in lines.splitlines())
    assert login[:3] == ["databricks", "auth", "login"]
    assert words[0] == ["cd", str(FOLDER.relative_to(PROJECT))]
    given = {word.partition("=")[0] for word in words[1][1:]}
    assert given == {f"BUNDLE_VAR_{name}" for name, said in bundle["variables"].items() if "default" not in said}
    assert words[-1] == ["databricks", "bundle", "run", *bundle["resources"]["jobs"]]
    assert f"default `{bundle['variables']['schema']['default']}`" in TEXT


def test_auto_loader_options_match_the_sql():
    for create in statements("landing"):
        options = source(create)[1]
        assert options["allowOverwrites"] is True
        assert options["partitionColumns"] == ""
        assert options["rescuedDataColumn"] == "_rescued_data"
    for name in (
        "allowOverwrites",
        "partitionColumns => ''",
        "_rescued_data",
        "every_value_fits",
        "schemaHints",
        "backfillInterval",
    ):
        assert f"`{name}" in TEXT


def test_all_files_are_named():
    named = re.findall(r"^\| \[`([\w.]+)`\]", TEXT, re.MULTILINE)
    assert sorted(named) == sorted(path.name for path in FOLDER.iterdir())
    for path in re.findall(r"\]\((?!http)([^)#]+)", TEXT):
        assert (PROJECT / "docs" / "reference" / path).exists()
