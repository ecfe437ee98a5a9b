"""Receipts: one immutable object per finished request with its evidence, counts and cell states.

A receipt is a Parquet object without market data. It has one row per lake object that holds rows of the request (``OBJECTS``).
Everything else is JSON in the footer, so that a retry reads footers only.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from market_data.core.batch import Batch, Block, Request, calendar_for
from market_data.core.errors import BrokenObject, LakeError
from market_data.core.intervals import Interval, IntervalSet
from market_data.core.outcome import Evidence, State
from market_data.core.run import RunInfo
from market_data.lake import parquet
from market_data.lake.broken import keep_aside
from market_data.lake.layout import receipts_prefix
from market_data.lake.store import Lake

log = logging.getLogger(__name__)

FIELD = "receipt"
TAIL = 64 * 1024
SMALLEST = 12  # bytes of a Parquet object: two magic numbers and the size of its footer
_NAME = re.compile(r"[0-9a-f]{16}\.parquet")

OBJECTS = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("new_rows", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
    ]
)
"""Lake objects of a request: ``rows`` of the request in the object, ``new_rows`` of them first seen by it; ``sha256``: the first 16
hexadecimal digits of the hash of the object's bytes after the request."""

COMPRESSION = {"key": "zstd", "symbol": "snappy", "rows": "snappy", "new_rows": "snappy", "sha256": "zstd"}
PLAIN = ("symbol",)
"""``publish`` reads symbols and counts of thousands of receipts: snappy, and no dictionary of symbols that are each there once, make
that faster. Keys and hashes become smaller by zstd."""


