"""Staging: rows that are in the lake and not yet in the warehouse, one object per request.

``fetch`` writes a staging object before the receipt; ``publish`` deletes it once the request's cells are recorded. So everything here
still has to be loaded, whichever run wrote it. An object carries all that a later run needs: the receipt, the run and the batch.

Keys end in a hash of the content: an object is never overwritten, so deleting what was loaded cannot delete a newer version.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from tempfile import TemporaryFile
from typing import Any

import pyarrow as pa

from market_data.core.errors import BrokenObject, LakeError
from market_data.core.run import Grain, RunInfo
from market_data.lake import parquet
from market_data.lake.layout import staging_prefix
from market_data.lake.receipts import RequestReceipt, read_footer
from market_data.lake.store import CONCURRENCY, Lake

log = logging.getLogger(__name__)

FIELD = "staged"
READ_AHEAD = 16 * 1024 * 1024
_NAME = re.compile(r"run=(?P<run>[^/]+)/(?P<spec>[0-9a-f]{16})/(?P<request>[0-9a-f]{16})-(?P<hash>[0-9a-f]{16})\.parquet")


@dataclass(frozen=True, slots=True)
class StagedKey:
    """A staging key and its parts.

    :param run_key: ``RunInfo.key`` of the attempt that wrote it.
    :param spec_hash: ``Batch.spec_hash``.
    """

    key: str
    size: int
    run_key: str
    spec_hash: str
    request_id: str


@dataclass(frozen=True, slots=True)
class StagedInfo:
    """Everything that a staging object says of itself, apart from its rows."""

    run: RunInfo
    batch_id: str
    file_grain: Grain
    receipt: RequestReceipt

    def to_json(self) -> dict[str, Any]:
        run = {name: getattr(self.run, name) for name in ("dag_id", "run_id", "run_type", "clear_number")}
        run["started"] = self.run.started.isoformat()
        return {"run": run, "batch_id": self.batch_id, "file_grain": self.file_grain, "receipt": self.receipt.to_json()}

    @classmethod
    def from_footer(cls, text: str) -> StagedInfo:
        value = json.loads(text)
        run = RunInfo(**{**value["run"], "started": datetime.fromisoformat(value["run"]["started"])})
        return cls(run, value["batch_id"], value["file_grain"], RequestReceipt.from_json(value["receipt"]))

    @property
    def staged_us(self) -> int:
        """When the request's response arrived: microseconds since 1970, UTC."""
        return self.receipt.counts["ingest_us"]


class Rows:
    """The rows of a request, encoded for staging; a context manager.

    A lake object that holds just these rows is not encoded a second time: it gets another footer. The rows of several wait on disk:
    minutes of many symbols have tens of megabytes.
    """

    def __init__(self) -> None:
        self._resources = ExitStack()
        self._encoder: parquet.Encoder | None = None
        self._first: tuple[pa.Table, bytes | None] | None = None

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def add(self, rows: pa.Table, body: bytes | None = None) -> None:
        """Append ``rows``, which are sorted by key; they may be empty.

        :param body: the lake object that holds these rows and no others, if there is one.
        """
        if self._encoder is None and self._first is None:
            self._first = rows, body
            return
        self._encoded().add(rows)

    def finish(self, metadata: Mapping[str, str]) -> bytes:
        """Return the whole object. No rows can be added afterwards.

        :raises ValueError: if no rows were added.
        """
        if self._first and (body := self._first[1]):
            return parquet.with_metadata(body, metadata)
        return self._encoded().finish(metadata)

    def _encoded(self) -> parquet.Encoder:
        """Return the encoder of all rows so far."""
        if self._encoder is None:
            spool = self._resources.enter_context(TemporaryFile())  # noqa: SIM115 - closed on exit
            self._encoder = parquet.Encoder(spool, compression="snappy")  # read once, and soon
        if self._first:
            self._encoder.add(self._first[0])
            self._first = None
        return self._encoder


def write(lake: Lake, dataset: str, provider: str, spec_hash: str, info: StagedInfo, rows: Rows) -> str:
    """Write the rows of a request as they are now in the lake.

    :return: the key.
    """
    body = rows.finish({FIELD: json.dumps(info.to_json(), sort_keys=True)})
    name = f"{info.receipt.request.id}-{hashlib.sha256(body).hexdigest()[:16]}.parquet"
    key = f"{staging_prefix(dataset, provider)}/run={info.run.key}/{spec_hash}/{name}"
    lake.put_new(key, body)
    return key


def waiting(lake: Lake, dataset: str, provider: str) -> list[StagedKey]:
    """List what waits in staging for a dataset and provider, by key. Objects with other names are ignored."""
    folder = staging_prefix(dataset, provider)
    found = ((key, size, _NAME.fullmatch(key.removeprefix(f"{folder}/"))) for key, size in lake.list(folder))
    return [StagedKey(key, size, m["run"], m["spec"], m["request"]) for key, size, m in found if m]


def describe(lake: Lake, keys: Sequence[StagedKey]) -> tuple[dict[str, StagedInfo], list[str]]:
    """Read the footers of staging objects.

    :return: key -> description; and a message for each object that cannot be read. Objects deleted meanwhile are left out.
    """

    def one(item: StagedKey) -> StagedInfo | str | None:
        try:
            footer = read_footer(lake, item.key, item.size, FIELD)
            with parquet.readable(item.key):
                return StagedInfo.from_footer(footer)
        except BrokenObject as error:
            return f"{item.key}: {error}"
        except LakeError:
            if lake.get(item.key) is None:  # another run has published and deleted it
                return None
            raise

    infos: dict[str, StagedInfo] = {}
    broken: list[str] = []
    for item, found in zip(keys, lake.each(one, keys), strict=True):
        if isinstance(found, str):
            broken.append(found)
        elif found is not None:
            infos[item.key] = found
    return infos, broken


def read_rows(lake: Lake, keys: Sequence[tuple[str, int]], otherwise: Callable[[str], Iterable[pa.Table]]) -> Iterator[pa.Table]:
    """Yield the rows of staging objects in the order of ``keys``; reads about 16 MiB or two objects ahead.

    :param keys: key and size in bytes; size 0 if the object does not exist.
    :param otherwise: returns the rows of a key whose object does not exist or cannot be read.
    """
    largest = max((size for _, size in keys), default=1) or 1
    ahead = min(CONCURRENCY, max(1, READ_AHEAD // (2 * largest)))
    found = lake.each(lambda item: lake.get(item[0]) if item[1] else None, keys, concurrency=ahead)
    for (key, _), stored in zip(keys, found, strict=True):
        rows = None
        if stored is not None:
            try:
                rows = parquet.decode(stored.body, key).replace_schema_metadata()
            except BrokenObject as error:
                log.warning("staging: %s", error)
        if rows is None:
            yield from otherwise(key)
        else:
            yield rows


def delete(lake: Lake, keys: Sequence[str]) -> None:
    """Delete staging objects; those that do not exist are ignored."""
    for _ in lake.each(lake.delete, keys):
        pass
