"""Great Expectations behind the checkpoint: what it costs to import, and the pages it writes."""

import json
import socket
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from market_data.quality import checkpoint as module
from market_data.quality.checkpoint import Scope, run_checkpoint
from market_data.quality.great_expectations import Validator, docs_files
from tests.quality.rows import DATASET, NONE_BEFORE, landed, names, weekdays

DAYS = weekdays(date(2024, 1, 1), 3)
PLUGINS = Path(module.__file__).parents[2]


def check(*, provider=None, grain="day", chunks=None, **kwargs):
    return run_checkpoint(
        DATASET,
        Scope(dict.fromkeys(DAYS, 25), NONE_BEFORE, provider=provider, grain=grain),
        chunks or [landed([day], names(25)) for day in DAYS],
        run_name="scheduled__2024-01-04T00:00:00+00:00",
        **kwargs,
    )


def python(script):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=PLUGINS)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# -- the import ------------------------------------------------------------------------------------------------------------------

HEAVY = "{'great_expectations', 'pandas', 'airflow'} & set(sys.modules)"


def test_nothing_heavy_is_imported_with_the_checkpoint():
    assert python(f"import json, sys, market_data.quality.checkpoint; print(json.dumps(sorted({HEAVY})))") == []


def test_fetching_does_not_import_great_expectations():
    script = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})
import json, pkgutil
import market_data.airflow.dag, market_data.airflow.tasks, market_data.pipeline
import market_data.providers, market_data.lake, market_data.warehouse
for package in (market_data.pipeline, market_data.providers, market_data.lake, market_data.warehouse):
    for found in pkgutil.walk_packages(getattr(package, "__path__", ()), package.__name__ + "."):
        __import__(found.name)
from tests.quality.rows import DATASET, received, request, row
from market_data.quality.gate import gate
rows = received([row(), row(open=-1.0)])
assert gate(DATASET, rows, request(["AAPL"], (rows["session"][0].as_py(),) * 2), [rows["session"][0].as_py()]).bad.num_rows == 2
print(json.dumps("great_expectations" in sys.modules))
"""
    assert python(script) is False


def test_checkpoints_import_great_expectations_once():
    script = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})
import json
class Watch:
    found = []
    def find_spec(self, name, path=None, target=None):
        self.found += [name] * (name == "great_expectations")
sys.meta_path.insert(0, Watch())
from tests.quality import test_great_expectations as test_validator
before = list(Watch.found)
for grain in ("day", "year"):
    assert test_validator.check(grain=grain).success
costly = [name for name in ("scipy.stats._stats_py", "altair.vegalite") if name in sys.modules]
import altair, scipy.stats
print(json.dumps([before, Watch.found, costly, altair.Chart.__name__, scipy.stats.norm.name]))
"""
    assert python(script) == [[], ["great_expectations"], [], "Chart", "norm"]


def test_garbage_collections_leave_out_what_was_imported():
    script = """
import atexit, gc, json
def end():  # runs after what was registered later
    print(json.dumps([gc.isenabled(), frozen > 100_000, collected < 10_000, again == frozen, gc.get_freeze_count()]))
atexit.register(end)
from market_data.quality.great_expectations import library
library()
frozen, collected = gc.get_freeze_count(), len(gc.get_objects())
library()
again = gc.get_freeze_count()
"""
    assert python(script) == [True, True, True, True, 0]


# -- the pages -------------------------------------------------------------------------------------------------------------------


def test_no_pages_are_built_unless_asked_for(monkeypatch):
    monkeypatch.setattr(Validator, "write_docs", lambda *_: pytest.fail("pages were built"))
    check()


@pytest.mark.parametrize(("grain", "suites"), [("day", ["rows", "sessions", "symbols"]), ("year", ["rows", "sessions", "years"])])
def test_the_pages_name_all_suites_and_validations(grain, suites, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_ROWS", 30)
    check(grain=grain, docs=tmp_path / "docs")
    files = docs_files(tmp_path / "docs")
    assert all(path.read_bytes() and path == tmp_path / "docs" / name for name, path in files.items())
    pages = [name for name in files if name.endswith(".html")]
    assert sorted(p for p in pages if p.startswith("expectations/")) == [f"expectations/bars/{suite}.html" for suite in suites]
    assert [sum(p.startswith(f"validations/bars/{suite}/") for p in pages) for suite in suites] == [1, 1, 1][: len(suites)]
    index = files["index.html"].read_text()
    assert all(f"bars.{suite}" in index for suite in suites)
    assert "scheduled__2024-01-04" in index
    assert len(files) == len([path for path in (tmp_path / "docs").rglob("*") if path.is_file()])


def test_nothing_is_sent_anywhere(tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: tried.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **_: tried.append(args))
    check(docs=tmp_path)
    assert tried == []


def test_the_pages_show_broken_rules_with_partitions_and_values(tmp_path):
    check(provider="alpaca", docs=tmp_path)
    (page,) = [path for name, path in docs_files(tmp_path).items() if name.startswith("validations/bars/rows/")]
    text = page.read_text()
    assert "provider: provider, where present, is alpaca. Broken in 2024-01-01: 25 rows (S000, S001, S002, ...);" in text
    assert "Values: polygon, polygon, polygon, polygon, polygon." in text
    assert "volume_not_negative: volume, where present, is at least 0 and below 1e+12. No row breaks it." in text


def test_pages_that_cannot_be_written_change_no_verdict(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    assert check(docs=tmp_path / "file" / "docs").verdicts == check().verdicts
    assert "the Data Docs could not be written" in caplog.text
    assert docs_files(tmp_path / "file" / "docs") == {}
