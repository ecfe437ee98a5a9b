"""The result of an audit, and its gap report in the lake."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from market_data.core.errors import OTHER_FORM
from market_data.maintenance.audit.scope import NOTHING, Scope, left_by
from market_data.maintenance.findings import FINDINGS
from market_data.pipeline.selection import EVER, Selection

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.lake.store import Lake

PREFIX = "audits"
MOST = 1000
"""Findings in the JSON of a gap report; the Parquet beside it has all."""
MOST_REPORTS = 100
"""Reports that are read to find the latest one of the whole."""


@dataclass(frozen=True)
class Audit:
    """The result of an audit of one dataset and source.

    :param findings: schema ``FINDINGS``. Neighbouring sessions of a symbol with the same cause, key, detail and repair share a row.
    :param counts: by name: ``symbols``, ``cells`` (expected ones), ``recorded``, ``objects`` (listed), ``objects_read``, ``receipts``,
        ``symbols_compared`` and ``rows_compared`` (with the warehouse).
    :param share: share of the symbols whose objects were read although nothing was suspected of them; 1: whole.
    :param notes: sentences on what could not be audited.
    :param read: the symbols of which all objects were read; None: all.
    :param unjudged: causes that were not looked for.
    """

    selection: Selection
    findings: pa.Table
    counts: Mapping[str, int] = field(default_factory=dict)
    share: float = 1.0
    notes: tuple[str, ...] = ()
    read: tuple[str, ...] | None = None
    unjudged: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """True if something was found."""
        return bool(len(self.findings))

    @property
    def by_cause(self) -> Mapping[str, int]:
        """Cause -> number of findings, most frequent first."""
        return dict(Counter(self.findings["cause"].to_pylist()).most_common())

    @property
    def by_repair(self) -> Mapping[str, int]:
        """Repair -> number of findings, most frequent first."""
        return dict(Counter(self.findings["repair"].to_pylist()).most_common())

    def sentences(self) -> list[str]:
        """Return what was audited and what was found, for a log."""
        counts, chosen = self.counts, self.selection
        read = "all" if self.share >= 1 else f"a share of {self.share:g}, and suspected ones"
        lines = [
            f"{chosen.dataset.name} of {chosen.source}: {counts.get('symbols', 0):,} symbols, {counts.get('cells', 0):,} cells expected,"
            f" {counts.get('recorded', 0):,} recorded, {counts.get('objects', 0):,} objects listed,"
            f" {counts.get('objects_read', 0):,} read ({read}), {counts.get('rows_compared', 0):,} rows compared with the warehouse"
        ]
        if self:
            lines.append("found: " + ", ".join(f"{count:,} {cause}" for cause, count in self.by_cause.items()))
            lines.append("repair: " + ", ".join(f"{count:,} {repair}" for repair, count in self.by_repair.items()))
        else:
            lines.append("nothing found")
        return [*lines, *self.notes]

    def to_json(self, most: int = MOST) -> dict[str, Any]:
        """Return the audit in JSON values, with the first ``most`` findings."""
        chosen = self.selection
        return {
            "dataset": chosen.dataset.name,
            "source": chosen.source,
            "symbols": list(chosen.symbols) if chosen.symbols is not None else None,
            "start": _limit(chosen.start),
            "end": _limit(chosen.end),
            "share": self.share,
            "read": self.read,
            "unjudged": list(self.unjudged),
            "counts": dict(self.counts),
            "causes": dict(self.by_cause),
            "repairs": dict(self.by_repair),
            "notes": list(self.notes),
            "findings": self.findings.slice(0, most).to_pylist(),
            "findings_left_out": max(0, len(self.findings) - most),
        }


def write_report(lake: Lake, found: Audit, now: datetime) -> str:
    """Write the gap report, Parquet and JSON, and return the key of the Parquet object.

    ``audits/{dataset}/provider={source}/date=YYYY-MM-DD/audit-HHMMSS.parquet`` and ``.json``; a report is never replaced by another.
    """
    from market_data.lake import parquet

    moment = now.astimezone(UTC)
    folder = f"{PREFIX}/{found.selection.dataset.name}/provider={found.selection.source}/date={moment:%Y-%m-%d}"
    body = {"at": moment.isoformat(), **found.to_json()}
    rows = parquet.encode(found.findings)
    stem = f"{folder}/audit-{moment:%H%M%S.%f}"
    lake.put_new(f"{stem}.parquet", rows)
    lake.put_new(f"{stem}.json", json.dumps(body, indent=1, default=str).encode())
    return f"{stem}.parquet"


def open_reports(lake: Lake, selection: Selection) -> list[tuple[datetime, pa.Table]]:
    """Return moment (UTC) and findings of the gap reports since the latest audit of the whole.

    The latest is first. Findings that a later audit was about are left out: it tells what is left of them.

    :raises BrokenObject: if one cannot be read.
    """
    import pyarrow as pa

    from market_data.lake import parquet

    found: list[tuple[datetime, pa.Table]] = []
    scopes: list[Scope] = []
    keys = list(islice(_reports(lake, selection), MOST_REPORTS))
    for (key, moment), stored in zip(keys, lake.get_many([key for key, _ in keys]), strict=True):
        if stored is None:
            continue  # retention has deleted it
        findings = parquet.decode(stored.body, key, FINDINGS)
        if scopes:
            findings = pa.Table.from_pylist(left_by(scopes, findings.to_pylist()), schema=FINDINGS)
        found.append((moment, findings))
        scopes.append(_scope(lake, f"{key.removesuffix('.parquet')}.json"))
        if scopes[-1].whole:
            break
    return found


def _reports(lake: Lake, selection: Selection) -> Iterator[tuple[str, datetime]]:
    """Yield key and moment of each gap report, latest first."""
    folder = f"{PREFIX}/{selection.dataset.name}/provider={selection.source}"
    for day in reversed([name for name in lake.folders(folder) if "/date=" in name]):
        for key in reversed([key for key, _ in lake.list(day) if key.endswith(".parquet")]):
            name = f"{day.rpartition('=')[2]} {key.rpartition('/')[2]}"
            yield key, datetime.strptime(name, "%Y-%m-%d audit-%H%M%S.%f.parquet").replace(tzinfo=UTC)


def _scope(lake: Lake, key: str) -> Scope:
    stored = lake.get(key)
    try:
        return Scope.of_report(json.loads(stored.body)) if stored else NOTHING
    except OTHER_FORM:
        return NOTHING


def _limit(day: date) -> str | None:
    return None if day in EVER else day.isoformat()
