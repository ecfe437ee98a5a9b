"""Rows in quarantine: find those of a cell's last response, and those that could be stored."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from market_data.core.batch import Request
from market_data.core.calendar import sessions_of_any
from market_data.core.errors import BrokenObject, DataError, SchemaDrift
from market_data.core.instruments import by_calendar
from market_data.core.intervals import closed
from market_data.providers.registry import calendar_of_source, signed_of_source

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.datasets.base import Dataset
    from market_data.lake.decisions import Decisions
    from market_data.lake.store import Lake
    from market_data.pipeline.selection import Selection

log = logging.getLogger(__name__)

COPY = "duplicate row"
"""The reason of a row of which one copy was judged by itself."""


def quarantined_rows(lake: Lake, selection: Selection, cells: pa.Table, only: str | None) -> tuple[pa.Table, pa.Table]:
    """Return the rejected rows of the last response of each cell, and those that are left out.

    :param cells: ``symbol`` and ``session``.
    :param only: part of the reason; rows with other reasons are left out. None: none is.
    :return: columns of ``dataset.received``, ``reasons`` and ``received_at``.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data.lake.coverage import contains
    from market_data.lake.layout import quarantine_prefix

    dataset, sessions = selection.dataset, cells["session"].unique().to_pylist()
    folders = [quarantine_prefix(dataset.name, selection.source, session) for session in sessions]
    keys = [key for found in lake.each(lake.list, folders) for key, _ in found]
    schema = pa.schema(
        [
            *(field.with_nullable(True) for field in dataset.received),
            ("reasons", pa.string()),
            ("received_at", pa.timestamp("us", "UTC")),
        ]
    )
    rows = pa.concat_tables([schema.empty_table(), *_read(lake, keys, schema)])
    rows = rows.filter(pc.and_(pc.is_valid(rows["symbol"]), pc.not_equal(rows["reasons"], COPY)))
    rows = rows.filter(pa.array(contains(cells, rows))) if len(rows) else rows
    if not len(rows):
        return rows, rows
    last = rows.group_by(["symbol", "session"]).aggregate([("received_at", "max")])
    rows = rows.append_column("row", pa.array(range(len(rows))))
    newest = rows.select(["row", "symbol", "session", "received_at"]).join(
        last, ["symbol", "session", "received_at"], ["symbol", "session", "received_at_max"], join_type="left semi"
    )
    rows = rows.take(newest["row"].combine_chunks().sort()).drop_columns("row")
    rows = rows.group_by(rows.column_names).aggregate([]).select(schema.names).cast(schema)  # each once
    if only is None:
        return rows, rows.slice(0, 0)
    chosen = pc.match_substring(rows["reasons"], only)
    return rows.filter(chosen), rows.filter(pc.invert(chosen))


def _read(lake: Lake, keys: Sequence[str], schema: pa.Schema) -> Iterable[pa.Table]:
    from market_data.lake import parquet

    for key, stored in zip(keys, lake.get_many(keys), strict=True):
        try:
            if stored is not None:
                yield parquet.decode(stored.body, key, schema)
        except BrokenObject as error:
            log.warning("quarantine: %s", error)


