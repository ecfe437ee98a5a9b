"""The checkpoint: which of the planned sessions may be loaded. Great Expectations decides, over what landed."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from market_data.datasets.base import Dataset
from market_data.errors import QualityError
from market_data.quality.sessions import SLIM, Bars, SessionMetrics, measure, words
from market_data.quality.suites import CRITICAL, Thresholds, rows_suite, session_rules, sessions_suite
from market_data.types import Verdict

CHUNK_ROWS = 500_000  # one validation of the rows suite: its fixed cost is 0.1 s, its memory grows with the rows
EXAMPLES = 20  # unexpected values kept of each rule
SYMBOLS_NAMED = 3  # symbols named in a reason
TABLE_LINES = 40


@dataclass(frozen=True)
class CheckpointResult:
    """The checkpoint's word on a run.

    :param verdicts: one for each planned session, in order.
    :param success: every session passed.
    :param statistics: a few counts.
    :param failed: each rule that was broken: ``{rule, severity, kwargs, observed, unexpected_count}``.
    :param table: for people: the counts, and each session that was refused or warned of.
    :param document: all of it for the lake; plain JSON.
    """

    verdicts: tuple[Verdict, ...]
    success: bool
    statistics: dict[str, int]
    failed: list[dict[str, Any]]
    table: str
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A broken rule.

    :param places: positions of the unexpected rows.
    :param observed: some of the unexpected values.
    """

    rule: str
    severity: str
    kwargs: dict[str, Any]
    places: NDArray[np.int64]
    observed: list[Any]


class Validator:
    """An ephemeral Great Expectations context: no files, no data docs, no progress bars, nothing sent anywhere."""

    def __init__(self, run_name: str) -> None:
        os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
        import great_expectations as gx

        self._gx = gx
        self._run = gx.RunIdentifier(run_name=run_name)
        self._context = gx.get_context(mode="ephemeral")
        self._context.variables.progress_bars = {"globally": False, "metric_calculations": False}
        for site in list(self._context.get_site_names()):
            self._context.delete_data_docs_site(site)
        asset = self._context.data_sources.add_pandas("lake").add_dataframe_asset("landed")
        self._batch = asset.add_batch_definition_whole_dataframe("run")
        self.validations: list[dict[str, Any]] = []

    def checkpoint(self, suite: Any) -> Any:
        """A checkpoint of ``suite``, good for any number of tables."""
        gx, context = self._gx, self._context
        definition = gx.ValidationDefinition(name=suite.name, data=self._batch, suite=context.suites.add(suite))
        definition = context.validation_definitions.add(definition)
        result_format = {"result_format": "SUMMARY", "partial_unexpected_count": EXAMPLES}
        return context.checkpoints.add(
            gx.Checkpoint(name=suite.name, validation_definitions=[definition], actions=[], result_format=result_format)
        )

    def run(self, checkpoint: Any, table: pa.Table) -> list[Outcome]:
        """The rules that ``table`` breaks, in the order of the suite.

        :raises QualityError: if a rule could not be evaluated, or a rule about the table as a whole is broken; names it.
        """
        frame = {"dataframe": table.to_pandas(date_as_object=False)}
        report = checkpoint.run(batch_parameters=frame, run_id=self._run)
        (validation,) = report.run_results.values()
        self.validations.append(_plain(validation.to_json_dict()))
        if validation.success:
            return []
        # A checkpoint keeps its results several times over as JSON, so the positions of the unexpected rows are asked for outside
        # it. They need no index columns, which would take an order of magnitude longer.
        suite = checkpoint.validation_definitions[0].suite
        result_format = {"result_format": "COMPLETE", "return_unexpected_index_query": False, "partial_unexpected_count": EXAMPLES}
        found = self._batch.get_batch(batch_parameters=frame).validate(suite, result_format=result_format)
        results = {result.expectation_config.meta["rule"]: result for result in found.results}
        outcomes = [_outcome(expectation.meta["rule"], results[expectation.meta["rule"]]) for expectation in suite.expectations]
        return [outcome for outcome in outcomes if outcome is not None]


def _outcome(rule: str, result: Any) -> Outcome | None:
    error = _exception(result.exception_info)
    if error:
        raise QualityError(f"rule {rule} could not be evaluated: {error}")
    if result.success:
        return None
    found, config = result.result, result.expectation_config
    if "unexpected_index_list" not in found:
        raise QualityError(f"rule {rule} is broken: {_plain(found.get('details') or found.get('observed_value'))}")
    return Outcome(
        rule=rule,
        severity=str(config.severity.value),
        kwargs=_plain({key: value for key, value in config.kwargs.items() if key != "batch_id"}),
        places=np.asarray(found["unexpected_index_list"], dtype=np.int64),
        observed=_plain(found["partial_unexpected_list"]),
    )


