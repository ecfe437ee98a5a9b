"""The stacks of the benchmark write the same rows, and one that does not is reported."""

import json
import os
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import fetch
from benchmarks.fetch import STACKS, Stack
from benchmarks.measurement import child, peak_mb
from benchmarks.parquet_values import Values, read_values
from benchmarks.stacks import floor, floor_databento, ours
from benchmarks.vendor_server import VendorServer, prepared
from sandbox.http import SampleApi

ROWS = 2306  # of 3 x 2 x 390 minutes: in some there was no trade


def written(work, job, folder, option):
    folder.mkdir()
    work(replace(job, folder=str(folder), option=option))
    return folder


@pytest.mark.parametrize("provider", ["alpaca", "polygon", "databento"])
def test_floor_and_ours_write_the_same_rows(provider, tmp_path):
    job = fetch.job_of(3, date(2024, 2, 1), date(2024, 2, 2))
    with SampleApi(api_key="key") as api:
        batches = ours.plan(replace(job, url=f"{api.url}/{provider}", folder=str(tmp_path / "plan")))
    floors = floor_databento.work if provider == "databento" else floor.work
    with VendorServer(prepared([(provider, job)])) as server:
        here = replace(job, url=server.url(provider))
        of_symbols = read_values(written(floors, here, tmp_path / "a", "symbol"))
        of_days = read_values(written(floors, here, tmp_path / "b", "day"))
        own = read_values(written(ours.work, here, tmp_path / "c", json.dumps(["year", batches])) / "raw")
        own_days = read_values(written(ours.work, here, tmp_path / "d", json.dumps(["day", batches])) / "raw")
        assert server.missing == []
    assert of_symbols.rows == of_symbols.distinct == ROWS
    assert all(one.same_rows(of_symbols) for one in (of_days, own, own_days))
    assert (of_symbols.files, own.files) == (3, 3)
    assert (of_days.files, own_days.files) == (6, 6)


def test_a_changed_a_doubled_and_a_lost_row_are_found(tmp_path):
    job = fetch.job_of(2, date(2024, 2, 1), date(2024, 2, 1))
    with VendorServer(prepared([("polygon", job)])) as server:
        folder = written(floor.work, replace(job, url=server.url("polygon")), tmp_path / "a", "symbol")
    right = read_values(folder)
    path = next(folder.iterdir())
    table = pq.read_table(path)
    wrong = {
        "lost": table.slice(1),
        "doubled": pa.concat_tables([table, table.slice(0, 1)]),
        "changed": table.set_column(2, "open", pa.array([0.01, *table["open"].to_pylist()[1:]])),
    }
    for other in wrong.values():
        pq.write_table(other, path)
        assert not read_values(folder).same_rows(right)
    pq.write_table(table.take(list(reversed(range(len(table))))), path)
    assert read_values(folder).same_rows(right)


def test_a_request_that_was_not_prepared_is_an_error(tmp_path):
    job = fetch.job_of(2, date(2024, 2, 1), date(2024, 2, 1))
    with VendorServer(prepared([("alpaca", job)])) as server:
        other = replace(job, url=server.url("alpaca"), groups=[job.symbols[:1]])
        with pytest.raises(RuntimeError, match="not prepared"):
            written(floor.work, other, tmp_path / "a", "symbol")


def test_a_stack_without_its_package_is_reported_as_not_run(monkeypatch):
    monkeypatch.setattr(fetch.peers, "versions", dict)
    monkeypatch.setattr(fetch, "planned", lambda provider, job: (job, []))
    job = fetch.job_of(1, date(2024, 2, 1), date(2024, 2, 1))
    (found,) = fetch.measurements([Stack("x", "polygon", "massive_client", packages=("massive",))], job, runs=1)
    assert found.figures == {"provider": "polygon", "not_run": "massive is not installed"}


def test_a_stack_that_fails_is_reported_and_the_others_go_on(monkeypatch):
    written = []

    def run(stack, job, batches, folder):
        assert not any(folder.iterdir())
        assert all(path.exists() for path in written)  # to delete them makes the next stack slow
        written.append(folder / "file")
        written[-1].touch()
        if stack.name == "broken":
            raise RuntimeError("trace\nValueError: no rows")
        return {"seconds": 2.0, "cpu_seconds": 1.0, "peak_mb": 5}, Values(10, 10, "ab", 1, 100)

    monkeypatch.setattr(fetch.peers, "versions", dict)
    monkeypatch.setattr(fetch, "planned", lambda provider, job: (job, []))
    monkeypatch.setattr(fetch, "run", run)
    job = fetch.job_of(1, date(2024, 2, 1), date(2024, 2, 1))
    broken, good = fetch.measurements([Stack("broken", "polygon", "x"), Stack("good", "polygon", "x")], job, runs=2)
    assert broken.figures == {"provider": "polygon", "not_run": "failed: ValueError: no rows"}
    assert (good.figures["rows_per_second"], good.figures["same_values"]) == (5, True)
    assert len(written) == 3
    assert not any(path.exists() for path in written)


def test_every_stack_has_its_module_and_a_name_of_its_own():
    assert len({(stack.provider, stack.name) for stack in STACKS}) == len(STACKS)
    folder = Path(fetch.__file__).parent / "stacks"
    assert {stack.module for stack in STACKS} <= {path.stem for path in folder.glob("*.py")}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_of_a_child_is_its_own():
    (found,) = child(
        ["-c", "import json, benchmarks.measurement as m; print(json.dumps({'peak': m.peak_mb()}))"], env=dict(os.environ)
    )
    assert 0 < found["peak"] < peak_mb()
