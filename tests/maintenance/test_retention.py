"""Retention deletes what is past its age, and nothing that is needed."""

from datetime import UTC, date, datetime, timedelta

import pytest

from market_data.config.feeds import load_retention
from market_data.config.retention import KINDS, retention_problems
from market_data.core.errors import ConfigError
from market_data.core.run import RunInfo
from market_data.lake.coverage import CELLS
from market_data.lake.ledger import write_cells
from market_data.maintenance.journal import entries
from market_data.maintenance.retention import apply_retention
from tests.maintenance.lakes import contents
from tests.maintenance.stage import staged

NOW = datetime.now(UTC)  # an object's age is that of the store's clock
LATER = NOW + timedelta(days=31)
ALL = dict.fromkeys(KINDS, 30)
DAY = date(2024, 1, 3)
KEPT = (
    "raw/prices/x",
    "manifest/ohlcv-1d/provider=polygon/run=a/b.parquet",
    "journal/x",
    "decisions/ohlcv-1d/provider=polygon/x.parquet",
    "compactions/ohlcv-1d/provider=polygon/x.parquet",
    "adopted/raw/prices/x",
    "metadata/companies/sp500-renames.csv",
    "metadata/indices/sp500.csv",
    "broken/raw/x",
)
KEYS = (
    "receipts/ohlcv-1d/provider=polygon/run=a-0/0123456789abcdef/0123456789abcdef.parquet",
    "logs/ingest/date=2024-01-31/run-1.json",
    "quality/ohlcv-1d/provider=polygon/run=a-0.json",
    "quarantine/ohlcv-1d/provider=polygon/date=2024-01-31/b1.parquet",
    "remembered/ohlcv-1d/provider=polygon/run=a-0/x",
    "failures/ohlcv-1d/provider=polygon/run=a-0.json",
    "audits/date=2024-01-31/x.json",
)


@pytest.fixture
def filled(lake):
    for key in (*KEPT, *KEYS):
        lake.put_new(key, b"x")
    return lake


def keys(lake):
    return {key for key, _ in lake.list("")} - {"metadata/conditional-delete"}


def test_what_is_past_its_age_is_deleted_and_nothing_else(filled):
    assert apply_retention(filled, ALL, NOW).objects == {}
    before = contents(filled)
    dry = apply_retention(filled, ALL, LATER, dry_run=True)
    assert dry.objects == dict.fromkeys(["receipts", "reports", "quality", "quarantine", "remembered", "failures", "audits"], 1)
    assert {key: contents(filled)[key] for key in before} == before
    found = apply_retention(filled, ALL, LATER, by="maintain_lake")
    assert (found.objects, found.bytes, found.left) == (dry.objects, 7, ())
    [entry] = entries(filled, "retention")
    assert (entry.by, entry.what["deleted"]) == ("maintain_lake", dry.objects)
    assert keys(filled) == {*KEPT, entry.key}
    assert apply_retention(filled, ALL, LATER).objects == {}


@pytest.mark.parametrize("kind", ["receipts", "quarantine", "audits"])
def test_kinds_without_an_age_are_kept(filled, kind):
    apply_retention(filled, ALL | {kind: None}, LATER)
    assert [key for key in keys(filled) if key in KEYS] == [key for key in KEYS if key.startswith(KINDS[kind])]


def test_receipts_of_what_waits_in_staging_are_kept(filled):
    key = staged(filled, [("A", DAY)])
    batch = key.removeprefix("staging/").rpartition("/")[0]
    receipt = f"receipts/{batch}/0123456789abcdef.parquet"
    filled.put_new(receipt, b"x")
    found = apply_retention(filled, ALL, LATER)
    assert {receipt, key} <= keys(filled)
    assert found.left == (
        f"1 receipts of {batch} are kept: it has rows in staging",
        f"{key} is kept: its rows are not recorded as loaded; the feed's next run loads them or says why not",
    )


@pytest.mark.parametrize(("state", "kept"), [("have", False), ("refused", False), ("empty", True), ("pending", True)])
def test_leftovers_of_staging_go_once_their_cells_are_recorded(filled, state, kept):
    key = staged(filled, [("A", DAY)])
    run = RunInfo("polygon_ohlcv_1d", "r", "manual", 0, NOW)
    cells = CELLS.empty_table().from_pylist([{"symbol": "A", "session": DAY, "state": state, "reason": ""}], schema=CELLS)
    write_cells(filled, "ohlcv-1d", "polygon", run, "b1", cells, recorded_at=NOW)
    apply_retention(filled, ALL, LATER)
    assert (key in keys(filled)) is kept


def test_a_staging_object_that_cannot_be_read_is_kept_and_named(filled):
    key = staged(filled, [("A", DAY)])
    filled.update(key, lambda _: b"no Parquet")
    assert any(line.startswith(f"{key} is kept") for line in apply_retention(filled, ALL, LATER).left)
    assert key in keys(filled)


def test_a_store_that_ignores_the_condition_of_a_delete_keeps_everything(filled, monkeypatch):
    monkeypatch.setattr("market_data.lake.conditional.honours_conditional_delete", lambda _: False)
    assert "ignores conditions of a DELETE" in apply_retention(filled, ALL, LATER).left[0]
    assert keys(filled) == {*KEPT, *KEYS}


# -- the ages in feeds.yaml ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ages", "problem"),
    [
        ([], "retention is "),
        ({"receipt": 30}, "retention.receipt is unknown (did you mean receipts?); known names: receipts, reports"),
        ({"receipts": 6}, "retention.receipts is 6; a whole number of days, 7 to 36,500, or null is needed"),
        ({"receipts": True}, "retention.receipts is true; a whole number"),
        ({"receipts": "30d"}, "retention.receipts is '30d'; a whole number"),
    ],
)
def test_wrong_ages_are_named(ages, problem):
    [found] = retention_problems(ages)
    assert found.startswith(problem)


FEED = "feeds:\n  - {provider: polygon, dataset: ohlcv-1d, universe: dow30, start_date: 2024-01-02}\n"


def test_ages_are_read_and_overlaid(tmp_path, monkeypatch):
    path = tmp_path / "feeds.yaml"
    path.write_text(f"{FEED}retention: {{receipts: 100, failures: 50}}\n")
    nothing = dict.fromkeys(KINDS)
    assert load_retention(path) == nothing | {"receipts": 100, "failures": 50}
    (tmp_path / "feeds.prod.yaml").write_text("retention: {receipts: null, audits: 9}\n")
    monkeypatch.setenv("MARKET_DATA_ENV", "prod")
    assert load_retention(path) == nothing | {"failures": 50, "audits": 9}
    path.write_text(f"{FEED}retention: {{prices: 100}}\n")
    with pytest.raises(ConfigError, match="feeds.yaml: retention.prices is unknown"):
        load_retention(path)
