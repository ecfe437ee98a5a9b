"""Show the figures of load runs, and write them into the documentation."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime

from benchmarks.latency import PROJECT
from benchmarks.load_runs.results import Found

PAGE = PROJECT / "docs" / "reference" / "load-runs.md"
HEAD = (
    "run", "rows", "objects", "calls (planned)", "seconds", "CPU s", "largest task, MB", "scheduler, MB", "XComs, KB", "page Run, s",
    "measured",
)  # fmt: skip
RULE = f"|{'|'.join(['---', *['--:'] * (len(HEAD) - 1)])}|"


def row(found: Found) -> str:
    """Return the table row of a case, without the date."""
    peak = max(found.peaks, key=lambda task: found.peaks[task], default="-")
    before, after = found.scheduler_mb
    cells = (
        found.case,
        f"{found.rows:,}",
        f"{found.objects:,}",
        f"{found.calls:,} ({found.planned:,})",
        f"{found.seconds:,.0f}",
        f"{found.cpu_seconds:,.0f}",
        f"{found.peaks.get(peak, 0)} (`{peak}`)",
        f"{before} → {after}",
        f"{found.xcoms[1] / 1024:,.0f}",
        f"{found.page_seconds:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def table(found: Iterable[Found]) -> str:
    """Return a table of cases."""
    return "\n".join([f"| {' | '.join(HEAD[:-1])} |", RULE[:-4], *map(row, found)])


def lines(found: Found) -> str:
    """Return everything that was measured of a case, and what is wrong."""
    peaks = ", ".join(f"{task} {peak} MB" for task, peak in found.peaks.items())
    tasks = ", ".join(f"{task} {seconds} s" for task, seconds in found.tasks.items())
    number, size, largest = found.xcoms
    return "\n".join(
        [
            f"{found.case}: {found.rows:,} rows, {found.objects:,} objects, {found.calls:,} calls ({found.planned:,} planned), "
            f"{found.seconds:.1f} s, CPU {found.cpu_seconds:.1f} s",
            f"  tasks: {tasks}",
            f"  peaks: {peaks}; scheduler {found.scheduler_mb[0]} -> {found.scheduler_mb[1]} MB",
            f"  XComs: {number:,}, {size:,} bytes, largest {largest:,}; page Run {found.page_seconds:.2f} s",
            *(f"  WRONG: {problem}" for problem in found.problems),
        ]
    )


def write(found: Found) -> None:
    """Replace the row of a case in the page, or append one; a case with problems is not written."""
    if found.problems:
        return
    text = PAGE.read_text(encoding="utf-8")
    kept, begin = text.splitlines(), f"| {found.case} |"
    rows = [number for number, line in enumerate(kept) if line.startswith("|")]
    own = [number for number in rows if kept[number].startswith(begin)]
    first, end = (own[0], own[0] + 1) if own else (rows[-1] + 1, rows[-1] + 1)
    machine = f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores"
    kept[first:end] = [f"{row(found)} {machine} |"]
    PAGE.write_text("\n".join(kept) + "\n", encoding="utf-8")
