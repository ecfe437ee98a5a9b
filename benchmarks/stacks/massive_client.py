"""massive (formerly polygon-api-client) and pandas: a frame and a file per symbol."""

from __future__ import annotations

import pandas as pd
from massive import RESTClient

from benchmarks.stacks.harness import KEY, Job, run


def work(job: Job) -> None:
    """Fetch and write one symbol after another."""
    client = RESTClient(KEY, base=job.url)
    for symbol in job.symbols:
        bars = client.list_aggs(symbol, 1, "minute", job.first, job.last, adjusted=False, limit=50_000)
        frame = pd.DataFrame(bars).assign(symbol=symbol)
        frame["timestamp"] = pd.to_datetime(frame["timestamp"], unit="ms", utc=True)
        frame.to_parquet(job.path(f"{symbol}.parquet"), compression="zstd", index=False)


if __name__ == "__main__":
    run(work)