def _exception(info: Mapping[str, Any] | None) -> str | None:
    """The first line of what was raised: the information stands alone, or under the id of each metric that failed."""
    for entry in [info, *info.values()] if info else []:
        if isinstance(entry, Mapping) and entry.get("raised_exception"):
            return str(entry.get("exception_message") or "unknown exception").strip().splitlines()[0]
    return None


@dataclass(slots=True)
class _Broken:
    """Rows of one session that break one rule."""

    count: int = 0
    symbols: list[str] = field(default_factory=list)

    def add(self, symbols: list[str | None]) -> None:
        self.count += len(symbols)
        self.symbols = list(dict.fromkeys([*self.symbols, *(str(symbol) for symbol in symbols)]))[: SYMBOLS_NAMED + 1]

    def __str__(self) -> str:
        named = ", ".join(self.symbols[:SYMBOLS_NAMED]) + (", ..." if len(self.symbols) > SYMBOLS_NAMED else "")
        return f"{self.count} {'row' if self.count == 1 else 'rows'} ({named})"


class _Findings:
    """What was found, summed up over the tables validated."""

    def __init__(self) -> None:
        self.rows: dict[date, dict[str, _Broken]] = {}
        self.failed: dict[str, dict[str, Any]] = {}

    def add(self, outcome: Outcome) -> None:
        entry = self.failed.setdefault(
            outcome.rule,
            {"rule": outcome.rule, "severity": outcome.severity, "kwargs": outcome.kwargs, "observed": [], "unexpected_count": 0},
        )
        entry["observed"] = [*entry["observed"], *outcome.observed][:EXAMPLES]
        entry["unexpected_count"] += len(outcome.places)

    def add_rows(self, outcome: Outcome, table: pa.Table) -> None:
        """Lay the broken rows to their sessions.

        :raises QualityError: if a row has no session: nobody can say what it spoils.
        """
        self.add(outcome)
        rows = table.select(["session", "symbol"]).take(pa.array(outcome.places))
        if rows["session"].null_count:
            raise QualityError(f"rule {outcome.rule}: {rows['session'].null_count} landed rows have no session")
        for group in rows.group_by("session").aggregate([("symbol", "list")]).to_pylist():
            self.rows.setdefault(group["session"], {}).setdefault(outcome.rule, _Broken()).add(group["symbol_list"])


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
) -> CheckpointResult:
    """Judge what landed, session by session.

    :param planned: session -> number of symbols planned; a session with 0 is not judged.
    :param chunks: landed rows, columns of ``dataset.schema``, in any order and any cut; rows of other sessions are left aside.
    :param previous: bars (symbol, session, close, volume) of up to 20 sessions before the first planned one, to compare with;
        may be empty.
    :param run_name: name of the run in the documents.
    :param asked: session -> the symbols planned. Needed where sessions ask for different symbols (holes repaired): without it, a
        session that plans fewer symbols than the one before had is only held against its own number.
    :param recent_from: from this session on the universe should be there in full; of older ones, many symbols were not listed.
    :param provider: what every row must carry; by default, what the first one does.
    :raises QualityError: if a rule could not be evaluated, or columns are missing: there is no verdict then.
    """
    validator, findings = Validator(run_name), _Findings()
    checkpoint = None
    bars: list[pa.Table] = []
    for table in _cut(chunks, planned):
        if checkpoint is None:
            checkpoint = validator.checkpoint(rows_suite(dataset, provider or _first_provider(table)))
        for outcome in validator.run(checkpoint, table):
            findings.add_rows(outcome, table)
        bars.append(_bars(table))
    if planned:
        before = pc.less(previous["session"], pa.scalar(min(planned), pa.date32()))
        bars.append(_bars(previous.filter(before)))
    everything = Bars(pa.concat_tables([SLIM.empty_table(), *bars]))
    metrics = measure(everything, planned, thresholds, asked=asked, refused=findings.rows, recent_from=recent_from)
    said = _judge_sessions(validator, findings, metrics, thresholds)
    verdicts = tuple(_verdict(session, findings.rows.get(session, {}), said[session]) for session in sorted(planned))
    return _result(
        verdicts,
        dataset=dataset,
        run_name=run_name,
        limits=thresholds,
        validator=validator,
        findings=findings,
        metrics=metrics,
    )


