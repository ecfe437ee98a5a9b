"""The checkpoint: decide which stored partitions may be loaded.

Great Expectations judges tables of counts and metrics.

Rows of every dataset are judged by the rows that break a rule, counted per partition. Bars are also judged as sessions: by what is
present, and compared with earlier sessions; intraday bars are folded to one bar per session first. Other datasets are judged by whether
a session has any rows, if they are busy.

A partition is a planned session. In a run by symbol and year it is also a symbol's year; a fault of one symbol then refuses that
symbol-year alone. `verdicts` names and looks up partitions.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.errors import QualityError
from market_data.core.outcome import Verdict
from market_data.core.run import Grain
from market_data.datasets.base import Dataset, Signed, signed_by_spelling
from market_data.quality import session_bars, session_walk, year_metrics
from market_data.quality.bars_by_session import BarsBySession
from market_data.quality.checkpoint_result import CheckpointResult, result_of
from market_data.quality.great_expectations import BrokenExpectation, Validator, plain
from market_data.quality.metric_rules import (
    CRITICAL,
    NOTHING_CAME,
    ON,
    MetricRule,
    Thresholds,
    session_rules,
    symbol_rules,
    year_rules,
)
from market_data.quality.row_counts import BrokenRows, RowCounts, row_rules
from market_data.quality.session_metrics import NAMED, SessionMetrics
from market_data.quality.suites import family, metrics_suite, rows_suite
from market_data.quality.verdicts import session_of

log = logging.getLogger(__name__)

CHUNK_ROWS = 50_000
"""Rows that are checked at once: what memory holds of them."""

Reasons = dict[str, list[tuple[str, str]]]
"""Partition -> (severity, reason) of each rule over metrics that it breaks."""


@dataclass(frozen=True)
class Scope:
    """The plan of a run, against which the stored rows are judged.

    :param planned: session -> number of symbols planned; a session with 0 is not judged. A dataset that is neither bars nor busy may
        have no rows.
    :param previous: for bars: one bar per symbol and session of up to 20 sessions before the first planned one, to compare with; may be
        empty. Columns symbol, session, close, volume and, if known, ``bars``: the number of intraday bars. Ignored for others.
    :param requested: session -> the symbols planned. Needed where sessions request different symbols (repaired holes). Without it, a
        session that plans fewer symbols than the previous one had is only compared with its own number, and a symbol-year with all
        planned sessions.
    :param provider: the provider that every row must have; None: that of the first row.
    :param recent_from: from this session on, the universe must be complete; in older sessions many symbols were not listed yet.
    :param grain: ``day``: a broken row refuses its session. ``year``, for bars only: it refuses its symbol's year, and symbol-years have
        rules of their own; rules over all symbols of a session still refuse the session.
    :param signed: tells if the prices of a symbol may be zero or negative.
    :param released: for bars: bars like those of ``previous`` that a person let pass, of earlier sessions and of planned ones. They are
        not judged. Later sessions are compared with their level too.
    :param exempt: returns a mask of the rows that may break a rule of single rows: a person let them pass.
    """

    planned: Mapping[date, int]
    previous: pa.Table
    requested: Mapping[date, Collection[str]] | None = None
    provider: str | None = None
    recent_from: date = date.min
    grain: Grain = "day"
    signed: Signed = signed_by_spelling
    released: pa.Table | None = None
    exempt: Callable[[pa.Table], Any] | None = None


class Findings:
    """The broken rules: per rule for the document, per partition for the verdicts."""

    def __init__(self) -> None:
        self.failed: list[dict[str, Any]] = []
        self.rows: dict[str, dict[str, BrokenRows]] = defaultdict(dict)
        self.reasons: Reasons = defaultdict(list)

    def add(self, broken: BrokenExpectation, **values: Any) -> None:
        entry = {
            "rule": broken.rule,
            "severity": broken.severity,
            "kwargs": broken.kwargs,
            "observed": broken.observed,
            "unexpected_count": len(broken.places),
        }
        self.failed.append(entry | values)


def run_checkpoint(
    dataset: Dataset,
    scope: Scope,
    chunks: Iterable[pa.Table],
    *,
    run_name: str,
    thresholds: Thresholds = Thresholds(),  # noqa: B008  frozen
    docs: Path | None = None,
) -> CheckpointResult:
    """Judge the stored rows of a run session by session and, with grain ``year``, also by symbol-year.

    :param chunks: stored rows, columns of ``dataset.schema``, in any order and split anyhow; rows of other sessions are ignored. They
        are read once, about ``CHUNK_ROWS`` at a time.
    :param run_name: name of the run in the documents.
    :param docs: folder for Great Expectations' Data Docs of this run, see ``Validator.write_docs``; None: no Data Docs. If they cannot
        be written, the log says why and the verdicts are unaffected.
    :raises QualityError: if a rule could not be evaluated, or columns are missing: then there is no verdict.
    """
    grain = scope.grain if dataset.is_bars else "day"
    counts, cells = _count_rows(dataset, scope, _cut(chunks, scope.planned))
    suite, years, by_session = f"{family(dataset)}.sessions", None, None
    if dataset.is_bars:
        cells = _with_previous(cells, scope)
        years = year_metrics.measure_years(cells, scope.planned, thresholds, requested=scope.requested)
        cells = cells.select(session_bars.OF_SESSIONS)
        pa.default_memory_pool().release_unused()
        by_session = BarsBySession(cells, scope.released)
        cells = cells.slice(0, 0)
    # From here on memory holds Great Expectations, and no bars but those of `by_session`.
    pa.default_memory_pool().release_unused()
    validator, findings = Validator(run_name), Findings()
    if counts is not None and counts.rows:
        _judge_counts(validator, findings, dataset, counts)
    if by_session is not None and years is not None:
        refused = {session for partition in findings.rows if (session := session_of(partition))}
        metrics = session_walk.measure(
            by_session,
            scope.planned,
            thresholds,
            requested=scope.requested,
            refused=refused,
            recent_from=scope.recent_from,
            grain=grain,
        )
        _judge_sessions(validator, findings, suite, metrics, session_rules(thresholds, grain))
        if grain == "year":
            _judge_years(validator, findings, years, year_rules(thresholds))
        else:
            _judge_symbols(validator, findings, years, symbol_rules(thresholds))
    else:
        metrics = session_walk.count(cells, scope.planned, thresholds)
        _judge_sessions(validator, findings, suite, metrics, NOTHING_CAME if dataset.busy else ())
    verdicts = _verdicts(scope, findings)
    if docs is not None:
        _write_docs(validator, docs)
    return result_of(
        verdicts,
        metrics=metrics,
        years=years if grain == "year" else None,
        failed=findings.failed,
        validations=validator.validations,
        about={"run_name": run_name, "dataset": dataset.name},
        thresholds=thresholds,
    )


# -- rows ------------------------------------------------------------------------------------------------------------------------


def _cut(chunks: Iterable[pa.Table], planned: Collection[date]) -> Iterator[pa.Table]:
    """Yield the rows of planned sessions, in tables of about ``CHUNK_ROWS`` rows."""
    wanted_sessions = pa.array(sorted(planned), pa.date32())
    pending: list[pa.Table] = []
    rows = 0
    for chunk in chunks:
        if "session" not in chunk.column_names:
            raise QualityError("rule columns is broken: column session is missing")
        # A row without a session is kept: it must be reported, not dropped.
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


def _count_rows(dataset: Dataset, scope: Scope, tables: Iterable[pa.Table]) -> tuple[RowCounts | None, pa.Table]:
    """Count the rows that break rules, None without any table, and return the rows as cells.

    The columns of the cells are ``session_bars.BARS``, or ``COUNTS`` if the rows are not bars.
    """
    if dataset.is_intraday:
        to_cells, schema = session_bars.folded, session_bars.FOLDED
    elif dataset.is_bars:
        to_cells, schema = session_bars.bars, session_bars.BARS
    else:
        to_cells, schema = session_bars.counts, session_bars.COUNTS
    counts: RowCounts | None = None
    cells = [schema.empty_table()]
    for table in tables:
        if counts is None:
            provider = scope.provider or _first_provider(table)
            counts = RowCounts(dataset, row_rules(dataset, provider, scope.signed), scope.grain if dataset.is_bars else "day")
        counts.add(table.filter(pc.invert(scope.exempt(table))) if scope.exempt else table)
        cells.append(to_cells(table))
        pa.default_memory_pool().release_unused()
    whole = to_cells(pa.concat_tables(cells))
    return counts, whole.select(session_bars.BARS.names) if dataset.is_bars else whole


def _judge_counts(validator: Validator, findings: Findings, dataset: Dataset, counts: RowCounts) -> None:
    partitions = counts.partitions
    for broken in validator.run(validator.checkpoint(rows_suite(dataset, counts)), counts.table()):
        for place in broken.places.tolist():
            findings.rows[partitions[place]][broken.rule] = counts.broken(broken.rule, partitions[place])
        rows = sum(counts.broken(broken.rule, partitions[place]).count for place in broken.places.tolist())
        findings.add(broken, unexpected_count=rows, observed=plain(counts.values[broken.rule]))


def _with_previous(cells: pa.Table, scope: Scope) -> pa.Table:
    tables = [cells]
    if scope.planned:
        earlier = pc.less(scope.previous["session"], pa.scalar(min(scope.planned), pa.date32()))
        tables.append(session_bars.bars(scope.previous.filter(earlier)))
    return pa.concat_tables(tables)


def _first_provider(table: pa.Table) -> str:
    known = table["provider"].drop_null() if "provider" in table.column_names else []
    return str(known[0]) if len(known) else ""


# -- metrics ---------------------------------------------------------------------------------------------------------------------


def _judge_sessions(
    validator: Validator, findings: Findings, suite: str, metrics: Sequence[SessionMetrics], rules: Sequence[MetricRule]
) -> None:
    columns = {rule.metric: pa.array([getattr(m, rule.metric) for m in metrics], pa.float64()) for rule in rules}
    table = pa.table({"partition": pa.array([m.session for m in metrics], pa.string()), **columns})
    _judge(validator, findings, suite, rules, table, lambda rule, place: session_walk.reason(rule, metrics[place]))


def _judge_years(validator: Validator, findings: Findings, years: pa.Table, rules: Sequence[MetricRule]) -> None:
    columns = {rule.metric: years[rule.metric].cast(pa.float64()) for rule in rules}
    table = pa.table({"partition": years["partition"], **columns})
    _judge(
        validator, findings, "bars.years", rules, table,
        lambda rule, place: year_metrics.reason(rule, years.slice(place, 1).to_pylist()[0]),
    )  # fmt: skip


def _judge_symbols(validator: Validator, findings: Findings, years: pa.Table, rules: Sequence[MetricRule]) -> None:
    """Add to each session what is odd of single symbols there, as with grain ``year``.

    That is the worst of each symbol and year. A session that is refused already is left as it is: its fault may be that of all its symbols.
    """
    if not len(years):
        return
    refused = {partition for partition, reasons in findings.reasons.items() if any(severity == CRITICAL for severity, _ in reasons)}
    refused |= findings.rows.keys()
    by_name = {rule.name: rule for rule in rules}
    columns = {rule.metric: years[rule.metric].cast(pa.float64()) for rule in rules}
    table = pa.table({"partition": years["partition"], **columns})
    for broken in validator.run(validator.checkpoint(metrics_suite("bars.symbols", rules)), table):
        findings.add(broken)
        found: dict[date, list[str]] = defaultdict(list)
        for row in years.take(pa.array(broken.places)).to_pylist():
            found[row[ON[broken.rule]]].append(f"{row['symbol']}: {year_metrics.reason(by_name[broken.rule], row)}")
        for session, words in ((day, words) for day, words in found.items() if day.isoformat() not in refused):
            more = [f"{len(words) - NAMED} more symbols likewise"] if len(words) > NAMED else []
            findings.reasons[session.isoformat()].append((broken.severity, "; ".join([*words[:NAMED], *more])))


def _judge(
    validator: Validator,
    findings: Findings,
    suite: str,
    rules: Sequence[MetricRule],
    table: pa.Table,
    reason: Callable[[MetricRule, int], str],
) -> None:
    """Add the reasons per partition; a metric that refuses a partition is not warned about as well."""
    if not len(table) or not rules:
        return
    by_name, partitions = {rule.name: rule for rule in rules}, table["partition"].to_pylist()
    refused: set[tuple[str, int]] = set()
    for broken in validator.run(validator.checkpoint(metrics_suite(suite, rules)), table):
        findings.add(broken)
        rule = by_name[broken.rule]
        for place in broken.places.tolist():
            if (rule.metric, place) not in refused:
                findings.reasons[partitions[place]].append((broken.severity, reason(rule, place)))
            if broken.severity == CRITICAL:
                refused.add((rule.metric, place))


# -- verdicts --------------------------------------------------------------------------------------------------------------------


def _verdicts(scope: Scope, findings: Findings) -> tuple[Verdict, ...]:
    """Return a verdict per planned session, then one per symbol-year with a reason.

    Sessions come in order, symbol-years by symbol and year.
    """
    by_symbol = (p for p in {*findings.rows, *findings.reasons} if session_of(p) is None)
    partitions = [*(session.isoformat() for session in sorted(scope.planned)), *sorted(by_symbol, key=lambda p: p.rpartition("/"))]
    return tuple(_verdict(p, findings.rows.get(p, {}), findings.reasons.get(p, ())) for p in partitions)


def _verdict(partition: str, rows: Mapping[str, BrokenRows], reasons: Sequence[tuple[str, str]]) -> Verdict:
    critical = [
        *(f"{rule}: {broken}" for rule, broken in rows.items()),
        *(reason for severity, reason in reasons if severity == CRITICAL),
    ]
    warnings = [f"warning: {reason}" for severity, reason in reasons if severity != CRITICAL]
    return Verdict(partition, passed=not critical, reasons=(*critical, *warnings))


def _write_docs(validator: Validator, folder: Path) -> None:
    try:
        validator.write_docs(folder)
    except Exception:  # whatever the library raises: pages to look at decide nothing
        log.exception("the Data Docs could not be written to %s", folder)
