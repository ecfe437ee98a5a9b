"""Reports of runs and of audits, as far as they tell of trouble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from market_data.alerts.digests import days, digests
from market_data.maintenance.audit.scope import Scope
from market_data.maintenance.findings import Repair
from market_data.pipeline.attempts import each_once
from market_data.pipeline.report_document import FOLDER

if TYPE_CHECKING:
    from market_data.lake.store import Lake

AUDITS = "audits"
# With the version of the digests; see `digests`.
REPORT_CACHE, AUDIT_CACHE = "alerts/reports-4.json", "alerts/audits-3.json"
SENTENCES = 10
"""Sentences and names that are kept of a report."""
DATES = ("first_session", "last_session")
ROOT_CAUSES = ("QuotaExhausted", "ClockError")
"""Errors that have messages of their own."""


@dataclass(frozen=True)
class Report:
    """A run's report.

    :param first: first session, inclusive, without the lookback; ``last`` likewise; None: of no session.
    :param symbols: number of those that it was to fetch, covered ones included.
    :param ended: when it was written, UTC.
    :param red: why the run failed; empty if it did not.
    :param failed: names of symbols that failed, the first ones.
    :param roots: error of ``ROOT_CAUSES`` -> its text; empty unless they explain every failed batch.
    :param restated: for each attempt of the run whose responses restated rows: ``attempt``, number of ``rows``, the first ``cells``.
    :param stopped: one of its tasks failed, so that its outcome is not known.
    :param requested: it requested something.
    :param attempts: what each attempt fetched, see `pipeline.attempts.attempts_of`.
    """

    key: str
    dag_id: str
    run_id: str
    clear_number: int
    first: date | None
    last: date | None
    symbols: int
    ended: datetime
    red: tuple[str, ...]
    failed: tuple[str, ...]
    roots: Mapping[str, str]
    restated: Sequence[Mapping[str, Any]]
    attempts: Sequence[Mapping[str, Any]]
    stopped: bool
    requested: bool

    def covers(self, first: date, last: date) -> bool:
        """Return True if it is about all sessions from ``first`` to ``last``, both inclusive."""
        return self.first is not None and self.last is not None and self.first <= first and last <= self.last


def read_reports(lake: Lake, since: datetime, now: datetime) -> list[Report]:
    """Return the reports of runs that started from the date of ``since`` on, oldest first."""
    folders = [f"{FOLDER}/{day}" for day in days(since.astimezone(UTC).date(), now.astimezone(UTC).date())]
    return sorted(digests(lake, folders, REPORT_CACHE, _digest, _report), key=lambda one: (one.ended, one.key))


def _digest(document: Mapping[str, Any]) -> dict[str, Any]:
    # A red run is about its own sessions; earlier runs have reported those of its lookback.
    span = document.get("own_range") or document["date_range"]
    return {
        "dag_id": document["dag_id"],
        "run_id": document["run_id"],
        "clear_number": document["clear_number"],
        "first": span["from"],
        "last": span["to"],
        "symbols": document.get("own_tickers", document["total_tickers"]),
        "ended": document["end_time"],
        "red": document["red"][:SENTENCES],
        "failed": document["failed_tickers_list"][:SENTENCES],
        "roots": _roots(_errors(document)),
        "restated": _restated(document["restated"], document["clear_number"]),
        "attempts": document.get("attempts") or [_only_attempt(document)],
        "stopped": bool(document.get("failed_tasks")),
        "requested": document.get("total_batches", 1) > 0,
    }


def _restated(cells: Sequence[Mapping[str, Any]], own: int) -> list[dict[str, Any]]:
    """Return the restated cells by attempt of the run.

    :param own: the attempt of cells of which the report does not tell it.
    """
    found: dict[int, dict[str, Any]] = {}
    for one in cells:
        attempt = one.get("attempt", own)
        entry = found.setdefault(attempt, {"attempt": attempt, "rows": 0, "cells": []})
        entry["rows"] += one["rows"]
        entry["cells"] += [f"{one['symbol']} {one['session']}"] if len(entry["cells"]) < SENTENCES else []
    return list(found.values())


def _only_attempt(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the report of an earlier version tells of its attempt."""
    return {
        "attempt": document["clear_number"],
        "started": document.get("start_time") or document["end_time"],
        "api_calls": document.get("api_calls") or 0,
        "cost_usd": document.get("cost_usd"),
    }


def _errors(document: Mapping[str, Any]) -> list[str]:
    """Return the errors of failed batches, and those of failed tasks of a run that did not publish."""
    batches = [batch["error"] for batch in document["batch_results"] if batch["state"] == "failed"]
    return batches + [one["error"] for one in document.get("failed_tasks", ())]


