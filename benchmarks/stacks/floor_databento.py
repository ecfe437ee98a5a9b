"""The floor for a stream in DBN: HTTP, decode, Arrow, Parquet with zstd; no check of anything."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from itertools import pairwise

import databento
import numpy as np
import pyarrow as pa

from benchmarks.stacks.floor import PRICES, SCHEMA, Api, write
from benchmarks.stacks.harness import KEY, Job, run

LOGIN = base64.b64encode(f"db-{KEY}:".encode()).decode()


def tables(job: Job) -> Iterator[tuple[str, pa.Table]]:
    """Yield the bars of each symbol, from one stream per group."""
    api = Api(job.url, {"Authorization": f"Basic {LOGIN}"})
    for group in job.groups:
        form = {"dataset": "EQUS.MINI", "schema": "ohlcv-1m", "symbols": ",".join(group), "start": job.start, "end": job.end}
        form |= {"stype_in": "raw_symbol", "stype_out": "instrument_id", "encoding": "dbn", "compression": "zstd"}
        store = databento.DBNStore.from_bytes(api.call("/v0/timeseries.get_range", form))
        rows = store.to_ndarray()
        rows = rows[np.argsort(rows["instrument_id"], kind="stable")]
        names = {int(pieces[0]["symbol"]): name for name, pieces in store.mappings.items()}
        edges = [0, *(np.flatnonzero(np.diff(rows["instrument_id"])) + 1).tolist(), len(rows)]
        for begin, end in pairwise(edges):
            part = rows[begin:end]
            symbol = names[int(part["instrument_id"][0])]
            yield symbol, columns(symbol, part)


def columns(symbol: str, rows: np.ndarray) -> pa.Table:
    """Return records as columns: prices are integers of 1e-9, times nanoseconds."""
    times = pa.array((rows["ts_event"] // 1000).astype("int64"), SCHEMA.field("bar_time").type)
    prices = [pa.array(rows[name] / 1e9) for name in PRICES]
    unknown = pa.nulls(len(rows), pa.int64()), pa.nulls(len(rows), pa.float64())
    return pa.table([pa.repeat(symbol, len(rows)), times, *prices, pa.array(rows["volume"].astype(float)), *unknown], schema=SCHEMA)


def work(job: Job) -> None:
    """Fetch and write all symbols."""
    for symbol, table in tables(job):
        write(table, job, symbol)


if __name__ == "__main__":
    run(work)
