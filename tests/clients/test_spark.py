"""Spark reads every file of the lake with the code of the page ``docs/reference/lake.md``."""

import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from market_data.lake.store import Lake
from tests.docs.conftest import fill, fill_others

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "lake.md"


def test_spark_reads_every_dataset_and_the_newest_value_of_each_bar(asked, tmp_path):
    assert shutil.which("java"), "Spark needs Java 17; install it, e.g. openjdk-17-jre-headless"
    lake = Lake.open(f"file://{tmp_path}/lake")
    closes = fill(lake)
    fill_others(lake)
    section = PAGE.read_text(encoding="utf-8").split("\n## Spark\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python not-run\n(.*?)```", section, re.DOTALL)
    script = tmp_path / "page.py"
    script.write_text(code.replace("/data/lake", f"{tmp_path}/lake"), encoding="utf-8")
    found = asked("ask_spark.py", script, f"{tmp_path}/lake")
    assert found["closes"] == {str(day): close for day, close in closes.items()}
    written = {key.split("/symbol=")[0].removeprefix("raw/").split("/type=")[0] for key, _ in lake.list("raw")}
    assert set(found["datasets"]) == written
    assert len(written) >= 8
    assert all(count for count, _ in found["datasets"].values())
    opened = datetime(2024, 1, 31, 14, 30, tzinfo=UTC)
    assert found["trade"] == [int(opened.timestamp()) * 1_000_000_000, "2024-01-31T14:30:00", 10.0]
    for name, (_, types) in found["datasets"].items():
        moments = {column for column, kind in types.items() if kind == "timestamp"}
        assert moments >= {"ingest_ts"}, name
        assert types.get("bar_time", "timestamp") == "timestamp", name
