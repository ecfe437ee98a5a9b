"""`market-data universes` and `market-data adopt`, from their arguments to output and exit code."""

import json
from dataclasses import replace
from datetime import date

import pytest

from market_data.cli.main import main
from market_data.lake.store import Lake
from market_data.maintenance import journal
from sandbox.index_pages import Change, Company, IndexPages, page
from tests.maintenance.test_adopt import DAYS, daily, put
from tests.pipeline.runs import feed_of

COMPANIES = [Company(f"{a}{b}", added=date(1990, 1, 2)) for a in "ABCDEFGHIJKLMNOPQRST" for b in "ABCDEFGHIJKLMNOPQRSTUVWXY"]


class Here:
    """A lake in a folder."""

    def __init__(self, folder):
        self.folder = folder

    def lake(self):
        return Lake.open(f"file://{self.folder}/lake")


@pytest.fixture
def server(monkeypatch):
    with IndexPages({"/page": page(COMPANIES, [Change(date(2020, 1, 2), "AA", "ZZ")])}) as running:
        monkeypatch.setenv("MARKET_DATA_SP500_SOURCES", f"{running.url}/page")
        monkeypatch.setenv("MARKET_DATA_NASDAQ100_SOURCES", "http://127.0.0.1:9/nowhere")
        yield running


def run(capsys, folder, *argv):
    code = main(argv, Here(folder))
    out, err = capsys.readouterr()
    return code, out, err


def test_universes_are_shown_written_refused_and_overruled(tmp_path, server, capsys):
    code, out, _ = run(capsys, tmp_path, "universes", "sp500", "--dry-run")
    assert (code, "sp500: 500 members" in out, "not written (dry run)" in out) == (0, True, True)
    assert "  gap: 1 former members have no row that says when they joined" in out
    assert Here(tmp_path).lake().list("") == []
    code, out, _ = run(capsys, tmp_path, "universes", "sp500", "--json")
    assert (code, json.loads(out)[0]["written"]) == (0, True)
    server.pages["/page"] = page(COMPANIES[:400])
    code, out, _ = run(capsys, tmp_path, "universes", "sp500")
    assert code == 1
    assert "  implausible: 400 members; 495 to 515 are plausible" in out
    assert "  implausible: 100 leave at once; at most 15 are plausible" in out
    code, out, _ = run(capsys, tmp_path, "universes", "sp500", "--overrule", "a new rule", "--by", "Ann")
    assert (code, "written" in out, "overruled: 400 members" in out) == (0, True, True)
    (entry,) = journal.entries(Here(tmp_path).lake(), "universes")
    assert (entry.by, entry.reason) == ("Ann", "a new rule")


def test_one_unreadable_source_does_not_stop_the_others(tmp_path, server, capsys, monkeypatch):
    from market_data.core.retry_policy import RetryPolicy
    from market_data.maintenance.index_sources import download

    real = download.first_usable
    monkeypatch.setattr(download, "first_usable", lambda *args: real(*args, retry=RetryPolicy(attempts=1)))
    code, out, err = run(capsys, tmp_path, "universes", "nasdaq100", "sp500")
    assert code == 1
    assert "sp500: 500 members" in out
    assert "http://127.0.0.1:9/nowhere: no response from 127.0.0.1:9" in err
    assert "MARKET_DATA_NASDAQ100_SOURCES" in err


@pytest.mark.parametrize("extra", [["--source", "http://x"], ["--overrule", "why"]])
def test_what_is_for_one_index_needs_one(tmp_path, capsys, extra):
    assert run(capsys, tmp_path, "universes", *extra)[0] == 2
    assert run(capsys, tmp_path, "universes", "sp5000")[0] == 2


def test_a_bucket_is_reported_and_adopted(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("market_data.cli.adopt.feed_of", lambda _: replace(feed_of("polygon_ohlcv_1d"), provider_level=False))
    put(Here(tmp_path).lake(), "raw/prices/symbol=AAPL/year=2024/x.parquet", daily(DAYS).assign(extra=1))
    code, out, _ = run(capsys, tmp_path, "adopt", "polygon_ohlcv_1d", "--dry-run", "--rewrite")
    assert code == 0
    assert f"{len(DAYS)} cells would be recorded (dry run)" in out
    assert "unknown columns" in out
    code, out, _ = run(capsys, tmp_path, "adopt", "polygon_ohlcv_1d")
    assert (code, "1 files are not adopted without --rewrite" in out) == (1, True)
    code, out, _ = run(capsys, tmp_path, "adopt", "polygon_ohlcv_1d", "--rewrite", "--json", "--symbols", "AAPL", "--by", "Ann")
    assert (code, json.loads(out)["cells"]) == (0, len(DAYS))
    code, out, _ = run(capsys, tmp_path, "adopt", "polygon_ohlcv_1d", "--csv")
    assert (code, out.splitlines()[0]) == (0, "key,problem,rows,detail")


def test_a_feed_with_a_provider_level_is_refused(tmp_path, capsys):
    code, _, err = run(capsys, tmp_path, "adopt", "polygon_ohlcv_1d")
    assert (code, "provider_level: false" in err) == (2, True)
