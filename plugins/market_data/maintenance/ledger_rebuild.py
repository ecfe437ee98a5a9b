"""Write lost records of the coverage ledger anew from receipts, lake objects and quality results.

It makes no API calls. A record tells if a cell's rows were loaded. A receipt does not: it is written before the checkpoint. So a
cell with rows becomes ``have`` only if the checkpoint's result in the lake passed it, or silver has equal rows. If neither is
known, it becomes ``refused``: nothing is loaded that may have been refused, and a person can release it.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.errors import OTHER_FORM
from market_data.core.outcome import EARLIER_VALUE, MAY_BE_MORE, SOME_QUARANTINED, State, Verdict
from market_data.lake import decisions, ledger, receipts, staging
from market_data.lake.broken import keep_aside
from market_data.lake.cells import table_of
from market_data.lake.coverage import CELLS, contains
from market_data.lake.layout import receipts_prefix
from market_data.maintenance.held_rows import with_confirmed_rows
from market_data.pipeline.decided import find_decided, with_decided
from market_data.pipeline.rebuild import rows_of_cells
from market_data.quality.verdicts import verdict_of

if TYPE_CHECKING:
    from market_data.lake.store import Lake
    from market_data.pipeline.selection import Selection
    from market_data.warehouse.base import Warehouse

log = logging.getLogger(__name__)

NOT_TOLD = "rebuilt ledger: neither the checkpoint's result nor the warehouse tells if it passed"
TOLD = pa.schema([*CELLS, pa.field("moment", pa.int64()), pa.field("run", pa.string())])
"""States of cells by receipts: ``moment`` in microseconds since 1970, ``run``: key of the run."""


@dataclass(frozen=True)
class LedgerRebuilt:
    """Result of a rebuild of records.

    :param states: state -> number of cells recorded.
    :param not_told: number of cells recorded as refused because nothing tells if they passed.
    :param without_rows: number of cells that a receipt has as ``have`` and the lake lacks: left without a record.
    :param kept: unreadable ledger objects that are kept under ``broken/`` and deleted.
    """

    states: Mapping[str, int] = field(default_factory=dict)
    not_told: int = 0
    without_rows: int = 0
    kept: tuple[str, ...] = ()

    def sentences(self) -> list[str]:
        """Return what was done, for log and note."""
        lines = []
        if self.states:
            lines.append("ledger records written: " + ", ".join(f"{count:,} {state}" for state, count in self.states.items()))
        if self.not_told:
            lines.append(
                f"{self.not_told:,} of them are refused because nothing tells if they passed the checkpoint: release them, or fetch"
                " them again with force"
            )
        if self.without_rows:
            lines.append(f"{self.without_rows:,} cells have a receipt and no rows in the lake: they are missing, and to be fetched")
        return lines + [f"unreadable ledger object {key} is kept under broken/" for key in self.kept]


def rebuild_ledger(
    lake: Lake, warehouse: Warehouse | None, selection: Selection, cells: pa.Table, broken: tuple[str, ...] = ()
) -> LedgerRebuilt:
    """Record cells whose records are lost.

    :param cells: ``symbol`` and ``session`` of cells without a record.
    :param broken: ledger objects that cannot be read: the cells of their runs' receipts are recorded too. Records that were made later
        count, as ever.
    """
    told = _told(lake, selection, cells, broken)
    wanted = pa.concat_tables([_keys(cells), _keys(told)]).group_by(["symbol", "session"]).aggregate([])
    wanted = wanted.filter(pc.invert(pa.array(contains(_staged(lake, selection), wanted))))
    records, result = _Judge(lake, warehouse, selection, wanted, told).records()
    # First, as an object that an earlier rebuild wrote has the key of equal records.
    kept = tuple(_put_aside(lake, broken))
    if len(records):
        moments = records["moment"].combine_chunks().cast(pa.timestamp("us", tz="UTC"))
        ledger.write_rebuilt(lake, selection.dataset.name, selection.source, records.select(CELLS.names), moments)
    return LedgerRebuilt(*result, kept=kept)


def _put_aside(lake: Lake, keys: tuple[str, ...]) -> Iterator[str]:
    """Keep the objects under ``broken/`` and delete them. Objects that can be read by now are left alone."""
    for key in keys:
        stored = lake.get(key)
        error = ledger.read_error(stored.body, key) if stored else None
        if stored is not None and error is not None:
            keep_aside(lake, key, stored.body, error)
            lake.delete(key)
            yield key


def _keys(cells: pa.Table) -> pa.Table:
    names = ["symbol", "session"]
    return cells.select(names).cast(pa.schema([CELLS.field(name) for name in names]))


def _staged(lake: Lake, selection: Selection) -> pa.Table:
    place = (selection.dataset.name, selection.source)
    infos, _ = staging.describe(lake, staging.waiting(lake, *place))
    return table_of(run for info in infos.values() for run in info.receipt.cells)


def _told(lake: Lake, selection: Selection, cells: pa.Table, broken: tuple[str, ...]) -> pa.Table:
    """Return what each receipt says of the wanted cells, oldest first, schema ``TOLD``."""
    root = receipts_prefix(selection.dataset.name, selection.source, "x", "x").partition("/run=")[0]
    folders = sorted({key.rpartition("/")[0] for key, _ in lake.list(root) if "/run=" in key})
    whole = _folders_of(broken, folders)
    parts = [TOLD.empty_table()]
    for folder, found in zip(folders, receipts.read(lake, folders, ("key",)), strict=True):
        run = folder.rpartition("/run=")[2].partition("/")[0]
        for stored in found:
            table = table_of(stored.receipt.cells)
            if folder not in whole:
                table = table.filter(pa.array(contains(cells, table)))
            moment = stored.receipt.counts.get("ingest_us", 0)
            columns = [*table.columns, pa.repeat(moment, len(table)), pa.repeat(run, len(table))]
            parts.append(pa.table(columns, schema=TOLD))
    return pa.concat_tables(parts).sort_by([("symbol", "ascending"), ("session", "ascending"), ("moment", "ascending")])


def _folders_of(broken: tuple[str, ...], folders: list[str]) -> set[str]:
    """Return the receipts' folders of the batches whose records the broken objects held.

    All folders for an object that belongs to no batch.
    """
    found: set[str] = set()
    for key in broken:
        run, _, batch = key.rpartition("/run=")[2].partition("/")
        digest = batch.removesuffix(".parquet").rpartition("-")[2]
        of_run = [folder for folder in folders if f"/run={run}/" in f"{folder}/"]
        of_batch = [folder for folder in of_run if folder.rpartition("/")[2].startswith(digest)]
        found.update(of_batch or of_run or folders)
    return found


class _Judge:
    """Finds the state of each wanted cell."""

    def __init__(self, lake: Lake, warehouse: Warehouse | None, selection: Selection, wanted: pa.Table, told: pa.Table) -> None:
        self._lake, self._selection = lake, selection
        self._wanted = wanted.sort_by([("symbol", "ascending"), ("session", "ascending")])
        self._rows = rows = rows_of_cells(lake, selection, wanted)
        self._moments = {
            (row["symbol"], row["session"]): row["ingest_ts_max"]
            for row in rows.group_by(["symbol", "session"]).aggregate([("ingest_ts", "max")]).to_pylist()
        }
        self._equal, self._stored = compared(warehouse, selection, rows)
        self._told: dict[tuple[str, object], list[dict[str, object]]] = {}
        for row in told.filter(pa.array(contains(wanted, told))).to_pylist():
            self._told.setdefault((row["symbol"], row["session"]), []).append(row)
        self._refused: dict[str, Mapping[str, Verdict]] = {}
        self._passed: dict[str, Mapping[str, Verdict]] = {}

    def records(self) -> tuple[pa.Table, tuple[Mapping[str, int], int, int]]:
        """Return the records, of schema ``TOLD``, and the counts of ``LedgerRebuilt``."""
        found, without_rows = [], 0
        for symbol, session in zip(self._wanted["symbol"].to_pylist(), self._wanted["session"].to_pylist(), strict=True):
            record = self._record((symbol, session))
            if record is None:
                without_rows += bool(self._told.get((symbol, session)))
            else:
                found.append({"symbol": symbol, "session": session, **record})
        table = self._decided(pa.Table.from_pylist(found, schema=TOLD))
        states = dict(Counter(table["state"].to_pylist()).most_common())
        return table, (states, sum(reason.startswith(NOT_TOLD) for reason in table["reason"].to_pylist()), without_rows)

    def _decided(self, records: pa.Table) -> pa.Table:
        """Return the records with the states of the decisions of people on their values."""
        place = (self._lake, self._selection.dataset.name, self._selection.source)
        made = decisions.read(*place)
        if not made or not len(records):
            return records
        planned: dict[date, set[str]] = {}
        for symbol, session in zip(records["symbol"].to_pylist(), records["session"].to_pylist(), strict=True):
            planned.setdefault(session, set()).add(symbol)
        dataset, sessions = self._selection.dataset, {session: frozenset(own) for session, own in planned.items()}
        decided = find_decided(dataset, made, sessions, lambda: [self._rows])
        cells = records.select(CELLS.names)
        cells = with_confirmed_rows(self._lake, self._selection, made, with_decided(cells, decided.cells) if decided else cells)
        return cells.join(records.drop_columns(["state", "reason"]), ["symbol", "session"]).select(TOLD.names).cast(TOLD)

    def _record(self, cell: tuple[str, object]) -> dict[str, object] | None:
        """Return state, reason, moment and run of a cell; None if it is missing."""
        told, has_rows = self._told.get(cell, []), cell in self._moments
        last = told[-1] if told else None
        if last is not None and has_rows and last["state"] in (State.EMPTY, State.PENDING) and not _partly(last):
            # A later response without the bar: the ledger kept the earlier state.
            last = next((one for one in reversed(told) if one["state"] == State.HAVE), last)
        if last is None:
            if not has_rows:
                return None
            moment: datetime = self._moments[cell]
            last = {"state": str(State.HAVE), "reason": "", "moment": moment, "run": ""}
            last["moment"] = pa.scalar(moment, pa.timestamp("us", tz="UTC")).value
        if last["state"] == State.HAVE and not has_rows:
            return None
        return {**last, **self._judged(cell, last)}

    def _judged(self, cell: tuple[str, object], last: Mapping[str, object]) -> dict[str, object]:
        symbol, session = cell
        refused, passed = self._verdicts(str(last["run"]))
        verdict = verdict_of(refused, symbol, session)  # type: ignore[arg-type]
        state, reason = str(last["state"]), str(last["reason"])
        if verdict is not None:
            return self._rejected(cell, State.REFUSED, "; ".join(verdict.reasons))
        if state == State.QUARANTINED:
            return self._rejected(cell, State.QUARANTINED, reason)
        if state != State.HAVE or session.isoformat() in passed or cell in self._equal:  # type: ignore[attr-defined]
            return {"state": state, "reason": reason}
        return self._rejected(cell, State.REFUSED, NOT_TOLD)

    def _rejected(self, cell: tuple[str, object], state: State, reason: str) -> dict[str, object]:
        earlier = f"; {EARLIER_VALUE}" if cell in self._stored and not reason.endswith(EARLIER_VALUE) else ""
        return {"state": str(state), "reason": f"{reason}{earlier}"}

    def _verdicts(self, run: str) -> tuple[Mapping[str, Verdict], Mapping[str, Verdict]]:
        """Return the refused and the passed partitions of a run."""
        if run not in self._refused:
            place = f"quality/{self._selection.dataset.name}/provider={self._selection.source}"
            verdicts = _read_verdicts(self._lake, f"{place}/run={run}.json") if run else []
            self._refused[run] = {one.partition: one for one in verdicts if not one.passed}
            self._passed[run] = {one.partition: one for one in verdicts if one.passed}
        return self._refused[run], self._passed[run]


def _partly(told: Mapping[str, object]) -> bool:
    return str(told["reason"]).startswith((MAY_BE_MORE, SOME_QUARANTINED))


def _read_verdicts(lake: Lake, key: str) -> list[Verdict]:
    stored = lake.get(key)
    try:
        return [Verdict.from_json(one) for one in json.loads(stored.body)["verdicts"]] if stored else []
    except OTHER_FORM as error:
        log.warning("quality result %s cannot be read: %s", key, error)
        return []


def compared(
    warehouse: Warehouse | None, selection: Selection, rows: pa.Table
) -> tuple[set[tuple[str, object]], set[tuple[str, object]]]:
    """Return the cells of ``rows`` that silver has with equal values, and those of which it has any row."""
    from market_data.maintenance.audit.cells import Names
    from market_data.maintenance.audit.silver import SYMBOLS, Silver
    from market_data.providers.registry import calendar_of_source

    equal: set[tuple[str, object]] = set()
    stored: set[tuple[str, object]] = set()
    if warehouse is None or selection.dataset.table is None or not len(rows):
        return equal, stored
    silver = Silver(warehouse, selection, calendar_of_source(selection.source))
    if not silver.exists:
        return equal, stored
    symbols = sorted(rows["symbol"].unique().to_pylist())
    for start in range(0, len(symbols), SYMBOLS):
        some = symbols[start : start + SYMBOLS]
        own = rows.filter(pc.is_in(rows["symbol"], pa.array(some, pa.string())))
        names = Names(some)
        found = silver.compare(own, some, names, lambda numbers, _: np.ones(len(numbers), dtype=bool))
        codes = names.codes(own)
        cells = list(zip(own["symbol"].to_pylist(), own["session"].to_pylist(), strict=True))
        lacking, changed = np.isin(codes, found.lacking), np.isin(codes, found.changed)
        equal |= {cell for cell, bad in zip(cells, lacking | changed, strict=True) if not bad}
        stored |= {cell for cell, bad in zip(cells, lacking, strict=True) if not bad}
    return equal, stored
