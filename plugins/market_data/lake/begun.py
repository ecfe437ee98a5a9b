"""Marks of requests whose rows are being written to the lake.

``fetch`` writes a mark before the first row of a request that may replace stored rows, and deletes it when the rows are in staging.
A mark whose run has ended was left by a worker that died in between: the lake may hold values that nothing else knows to be new.
"""

from __future__ import annotations

import json

from market_data.core.errors import BrokenObject
from market_data.lake import parquet
from market_data.lake.layout import staging_prefix
from market_data.lake.staging import StagedInfo
from market_data.lake.store import Lake

_END = ".begun.json"


def begin(lake: Lake, dataset: str, provider: str, spec_hash: str, info: StagedInfo) -> str:
    """Write the mark of a request; return its key. A retry finds the mark of the try before it."""
    key = f"{staging_prefix(dataset, provider)}/run={info.run.key}/{spec_hash}/{info.receipt.request.id}{_END}"
    lake.put_new(key, json.dumps(info.to_json(), sort_keys=True).encode())
    return key


def marks(lake: Lake, dataset: str, provider: str) -> tuple[dict[str, StagedInfo], list[str]]:
    """Return key -> request of every mark, by key; and a message for each that cannot be read."""
    keys = [key for key, _ in lake.list(staging_prefix(dataset, provider)) if key.endswith(_END)]
    found: dict[str, StagedInfo] = {}
    broken: list[str] = []
    for key, stored in zip(keys, lake.get_many(keys), strict=True):
        if stored is not None:
            try:
                with parquet.readable(key):
                    found[key] = StagedInfo.from_footer(stored.body.decode())
            except BrokenObject as error:
                broken.append(str(error))
    return found, broken
