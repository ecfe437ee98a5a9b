"""alpaca-py and DuckDB's ``COPY ... PARTITION_BY``.

Option ``models``: bars as its objects and their frame; ``raw``: as dictionaries.
"""

from __future__ import annotations

from datetime import datetime

import duckdb
import pandas as pd
from alpaca.data.historical import StockHistoricalDataClient
from alpaca.data.requests import StockBarsRequest
from alpaca.data.timeframe import TimeFrame

from benchmarks.stacks.harness import KEY, Job, run


def work(job: Job) -> None:
    """Fetch each group of symbols, and write a file per symbol from all rows together."""
    client = StockHistoricalDataClient(KEY, KEY, url_override=job.url, raw_data=job.option == "raw")
    frames = []
    for group in job.groups:
        start, end = (datetime.fromisoformat(moment) for moment in (job.start, job.end))
        found = client.get_stock_bars(StockBarsRequest(symbol_or_symbols=group, timeframe=TimeFrame.Minute, start=start, end=end))
        if job.option == "models":
            frames.append(found.df.reset_index())
        else:
            frames += [pd.DataFrame(rows).assign(symbol=symbol) for symbol, rows in found.items()]
    bars = pd.concat(frames, ignore_index=True)  # noqa: F841  DuckDB finds it by its name
    duckdb.sql("SET threads = 1")
    duckdb.sql(f"COPY bars TO '{job.folder}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (symbol), OVERWRITE_OR_IGNORE)")


if __name__ == "__main__":
    run(work)
