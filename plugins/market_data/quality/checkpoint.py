"""The checkpoint: which of the partitions that landed may be loaded. Great Expectations decides.

Every dataset's rows are judged one by one. Bars are judged as sessions too, by what is there and by how it compares with the sessions
before; bars within the day folded to one a session first. Of other datasets no more can be expected of a session than that something
came, and of some not even that.

A partition is a planned session; where a run asks symbol by symbol for whole years, also a symbol's year, and what is wrong with one
symbol alone is then laid to that. Names and look-up of partitions: ``partitions.py``.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.errors import QualityError
from market_data.core.outcome import Verdict
from market_data.datasets.base import Dataset
from market_data.quality import session_bars, session_metrics, year_metrics
from market_data.quality.great_expectations import EXAMPLES, Outcome, Validator, plain
from market_data.quality.session_metrics import Bars, SessionMetrics
from market_data.quality.suites import (
    CRITICAL,
    NOTHING_CAME,
    MetricRule,
    Thresholds,
    family,
    metrics_suite,
    rows_suite,
    session_rules,
    year_rules,
)
from market_data.quality.verdicts import Grain, session_of, year_partitions

log = logging.getLogger(__name__)

CHUNK_ROWS = 500_000  # one validation of the rows suite: its fixed cost is 0.1 s, its memory grows with the rows
NAMED = 3  # symbols or sessions named in a reason
TABLE_LINES = 40  # of each kind of partition

Said = dict[str, list[tuple[str, str]]]  # partition -> (severity, reason) of each rule that it breaks


@dataclass(frozen=True)
class CheckpointResult:
    """The checkpoint's word on a run.

    :param verdicts: one for each planned session, in order; with grain ``year`` then one for each symbol-year that was refused or
        warned of, in order: one that is not there passed.
    :param success: no partition was refused.
    :param statistics: a few counts.
    :param failed: each rule that was broken: ``{rule, severity, kwargs, observed, unexpected_count}``.
    :param table: for people: the counts, and each partition that was refused or warned of, as far as there is room.
    :param document: all of it for the lake; plain JSON. It has the metrics of all sessions, and of the symbol-years with a verdict.
    """

    verdicts: tuple[Verdict, ...]
    success: bool
    statistics: dict[str, int]
    failed: list[dict[str, Any]]
    table: str
    document: dict[str, Any]


@dataclass(slots=True)
class _Broken:
    """Rows of one partition that break one rule.

    :param examples: symbols of a session, sessions of a symbol-year.
    """

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, examples: list[str | None]) -> None:
        self.count += len(examples)
        self.examples = list(dict.fromkeys([*self.examples, *(str(example) for example in examples)]))[: NAMED + 1]

    def __str__(self) -> str:
        named = ", ".join(self.examples[:NAMED]) + (", ..." if len(self.examples) > NAMED else "")
        return f"{self.count} {'row' if self.count == 1 else 'rows'} ({named})"


class _Findings:
    """What was found, summed up over the tables validated."""

    def __init__(self, grain: Grain) -> None:
        self._grain = grain
        self.rows: dict[str, dict[str, _Broken]] = defaultdict(lambda: defaultdict(_Broken))
        self.failed: dict[str, dict[str, Any]] = {}

    def add(self, outcome: Outcome) -> None:
        entry = self.failed.setdefault(
            outcome.rule,
            {"rule": outcome.rule, "severity": outcome.severity, "kwargs": outcome.kwargs, "observed": [], "unexpected_count": 0},
        )
        entry["observed"] = [*entry["observed"], *outcome.observed][:EXAMPLES]
        entry["unexpected_count"] += len(outcome.places)

    def add_rows(self, outcome: Outcome, table: pa.Table) -> None:
        """Lay the broken rows to their partitions; one without a symbol to its session, whatever the grain.

        :raises QualityError: if a row has no session: nobody can say what it spoils.
        """
        self.add(outcome)
        rows = table.select(["session", "symbol"]).take(pa.array(outcome.places))
        if rows["session"].null_count:
            raise QualityError(f"rule {outcome.rule}: {rows['session'].null_count} landed rows have no session")
        session = rows["session"].cast(pa.string())
        partition, example = session, rows["symbol"]
        if self._grain == "year":
            partition = pc.coalesce(year_partitions(rows), session)
            example = pc.if_else(pc.is_valid(rows["symbol"]), session, None)
        groups = pa.table({"partition": partition, "example": example}).group_by("partition").aggregate([("example", "list")])
        for group in groups.to_pylist():
            self.rows[group["partition"]][outcome.rule].add(group["example_list"])


def run_checkpoint(
    dataset: Dataset,
    *,
    planned: Mapping[date, int],
    chunks: Iterable[pa.Table],
    previous: pa.Table,
    run_name: str,
    thresholds: Thresholds = Thresholds(),  # noqa: B008  frozen
    asked: Mapping[date, Collection[str]] | None = None,
    provider: str | None = None,
    recent_from: date = date.min,
    grain: Grain = "day",
    docs: Path | None = None,
) -> CheckpointResult:
    """Judge what landed, session by session and, with grain ``year``, symbol-year by symbol-year too.

    :param planned: session -> number of symbols planned; a session with 0 is not judged. Of a dataset that is neither bars nor busy it
        may bring none.
    :param chunks: landed rows, columns of ``dataset.schema``, in any order and any cut; rows of other sessions are left aside.
    :param previous: of a dataset of bars: a bar a session (symbol, session, close, volume; and, if known, ``bars``: how many bars within
        the day it is folded of) of up to 20 sessions before the first planned one, to compare with; may be empty. Else left aside.
    :param run_name: name of the run in the documents.
    :param asked: session -> the symbols planned. Needed where sessions ask for different symbols (holes repaired): without it, a
        session that plans fewer symbols than the one before had is only held against its own number, and a symbol-year against all
        planned sessions.
    :param recent_from: from this session on the universe should be there in full; of older ones, many symbols were not listed.
    :param provider: what every row must carry; by default, what the first one does.
    :param grain: ``day``: a broken row refuses its session. ``year``, of bars only: it refuses its symbol's year, and symbol-years have
        rules of their own; rules over all symbols of a session refuse the session as ever.
    :param docs: folder for Great Expectations' Data Docs of this run, see ``Validator.write_docs``. None: none. Where they cannot be
        written, the log says why, and the verdicts stand.
    :raises QualityError: if a rule could not be evaluated, or columns are missing: there is no verdict then.
    """
    grain = grain if dataset.is_bars else "day"
    validator, findings = Validator(run_name), _Findings(grain)
    landed = _judge_rows(validator, findings, dataset, _cut(chunks, planned), provider)
    name, judged = f"{family(dataset)}.sessions", None
    if dataset.is_bars:
        everything = _with_previous(landed, previous, planned)
        bad = {session for partition in findings.rows if (session := session_of(partition))}
        metrics = session_metrics.measure(
            Bars(everything), planned, thresholds, asked=asked, refused=bad, recent_from=recent_from, grain=grain
        )
        said = _judge_sessions(validator, findings, name, metrics, session_rules(thresholds, grain))
        if grain == "year":
            judged = year_metrics.measure_years(everything, planned, thresholds, asked=asked)
            said |= _judge_years(validator, findings, judged, year_rules(thresholds))
    else:
        metrics = session_metrics.count(landed, planned, thresholds)
        said = _judge_sessions(validator, findings, name, metrics, NOTHING_CAME if dataset.busy else ())
    by_symbol = (p for p in {*findings.rows, *said} if session_of(p) is None)
    partitions = [*(session.isoformat() for session in sorted(planned)), *sorted(by_symbol, key=lambda p: p.rpartition("/"))]
    verdicts = tuple(_verdict(p, findings.rows.get(p, {}), said.get(p, ())) for p in partitions)
    if docs is not None:
        _write_docs(validator, docs)
    return _result(
        verdicts,
        dataset=dataset,
        run_name=run_name,
        limits=thresholds,
        validator=validator,
        findings=findings,
        metrics=metrics,
        judged=judged,
    )


# -- rows ------------------------------------------------------------------------------------------------------------------------


def _cut(chunks: Iterable[pa.Table], planned: Collection[date]) -> Iterator[pa.Table]:
    """The rows of planned sessions, in tables of about ``CHUNK_ROWS`` rows."""
    wanted_sessions = pa.array(sorted(planned), pa.date32())
    pending: list[pa.Table] = []
    rows = 0
    for chunk in chunks:
        if "session" not in chunk.column_names:
            raise QualityError("rule columns is broken: column session is missing")
        # A row without a session stays in: the suite has to see it.
        wanted = chunk.filter(pc.or_(pc.is_in(chunk["session"], wanted_sessions), pc.is_null(chunk["session"])))
        for start in range(0, wanted.num_rows, CHUNK_ROWS):
            piece = wanted.slice(start, CHUNK_ROWS)
            if pending and (rows + piece.num_rows > CHUNK_ROWS or piece.schema != pending[0].schema):
                yield pa.concat_tables(pending)
                pending, rows = [], 0
            pending.append(piece)
            rows += piece.num_rows
    if pending:
        yield pa.concat_tables(pending)


def _judge_rows(
    validator: Validator, findings: _Findings, dataset: Dataset, tables: Iterable[pa.Table], provider: str | None
) -> pa.Table:
    """Validate the rows, and give back what the metrics take of them: ``fold.BARS`` or, where they are not bars, ``fold.COUNTS``."""
    fold_rows = session_bars.folded if dataset.is_intraday else session_bars.bars if dataset.is_bars else session_bars.counts
    checkpoint = None
    landed = [
        (
            session_bars.FOLDED if dataset.is_intraday else session_bars.BARS if dataset.is_bars else session_bars.COUNTS
        ).empty_table()
    ]
    for table in tables:
        if checkpoint is None:
            checkpoint = validator.checkpoint(rows_suite(dataset, provider or _first_provider(table)))
        for outcome in validator.run(checkpoint, table):
            findings.add_rows(outcome, table)
        landed.append(fold_rows(table))
    whole = fold_rows(pa.concat_tables(landed))
    return whole.select(session_bars.BARS.names) if dataset.is_bars else whole


def _with_previous(landed: pa.Table, previous: pa.Table, planned: Collection[date]) -> pa.Table:
    tables = [landed]
    if planned:
        tables.append(session_bars.bars(previous.filter(pc.less(previous["session"], pa.scalar(min(planned), pa.date32())))))
    return pa.concat_tables(tables).combine_chunks()


def _first_provider(table: pa.Table) -> str:
    known = table["provider"].drop_null() if "provider" in table.column_names else []
    return str(known[0]) if len(known) else ""


# -- metrics ---------------------------------------------------------------------------------------------------------------------


def _judge_sessions(
    validator: Validator, findings: _Findings, suite: str, metrics: Sequence[SessionMetrics], rules: Sequence[MetricRule]
) -> Said:
    table = pa.table({rule.metric: pa.array([getattr(m, rule.metric) for m in metrics], pa.float64()) for rule in rules})
    names = [m.session for m in metrics]
    return _judge(validator, findings, suite, rules, table, names, lambda rule, n: session_metrics.words(rule, metrics[n]))


def _judge_years(validator: Validator, findings: _Findings, judged: pa.Table, rules: Sequence[MetricRule]) -> Said:
    table = pa.table({rule.metric: judged[rule.metric].cast(pa.float64()) for rule in rules})
    names = judged["partition"].to_pylist()
    return _judge(validator, findings, "bars.years", rules, table, names, lambda rule, n: year_metrics.words(rule, _row(judged, n)))


def _row(table: pa.Table, place: int) -> dict[str, Any]:
    row: dict[str, Any] = table.slice(place, 1).to_pylist()[0]
    return row


def _judge(
    validator: Validator,
    findings: _Findings,
    suite: str,
    rules: Sequence[MetricRule],
    table: pa.Table,
    partitions: Sequence[str],
    words: Callable[[MetricRule, int], str],
) -> Said:
    """What is to be said of each partition; a metric that refuses one is not warned of as well."""
    said: Said = defaultdict(list)
    if not partitions or not rules:
        return said
    by_name = {rule.name: rule for rule in rules}
    refused: set[tuple[str, int]] = set()
    for outcome in validator.run(validator.checkpoint(metrics_suite(suite, rules)), table):
        findings.add(outcome)
        rule = by_name[outcome.rule]
        for place in outcome.places.tolist():
            if (rule.metric, place) not in refused:
                said[partitions[place]].append((outcome.severity, words(rule, place)))
            if outcome.severity == CRITICAL:
                refused.add((rule.metric, place))
    return said


# -- the word on it --------------------------------------------------------------------------------------------------------------


def _verdict(partition: str, rows: Mapping[str, _Broken], said: Sequence[tuple[str, str]]) -> Verdict:
    critical = [
        *(f"{rule}: {broken}" for rule, broken in rows.items()),
        *(reason for severity, reason in said if severity == CRITICAL),
    ]
    warnings = [f"warning: {reason}" for severity, reason in said if severity != CRITICAL]
    return Verdict(partition, passed=not critical, reasons=(*critical, *warnings))


def _write_docs(validator: Validator, folder: Path) -> None:
    try:
        validator.write_docs(folder)
    except Exception:  # whatever the library makes of it: pages to look at decide nothing
        log.exception("the Data Docs could not be written to %s", folder)


def _result(
    verdicts: tuple[Verdict, ...],
    *,
    dataset: Dataset,
    run_name: str,
    limits: Thresholds,
    validator: Validator,
    findings: _Findings,
    metrics: list[SessionMetrics],
    judged: pa.Table | None,
) -> CheckpointResult:
    of_sessions, of_years = verdicts[: len(metrics)], verdicts[len(metrics) :]
    statistics = {
        "sessions": len(metrics),
        **_counts(len(metrics), of_sessions),
        "rows": sum(m.rows for m in metrics),
        "rules_evaluated": sum(v["statistics"]["evaluated_expectations"] for v in validator.validations),
        "rules_broken": len(findings.failed),
    }
    lines = ["checkpoint: {sessions} sessions, {rows} rows: ".format(**statistics) + COUNTS.format(**statistics)]
    told = _table("session", "symbols", of_sessions, {m.session: (m.present, m.expected) for m in metrics})
    symbol_years: list[dict[str, Any]] = []
    if judged is not None:
        counts = _counts(len(judged), of_years)
        statistics |= {"symbol_years": len(judged)} | {f"symbol_years_{name}": count for name, count in counts.items()}
        lines.append(f"checkpoint: {len(judged)} symbol-years: " + COUNTS.format(**counts))
        with_verdict = pc.is_in(judged["partition"], pa.array([verdict.partition for verdict in of_years], pa.string()))
        symbol_years = judged.filter(with_verdict).to_pylist()
        told += _table("symbol/year", "sessions", of_years, {y["partition"]: (y["present"], y["expected"]) for y in symbol_years})
    failed = list(findings.failed.values())
    success = all(verdict.passed for verdict in verdicts)
    document = {
        "run_name": run_name,
        "dataset": dataset.name,
        "success": success,
        "statistics": statistics,
        "thresholds": asdict(limits),
        "verdicts": [verdict.to_json() for verdict in verdicts],
        "failed": failed,
        "sessions": [asdict(m) for m in metrics],
        "symbol_years": symbol_years,
        "validations": validator.validations,
    }
    return CheckpointResult(verdicts, success, statistics, failed, "\n".join([*lines, *told]), plain(document))


COUNTS = "{passed} passed ({warned} with a warning), {refused} refused"


def _counts(judged: int, verdicts: Sequence[Verdict]) -> dict[str, int]:
    refused = sum(not verdict.passed for verdict in verdicts)
    warned = sum(verdict.passed and bool(verdict.reasons) for verdict in verdicts)
    return {"passed": judged - refused, "refused": refused, "warned": warned}


def _table(partition: str, counted: str, verdicts: Sequence[Verdict], counts: Mapping[str, tuple[int, int]]) -> list[str]:
    """A line for each verdict with something to say, refused ones first, and no more than ``TABLE_LINES``.

    :param counts: partition -> how many of what is ``counted`` are there, and how many were expected.
    """
    told = sorted((verdict for verdict in verdicts if verdict.reasons), key=lambda verdict: verdict.passed)
    shown = told[:TABLE_LINES]
    width = max(10, len(partition), *(len(verdict.partition) for verdict in shown))
    lines = [f"  {partition:<{width}}  {'verdict':<7}  {counted:>11}  reasons"] if told else []
    for verdict in shown:
        state, count = "passed" if verdict.passed else "refused", "/".join(map(str, counts[verdict.partition]))
        lines.append(f"  {verdict.partition:<{width}}  {state:<7}  {count:>11}  {'; '.join(verdict.reasons)}")
    if len(told) > TABLE_LINES:
        lines.append(f"  ... and {len(told) - TABLE_LINES} more; all are in the checkpoint's document")
    return lines
