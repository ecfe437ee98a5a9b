"""The page, the picture and the JSON of the benchmarks agree."""

import json
from dataclasses import replace

import pytest

from benchmarks import __main__ as runner
from benchmarks import report
from benchmarks.measurement import Measurement

MACHINE = "a processor, 2 cores, Linux, Python 3.11.2"


def stack(case, rate, **figures):
    values = {
        "provider": "polygon",
        "runs": 3,
        "rows": 770_818,
        "rows_per_second": rate,
        "files": 100,
        "bytes_per_row": 16.9,
        "checksum": "ab" * 8,
    }
    values |= {"same_values": True, "versions": {"duckdb": "2.0.0"}, **figures}
    return Measurement.read("fetch", {"case": case, "seconds": 770_818 / rate, "cpu_seconds": 1.3, "peak_mb": 172, **values})


RESULTS = {
    "fetch": report.Run(
        "2026-11-30",
        MACHINE,
        0.1,
        (
            stack("floor, a file per symbol", 500_000),
            stack("ours, a file per symbol", 400_000),
            stack("ours, a file per symbol and session", 100_000),
            stack("DuckDB", 200_000),
            stack("other", 300_000, same_values=False, checksum="cd" * 8),
            Measurement("fetch", "massive", figures={"provider": "polygon", "not_run": "massive is not installed"}),
        ),
    ),
    "publish": report.Run(
        "2026-11-30", MACHINE, 0.1, (Measurement.read("publish", {"grain": "year", "seconds": 1.5, "cells": 1_307_500}),)
    ),
}


def test_page_and_picture_of_the_documentation_are_those_of_its_json():
    results = report.read(report.RESULTS)
    text = report.PAGE.read_text(encoding="utf-8")
    assert report.page(text, results) == text
    assert report.picture(results) == report.PICTURE.read_text(encoding="utf-8")
    assert report.as_text(results) == report.RESULTS.read_text(encoding="utf-8")


def test_a_changed_figure_changes_table_and_picture():
    changed = {**RESULTS, "fetch": report.Run("2026-11-30", MACHINE, 0.1, (*RESULTS["fetch"].measurements[1:],))}
    assert report.tables(changed) != report.tables(RESULTS)
    assert report.picture(changed) != report.picture(RESULTS)


def test_table_has_ratios_versions_losses_and_what_was_not_run():
    text = report.tables(RESULTS)
    assert "| floor, a file per symbol | 100 | 500 | 1.25 | 1.30 | 172 | 16.9 | 770,818 | abababab |" in text
    assert "| DuckDB | 100 | 200 | 0.50 |" in text
    assert "| ours, a file per symbol and session | 100 | 100 | 1.00 |" in text
    assert "**cdcdcdcd, other values**" in text
    assert "| massive | not run: massive is not installed |" in text
    assert "Versions: duckdb 2.0.0." in text
    assert "| publish | year | 1.50 |  |  | cells 1,307,500 |" in text
    assert "the median time of 3." in text
    assert f"2026-11-30, {MACHINE}, load average before the run 0.1.\n" in text
    busy = {"publish": replace(RESULTS["publish"], load=2.5)}
    assert "load average before the run 2.5. **The machine had other work" in report.tables(busy)
    assert "make bench" in report.tables({})


def test_results_survive_a_file(tmp_path):
    report.save(RESULTS, tmp_path / "results.json")
    assert report.read(tmp_path / "results.json") == RESULTS
    json.loads((tmp_path / "results.json").read_text())


def test_runner_knows_every_benchmark_and_refuses_others(capsys):
    assert {"fetch", "publish", "warehouse_load", "audit", "pages", "compaction"} <= set(runner.names())
    assert {*runner.ARGUMENTS, *runner.ON_REQUEST} - {"latency", "rate_limits"} <= set(runner.names())
    with pytest.raises(SystemExit):
        runner.main(["fetsch"])
    assert "no benchmark fetsch; there are audit" in capsys.readouterr().err


def test_runner_prints_a_line_per_measurement_and_reports_a_failure(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(runner, "RESULTS", runner.PROJECT / ".local" / "bench" / f"{tmp_path.name}.json")
    monkeypatch.setattr(runner, "FOLDER", tmp_path)
    monkeypatch.setattr(runner, "measurements", measured)
    for name in ("good", "broken"):
        (tmp_path / f"{name}.py").write_text('if __name__ == "__main__":\n')
    try:
        assert runner.main(["good", "broken"]) == 1
        assert set(report.read(runner.RESULTS)) == {"good"}
    finally:
        runner.RESULTS.unlink(missing_ok=True)
    found = capsys.readouterr()
    assert found.out.startswith("good       a case ")
    assert "2.00 s, CPU 1.00 s, peak 5 MB, rows 1,000" in found.out
    assert "broken failed" in found.err


def measured(name, arguments):
    if name == "broken":
        raise RuntimeError("broken failed")
    yield Measurement.read(name, {"case": "a case", "seconds": 2.0, "cpu_seconds": 1.0, "peak_mb": 5, "rows": 1000})
