"""Receipts: one immutable object per finished request, with the rows as they landed.

They are what a later try of the same attempt resumes from, and what check, load and publish read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from market_data.core.batch import Batch, Request
from market_data.core.intervals import Interval, IntervalSet
from market_data.core.outcome import Evidence, State
from market_data.core.run import RunInfo
from market_data.lake import parquet
from market_data.lake.layout import receipts_prefix
from market_data.lake.store import CONCURRENCY, Lake

FIELD = "receipt"
TAIL = 64 * 1024
READ_AHEAD = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class CellRun:
    """Cells of one symbol that ended in one state other than ``have``: the sessions inside ``intervals``."""

    symbol: str
    state: State
    reason: str
    intervals: IntervalSet


@dataclass(frozen=True, slots=True)
class Detail:
    """What became of a request, apart from its rows.

    :param counts: whole numbers by name, e.g. ``rows_quarantined``, ``files_written``: what a resumed try adds up.
    :param absent: the cells that no landed row stands for.
    :param unanswered: the dates that the provider said it has nothing of, yet or at all: there is nothing to judge.
    :param refused: symbol -> why, where the provider did not take a symbol; nothing is known of its cells.
    :param warnings: what the provider said beside the data.
    """

    request: Request
    evidence: Evidence
    counts: Mapping[str, int]
    absent: tuple[CellRun, ...] = ()
    unanswered: IntervalSet = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        request, absent = self.request, [asdict(run) | {"intervals": _dates(run.intervals)} for run in self.absent]
        return {
            "request": {
                "dataset": request.dataset,
                "endpoint": request.endpoint,
                "symbols": list(request.symbols),
                "intervals": _dates(request.intervals),
            },
            "evidence": asdict(self.evidence),
            "counts": dict(self.counts),
            "absent": absent,
            "unanswered": _dates(self.unanswered),
            "refused": dict(self.refused),
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Detail:
        request, evidence = value["request"], value["evidence"]
        return cls(
            Request(request["dataset"], request["endpoint"], tuple(request["symbols"]), _intervals(request["intervals"])),
            Evidence(**{**evidence, "request_ids": tuple(evidence["request_ids"])}),
            value["counts"],
            tuple(CellRun(r["symbol"], State(r["state"]), r["reason"], _intervals(r["intervals"])) for r in value["absent"]),
            _intervals(value["unanswered"]),
            value["refused"],
            tuple(value["warnings"]),
        )


@dataclass(frozen=True, slots=True)
class StoredReceipt:
    """A receipt as it was read; ``rows``: of the dataset's schema, by key."""

    detail: Detail
    rows: pa.Table


def prefix(dataset: str, provider: str, run: RunInfo, batch: Batch) -> str:
    """The folder of the receipts of ``batch`` in this attempt of ``run``; what ``Receipt.prefix`` carries."""
    return receipts_prefix(dataset, provider, run.key, batch.spec_hash)


def write(lake: Lake, folder: str, detail: Detail, rows: pa.Table | parquet.Encoder) -> bool:
    """Records that a request is finished; to be called when its rows and its quarantined rows are in the lake.

    :param folder: from ``prefix``.
    :param rows: ``Landed.rows``, or an encoder that was given them table by table, each by key.
    :return: False where the receipt stands already; it is left as it is.
    """
    encoder = rows
    if isinstance(rows, pa.Table):
        encoder = parquet.Encoder()
        encoder.add(rows)
    body = encoder.finish({FIELD: json.dumps(detail.to_json(), sort_keys=True)})
    return lake.put_new(f"{folder}/{detail.request.id}.parquet", body)


def finished(lake: Lake, folder: str) -> dict[str, Detail]:
    """The requests that have a receipt, by request id. Reads the objects' footers only."""
    objects = lake.list(folder)
    details = lake.each(lambda item: _detail(lake, *item), objects)
    return {PurePosixPath(key).stem: detail for (key, _), detail in zip(objects, details, strict=True)}


def read(lake: Lake, folder: str) -> Iterator[StoredReceipt]:
    """The receipts in the order of their keys, streaming: at most about 64 MiB (or two objects) are read ahead."""
    objects = lake.list(folder)
    ahead = READ_AHEAD // (2 * max((size for _, size in objects), default=1))
    keys = [key for key, _ in objects]
    for key, stored in zip(keys, lake.get_many(keys, concurrency=min(CONCURRENCY, max(1, ahead))), strict=True):
        if stored is not None:
            yield StoredReceipt(_footer(stored.body), parquet.decode(stored.body, key).replace_schema_metadata())


def _detail(lake: Lake, key: str, size: int) -> Detail:
    tail = lake.get_range(key, max(0, size - TAIL), size)
    footer = int.from_bytes(tail[-8:-4], "little") + 8
    return _footer(tail if footer <= len(tail) else lake.get_range(key, size - footer, size))


def _footer(tail: bytes) -> Detail:
    return Detail.from_json(json.loads(pq.read_metadata(pa.BufferReader(tail)).metadata[FIELD.encode()]))


def _dates(intervals: IntervalSet) -> list[list[str]]:
    return [interval.to_json() for interval in intervals]


def _intervals(value: list[list[str]]) -> IntervalSet:
    return tuple(Interval.from_json(item) for item in value)