@dataclass(frozen=True, slots=True)
class CellRun:
    """Cells in one state: each of ``symbols`` in every session inside ``intervals``.

    :param with_rows: the lake holds rows of these cells from this request. Always so for ``have``; a ``pending`` or ``quarantined``
        cell may have some of its rows.
    :param calendar_name: as in `Request`.
    """

    symbols: tuple[str, ...]
    state: State
    reason: str
    intervals: IntervalSet
    with_rows: bool = False
    calendar_name: str = ""

    @property
    def sessions(self) -> tuple[date, ...]:
        """The sessions of the cells, ascending."""
        return calendar_for(self.calendar_name, self.symbols).sessions_in(self.intervals)

    @property
    def size(self) -> int:
        """The number of cells."""
        return len(self.symbols) * len(self.sessions)

    def to_json(self) -> dict[str, Any]:
        return {
            "symbols": list(self.symbols),
            "state": self.state,
            "reason": self.reason,
            "intervals": dates_to_json(self.intervals),
            "with_rows": self.with_rows,
            **_named(self.calendar_name),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CellRun:
        intervals = dates_from_json(value["intervals"])
        state, name = State(value["state"]), value.get("calendar", "")
        return cls(tuple(value["symbols"]), state, value["reason"], intervals, value["with_rows"], name)


@dataclass(frozen=True, slots=True)
class RequestReceipt:
    """Result of one request, apart from its rows.

    :param counts: whole numbers by name, e.g. ``rows_quarantined``, ``files_written``; a resumed try adds them up. ``ingest_us`` is the
        ``ingest_ts`` of the request's new rows, in microseconds since 1970.
    :param cells: the state of every cell of the request, apart from those of ``refused`` and some of ``unproved`` symbols. No cell
        occurs twice.
    :param unanswered: dates for which the provider reported that it has nothing, yet or at all. There is nothing to judge.
    :param refused: symbol -> reason, for symbols that the provider rejected; nothing is known of their cells.
    :param warnings: what the provider reported beside the data.
    :param staged: key of the staging object with the request's rows, until they are loaded.
    :param restated: symbol, session (ISO date) and number of stored rows that the request replaced with other values.
    :param replaced: a sentence per unreadable lake object that the request replaced.
    :param unproved: symbol -> reason, for symbols with cells of which nothing is known: they have no rows and are not known to be empty.
    :param renewed: dates of the sessions with rows first seen by the request; None: not known, the receipt is of an earlier version.
    """

    request: Request
    evidence: Evidence
    counts: Mapping[str, int]
    cells: tuple[CellRun, ...] = ()
    unanswered: IntervalSet = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    staged: str = ""
    restated: tuple[tuple[str, str, int], ...] = ()
    replaced: tuple[str, ...] = ()
    unproved: Mapping[str, str] = field(default_factory=dict)
    renewed: IntervalSet | None = None

    def to_json(self) -> dict[str, Any]:
        request = self.request
        return {
            "request": {
                "dataset": request.dataset,
                "endpoint": request.endpoint,
                "symbols": list(request.symbols),
                "intervals": dates_to_json(request.intervals),
                **_named(request.calendar_name),
                **({"parts": [part.to_json() for part in request.parts]} if request.parts else {}),
            },
            "evidence": {one.name: getattr(self.evidence, one.name) for one in fields(self.evidence)},
            "counts": dict(self.counts),
            "cells": [run.to_json() for run in self.cells],
            "unanswered": dates_to_json(self.unanswered),
            "refused": dict(self.refused),
            "warnings": list(self.warnings),
            "staged": self.staged,
            "restated": [list(cell) for cell in self.restated],
            "replaced": list(self.replaced),
            "unproved": dict(self.unproved),
            **({} if self.renewed is None else {"renewed": dates_to_json(self.renewed)}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RequestReceipt:
        request, evidence = value["request"], value["evidence"]
        spec = (request["dataset"], request["endpoint"], tuple(request["symbols"]), dates_from_json(request["intervals"]))
        return cls(
            Request(*spec, request.get("calendar", ""), tuple(map(Block.from_json, request.get("parts", ())))),
            Evidence(**{**evidence, "request_ids": tuple(evidence["request_ids"])}),
            value["counts"],
            tuple(CellRun.from_json(run) for run in value["cells"]),
            dates_from_json(value["unanswered"]),
            value["refused"],
            tuple(value["warnings"]),
            value["staged"],
            tuple((symbol, session, count) for symbol, session, count in value.get("restated", ())),
            tuple(value.get("replaced", ())),
            value.get("unproved", {}),
            dates_from_json(value["renewed"]) if "renewed" in value else None,
        )

    def with_staged(self, key: str) -> RequestReceipt:
        """Return the receipt with the key of its staging object."""
        return replace(self, staged=key)


@dataclass(frozen=True, slots=True)
class StoredReceipt:
    """A receipt and the lake objects that it names (schema ``OBJECTS``)."""

    receipt: RequestReceipt
    objects: pa.Table


def prefix(dataset: str, provider: str, run: RunInfo, batch: Batch) -> str:
    """Return the folder of the receipts of ``batch`` in this attempt of ``run`` (``Receipt.prefix``)."""
    return receipts_prefix(dataset, provider, run.key, batch.spec_hash)


def write(lake: Lake, folder: str, receipt: RequestReceipt, objects: pa.Table) -> bool:
    """Record a finished request. Call this last: its rows and its staging object must exist already.

    :param folder: from ``prefix``.
    :param objects: schema ``OBJECTS``.
    :return: False where a readable receipt of the request exists already; that one is kept.
    """
    key = f"{folder}/{receipt.request.id}.parquet"
    footer = {FIELD: json.dumps(receipt.to_json(), sort_keys=True)}
    body = parquet.encode(objects.cast(OBJECTS), footer, compression=COMPRESSION, plain=PLAIN)

    def revise(stored: bytes | None) -> bytes | None:
        if stored is None:
            return body
        try:
            _decoded(stored, key)
        except BrokenObject as error:
            keep_aside(lake, key, stored, error)
            return body
        return None

    return lake.update(key, revise, new=True) > 0


def finished(lake: Lake, folder: str) -> dict[str, RequestReceipt]:
    """Return the readable receipts of a folder by request id. Reads the objects' footers only.

    A request whose receipt cannot be read counts as unfinished. Its rows are in staging, and the receipt with them.
    """

    def one(item: tuple[str, int]) -> RequestReceipt | None:
        try:
            return from_footer(read_footer(lake, *item, FIELD), item[0])
        except BrokenObject as error:
            log.warning("receipt: %s", error)
            return None

    objects = [item for item in lake.list(folder) if _NAME.fullmatch(PurePosixPath(item[0]).name)]
    found = zip(objects, lake.each(one, objects), strict=True)
    return {PurePosixPath(key).stem: receipt for (key, _), receipt in found if receipt is not None}


def read(lake: Lake, folders: Sequence[str], columns: Sequence[str] = tuple(OBJECTS.names)) -> Iterator[list[StoredReceipt]]:
    """Yield the readable receipts of each folder in the order of their keys; read ahead across folders.

    :param columns: the columns of ``OBJECTS`` to read.
    """
    listed = lake.each(lake.list, folders)
    keys = [[key for key, _ in found if _NAME.fullmatch(PurePosixPath(key).name)] for found in listed]
    bodies = lake.get_many(key for some in keys for key in some)
    for some in keys:
        # All of a folder at once: threads that get objects while this one decodes only compete for the interpreter.
        found = zip(some, list(islice(bodies, len(some))), strict=True)
        yield [receipt for key, stored in found if stored and (receipt := _readable(stored.body, key, columns))]


def read_one(lake: Lake, key: str) -> StoredReceipt:
    """Return the receipt at ``key``.

    :raises LakeError: if it does not exist or cannot be read.
    """
    stored = lake.get(key)
    if stored is None:
        raise LakeError(f"receipt {key} does not exist any more")
    return _decoded(stored.body, key)


def _readable(body: bytes, key: str, columns: Sequence[str]) -> StoredReceipt | None:
    try:
        return _decoded(body, key, columns)
    except BrokenObject as error:
        log.warning("receipt: %s", error)
        return None


def _decoded(body: bytes, key: str, columns: Sequence[str] = tuple(OBJECTS.names)) -> StoredReceipt:
    with parquet.readable(key):
        file = parquet.open_file(pa.BufferReader(body), pre_buffer=False)
        receipt = from_footer(file.metadata.metadata[FIELD.encode()].decode(), key)
        objects = file.read(list(columns), use_threads=False).replace_schema_metadata()
        return StoredReceipt(receipt, objects if len(columns) < len(OBJECTS) else objects.cast(OBJECTS))


def from_footer(text: str, key: str = "") -> RequestReceipt:
    """Return the receipt that a footer holds.

    :raises BrokenObject: if it holds something else.
    """
    from market_data.lake.receipt_json import document  # readers of the lake need no msgspec

    with parquet.readable(key):
        return RequestReceipt.from_json(document(text))


def read_footer(lake: Lake, key: str, size: int, name: str) -> str:
    """Return the metadata field ``name`` of a Parquet object of ``size`` bytes, without reading its rows.

    :raises BrokenObject: if it is not Parquet or lacks the field.
    """
    if size < SMALLEST:
        raise BrokenObject(f"lake object {key} cannot be read: it has {size} bytes")
    tail = lake.get_range(key, max(0, size - TAIL), size)
    footer = int.from_bytes(tail[-8:-4], "little") + 8
    if footer > len(tail) and footer <= size:
        tail = lake.get_range(key, size - footer, size)
    return footer_of(tail, key, name)


def footer_of(tail: bytes, key: str, name: str) -> str:
    """Return the metadata field ``name`` of a Parquet object, given its last bytes.

    :raises BrokenObject: if it is not Parquet or lacks the field.
    """
    with parquet.readable(key):
        return str(pq.read_metadata(pa.BufferReader(tail)).metadata[name.encode()].decode())


def _named(calendar_name: str) -> dict[str, str]:
    return {"calendar": calendar_name} if calendar_name else {}


def dates_to_json(intervals: IntervalSet) -> list[list[str]]:
    """Return intervals as pairs of ISO dates."""
    return [interval.to_json() for interval in intervals]


def dates_from_json(value: list[list[str]]) -> IntervalSet:
    """Return the intervals that ``dates_to_json`` wrote."""
    return tuple(Interval.from_json(item) for item in value)
