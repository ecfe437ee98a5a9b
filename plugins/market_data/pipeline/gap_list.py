"""Lists of gaps in the lake: the exact cells that a run requests (param ``cells``)."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from market_data.core.errors import BrokenObject, ParamError
from market_data.core.messages import shown

if TYPE_CHECKING:
    from market_data.lake.store import Lake

PREFIX = "repairs"
FIELD = "gaps"
_KEY = re.compile(rf"{PREFIX}/[a-z0-9-]+/provider=[^/]+/[0-9a-f]{{16}}\.parquet", re.ASCII)
"""A key as `write_gaps` makes it: a person may type another one, with ``..`` in it."""

GAPS = pa.schema([pa.field("symbol", pa.string(), nullable=False), pa.field("session", pa.date32(), nullable=False)])
"""Cells to request, by symbol and session, none twice."""


@dataclass(frozen=True)
class GapList:
    """Cells of a dataset and source to request.

    :param source: as in the lake, e.g. ``alpaca~iex``.
    :param found: when the gaps were found, UTC. Cells recorded later were repaired since, and are not requested.
    :param cells: schema ``GAPS``.
    """

    dataset: str
    source: str
    found: datetime
    cells: pa.Table


def write_gaps(lake: Lake, gaps: GapList) -> str:
    """Write a list and return its key; equal lists have equal keys.

    ``repairs/{dataset}/provider={source}/{hash}.parquet``.
    """
    from market_data.lake import parquet

    moment = gaps.found.astimezone(UTC).isoformat()
    about = {"dataset": gaps.dataset, "source": gaps.source, "found": moment}
    cells = gaps.cells.select(GAPS.names).cast(GAPS).sort_by([("symbol", "ascending"), ("session", "ascending")])
    body = parquet.encode(cells, {FIELD: json.dumps(about, sort_keys=True)})
    key = f"{PREFIX}/{gaps.dataset}/provider={gaps.source}/{hashlib.sha256(body).hexdigest()[:16]}.parquet"
    lake.put_new(key, body)
    return key


def read_gaps(lake: Lake, key: str, dataset: str, source: str) -> GapList:
    """Return the list at ``key``.

    :raises ParamError: if there is none, or it is for another dataset or source.
    """
    from market_data.lake import parquet

    stored = lake.get(key) if _KEY.fullmatch(key) else None
    if stored is None:
        raise ParamError([f"cells is {shown(key)}; the lake has no such list of gaps: run maintain_coverage, which writes one"])
    try:
        with parquet.readable(key):
            file = parquet.open_file(pa.BufferReader(stored.body))
            about = json.loads(file.metadata.metadata[FIELD.encode()])
            cells = file.read().replace_schema_metadata().cast(GAPS)
            found = GapList(about["dataset"], about["source"], datetime.fromisoformat(about["found"]), cells)
    except BrokenObject as error:
        raise ParamError([f"cells is {shown(key)}; {error}: run maintain_coverage again"]) from None
    if (found.dataset, found.source) != (dataset, source):
        raise ParamError([f"cells is {shown(key)}, for {found.dataset} of {found.source}; this run is for {dataset} of {source}"])
    return found
