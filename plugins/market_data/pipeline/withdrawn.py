"""Find the stored rows that a whole response no longer holds: the vendor has withdrawn them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

from market_data.core.batch import Request
from market_data.core.errors import TruncatedResponse
from market_data.core.messages import some
from market_data.core.request_rows import of_request
from market_data.pipeline.run_context import RunContext

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.datasets.base import Dataset

MOST = 10
"""Stored rows that a response may lack without further proof. If it lacks more, and more than it confirms, it counts as truncated."""


def identified(dataset: Dataset, received: pa.Table) -> pa.Table:
    """Return received rows, each once, with the part of their key that is made of their values.

    :raises SchemaDrift: if a column is missing or of another type.
    """
    from market_data.quality.gate import conform

    return received if dataset.identify is None else dataset.identified(conform(received, dataset))


def contradictions(dataset: Dataset, received: pa.Table) -> tuple[str, ...]:
    """Return a sentence per group of identified rows that cannot all be true."""
    return () if dataset.contradictions is None else tuple(dataset.contradictions(received))


def find_withdrawn(
    context: RunContext, request: Request, received: pa.Table, symbols: Sequence[str], unknown: Collection[date], arrived: datetime
) -> pa.Table:
    """Return the stored rows of a request that its response lacks, marked as withdrawn.

    They are of ``dataset.schema``.

    :param received: all rows of the response, the ones that the gate will reject included.
    :param symbols: the symbols that the provider served.
    :param unknown: sessions that the provider reported on as a whole, such as those it does not have yet.
    :param arrived: stamp of the marked rows.
    :raises TruncatedResponse: if the response lacks nearly all of many stored rows; ``force`` takes it nevertheless.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data.lake.reader import read_rows

    dataset = context.dataset
    if not dataset.withdrawn or not symbols:
        return dataset.schema.empty_table()
    span = (request.intervals[0].start, request.intervals[-1].end)
    stored = of_request(read_rows(context.lake, context.layout, dataset, context.source, symbols, *span), request)
    stored = stored.filter(pc.invert(pc.is_in(stored["session"], pa.array(sorted(unknown), pa.date32()))))
    current = stored.filter(pc.invert(pc.fill_null(stored[dataset.withdrawn], False)))
    key = list(dataset.key)
    numbered = current.select(key).append_column("row", pa.array(range(len(current)), pa.int64()))
    lacking = numbered.join(received.select(key), key, join_type="left anti")["row"]
    confirmed = len(current) - len(lacking)
    if len(lacking) > max(MOST, confirmed) and not context.params.force:
        raise TruncatedResponse(
            f"the response lacks {len(lacking)} of {len(current)} stored rows; if the provider did withdraw them, run with force=true",
            provider=context.source,
            request=str(request),
        )
    found = current.take(lacking.combine_chunks().sort())
    values = {dataset.withdrawn: pa.repeat(True, len(found)), "ingest_ts": pa.repeat(arrived, len(found))}
    columns = [values[field.name].cast(field.type) if field.name in values else found[field.name] for field in dataset.schema]
    return pa.table(columns, schema=dataset.schema)


def without_cells(rows: pa.Table, cells: Mapping[str, Collection[date]]) -> pa.Table:
    """Return ``rows`` without those of ``cells`` (symbol -> sessions)."""
    import pyarrow as pa

    if not cells:
        return rows
    pairs = zip(rows["symbol"].to_pylist(), rows["session"].to_pylist(), strict=True)
    return rows.filter(pa.array([session not in cells.get(symbol, ()) for symbol, session in pairs], pa.bool_()))


def describe(rows: pa.Table, key: Sequence[str]) -> tuple[str, ...]:
    """Return a sentence on the rows that were withdrawn; none if there are none."""
    if not len(rows):
        return ()
    named = [" ".join(f"{value}" for value in row.values()) for row in rows.select(list(key)).to_pylist()]
    return (f"withdrawn by the vendor: {some(named)}",)
