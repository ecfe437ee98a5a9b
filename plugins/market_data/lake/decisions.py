"""Decisions of people on values: some pass although they break a rule, others are wrong for good.

A decision holds for the values that it was made on: it names them by fingerprint. A corrected value is judged as any other.

Append-only: one object per decision. The latest decision on a value counts; ``RESET`` forgets those on its cells.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.errors import BrokenObject
from market_data.core.outcome import CONFIRMED_WRONG, RELEASED_BY
from market_data.lake import parquet
from market_data.lake.fingerprint import Hashes
from market_data.lake.layout import decisions_prefix
from market_data.lake.store import Lake

log = logging.getLogger(__name__)

FIELD = "decision"
VALUES = pa.schema(
    [
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("session", pa.date32(), nullable=False),
        pa.field("of", pa.string(), nullable=False),
        pa.field("hash", pa.int64(), nullable=False),
    ]
)
"""Values decided on: ``of`` is ``cell``, for all rows of a cell, or ``row``; ``hash`` is from ``lake.fingerprint``."""

CELL, ROW = "cell", "row"


class Kind(StrEnum):
    """The kinds of decisions."""

    RELEASE = "release"
    CONFIRM = "confirm"
    RESET = "reset"


@dataclass(frozen=True)
class Decision:
    """Who decided what, and why.

    :param at: aware, UTC.
    """

    kind: Kind
    by: str
    reason: str
    at: datetime

    @property
    def words(self) -> str:
        """Return the reason of the cells: it is the same whenever it is made again."""
        return f"{RELEASED_BY if self.kind is Kind.RELEASE else CONFIRMED_WRONG + ' by'} {self.by}: {self.reason}"


def values(cells: pa.Table, of: str, hashes: Hashes) -> pa.Table:
    """Return a table of ``VALUES``.

    :param cells: has ``symbol`` and ``session``.
    """
    columns = [cells["symbol"].cast(pa.string()), cells["session"], pa.repeat(of, len(cells)), pa.array(hashes.view(np.int64))]
    return pa.table(columns, schema=VALUES)


def write(lake: Lake, dataset: str, provider: str, decision: Decision, decided: pa.Table) -> str:
    """Add a decision and return its key. An equal one is there once.

    :param decided: of ``VALUES``.
    """
    rows = parquet.by_key(decided.cast(VALUES), VALUES.names)
    footer = {"kind": decision.kind, "by": decision.by, "reason": decision.reason, "at": decision.at.astimezone(UTC).isoformat()}
    body = parquet.encode(rows, {FIELD: json.dumps(footer, sort_keys=True)})
    name = f"{decision.at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}-{decision.kind}-{hashlib.sha256(body).hexdigest()[:12]}.parquet"
    key = f"{decisions_prefix(dataset, provider)}/{name}"
    lake.put_new(key, body)
    return key


def read(lake: Lake, dataset: str, provider: str) -> Decisions:
    """Return all decisions on a dataset and provider. Objects that cannot be read are logged and left out."""
    keys = [key for key, _ in lake.list(decisions_prefix(dataset, provider))]
    made: list[Decision] = []
    tables = [VALUES.empty_table().append_column("number", pa.array([], pa.int64()))]
    for key, stored in zip(keys, lake.get_many(keys), strict=True):
        try:
            with parquet.readable(key):
                if stored is None:
                    continue
                rows = parquet.decode(stored.body, key, VALUES)
                metadata = pa.parquet.read_metadata(pa.BufferReader(stored.body)).metadata
                found = json.loads(metadata[FIELD.encode()])
                decision = Decision(Kind(found["kind"]), found["by"], found["reason"], datetime.fromisoformat(found["at"]))
        except BrokenObject as error:
            log.warning("decision: %s; it is left out", error)
            continue
        tables.append(rows.append_column("number", pa.repeat(pa.scalar(len(made), pa.int64()), len(rows))))
        made.append(decision)
    return Decisions(tuple(made), pa.concat_tables(tables).combine_chunks())


class Decisions:
    """The decisions that count.

    :param made: in the order in which they were made.
    :param table: of ``VALUES``, and ``number``: the place in ``made``.
    """

    def __init__(self, made: tuple[Decision, ...], table: pa.Table) -> None:
        self.made = made
        kinds = np.array([decision.kind == Kind.RESET for decision in made], dtype=bool)
        numbers = table["number"].to_numpy()
        resets = table.filter(pa.array(kinds[numbers])) if len(table) else table
        if len(resets):
            last = resets.group_by(["symbol", "session"]).aggregate([("number", "max")])
            table = table.join(last, ["symbol", "session"])
            table = table.filter(pc.greater(table["number"], pc.fill_null(table["number_max"], -1))).drop_columns("number_max")
        latest = table.group_by(VALUES.names).aggregate([("number", "max")]).rename_columns([*VALUES.names, "number"])
        self.table: pa.Table = latest.sort_by(
            [(name, "ascending") for name in ("symbol", "session", "of", "hash")]
        ).combine_chunks()

    def __bool__(self) -> bool:
        return len(self.table) > 0

    def find(self, of: str, hashes: Hashes) -> npt.NDArray[np.int64]:
        """Return the place in ``made`` of the decision on each value, or -1."""
        known, numbers = self._known[of]
        places = np.searchsorted(known, hashes)
        found = places < len(known)
        found[found] = known[places[found]] == hashes[found]
        return np.where(found, numbers[np.minimum(places, max(0, len(known) - 1))] if len(known) else -1, -1)

    def are(self, kind: Kind, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return a mask of the places, from ``find``, of decisions of one kind."""
        of_kind = np.array([*(decision.kind == kind for decision in self.made), False], dtype=bool)
        return of_kind[numbers]

    @cached_property
    def cells(self) -> pa.Table:
        """The cells with a decision: ``symbol`` and ``session``, each once."""
        return self.table.group_by(["symbol", "session"]).aggregate([])

    @cached_property
    def released(self) -> pa.Table:
        """The cells of which a value was released: ``symbol`` and ``session``, each once."""
        mask = self.are(Kind.RELEASE, self.table["number"].to_numpy())
        return self.table.filter(pa.array(mask)).group_by(["symbol", "session"]).aggregate([])

    @cached_property
    def _known(self) -> dict[str, tuple[Hashes, npt.NDArray[np.int64]]]:
        found = {}
        for of in (CELL, ROW):
            rows = self.table.filter(pc.equal(self.table["of"], of))
            hashes = rows["hash"].to_numpy().view(np.uint64)
            order = np.argsort(hashes, kind="stable")
            found[of] = (hashes[order], rows["number"].to_numpy()[order])
        return found
