"""The results of a run: cell states, evidence of a response, receipt of a batch, partition's verdict.

``to_json`` and ``from_json`` convert to and from the content of an XCom: plain dicts, small, without secrets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """The known state of a cell.

    A cell without any state is missing, and planned. Scheduled runs also plan recent cells that are not final.
    """

    HAVE = "have"  # in the lake, and in the warehouse if the dataset is loaded
    EMPTY = "empty"  # the provider has no rows; the reason says why
    QUARANTINED = "quarantined"  # the gate rejected rows of it
    REFUSED = "refused"  # the checkpoint refused its session or symbol-year: in the lake, not in the warehouse
    PENDING = "pending"  # not available yet, or recent enough that rows may still follow; scheduled runs request it again
    RELEASED = "released"  # was refused or quarantined, and a person let it pass: in the lake and in the warehouse


FINAL = frozenset({State.HAVE, State.EMPTY, State.RELEASED})
"""States of a cell that needs no further request, unless it is a suspected gap. A cell in any other state is open."""

SUSPECTED_GAP = "suspected gap"
"""How the reason of an ``empty`` cell begins whose symbol trades nearly every session, before it and after it."""

SOME_QUARANTINED = "the gate turned some of its rows away"
"""Reason of a ``quarantined`` cell that has other rows in the lake."""

EARLIER_VALUE = "an earlier value is stored"
"""How the reason of a ``quarantined`` or ``refused`` cell ends that was ``have`` before: its loaded value is kept."""

NOTHING_YET = "nothing yet"
"""How the reason of a ``pending`` cell begins for which a whole response held no rows so far."""

CONFIRMED_WRONG = "confirmed wrong"
"""How the reason of a final cell begins whose rows a person confirmed to be wrong: ``empty``, or ``have`` where other rows are loaded."""

RELEASED_BY = "released by"
"""How the reason begins of a cell that a person let pass: ``released``, or ``empty`` where it has no row."""

MAY_BE_MORE = "there may be more"
"""How the reason of a ``pending`` cell begins that has rows in the lake already."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a response is considered complete.

    :param calls: HTTP calls made, retries included.
    :param retries: repeated calls among them.
    :param pages: pages of the response.
    :param bytes: body bytes, decompressed.
    :param rows_received: rows in all pages, before any were ignored.
    :param rows_declared: number of rows that the provider reported; None where it reports none.
    :param last_page_seen: the provider reported that no page follows.
    :param request_ids: the provider's ids, for a support ticket.
    :param source: the origin of the values, where the provider reports it.
    :param rows_left_aside: rows of symbols or dates that were not requested, where such rows are not regular.
    """

    calls: int
    retries: int
    pages: int
    bytes: int
    rows_received: int
    rows_declared: int | None
    last_page_seen: bool
    request_ids: tuple[str, ...] = ()
    source: str | None = None
    rows_left_aside: int = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """The result of a batch; the XCom of a fetch task.

    The receipt objects in the lake hold the details row by row.

    :param batch_id: the plan's id of the batch.
    :param prefix: the lake folder that holds its receipt objects. Clearing one map index leaves the other batches' receipts where
        an earlier attempt put them, so each receipt says where its own are.
    :param cells: how many cells of the batch ended in each state.
    :param failed: symbol -> reason, for symbols with cells that ended without a state.
    :param failed_sessions: ISO date -> reason, for sessions of a market-wide endpoint that ended without a state.
    :param warnings: messages that the provider sent with the data.
    """

    batch_id: str
    prefix: str = ""
    calls: int = 0
    retries: int = 0
    bytes: int = 0
    rows_received: int = 0
    rows_landed: int = 0
    rows_quarantined: int = 0
    rows_left_aside: int = 0
    files_written: int = 0
    files_unchanged: int = 0
    requests_resumed: int = 0
    seconds: float = 0.0
    cells: Mapping[str, int] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    failed_sessions: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        lists = {name: list(getattr(self, name)) for name in ("sources", "warnings")}
        maps = {name: dict(getattr(self, name)) for name in ("cells", "failed", "failed_sessions")}
        return {**asdict(self), **maps, **lists}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Receipt:
        return cls(**{**value, **{name: tuple(value.get(name, ())) for name in ("sources", "warnings")}})


@dataclass(frozen=True, slots=True)
class Verdict:
    """The checkpoint's decision on one partition.

    :param partition: a session's ISO date, or a symbol and a year: see ``quality.verdicts``.
    :param passed: it may be loaded.
    :param reasons: the rules it broke, with the observed values; warnings too, if it passed.
    """

    partition: str
    passed: bool
    reasons: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"partition": self.partition, "passed": self.passed, "reasons": list(self.reasons)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Verdict:
        return cls(value["partition"], value["passed"], tuple(value["reasons"]))
