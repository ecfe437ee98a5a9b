"""Quarantine: rows that the gate rejected, as received, with the reasons."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.errors import BrokenObject
from market_data.core.run import RunInfo
from market_data.lake import merge, parquet
from market_data.lake.broken import keep_aside
from market_data.lake.layout import quarantine_key
from market_data.lake.store import Lake

UTC_MICROS = pa.timestamp("us", tz="UTC")


def write(
    lake: Lake, dataset: str, provider: str, run: RunInfo, batch_id: str, rows: pa.Table, *, received_at: datetime | None = None
) -> int:
    """Quarantine rows in one object per session and batch.

    The rows replace all rows that the batch quarantined before for the same symbols and session.

    :param rows: the received columns, with ``symbol`` and ``session``, and ``reasons`` (string, joined by ``; ``).
    :param received_at: UTC; None: now.
    :return: number of objects written; an object that holds equal rows already is not written again.
    """
    if not len(rows):
        return 0  # nearly always
    compared = rows.column_names
    stamp = pa.scalar(received_at or datetime.now(UTC), UTC_MICROS)
    for name, value in (("batch_id", batch_id), ("run_id", run.run_id), ("received_at", stamp)):
        rows = rows.append_column(name, pa.repeat(value, len(rows)))

    def put(session: date | None) -> bool:
        here = pc.is_in(rows["session"], pa.array([session], pa.date32()))  # null is null here
        key = quarantine_key(dataset, provider, session, batch_id)
        return _put(lake, key, parquet.by_key(rows.filter(here), compared), compared)

    return sum(lake.each(put, pc.unique(rows["session"]).to_pylist()))


def _put(lake: Lake, key: str, rows: pa.Table, compared: list[str]) -> bool:
    def revise(body: bytes | None) -> bytes | None:
        if body is None:
            return parquet.encode(rows)
        try:
            stored = parquet.decode(body, key, rows.schema)
        except BrokenObject as error:
            keep_aside(lake, key, body, error)
            return parquet.encode(rows)
        again = pc.is_in(stored["symbol"], pc.unique(rows["symbol"]))
        before = stored.filter(again)
        if len(before) == len(rows) and merge.same(before, rows, compared).all():
            return None
        return parquet.encode(parquet.by_key(pa.concat_tables([stored.filter(pc.invert(again)), rows]), compared))

    return lake.update(key, revise, new=True) > 0
