"""Keep the results of benchmarks as JSON, and write them into the documentation: tables and a picture."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.chart import chart
from benchmarks.measurement import PROJECT, Measurement, shown

PAGE = PROJECT / "docs" / "reference" / "benchmarks.md"
RESULTS = PAGE.with_suffix(".json")
PICTURE = PROJECT / "docs" / "pictures" / "benchmarks.svg"
FIGURES = re.compile(r"(<!-- figures: [^\n]*-->\n).*?(<!-- /figures -->)", re.DOTALL)

FETCH = "| stack | files | thousand rows per second | ratio to ours | CPU s | peak MB | bytes per row | rows | checksum |"
BUSY = 0.5
"""Load average above which wall times say little."""
NONE = "Nothing was measured yet: `make bench ARGS=--write` puts its figures here.\n"
OTHERS = "| benchmark | case | seconds | CPU s | peak MB | figures |"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a benchmark.

    :param date: ISO, UTC. ``load``: the load average of the machine before it, 0 on an idle one.
    """

    date: str
    machine: str
    load: float
    measurements: tuple[Measurement, ...]


Results = dict[str, Run]
"""Name of a benchmark -> its latest run."""


def machine() -> str:
    """Return processor, cores, system and Python of this machine in words."""
    found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    processor = found[1] if found else platform.machine()
    return f"{processor}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def read(path: Path) -> Results:
    """Return the results in a file, or an empty mapping without a file."""
    if not path.exists():
        return {}
    return {
        name: Run(run["date"], run["machine"], run["load"], tuple(Measurement.read(name, one) for one in run["measurements"]))
        for name, run in json.loads(path.read_text(encoding="utf-8")).items()
    }


def save(results: Results, path: Path) -> None:
    """Write the results, a line per measurement."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_text(results), encoding="utf-8")


def as_text(results: Results) -> str:
    """Return the results as JSON with a line per measurement."""
    runs = []
    for name, run in sorted(results.items()):
        head = json.dumps({"date": run.date, "machine": run.machine, "load": run.load})[:-1]
        lines = ",\n".join(f"  {json.dumps(one.to_json())}" for one in run.measurements)
        runs.append(f'{json.dumps(name)}: {head}, "measurements": [\n{lines}\n]}}')
    return "{" + ",\n".join(runs) + "}\n"


def write(results: Results) -> None:
    """Write JSON, page and picture of the documentation. Benchmarks that were not run keep their figures."""
    merged = {**read(RESULTS), **results}
    save(merged, RESULTS)
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), merged), encoding="utf-8")
    PICTURE.write_text(picture(merged), encoding="utf-8")


def page(text: str, results: Results) -> str:
    """Return the page ``text`` with the figures of ``results``."""
    return FIGURES.sub(lambda found: f"{found[1]}{tables(results)}{found[2]}", text)


def picture(results: Results) -> str:
    """Return the picture of the benchmark ``fetch`` as SVG: thousand rows per second of each stack."""
    groups: dict[str, list[tuple[str, float, str]]] = {}
    for one in results["fetch"].measurements if "fetch" in results else ():
        if "rows_per_second" in one.figures:
            kind = "floor" if one.case.startswith("floor") else "ours" if one.case.startswith("ours") else "peer"
            groups.setdefault(one.figures["provider"], []).append((one.case, one.figures["rows_per_second"] / 1000, kind))
    return chart("thousand rows per second, one core", groups)


def tables(results: Results) -> str:
    """Return all results as Markdown."""
    fetch = [_fetch(results["fetch"])] if "fetch" in results else []
    others = {name: run for name, run in results.items() if name != "fetch"}
    return "\n".join([*fetch, *([_others(others)] if others else [])]) or NONE


def _fetch(run: Run) -> str:
    """Return a table per provider, the versions and the machine."""
    parts = []
    for provider in dict.fromkeys(one.figures["provider"] for one in run.measurements):
        found = [one for one in run.measurements if one.figures["provider"] == provider]
        rows = [_fetch_row(one, found) for one in found]
        parts.append("\n".join([f"### Fetch: {provider}", "", FETCH, _rule(FETCH), *rows, ""]))
    versions: dict[str, str] = {}
    for one in run.measurements:
        versions |= one.figures.get("versions", {})
    parts.append(f"Versions: {', '.join(f'{name} {version}' for name, version in sorted(versions.items()))}.\n")
    runs = min((one.figures["runs"] for one in run.measurements if "runs" in one.figures), default=0)
    parts.append(f"Each figure is from the run with the median time of {runs}.\n")
    parts.append(_where(run))
    return "\n".join(parts)


def _fetch_row(one: Measurement, all_of_provider: Sequence[Measurement]) -> str:
    """Return the row of a stack.

    Its ratio is to ours of the same files; one file of all symbols is compared with a file per symbol.
    """
    figures = one.figures
    if "not_run" in figures:
        return _row(one.case, f"not run: {figures['not_run']}", *[""] * 7)
    own = [found for found in all_of_provider if found.case.startswith("ours") and _by_session(found) == _by_session(one)]
    ratio = f"{figures['rows_per_second'] / own[0].figures['rows_per_second']:.2f}" if own else ""
    same = figures["checksum"][:8] if figures["same_values"] else f"**{figures['checksum'][:8]}, other values**"
    rate = f"{figures['rows_per_second'] / 1000:,.0f}"
    return _row(
        one.case, shown(figures["files"]), rate, ratio, f"{one.cpu_seconds:.2f}", shown(one.peak_mb),
        figures["bytes_per_row"], shown(figures["rows"]), same,
    )  # fmt: skip


def _by_session(one: Measurement) -> bool:
    return "session" in one.case


def _others(results: Mapping[str, Run]) -> str:
    rows = []
    for name, run in sorted(results.items()):
        for one in run.measurements:
            figures = "; ".join(
                f"{key.replace('_', ' ')} {shown(value)}" for key, value in one.figures.items() if value is not None
            )
            rows.append(_row(name, one.case, _seconds(one.seconds), _seconds(one.cpu_seconds), shown(one.peak_mb or ""), figures))
    dated = "\n".join(f"* {name}: {_where(run)}" for name, run in sorted(results.items()))
    return "\n".join(["### Everything else", "", OTHERS, _rule(OTHERS), *rows, "", dated])


def _where(run: Run) -> str:
    busy = " **The machine had other work to do: compare CPU seconds only.**" if run.load > BUSY else ""
    return f"{run.date}, {run.machine}, load average before the run {run.load}.{busy}\n"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _row(*cells: Any) -> str:
    return f"| {' | '.join(str(cell).replace('|', ' ') for cell in cells)} |"


def _rule(head: str) -> str:
    """Return the line below the head of a table; numbers go to the right."""
    names = [name.strip() for name in head.strip("|").split("|")]
    return f"|{'|'.join('---' if name in {'stack', 'benchmark', 'case', 'figures', 'checksum'} else '--:' for name in names)}|"