def _roots(errors: Sequence[str]) -> dict[str, str]:
    """Return the root causes of the failed batches; empty if one of them has another cause."""
    found = {name: error for error in errors for name in ROOT_CAUSES if error.startswith(name)}
    return found if all(error.startswith(ROOT_CAUSES) for error in errors) else {}


def last_failed_for(reports: Sequence[Report], root: str) -> Report | None:
    """Return the last report of a feed's runs, if it failed for a root cause only.

    Runs that requested nothing do not count: they do not tell if the cause has healed.

    :param reports: oldest first.
    """
    own = [one for one in reports if one.requested or root in one.roots]
    return own[-1] if own and root in own[-1].roots else None


def _report(key: str, values: Mapping[str, Any]) -> Report:
    dates = {name: date.fromisoformat(values[name]) if values[name] else None for name in ("first", "last")}
    lists = {name: tuple(values[name]) for name in ("red", "failed", "restated")}
    attempts = tuple({**one, "started": _moment(one["started"]).isoformat()} for one in values["attempts"])
    return Report(**{**values, **dates, **lists, "attempts": attempts, "key": key, "ended": _moment(values["ended"])})


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@dataclass(frozen=True)
class AuditReport:
    """The gap report of an audit.

    :param scope: the symbols and sessions that it is about.
    :param findings: those that need something done, the first ones; with cause, symbol, key and sessions.
    :param repairs: repair -> number of such findings, all of them.
    :param left_out: it lacks some: it heals by an audit of the whole only.
    """

    key: str
    dataset: str
    source: str
    at: datetime
    scope: Scope
    findings: tuple[Mapping[str, Any], ...]
    repairs: Mapping[str, int]
    left_out: bool


def read_audits(lake: Lake, since: datetime, now: datetime) -> list[AuditReport]:
    """Return the gap reports of audits made from the date of ``since`` on, oldest first."""
    places = [place for dataset in lake.folders(AUDITS) for place in lake.folders(dataset)]
    wanted = set(days(since.date(), now.date()))
    folders = [folder for place in places for folder in lake.folders(place) if folder.rpartition("/")[2] in wanted]
    return sorted(digests(lake, folders, AUDIT_CACHE, _audit_digest, _audit), key=lambda one: (one.at, one.key))


def _audit(key: str, values: Mapping[str, Any]) -> AuditReport:
    at = datetime.fromisoformat(values["at"]).astimezone(UTC)
    findings = tuple({**one, **{name: _day(one[name]) for name in DATES}} for one in values["findings"])
    return AuditReport(
        key, values["dataset"], values["source"], at, Scope.of_report(values), findings, values["repairs"], values["left_out"]
    )


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


def _audit_digest(document: Mapping[str, Any]) -> dict[str, Any]:
    quiet = (str(Repair.NONE), str(Repair.WAIT))
    findings = [one for one in document["findings"] if one["repair"] not in quiet]
    repairs = {name: count for name, count in document["repairs"].items() if name not in quiet}
    return {
        **{name: document[name] for name in ("dataset", "source", "at", "symbols", "start", "end")},
        **{name: document[name] for name in ("share", "read", "unjudged") if name in document},
        "findings": [{name: one[name] for name in ("cause", "symbol", "key", *DATES)} for one in findings],
        "repairs": repairs,
        "left_out": sum(repairs.values()) > len(findings),
    }


def named(finding: Mapping[str, Any]) -> str:
    first, last = finding["first_session"], finding["last_session"]
    span = f" {first}" if first and first == last else f" {first} to {last}" if first else ""
    return f"{finding['symbol'] or finding['key'] or 'a part of the table'}{span}: {finding['cause']}"


def month_start(now: datetime) -> datetime:
    """Return the begin of the calendar month of ``now``, UTC."""
    return now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def spend_of(reports: Sequence[Report], dag_ids: Sequence[str], now: datetime) -> float:
    """Return the charges of the calendar month of ``now`` (UTC) in US dollars.

    A charge belongs to the month in which the run started, or was cleared. That is also the date of its report's folder.
    """
    own = [
        {"dag_id": one.dag_id, "run_id": one.run_id, "end_time": one.ended.isoformat(), "attempts": one.attempts}
        for one in reports
        if one.dag_id in dag_ids
    ]
    first = month_start(now)
    return sum(one["cost_usd"] or 0.0 for one in each_once(own) if month_start(datetime.fromisoformat(one["started"])) == first)
