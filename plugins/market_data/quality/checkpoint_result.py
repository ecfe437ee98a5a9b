"""The result of a checkpoint: verdicts, counts, a table for people and a document for the lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.outcome import Verdict
from market_data.quality.great_expectations import plain
from market_data.quality.metric_rules import Thresholds
from market_data.quality.session_metrics import SessionMetrics

TABLE_LINES = 40
"""Lines of the table per kind of partition."""


@dataclass(frozen=True)
class CheckpointResult:
    """The checkpoint's decision on a run.

    :param verdicts: one per planned session, in order; with grain ``year`` then one per symbol-year that was refused or has a warning,
        in order: a symbol-year without a verdict passed.
    :param success: no partition was refused.
    :param statistics: a few counts.
    :param failed: each rule that was broken: ``{rule, severity, kwargs, observed, unexpected_count}``. For row rules ``observed`` holds
        values of broken rows and ``unexpected_count`` is in rows; for others, both are in partitions.
    :param table: for people: the counts, and each partition that was refused or has a warning, up to ``TABLE_LINES`` of each kind.
    :param document: all of it for the lake, as plain JSON, with the metrics of all sessions and of the symbol-years with a verdict.
    """

    verdicts: tuple[Verdict, ...]
    success: bool
    statistics: dict[str, int]
    failed: list[dict[str, Any]]
    table: str
    document: dict[str, Any]


def result_of(
    verdicts: tuple[Verdict, ...],
    *,
    metrics: list[SessionMetrics],
    years: pa.Table | None,
    failed: list[dict[str, Any]],
    validations: Sequence[Mapping[str, Any]],
    about: Mapping[str, str],
    thresholds: Thresholds,
) -> CheckpointResult:
    """Return the result.

    :param verdicts: those of the sessions first.
    :param metrics: of the sessions. ``years``: of the symbol-years, see ``year_metrics.measure_years``.
    :param validations: Great Expectations' results as JSON.
    :param about: names of run and dataset.
    """
    session_verdicts, year_verdicts = verdicts[: len(metrics)], verdicts[len(metrics) :]
    statistics = {
        "sessions": len(metrics),
        **_counts(len(metrics), session_verdicts),
        "rows": sum(m.rows for m in metrics),
        "rules_evaluated": sum(v["statistics"]["evaluated_expectations"] for v in validations),
        "rules_broken": len(failed),
    }
    lines = ["checkpoint: {sessions} sessions, {rows} rows: ".format(**statistics) + COUNTS.format(**statistics)]
    lines_of_partitions = _table("session", "symbols", session_verdicts, {m.session: (m.present, m.expected) for m in metrics})
    symbol_years: list[dict[str, Any]] = []
    if years is not None:
        counts = _counts(len(years), year_verdicts)
        statistics |= {"symbol_years": len(years)} | {f"symbol_years_{name}": count for name, count in counts.items()}
        lines.append(f"checkpoint: {len(years)} symbol-years: " + COUNTS.format(**counts))
        with_verdict = pc.is_in(years["partition"], pa.array([verdict.partition for verdict in year_verdicts], pa.string()))
        symbol_years = years.filter(with_verdict).to_pylist()
        present = {y["partition"]: (y["present"], y["expected"]) for y in symbol_years}
        lines_of_partitions += _table("symbol/year", "sessions", year_verdicts, present)
    success = all(verdict.passed for verdict in verdicts)
    document = {
        **about,
        "success": success,
        "statistics": statistics,
        "thresholds": asdict(thresholds),
        "verdicts": [verdict.to_json() for verdict in verdicts],
        "failed": failed,
        "sessions": [asdict(m) for m in metrics],
        "symbol_years": symbol_years,
        "validations": list(validations),
    }
    return CheckpointResult(verdicts, success, statistics, failed, "\n".join([*lines, *lines_of_partitions]), plain(document))


COUNTS = "{passed} passed ({warned} with a warning), {refused} refused"


def _counts(judged: int, verdicts: Sequence[Verdict]) -> dict[str, int]:
    refused = sum(not verdict.passed for verdict in verdicts)
    warned = sum(verdict.passed and bool(verdict.reasons) for verdict in verdicts)
    return {"passed": judged - refused, "refused": refused, "warned": warned}


def _table(partition: str, counted: str, verdicts: Sequence[Verdict], counts: Mapping[str, tuple[int, int]]) -> list[str]:
    """Return a line per verdict with reasons, refused ones first, and no more than ``TABLE_LINES``.

    :param counted: heading of the column of counts. ``counts``: partition -> the number present, and the number expected.
    """
    with_reasons = sorted((verdict for verdict in verdicts if verdict.reasons), key=lambda verdict: verdict.passed)
    shown = with_reasons[:TABLE_LINES]
    width = max(10, len(partition), *(len(verdict.partition) for verdict in shown))
    lines = [f"  {partition:<{width}}  {'verdict':<7}  {counted:>11}  reasons"] if with_reasons else []
    for verdict in shown:
        state, count = "passed" if verdict.passed else "refused", "/".join(map(str, counts[verdict.partition]))
        lines.append(f"  {verdict.partition:<{width}}  {state:<7}  {count:>11}  {'; '.join(verdict.reasons)}")
    if len(with_reasons) > TABLE_LINES:
        lines.append(f"  ... and {len(with_reasons) - TABLE_LINES} more; all are in the checkpoint's document")
    return lines
