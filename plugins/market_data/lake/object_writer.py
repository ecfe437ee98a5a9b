"""Write rows into one lake object: create it, or read and merge."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, partial
from itertools import count
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.errors import BrokenObject
from market_data.core.run import Grain
from market_data.datasets.base import Dataset
from market_data.lake import merge, parquet, session_files
from market_data.lake.broken import keep_aside
from market_data.lake.clock import check_stamp
from market_data.lake.other_grains import Beside
from market_data.lake.reader import STAMP, newest
from market_data.lake.store import Lake

SMALL = 1024
"""Rows up to which an object is compressed to be written and read quickly: a lake has millions of such objects. A day file of minutes takes
a third less time to write and a quarter less to read, and is a quarter larger. One of a few rows is not larger."""
CELL = pa.schema([pa.field("symbol", pa.string(), nullable=False), pa.field("session", pa.date32(), nullable=False)])


@dataclass(frozen=True, slots=True)
class Refetch:
    """How to write rows whose cells may be in the lake already.

    :param now: the present moment. A stored stamp that is later by more than 5 s is an error; one that is a little later does not count
        as newer. None: the stamps are in the order of the responses.
    :param in_place: write only rows that differ from the newest stored ones, of any grain. Else every row gets into its object,
        but rows that a session file or a missing day file lacks get there only if they differ from those of the other grains.
    :param again: the cells were requested again: their objects are expected to exist.
    :param mend: keep a stored object that cannot be read under ``broken/`` and replace it. Else it is an error.
    """

    now: Callable[[], datetime] | None = None
    in_place: bool = False
    again: bool = True
    mend: bool = True


class _Beside(Protocol):
    def __call__(self, cells: pa.Table, *, anew: bool = False) -> Beside: ...


@dataclass(frozen=True, slots=True)
class How:
    """How to write one object.

    :param now: microseconds since 1970; None: see ``Refetch``.
    :param beside: see ``OtherGrains.rows``.
    :param grain: of the object.
    """

    terms: Refetch
    now: int | None
    beside: _Beside
    grain: Grain


@dataclass(slots=True)
class Put:
    """:param replaced: ``rows`` are not the given ones.
    :param missing: see ``Landed``.
    :param taken: mask of the ``rows`` that are given ones; None: all.
    :param hash: see ``receipts.OBJECTS``.
    :param body: the object, where it is new and holds the given rows only.
    :param restated: see ``Landed``.
    :param broken: what was wrong with the stored object; empty if nothing was.
    """

    rows: pa.Table
    size: int = 0
    replaced: bool = False
    missing: int = 0
    taken: merge.Mask | None = None
    hash: str = ""
    body: bytes | None = None
    restated: pa.Table | None = None
    broken: str = ""

    @property
    def new_rows(self) -> int:
        """Number of ``rows`` that are given ones."""
        return len(self.rows) if self.taken is None else int(self.taken.sum())


def encoded(rows: pa.Table, grain: Grain) -> bytes:
    """Return the object that holds ``rows``.

    A session file has row groups of few symbols.
    """
    row_group = session_files.ROW_GROUP if grain == "session" else parquet.ROW_GROUP
    return parquet.encode(rows, compression="snappy" if len(rows) <= SMALL else "zstd", row_group=row_group)


def put(lake: Lake, dataset: Dataset, key: str, rows: pa.Table, fresh: bytes | None, how: How) -> Put:
    """:param fresh: the encoded ``rows`` if available."""
    outcome, tries = Put(rows), count()

    def revise(body: bytes | None) -> bytes | None:
        outcome.rows, outcome.taken, outcome.missing, outcome.restated, outcome.body = rows, None, 0, None, None
        beside = partial(how.beside, anew=next(tries) > 0)
        stored = None
        if body is not None:
            try:
                stored = parquet.decode_rows(body, key, dataset)
            except BrokenObject as error:
                if not how.terms.mend:
                    raise
                outcome.broken = keep_aside(lake, key, body, error)
        if stored is None and not (how.terms.again and (how.terms.in_place or how.grain != "year")):
            if how.terms.again:
                outcome.rows = _completed(dataset, rows.slice(0, 0), rows, partial(beside, rows))
            revised: bytes | None = fresh or encoded(outcome.rows, how.grain)
            outcome.body = revised if outcome.rows is rows else None
        else:
            revised = _revised(dataset, key, stored, rows, replace(how, beside=beside), outcome)
        outcome.hash = _short_hash(revised or body or b"")
        return revised

    # The object is compared with files of finer grains, which may be folded into it right after it was read.
    confirm = how.terms.again and how.grain != "day"
    outcome.size = lake.update(key, revise, new=not how.terms.again, confirm=confirm)
    outcome.replaced = outcome.rows is not rows
    return outcome


def _revised(dataset: Dataset, key: str, stored: pa.Table | None, rows: pa.Table, how: How, outcome: Put) -> bytes | None:
    """Return the object with ``rows``; None if nothing changes."""
    if stored is None or (how.terms.again and how.terms.in_place):
        file, found = _in_place(dataset, key, rows.slice(0, 0) if stored is None else stored, rows, how)
    elif how.terms.again and how.grain == "session":
        file, found = _row_by_row(dataset, key, stored, rows, how)
    else:
        file, found = _merged(dataset, key, stored, rows, how)
    _describe(dataset, rows, outcome, found)
    return encoded(file, how.grain) if found.changed else None


def _row_by_row(dataset: Dataset, key: str, stored: pa.Table, rows: pa.Table, how: How) -> tuple[pa.Table, merge.Merged]:
    """Merge ``rows`` into a session file.

    Rows that it lacks get there only if they differ from those of the other grains.
    """
    new = pa.array(merge.without_counterpart(stored, rows, dataset.key))
    file, found = _merged(dataset, key, stored, rows.filter(pc.invert(new)), how)
    if not pc.any(new).as_py():
        return file, found
    file, others = _in_place(dataset, key, file, rows.filter(new), how)
    return file, merge.joined(others.rows, [found, others], dataset.key)


def _merged(dataset: Dataset, key: str, stored: pa.Table, rows: pa.Table, how: How) -> tuple[pa.Table, merge.Merged]:
    """Merge ``rows`` into the ``stored`` rows of an object; return its rows."""
    merge_into, optional = partial(merge.merge_rows, key=dataset.key, stamp=STAMP, until=how.now), dataset.optional
    beside = cache(partial(how.beside, rows))
    if how.terms.again:
        rows, optional = _completed(dataset, stored, rows, beside), ()
    found = merge_into(stored, rows, values=dataset.values, optional=optional, published=dataset.published)
    _check_ahead(key, found, how.now)
    merged, current, taken, restated = found.rows, found.current, found.taken, found.restated
    renewed = _superseded(dataset, key, current, rows, beside, how.now) if how.terms.again else rows.slice(0, 0)
    if len(renewed):
        # With the stamp among the values, a row that is only newer counts as different.
        values = [*dataset.values, STAMP]
        merged, again = merge_into(merged, renewed, values=values).rows, merge_into(current, renewed, values=values)
        # ``renewed`` has keys of ``rows`` only, so ``again.rows`` has the rows of ``current`` in the same order.
        new_stamps = pc.not_equal(again.rows[STAMP], current[STAMP]).to_numpy()
        current, taken, restated = again.rows, taken | new_stamps, restated | new_stamps
    return merged, merge.Merged(merged, current, taken, restated)


def _completed(dataset: Dataset, own: pa.Table, rows: pa.Table, beside: Callable[[], Beside]) -> pa.Table:
    """Return ``rows`` with the optional values that they lack, from the newest stored rows.

    Only an equal row gives them: of another bar nothing is known.

    :param own: the stored rows of the object. ``beside``: returns those of the other grains.
    """
    lacking = [name for name in dataset.optional if rows[name].null_count]
    if not lacking:
        return rows
    finer, coarser = beside()
    known = newest(pa.concat_tables([finer, own, coarser]), dataset)
    if all(known[name].null_count == len(known) for name in lacking):  # most providers never have them
        return rows
    return merge.completed(rows, known, key=dataset.key, values=dataset.values, optional=dataset.optional)


def _in_place(dataset: Dataset, key: str, own: pa.Table, rows: pa.Table, how: How) -> tuple[pa.Table, merge.Merged]:
    """Merge ``rows`` that differ from the newest stored ones into an object's ``own`` rows.

    Return the object's rows.
    """
    beside = how.beside(rows)
    known = newest(pa.concat_tables([beside.finer, own, beside.coarser]), dataset) if any(map(len, beside)) else own
    merge_into = partial(merge.merge_rows, key=dataset.key, stamp=STAMP)
    found = merge_into(known, rows, values=dataset.values, optional=dataset.optional, published=dataset.published, until=how.now)
    _check_ahead(key, found, how.now)
    changed = found.current.filter(pa.array(found.taken))
    return merge_into(own, changed, values=[*dataset.values, STAMP]).rows, found


def _describe(dataset: Dataset, rows: pa.Table, outcome: Put, found: merge.Merged) -> None:
    """Set what ``outcome`` says of the rows that are current after a merge."""
    current, taken = found.current, found.taken
    outcome.restated = current.filter(pa.array(found.restated)).select(CELL.names)
    if dataset.published:  # a row that was published later belongs to another session
        here = pc.is_in(current["session"], pc.unique(rows["session"]))
        current, taken = current.filter(here), taken[here.to_numpy()]
    outcome.rows, outcome.taken = current, taken
    outcome.missing = _of_cells(found.rows, rows) - _of_cells(current, rows)


def _check_ahead(key: str, found: merge.Merged, now: int | None) -> None:
    """Check that no replaced row has a stamp in the future.

    :raises ClockError: naming the object.
    """
    if found.ahead is not None and now is not None:
        check_stamp(found.ahead, now, f"lake object {key}")


def _short_hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]


def _of_cells(found: pa.Table, rows: pa.Table) -> int:
    """Count the rows of ``found`` with a session and a symbol of ``rows``.

    The ``rows`` have one symbol or one session.
    """
    here = [pc.is_in(found[name], pc.unique(rows[name])) for name in CELL.names]
    return int(pc.sum(pc.and_(*here), min_count=0).as_py())


def _superseded(
    dataset: Dataset, key: str, current: pa.Table, rows: pa.Table, beside: Callable[[], Beside], now: int | None
) -> pa.Table:
    """Return the ``rows`` whose equal current row is superseded by other values of another grain.

    Their stamps are the newest.
    """
    equal = merge.same(current, rows, dataset.values) & pc.not_equal(current[STAMP], rows[STAMP]).to_numpy()
    kept, rows = current.filter(pa.array(equal)), rows.filter(pa.array(equal))
    if not len(kept):
        return rows
    other = newest(pa.concat_tables(beside()), dataset)
    found = merge.merge_rows(other, kept, key=dataset.key, values=dataset.values, stamp=STAMP)
    differs = ~merge.same(found.current, kept, dataset.values)
    if not differs.any():
        return rows.slice(0, 0)
    again = merge.merge_rows(
        found.current.filter(pa.array(differs)), rows.filter(pa.array(differs)), key=dataset.key, values=dataset.values, stamp=STAMP,
        until=now,
    )  # fmt: skip
    _check_ahead(f"{key} of another grain", again, now)
    return again.current.filter(pa.array(again.taken))
