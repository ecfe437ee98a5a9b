"""Write the rows of a response into the lake: gate, lake objects and quarantine, part by part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from market_data.core.batch import Batch, Request
from market_data.core.dates import microseconds
from market_data.core.request_rows import of_request
from market_data.lake.cells import cells_of
from market_data.pipeline.overruled import Overruled
from market_data.pipeline.run_context import RunContext
from market_data.pipeline.withdrawn import describe, without_cells
from market_data.providers.registry import signed_of_source

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.datasets.base import Dataset
    from market_data.lake.staging import Rows

PART_ROWS = 25_000
"""Rows per pass of gate and lake, about: a request for minutes has 400,000 rows, and a pass takes a KB for each of its rows."""


@dataclass(frozen=True)
class Written:
    """Result of ``land_response``: the rows of a request in the lake.

    :param objects: schema ``receipts.OBJECTS``.
    :param have: symbol -> sessions with rows.
    :param restated: see ``RequestReceipt``, as ``replaced``.
    :param quarantined: symbol -> sessions with quarantined rows.
    :param renewed: sessions with rows first seen by the request.
    :param withdrawn: a sentence on the stored rows that the response lacks, if any.
    :param confirmed: cell -> reason, for cells with rows that a person confirmed to be wrong.
    """

    objects: pa.Table
    have: dict[str, set[date]]
    quarantined: dict[str, set[date]]
    renewed: frozenset[date]
    withdrawn: tuple[str, ...] = ()
    restated: tuple[tuple[str, str, int], ...] = ()
    replaced: tuple[str, ...] = ()
    confirmed: Mapping[tuple[str, date], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Incoming:
    """The rows of a response.

    :param parts: the readable ones.
    :param odd: the others, as in `Fetched`.
    :param withdrawn: stored rows that the response lacks, marked as withdrawn.
    :param release: as in `Fetched`.
    """

    parts: list[pa.Table]
    odd: pa.Table | None
    withdrawn: pa.Table
    release: Callable[[], None]


@dataclass(frozen=True)
class Arrival:
    """The moment at which a response had arrived, and the clock."""

    at: datetime
    now: Callable[[], datetime]


def in_parts(rows: pa.Table, apart: str = "symbol") -> list[pa.Table]:
    """Split ``rows`` into tables of about ``PART_ROWS`` rows, or more, that share no value of a column.

    Nothing is copied if the rows of each page are by that column, which is the usual case.

    :param apart: ``session`` for session files: each is written once.
    """
    import pyarrow.compute as pc

    from market_data.providers.spool import groups_of, taken

    if len(rows) <= PART_ROWS:
        return [rows]
    if (groups := groups_of(rows, apart, PART_ROWS)) is None:
        return in_parts(rows.take(pc.sort_indices(rows, sort_keys=[(apart, "ascending")])), apart)
    return [taken(rows, pieces) for pieces in groups]


def land_response(
    context: RunContext,
    batch: Batch,
    request: Request,
    incoming: Incoming,
    counts: Counter[str],
    arrival: Arrival,
    staged: Rows,
) -> Written:
    """Gate the rows and write them to the lake part by part.

    Empties ``incoming.parts`` to release memory; adds to ``counts``, and to ``staged`` the rows as they are in the lake.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data.lake import quarantine
    from market_data.lake.object_writer import Refetch
    from market_data.lake.writer import land
    from market_data.providers.spool import in_memory
    from market_data.quality.gate import gate

    dataset, sessions = context.dataset, request.sessions
    extra = {
        "timeframe": dataset.timeframe,
        "provider": context.source,
        "ingest_ts": pa.scalar(arrival.at, pa.timestamp("us", tz="UTC")),
    }
    forced = context.params.force or context.run.clear_number > 0
    # Rechecked cells are written only where they differ.
    terms = Refetch(arrival.now, in_place=not forced, again=batch.refetch or context.run.clear_number > 0)
    bad = [] if incoming.odd is None else [incoming.odd]
    counts["rows_quarantined"] += len(incoming.odd or ())
    objects: list[pa.Table] = []
    restated: list[pa.Table] = []
    replaced: list[str] = []
    have: dict[str, set[date]] = {}
    renewed: set[date] = set()
    counts["ingest_us"] = microseconds(arrival.at)  # whole numbers: the report compares for equality

    def write(rows: pa.Table) -> None:
        landed = land(context.lake, context.layout, dataset, context.source, rows, context.params.file_grain, refetch=terms)
        staged.add(landed.rows, landed.body)
        objects.append(landed.objects)
        restated.append(landed.restated)
        replaced.extend(landed.broken)
        cells = cells_of(landed.rows)
        for symbol, days in cells.items():
            have.setdefault(symbol, set()).update(days)
        # A stored row with equal values keeps its own, earlier moment.
        new = pc.greater_equal(landed.rows["ingest_ts"], extra["ingest_ts"])
        renewed.update(*(cells if pc.all(new).as_py() else cells_of(landed.rows.filter(new))).values())
        counts.update(
            rows_landed=len(landed.rows),
            files_written=landed.written,
            files_unchanged=landed.unchanged,
            rows_missing=0 if dataset.withdrawn else landed.missing,
        )

    signed = signed_of_source(context.source)
    overruled = Overruled(context)
    incoming.parts.reverse()
    while incoming.parts:
        # The response to a request with holes has the whole span; the cells in the holes are covered already.
        rows = in_memory(incoming.parts.pop(), incoming.release)
        gated = gate(dataset, of_request(rows, request), request, sessions, signed)
        del rows
        if len(gated.bad):
            gated = overruled.apply(gated, request, sessions, signed)
        bad.append(gated.bad)
        counts.update(rows_quarantined=len(gated.bad), values_cleared=sum(gated.cleared.values()))
        write(_stored(gated.good, dataset, extra))
        del gated
    rejected = pa.concat_tables(bad)
    quarantine.write(context.lake, dataset.name, context.source, context.run, batch.id, rejected, received_at=arrival.at)
    # One copy of a duplicate row is in the lake.
    lacking = rejected.filter(pc.not_equal(rejected["reasons"], "duplicate row"))
    # A row that was rejected came nevertheless: it may be the one that seems to be gone.
    gone = without_cells(incoming.withdrawn, cells_of(lacking))
    if len(gone):
        write(gone)
    return Written(
        pa.concat_tables(objects), have, cells_of(lacking), frozenset(renewed), describe(gone, dataset.key),
        _counted(pa.concat_tables(restated)), tuple(replaced), overruled.confirmed,
    )  # fmt: skip


def _stored(rows: pa.Table, dataset: Dataset, extra: Mapping[str, Any]) -> pa.Table:
    """Return received rows in the columns of a lake file."""
    import pyarrow as pa

    received = set(rows.column_names)

    def column(field: pa.Field) -> Any:
        if field.name in received:
            return rows[field.name]
        return pa.repeat(extra[field.name], len(rows)) if field.name in extra else pa.nulls(len(rows), field.type)

    return pa.table([column(field) for field in dataset.schema], schema=dataset.schema)


def _counted(rows: pa.Table) -> tuple[tuple[str, str, int], ...]:
    """Return symbol, session (ISO date) and number of rows of each cell."""
    if not len(rows):
        return ()  # nearly always; a group_by of no rows starts all threads
    found = (
        rows.group_by(["symbol", "session"])
        .aggregate([([], "count_all")])
        .sort_by([("symbol", "ascending"), ("session", "ascending")])
    )
    columns = (found[name].to_pylist() for name in ("symbol", "session", "count_all"))
    return tuple((symbol, session.isoformat(), count) for symbol, session, count in zip(*columns, strict=True))
