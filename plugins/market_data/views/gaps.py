"""Gaps of a feed as a list with causes, and the repair of those that a person chose.

The ledger tells most of them. The latest audit adds what only it can know: objects that are missing or changed, rows that are not loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.errors import ParamError
from market_data.core.instruments import by_calendar
from market_data.maintenance.audit.cells import Collector, Names
from market_data.maintenance.audit.expected import settled
from market_data.maintenance.audit.listing import Numbers, cell_codes, numbers_of
from market_data.maintenance.audit.result import open_reports
from market_data.maintenance.findings import FINDINGS, Cause, Repair
from market_data.maintenance.repair_plan import plan_repair
from market_data.pipeline.gaps import next_request
from market_data.providers.registry import calendar_of_source
from market_data.views.audit_gaps import still_open
from market_data.views.coverage import Grid

if TYPE_CHECKING:
    from market_data.maintenance.repair_plan import OpenHook, RepairPlan
    from market_data.views.places import Place

MOST = 2_000
"""Gaps that a page lists; the repair of more of them is a run of ``maintain_coverage``."""

OF_LEDGER = (Cause.MISSING, Cause.SUSPECTED_GAP, Cause.PENDING, Cause.QUARANTINED, Cause.REFUSED)
"""Causes that the ledger tells at any moment: an audit may be outdated."""

REPAIRABLE = (Repair.LEDGER, Repair.LOAD, Repair.REMOVE, Repair.FETCH)


@dataclass(frozen=True)
class Gaps:
    """The gaps of a place.

    :param table: schema ``FINDINGS``, latest sessions first.
    :param audited: when the latest audit was made, from which some of them are; None without one.
    """

    table: pa.Table
    audited: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the gaps for a page, the first ``MOST``."""
        causes = {item["values"]: item["counts"] for item in pc.value_counts(self.table["cause"]).to_pylist()}
        shown = self.table.slice(0, MOST)
        return {
            "gaps": [{"id": id_of(row), **_plain(row), "repairable": row["repair"] in REPAIRABLE} for row in shown.to_pylist()],
            "left_out": len(self.table) - len(shown),
            "causes": causes,
            "audited": self.audited.isoformat() if self.audited else None,
        }


def gaps_of(place: Place, grid: Grid, now: datetime) -> Gaps:
    """Return the gaps of a place.

    Suspected gaps are repaired by a request, even if no scheduled run makes one any more: a person decides.
    """
    names = Names(grid.symbols)
    collector = Collector(place.selection, names, calendar_of_source(place.source))
    scheduled = place.feed.schedule is not None
    for letter, cause, repair in (
        ("m", Cause.MISSING, Repair.FETCH),
        ("s", Cause.SUSPECTED_GAP, Repair.FETCH),
        ("q", Cause.QUARANTINED, Repair.DECIDE),
        ("r", Cause.REFUSED, Repair.DECIDE),
    ):
        codes, reasons = _cells(grid, letter)
        texts = [_detail(cause, reason, scheduled=scheduled) for reason in reasons]
        collector.cells(codes, cause, repair, texts)
    codes, reasons = _cells(grid, "p", _late(place, grid, now))
    collector.cells(codes, Cause.PENDING, Repair.FETCH, reasons)
    found = collector.table()
    reports = open_reports(place.lake, place.selection)
    for audited, findings in reports:
        others = findings.filter(pc.invert(pc.is_in(findings["cause"], pa.array(sorted(map(str, OF_LEDGER))))))
        found = pa.concat_tables([found, still_open(grid.records, place.source, others, audited)])
    order = [("last_session", "descending"), ("cause", "ascending"), ("symbol", "ascending")]
    return Gaps(found.sort_by(order), reports[0][0] if reports else None)


def chosen(gaps: Gaps, ids: Collection[str]) -> pa.Table:
    """Return the gaps that a client names by ``id_of``, of schema ``FINDINGS``.

    :raises ParamError: if some of them are not there any more, or need a person's decision.
    """
    rows = {id_of(row): row for row in gaps.table.to_pylist()} if ids else {}
    if not ids or (gone := [one for one in ids if one not in rows]):
        raise ParamError(
            [f"{len(gone):,} of {len(ids):,} gaps changed since: load the list again" if ids else "choose at least one gap"]
        )
    found = [rows[one] for one in dict.fromkeys(ids)]
    if others := [row for row in found if row["repair"] not in REPAIRABLE]:
        raise ParamError(
            [f"{len(others):,} of the gaps are not repaired by a request: {others[0]['cause']}, {others[0]['repair']}"]
        )
    return pa.Table.from_pylist(found, schema=FINDINGS)


def plan(place: Place, findings: pa.Table, hook: OpenHook, now: datetime) -> RepairPlan:
    """Plan the repair of exactly these findings, as ``market-data repair`` does. Nothing is written."""
    return plan_repair(place.lake, place.feed, place.selection, findings, hook, now, now)


def id_of(row: Mapping[str, Any]) -> str:
    """Return a short id: the same for the same gap."""
    parts = (row[name] for name in ("source", "symbol", "first_session", "last_session", "key", "cause"))
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:16]


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("symbol", "first_session", "last_session", "key", "cause", "detail", "repair")
    return {name: row[name].isoformat() if hasattr(row[name], "isoformat") else row[name] for name in names}


def _cells(grid: Grid, letter: str, among: np.ndarray[Any, Any] | None = None) -> tuple[Numbers, list[str]]:
    """Return codes and reasons of the cells of one kind.

    The symbols of a grid are sorted, so its rows are the numbers of ``Names``.
    """
    mask = grid.mask(letter) if among is None else grid.mask(letter) & among
    row, column = np.nonzero(mask)
    records = grid.records
    days = numbers_of(list(grid.sessions))
    numbers = grid.rows[row, column]
    names = [*records.texts["reason"].names, ""]
    reasons = np.append(records.numbers["reason"], np.int32(-1))[numbers]
    return cell_codes(row.astype(np.int64), days[column]), [names[reason] for reason in reasons.tolist()]


def _late(place: Place, grid: Grid, now: datetime) -> np.ndarray[Any, Any]:
    """Return a mask of the cells whose session should be final."""
    days = numbers_of(list(grid.sessions))
    late = np.zeros((len(grid.symbols), len(days)), dtype=bool)
    at = {symbol: number for number, symbol in enumerate(grid.symbols)}
    for calendar, symbols in by_calendar(grid.symbols, calendar_of_source(place.source)).items():
        late[[at[symbol] for symbol in symbols]] = days <= numbers_of([settled(place.selection, calendar, now)])[0]
    return late


def _detail(cause: Cause, reason: str, *, scheduled: bool) -> str:
    if cause is Cause.MISSING:
        return "no run has recorded it"
    if cause is Cause.SUSPECTED_GAP and scheduled:
        later = next_request(reason)
        return f"{reason}; " + (f"requested by itself at T+{later}" if later else "not requested by itself any more")
    return reason or "no reason is recorded"
