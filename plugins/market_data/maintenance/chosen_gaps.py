"""Gaps that a person chose: a gap report of exactly these, for a run of ``maintain_coverage``."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from market_data.core.errors import BrokenObject, ParamError
from market_data.core.messages import shown
from market_data.maintenance.audit.result import PREFIX
from market_data.maintenance.findings import FINDINGS

if TYPE_CHECKING:
    from market_data.lake.store import Lake
    from market_data.pipeline.selection import Selection

FIELD = "chosen"


@dataclass(frozen=True)
class Chosen:
    """Gaps of a feed's source, of schema ``FINDINGS``, with when they were found, UTC.

    Cells that are recorded later were repaired since.
    """

    feed: str
    source: str
    found: datetime
    findings: pa.Table


def write_chosen(lake: Lake, feed: str, selection: Selection, findings: pa.Table, found: datetime) -> str:
    """Write a report and return its key; equal ones have equal keys.

    ``audits/{dataset}/provider={source}/chosen/{hash}.parquet``.
    """
    from market_data.lake import parquet

    about = {"feed": feed, "source": selection.source, "found": found.astimezone(UTC).isoformat()}
    body = parquet.encode(findings.cast(FINDINGS), {FIELD: json.dumps(about, sort_keys=True)})
    name = hashlib.sha256(body).hexdigest()[:16]
    key = f"{PREFIX}/{selection.dataset.name}/provider={selection.source}/{FIELD}/{name}.parquet"
    lake.put_new(key, body)
    return key


def read_chosen(lake: Lake, key: str) -> Chosen:
    """Return the report at ``key``.

    :raises ParamError: if there is none.
    """
    import pyarrow.parquet as pq

    from market_data.lake import parquet

    stored = lake.get(key) if key.startswith(f"{PREFIX}/") and f"/{FIELD}/" in key and ".." not in key else None
    if stored is None:
        raise ParamError([f"report is {shown(key, 200)}; the lake has no such list of gaps: choose them on page Coverage"])
    try:
        with parquet.readable(key):
            about = json.loads(pq.read_metadata(pa.BufferReader(stored.body)).metadata[FIELD.encode()])
            findings = parquet.decode(stored.body, key, FINDINGS)
            return Chosen(about["feed"], about["source"], datetime.fromisoformat(about["found"]), findings)
    except BrokenObject as error:
        raise ParamError([f"report is {shown(key, 200)}; {error}: choose the gaps again"]) from None
