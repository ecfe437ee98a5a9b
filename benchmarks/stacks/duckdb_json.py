"""DuckDB: save pages as they come, then ``read_json`` and ``COPY ... PARTITION_BY``."""

from __future__ import annotations

import duckdb
import requests

from benchmarks.stacks.harness import KEY, Job, run

COPY = """
COPY (
    SELECT split_part(parse_filename(filename), '.', 1) AS symbol, unnest(results, recursive := true)
    FROM read_json('{pages}/*.json.gz', filename = true, format = 'newline_delimited', columns = {{
        results: 'STRUCT(t BIGINT, o DOUBLE, h DOUBLE, l DOUBLE, c DOUBLE, v DOUBLE, n BIGINT, vw DOUBLE)[]'
    }})
) TO '{folder}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (symbol), OVERWRITE_OR_IGNORE)
"""


def work(job: Job) -> None:
    """Save the page of each symbol, then write a file per symbol."""
    session = requests.Session()
    session.headers.update({"Authorization": f"Bearer {KEY}", "Accept-Encoding": "gzip"})
    for symbol in job.symbols:
        path = f"{job.url}/v2/aggs/ticker/{symbol}/range/1/minute/{job.first}/{job.last}"
        response = session.get(path, params={"adjusted": "false", "limit": "50000"}, stream=True)
        response.raise_for_status()
        job.path("pages", f"{symbol}.json.gz").write_bytes(response.raw.read())  # as sent, compressed
    duckdb.sql("SET threads = 1")
    duckdb.sql(COPY.format(pages=job.path("pages"), folder=job.folder))


if __name__ == "__main__":
    run(work)