def with_confirmed_rows(lake: Lake, selection: Selection, decisions: Decisions, cells: pa.Table) -> pa.Table:
    """Return ``cells``, final where a person confirmed all quarantined rows to be wrong.

    :param cells: schema ``coverage.CELLS``; they become ``empty``, or ``have`` where other rows of them are loaded.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data.core.outcome import EARLIER_VALUE, SOME_QUARANTINED, State
    from market_data.lake import fingerprint
    from market_data.lake.decisions import ROW, Kind
    from market_data.pipeline.decided import row_columns

    held = cells.filter(pc.equal(cells["state"], str(State.QUARANTINED)))
    rows, _ = quarantined_rows(lake, selection, held, None) if len(held) else (None, None)
    if rows is None or not len(rows):
        return cells
    numbers = decisions.find(ROW, fingerprint.row_hashes(rows, row_columns(selection.dataset)))
    words: dict[tuple[str, date], str] = {}
    for symbol, session, number, wrong in zip(
        rows["symbol"].to_pylist(), rows["session"].to_pylist(), numbers, decisions.are(Kind.CONFIRM, numbers), strict=True
    ):
        words[symbol, session] = decisions.made[number].words if wrong and words.get((symbol, session)) != "" else ""
    settled = []
    for row in cells.to_pylist():
        text = words.get((row["symbol"], row["session"])) if row["state"] == State.QUARANTINED else ""
        if text:
            loaded = row["reason"].startswith(SOME_QUARANTINED) or row["reason"].endswith(EARLIER_VALUE)
            row |= {"state": str(State.HAVE if loaded else State.EMPTY), "reason": text}
        settled.append(row)
    return pa.Table.from_pylist(settled, schema=cells.schema)


def storable(selection: Selection, rows: pa.Table) -> tuple[pa.Table, pa.Table, dict[str, int]]:
    """Return quarantined rows as rows of the lake, and those that cannot be stored, with the reasons.

    A row cannot be stored if it lacks a value that must be there, if the warehouse could not hold it, or if another one has its key.

    :param rows: from ``quarantined_rows``.
    :return: rows of ``dataset.schema``, whose ``ingest_ts`` is the moment of the response; and rows as given.
    """
    import pyarrow as pa

    dataset = selection.dataset
    good: list[pa.Table] = []
    bad: list[pa.Table] = []
    why: dict[str, int] = {}

    def sort(part: pa.Table) -> None:
        try:
            good.append(_as_stored(selection, part))
        except (DataError, SchemaDrift, pa.ArrowInvalid, ValueError) as error:
            if len(part) == 1:
                bad.append(part)
                text = str(error).partition("; ")[0]
                why[text] = why.get(text, 0) + 1
            else:
                sort(part.slice(0, len(part) // 2))
                sort(part.slice(len(part) // 2))

    once, twice = _by_key(dataset, rows)
    if len(twice):
        why["rows of one key have different values"] = len(twice)
    if len(once):
        sort(once)
    return (
        pa.concat_tables([dataset.schema.empty_table(), *good]),
        pa.concat_tables([rows.slice(0, 0), twice, *bad]),
        why,
    )


def _by_key(dataset: Dataset, rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    import pyarrow as pa
    import pyarrow.compute as pc

    key = [name for name in dataset.key if name in dataset.received.names]
    rows = rows.append_column("row", pa.array(range(len(rows)), pa.int64()))
    groups = rows.group_by(key).aggregate([("row", "list"), ([], "count_all")])
    twice = pc.list_flatten(groups.filter(pc.greater(groups["count_all"], 1))["row_list"])
    mask = pc.is_in(rows["row"], value_set=twice.combine_chunks() if isinstance(twice, pa.ChunkedArray) else twice)
    rows = rows.drop_columns("row")
    return rows.filter(pc.invert(mask)), rows.filter(mask)


def _as_stored(selection: Selection, rows: pa.Table) -> pa.Table:
    """Return quarantined rows as rows of the lake.

    :raises DataError: if the warehouse could not hold one. SchemaDrift: if a value is missing.
    """
    import pyarrow as pa

    from market_data.quality import gate
    from market_data.warehouse.arrow_rows import to_wire
    from market_data.warehouse.schema import table
    from market_data.warehouse.storable import check_rows

    dataset, names = selection.dataset, rows["symbol"].unique().to_pylist()
    first, last = min(rows["session"].to_pylist()), max(rows["session"].to_pylist())
    calendars = by_calendar(names, calendar_of_source(selection.source))
    sessions = sessions_of_any(calendars, first, closed(last, last).end)
    request = Request(dataset.name, "release", tuple(names), (closed(first, last),))
    good = gate.released(dataset, rows.select(dataset.received.names), request, sessions, signed_of_source(selection.source))
    given = {"timeframe": dataset.timeframe, "provider": selection.source}
    columns = [
        good[field.name] if field.name in good.column_names
        else rows["received_at"] if field.name == "ingest_ts"
        else pa.repeat(given[field.name], len(rows)) if field.name in given
        else pa.nulls(len(rows), field.type)
        for field in dataset.schema
    ]  # fmt: skip
    stored = dataset.identified(pa.table(columns, schema=dataset.schema))
    if dataset.table is not None:
        target = table(dataset.table)
        check_rows(target, to_wire(target, stored, load_id="check", loaded_at=datetime.now(UTC)))
    return stored


def first_and_last(cells: pa.Table) -> tuple[date, date]:
    """Return the first and the last session of ``cells``; there is at least one."""
    import pyarrow.compute as pc

    found = pc.min_max(cells["session"])
    return found["min"].as_py(), found["max"].as_py()
