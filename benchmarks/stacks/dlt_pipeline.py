"""dlt into Parquet files.

Option ``rest_api``: its declared source, rows as dictionaries; ``arrow``: its paging client, tables of Arrow.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import Any

import dlt
import pyarrow as pa
from dlt.sources.helpers.rest_client import RESTClient
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
from dlt.sources.helpers.rest_client.paginators import JSONLinkPaginator
from dlt.sources.rest_api import rest_api_source

from benchmarks.stacks.harness import KEY, Job, run

QUERY = {"adjusted": "false", "limit": 50_000}


def path_of(symbol: str, job: Job) -> str:
    """Return the path of a symbol's bars."""
    return f"v2/aggs/ticker/{symbol}/range/1/minute/{job.first}/{job.last}"


def from_rest_api(job: Job) -> Any:
    """Return the source as dlt's documentation declares one: a resource per symbol, all into one table."""

    def named(symbol: str) -> Any:
        return lambda row: {"symbol": symbol, **row}

    resources = [
        {
            "name": f"bars_{symbol}",
            "table_name": "bars",
            "write_disposition": "append",
            "endpoint": {"path": path_of(symbol, job), "params": QUERY, "data_selector": "results"},
            "processing_steps": [{"map": named(symbol)}],
        }
        for symbol in job.symbols
    ]
    client = {"base_url": job.url, "auth": BearerTokenAuth(KEY), "paginator": JSONLinkPaginator("next_url")}
    return rest_api_source({"client": client, "resources": resources})


@dlt.resource(name="bars", write_disposition="append")
def from_arrow(job: Job) -> Iterator[pa.Table]:
    """Yield a table per page."""
    client = RESTClient(job.url, auth=BearerTokenAuth(KEY), paginator=JSONLinkPaginator("next_url"), data_selector="results")
    for symbol in job.symbols:
        for page in client.paginate(path_of(symbol, job), params=QUERY):
            table = pa.Table.from_pylist(list(page))
            yield table.add_column(0, "symbol", pa.repeat(symbol, len(table)))


def work(job: Job) -> None:
    """Run the pipeline: extract, normalise, load into a folder."""
    os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}
    with tempfile.TemporaryDirectory() as state:
        target = dlt.destinations.filesystem(f"file://{job.folder}")
        pipeline = dlt.pipeline("bench", destination=target, dataset_name="bars", pipelines_dir=state)
        source = from_rest_api(job) if job.option == "rest_api" else from_arrow(job)
        pipeline.run(source, loader_file_format="parquet")


if __name__ == "__main__":
    run(work)
