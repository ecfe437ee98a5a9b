"""Entries of the warehouse's ``quality_log``, from what a run has judged or from the lake."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from market_data.core.outcome import EARLIER_VALUE, State
from market_data.warehouse.quality_log import Event, LogEntry

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.core.outcome import Verdict
    from market_data.lake.decisions import Decision
    from market_data.lake.receipts import RequestReceipt
    from market_data.lake.store import Lake

EVENTS = {str(State.REFUSED): Event.REFUSED, str(State.QUARANTINED): Event.QUARANTINED}
PERSONS = {"release": Event.RELEASED, "confirm": Event.CONFIRMED}


def entries_of_run(
    dataset: str, source: str, run_id: str, at: datetime, judged: Iterable[RequestReceipt], refused: Sequence[Verdict]
) -> list[LogEntry]:
    """Return an entry per reason for which cells of a run are refused or quarantined."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data.lake.cells import table_of
    from market_data.quality.verdicts import refused_states

    by_partition = {verdict.partition: verdict for verdict in refused}
    named = pa.array(list(EVENTS), pa.string())
    found = []
    for receipt in judged:  # one by one: nearly all cells of a run are neither
        runs = [run for run in receipt.cells if refused or run.state is State.QUARANTINED]
        if runs:
            cells = refused_states(table_of(runs), by_partition)
            found.append(cells.filter(pc.is_in(cells["state"], named)))
    if not any(map(len, found)):
        return []
    cells = pa.concat_tables(found)
    cells = pa.table(
        {**{name: cells[name].cast(pa.string()) for name in ("symbol", "state", "reason")}, "session": cells["session"]}
    )
    cells = cells.append_column("run_id", pa.repeat(run_id, len(cells)))
    cells = cells.append_column("at", pa.repeat(pa.scalar(at.astimezone(UTC), pa.timestamp("us", "UTC")), len(cells)))
    return _grouped(dataset, source, cells)


def entries_of_lake(lake: Lake, dataset: str, source: str) -> list[LogEntry]:
    """Return the entries of the cells that the ledger has as refused or quarantined, and of all decisions."""
    import pyarrow as pa

    from market_data.lake.decisions import read
    from market_data.lake.ledger import read_coverage

    table = read_coverage(lake, dataset, source).table
    names = ("symbol", "state", "reason", "run_id")
    cells = pa.table(
        {**{name: table[name].cast(pa.string()) for name in names}, "session": table["session"], "at": table["recorded_at"]}
    )
    decisions = read(lake, dataset, source)
    return [*_grouped(dataset, source, cells), *_decided(dataset, source, decisions.made, decisions.table)]


def entry_of_decision(dataset: str, source: str, decision: Decision, cells: pa.Table) -> LogEntry:
    """Return the entry of a decision on ``cells``; there is at least one."""
    import pyarrow.compute as pc

    ends, symbols = pc.min_max(cells["session"]), cells["symbol"].cast("string").unique().to_pylist()
    return LogEntry(
        decision.at, PERSONS[decision.kind], dataset, source, ends["min"].as_py(), ends["max"].as_py(), len(cells), decision.reason,
        symbols[0] if len(symbols) == 1 else None, decision.by,
    )  # fmt: skip


def _decided(dataset: str, source: str, made: Sequence[Decision], table: pa.Table) -> Iterable[LogEntry]:
    """Yield an entry per person's decision; one that was written in parts counts once."""
    import pyarrow as pa
    import pyarrow.compute as pc

    groups: dict[Any, list[int]] = {}
    for number, decision in enumerate(made):
        if decision.kind in PERSONS:
            groups.setdefault((decision.kind, decision.by, decision.reason, decision.at), []).append(number)
    for numbers in groups.values():
        cells = table.filter(pc.is_in(table["number"], pa.array(numbers, pa.int64()))).group_by(["symbol", "session"]).aggregate([])
        if len(cells):
            yield entry_of_decision(dataset, source, made[numbers[0]], cells)


def _grouped(dataset: str, source: str, cells: pa.Table) -> list[LogEntry]:
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = cells.filter(pc.is_in(cells["state"], pa.array(list(EVENTS))))
    plain = pc.replace_substring_regex(cells["reason"], f"(; )?{EARLIER_VALUE}$", "")
    cells = cells.set_column(cells.column_names.index("reason"), "reason", plain)
    found = cells.group_by(["run_id", "state", "reason"]).aggregate(
        [("at", "max"), ("session", "min"), ("session", "max"), ([], "count_all"), ("symbol", "min"), ("symbol", "max")]
    )
    return [_entry(dataset, source, row) for row in found.to_pylist()]


def _entry(dataset: str, source: str, row: Mapping[str, Any]) -> LogEntry:
    symbol = row["symbol_min"] if row["symbol_min"] == row["symbol_max"] else None
    return LogEntry(
        row["at_max"], EVENTS[row["state"]], dataset, source, row["session_min"], row["session_max"], row["count_all"],
        row["reason"] or "none given", symbol, None, row["run_id"],
    )  # fmt: skip
