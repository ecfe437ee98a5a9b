"""databento's client: one stream of all symbols, ``to_parquet``."""

from __future__ import annotations

import databento

from benchmarks.stacks.harness import KEY, Job, run


def work(job: Job) -> None:
    """Fetch and write each group of symbols."""
    client = databento.Historical(f"db-{KEY}")
    client.timeseries._base_url = f"{job.url}/v0/timeseries"  # noqa: SLF001  ``gateway`` would turn http into https
    for number, group in enumerate(job.groups):
        store = client.timeseries.get_range(dataset="EQUS.MINI", schema="ohlcv-1m", symbols=group, start=job.start, end=job.end)
        store.to_parquet(job.path(f"{number}.parquet"), compression="zstd")


if __name__ == "__main__":
    run(work)
