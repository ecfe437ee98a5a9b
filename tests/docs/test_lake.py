"""The code of the lake page runs, and every reader in it returns the same bars."""

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from market_data.core.run import GRAINS
from market_data.datasets.bars import OHLCV_1D
from market_data.datasets.registry import DATASETS, dataset
from market_data.lake.layout import Layout
from market_data.lake.store import Lake
from tests.docs.conftest import fill_others

PROJECT = Path(__file__).parents[2]
TEXT = (PROJECT / "docs" / "reference" / "lake.md").read_text()
NOT_RUN = {"Spark", "DuckDB on S3"}
OTHERS = "Other datasets in DuckDB"
BLOCK = re.compile(
    r"^#+ (?P<heading>[^\n]+)$|^```(?P<language>python|sql)(?P<note>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


def blocks():
    """Heading -> its blocks of Python and SQL in order, as (language, note, code)."""
    found, heading = {}, ""
    for match in BLOCK.finditer(TEXT):
        if match["heading"]:
            heading = match["heading"]
        else:
            found.setdefault(heading, []).append((match["language"], match["note"].strip(), match["code"]))
    return found


BLOCKS = blocks()
LOCAL = [heading for heading, found in BLOCKS.items() if "/data/lake" in found[0][2] and heading not in {*NOT_RUN, OTHERS}]
ON_S3 = [heading for heading in BLOCKS if heading.endswith(" on S3")]


def run(heading, root="/data/lake"):
    """Run the blocks of a heading in order in one namespace: Python as it is, SQL on its ``connection``.

    :return: the namespace, and the rows of each SELECT.
    """
    if "polars" in heading:
        pytest.importorskip("polars")
    namespace, answers = {}, []
    for language, note, text in BLOCKS[heading]:
        code = text.replace("/data/lake", root)
        if note == "not-run":
            continue
        if language == "python":
            exec(compile(code, heading, "exec"), namespace)
        else:
            for statement in namespace["connection"].extract_statements(code):
                answer = namespace["connection"].execute(statement)
                if statement.type == duckdb.StatementType.SELECT:
                    answers.append(answer.fetchall())
    return namespace, answers


def closes(bars):
    """Session -> close, of pandas or polars."""
    bars = bars if isinstance(bars, pd.DataFrame) else bars.to_pandas()
    sessions = pd.to_datetime(bars["session"]).dt.date
    assert list(sessions) == sorted(set(sessions))
    return dict(zip(sessions, bars["close"], strict=True))


def test_only_blocks_that_need_a_download_are_skipped():
    assert {heading for heading, found in BLOCKS.items() if any(note for _, note, _ in found)} == NOT_RUN
    assert {*LOCAL, *ON_S3, *NOT_RUN, OTHERS} == set(BLOCKS)
    assert {note for found in BLOCKS.values() for _, note, _ in found} == {"", "not-run"}


@pytest.mark.parametrize("heading", LOCAL)
def test_readers_return_the_same_bars(heading, folder_lake, monkeypatch):
    monkeypatch.chdir(PROJECT)
    root, expected = folder_lake
    namespace, _ = run(heading, root)
    assert closes(namespace["bars"]) == expected


@pytest.mark.parametrize("heading", ON_S3)
def test_readers_on_s3_return_the_same_bars(heading, s3_lake):
    namespace, _ = run(heading)
    assert closes(namespace["bars"]) == s3_lake


def test_sql_returns_one_symbol_and_all(folder_lake, monkeypatch):
    monkeypatch.chdir(PROJECT)
    root, expected = folder_lake
    _, (every, one, several, providers) = run("DuckDB", root)
    sessions = 21 + len(expected)
    assert every == [("AAPL", sessions, max(expected)), ("X:BTC-USD", sessions, max(expected))]
    assert len(one) == 5
    assert one[0] == (date(2024, 1, 31), expected[date(2024, 1, 31)])
    assert several == [("AAPL", sessions)]
    assert sorted(providers) == [("mock", "AAPL", 700.0), ("polygon", "AAPL", expected[date(2024, 1, 31)])]


def test_one_day_file_is_one_row(folder_lake, monkeypatch):
    root, expected = folder_lake
    namespace, _ = run("pandas", root)
    assert closes(namespace["day"]) == {date(2024, 1, 31): expected[date(2024, 1, 31)]}


def test_skipped_blocks_parse():
    for language, note, code in (block for found in BLOCKS.values() for block in found):
        if note and language == "python":
            compile(code, "guide", "exec")
        elif note:
            assert len(duckdb.extract_statements(code)) == code.count(";")


def test_sql_of_other_datasets_returns_rows(folder_lake, monkeypatch):
    monkeypatch.chdir(PROJECT)
    root, closes_of = folder_lake
    fill_others(Lake.open(f"file://{root}"))
    _, (quarters, sides, spread, settlements, known, adjusted) = run(OTHERS, root)
    opens = datetime(2024, 1, 31, 14, 30, tzinfo=UTC)
    assert [(row[0].astimezone(UTC), *row[1:]) for row in quarters] == [
        (opens, 10.0, 26.0, 9.0, 25.0, 75.0),
        (opens + timedelta(minutes=15), 25.0, 31.0, 24.0, 30.0, 25.0),
    ]
    assert sides == [("A", 2, 1010.0), ("B", 1, 110.0)]
    assert spread == [(2000.0,)]
    assert settlements == [(date(2024, 1, 31), 4901.25)]
    assert known == [("netIncome", date(2023, 9, 30), 1e8), ("revenue", date(2023, 9, 30), 1e9)]
    days = [date(2024, 1, 29), date(2024, 1, 30), date(2024, 1, 31)]
    assert adjusted == [(day, closes_of[day], closes_of[day] / factor) for day, factor in zip(days, (8, 2, 1), strict=True)]


def test_keys_match_the_layout():
    for grain in GRAINS:
        assert f"{Layout().object_key(OHLCV_1D, 'polygon', 'AAPL', date(2024, 1, 31), grain)} " in TEXT
    key = Layout().object_key(dataset("fundamentals"), "fmp", "AAPL", date(2024, 9, 28), "day", "income")
    assert f"\n{key}\n" in TEXT


def test_table_of_layouts_names_every_dataset():
    rows = re.findall(r"^\| `([\w-]+)` \| `(\w+)` \| a (\w+) \| a (\w+)(?:: `([^`]+)`)? \| (yes|no) \|$", TEXT, re.MULTILINE)
    assert [row[0] for row in rows] == list(DATASETS)
    for name, folder, by_day, by_year, key, by_session in rows:
        found = dataset(name)
        assert (by_session == "yes") == found.has_session_files
        kind = (found.files.kinds or (None,))[0]
        day, year = (Layout().object_key(found, "p", "AAPL", date(2024, 1, 31), grain, kind) for grain in ("day", "year"))
        assert folder == found.folder
        assert by_day == ("statement" if kind else "session")
        assert (by_year == by_day) == (day == year)
        assert year.endswith(f"/symbol=AAPL/{key}") or not key


def test_linked_files_exist():
    for path in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (PROJECT / "docs" / "reference" / path).exists()


def test_escaped_symbol_is_escaped_again_in_a_url(s3_lake):
    key = re.search(r"`(symbol=X%25\S+)`", TEXT)[1]
    files = pd.read_parquet(f"s3://market-data/raw/prices/provider=polygon/{key}?region=us-east-1", partitioning=None)
    assert set(files["symbol"]) == {"X:BTC-USD"}