def _cut(chunks: Iterable[pa.Table], planned: Collection[date]) -> Iterator[pa.Table]:
    """The rows of planned sessions, in tables of about ``CHUNK_ROWS`` rows."""
    sessions = pa.array(sorted(planned), pa.date32())
    pending: list[pa.Table] = []
    rows = 0
    for chunk in chunks:
        if "session" not in chunk.column_names:
            raise QualityError("rule columns is broken: column session is missing")
        # A row without a session stays in: the suite has to see it.
        wanted = chunk.filter(pc.or_(pc.is_in(chunk["session"], sessions), pc.is_null(chunk["session"])))
        for start in range(0, wanted.num_rows, CHUNK_ROWS):
            piece = wanted.slice(start, CHUNK_ROWS)
            if pending and (rows + piece.num_rows > CHUNK_ROWS or piece.schema != pending[0].schema):
                yield pa.concat_tables(pending)
                pending, rows = [], 0
            pending.append(piece)
            rows += piece.num_rows
    if pending:
        yield pa.concat_tables(pending)


def _first_provider(table: pa.Table) -> str:
    known = table["provider"].drop_null() if "provider" in table.column_names else []
    return str(known[0]) if len(known) else ""


def _bars(table: pa.Table) -> pa.Table:
    """What the session metrics take; a row without a symbol says nothing of any, and the rows suite has told of it."""
    return table.select(SLIM.names).cast(SLIM).filter(pc.is_valid(table["symbol"]))


def _judge_sessions(
    validator: Validator, findings: _Findings, metrics: list[SessionMetrics], limits: Thresholds
) -> dict[date, list[tuple[str, str]]]:
    """Session -> (severity, reason) of each rule that it breaks."""
    said: dict[date, list[tuple[str, str]]] = {date.fromisoformat(m.session): [] for m in metrics}
    if not metrics:
        return said
    rules = {rule.name: rule for rule in session_rules(limits)}
    columns = {rule.metric: pa.array([getattr(m, rule.metric) for m in metrics], pa.float64()) for rule in rules.values()}
    for outcome in validator.run(validator.checkpoint(sessions_suite(limits)), pa.table(columns)):
        findings.add(outcome)
        for place in outcome.places:
            reason = words(rules[outcome.rule], metrics[place])
            said[date.fromisoformat(metrics[place].session)].append((outcome.severity, reason))
    return said


def _verdict(session: date, rows: Mapping[str, _Broken], said: list[tuple[str, str]]) -> Verdict:
    critical = [
        *(f"{rule}: {broken}" for rule, broken in rows.items()),
        *(reason for severity, reason in said if severity == CRITICAL),
    ]
    warnings = [f"warning: {reason}" for severity, reason in said if severity != CRITICAL]
    return Verdict(session.isoformat(), passed=not critical, reasons=(*critical, *warnings))


def _result(
    verdicts: tuple[Verdict, ...],
    *,
    dataset: Dataset,
    run_name: str,
    limits: Thresholds,
    validator: Validator,
    findings: _Findings,
    metrics: list[SessionMetrics],
) -> CheckpointResult:
    refused = sum(not verdict.passed for verdict in verdicts)
    statistics = {
        "sessions": len(verdicts),
        "passed": len(verdicts) - refused,
        "refused": refused,
        "warned": sum(verdict.passed and bool(verdict.reasons) for verdict in verdicts),
        "rows": sum(m.rows for m in metrics),
        "rules_evaluated": sum(v["statistics"]["evaluated_expectations"] for v in validator.validations),
        "rules_broken": len(findings.failed),
    }
    failed = list(findings.failed.values())
    document = {
        "run_name": run_name,
        "dataset": dataset.name,
        "success": refused == 0,
        "statistics": statistics,
        "thresholds": asdict(limits),
        "verdicts": [verdict.to_json() for verdict in verdicts],
        "failed": failed,
        "sessions": [asdict(m) for m in metrics],
        "validations": validator.validations,
    }
    return CheckpointResult(verdicts, refused == 0, statistics, failed, _table(statistics, metrics, verdicts), _plain(document))


def _table(statistics: Mapping[str, int], metrics: list[SessionMetrics], verdicts: tuple[Verdict, ...]) -> str:
    lines = [
        "checkpoint: {sessions} sessions, {rows} rows: {passed} passed ({warned} with a warning), {refused} refused".format(
            **statistics
        )
    ]
    told = [(m, v) for m, v in zip(metrics, verdicts, strict=True) if v.reasons]
    told.sort(key=lambda pair: pair[1].passed)
    if told:
        lines.append(f"  {'session':<10}  {'verdict':<7}  {'symbols':>11}  reasons")
    for m, verdict in told[:TABLE_LINES]:
        state = "passed" if verdict.passed else "refused"
        symbols = f"{m.present}/{m.expected}"
        lines.append(f"  {verdict.partition}  {state:<7}  {symbols:>11}  {'; '.join(verdict.reasons)}")
    if len(told) > TABLE_LINES:
        lines.append(f"  ... and {len(told) - TABLE_LINES} more; all are in the checkpoint's document")
    return "\n".join(lines)


def _plain(value: Any) -> Any:
    """``value`` as JSON can say it: no NaN, keys and unknown things as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
