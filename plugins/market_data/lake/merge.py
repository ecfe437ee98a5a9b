"""Exact comparison of Arrow tables, and merging them by key."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Mask = npt.NDArray[np.bool_]


def same(left: pa.Table, right: pa.Table, columns: Iterable[str]) -> Mask:
    """Compare two tables row by row; floats exactly, null equals null, NaN equals NaN.

    :return: a mask, True if all ``columns`` of the row are equal.
    """
    result = np.ones(len(left), dtype=bool)
    for name in columns:
        a, b = left[name], right[name]
        equal = pc.fill_null(pc.equal(a, b), fill_value=False)
        if a.null_count and b.null_count:
            equal = pc.or_(equal, pc.and_(pc.is_null(a), pc.is_null(b)))
        if pa.types.is_floating(a.type):
            equal = pc.or_(equal, pc.fill_null(pc.and_(pc.is_nan(a), pc.is_nan(b)), fill_value=False))
        result &= equal.to_numpy()
    return result


def same_as_next(table: pa.Table, columns: Iterable[str]) -> Mask:
    """Compare each row with the next one in ``columns``; the mask is one row shorter than ``table``."""
    return same(table.slice(0, max(0, len(table) - 1)), table.slice(1), columns)


@dataclass(frozen=True, slots=True)
class Merged:
    """Result of ``merge_rows``.

    :param rows: the merged rows by key.
    :param current: those of them with the keys of the new rows.
    :param taken: mask of ``current``: the row is a new one.
    :param restated: mask of ``current``: the row replaced a stored row.
    :param ahead: the latest stamp of a stored row with other values that is after ``until``; None without such a row.
    """

    rows: pa.Table
    current: pa.Table
    taken: Mask
    restated: Mask
    ahead: int | None = None

    @property
    def changed(self) -> bool:
        """Return true if any new row was taken."""
        return bool(self.taken.any())


def merge_rows(
    stored: pa.Table,
    new: pa.Table,
    *,
    key: Sequence[str],
    values: Sequence[str],
    stamp: str,
    optional: Collection[str] = (),
    published: str = "",
    until: int | None = None,
) -> Merged:
    """Merge ``new`` rows, sorted by key, into ``stored`` rows of the same schema.

    A key occurs at most once in each table.
    A new row replaces the stored row of its key, unless the values are equal or the ``stamp`` of the stored row is newer. Its stamp is
    then at least a microsecond after that of the stored row. Stored rows without a counterpart are kept.

    :param published: a column of dates: a new row does not replace a row that was published later.
    :param optional: the ``values`` that a new row may lack: a null does not count as a difference. A row that differs in another
        value replaces the stored row as a whole.
    :param until: the present moment, microseconds since 1970. A stored row with a later stamp came from a clock that is ahead: it does
        not count as newer. None: every later stamp does.
    """
    compared = [*key, *values]
    if stored.select(compared).equals(new.select(compared)):
        none = np.zeros(len(stored), dtype=bool)
        return Merged(stored, stored, none, none)
    both = pa.concat_tables([stored, new])
    order = pc.sort_indices(both, sort_keys=[(name, "ascending") for name in key])
    fresh = order.to_numpy() >= len(stored)
    both = both.take(order)
    met = same_as_next(both, key)  # the sort is stable: a stored row comes right before the new row of its key
    stamps = both[stamp].to_numpy().astype("int64")
    equal = same_as_next(both, [name for name in values if name not in optional])
    for name in optional:
        equal &= same_as_next(both, [name]) | both[name].slice(1).is_null().to_numpy()
    newer, ahead = stamps[:-1] > stamps[1:], None
    if until is not None:
        future = met & ~equal & (stamps[:-1] > until)
        newer &= ~future
        ahead = int(stamps[:-1][future].max()) if future.any() else None
    stays = met & (equal | newer)
    if published:
        dates = both[published].to_numpy()
        stays |= met & (dates[:-1] > dates[1:])
    keep, matching, replaces = np.ones(len(both), dtype=bool), fresh.copy(), np.zeros(len(both), dtype=bool)
    keep[1:] &= ~stays
    keep[:-1] &= stays | ~met
    matching[:-1] |= met
    replaces[1:] = met & ~stays
    late = replaces.copy()
    late[1:] &= stamps[1:] <= stamps[:-1]
    if late.any():
        both = _with_stamps(both, stamp, np.where(late, np.append(0, stamps[:-1]) + 1, stamps))
    chosen = keep & matching
    return Merged(both.filter(pa.array(keep)), both.filter(pa.array(chosen)), (keep & fresh)[chosen], replaces[chosen], ahead)


def completed(
    rows: pa.Table, stored: pa.Table, *, key: Sequence[str], values: Sequence[str], optional: Collection[str]
) -> pa.Table:
    """Return ``rows`` with the ``optional`` values that they lack, from equal ``stored`` rows.

    A stored row is equal if it has all values that the new row has. A key occurs at most once in each table; ``rows`` are sorted by it.
    """
    both = pa.concat_tables([stored, rows])
    order = pc.sort_indices(both, sort_keys=[(name, "ascending") for name in key])
    both, fresh = both.take(order), pa.array(order.to_numpy() >= len(stored))
    like = same_as_next(both, [*key, *(name for name in values if name not in optional)])
    for name in optional:
        like &= same_as_next(both, [name]) | both[name].slice(1).is_null().to_numpy()
    like = np.append(False, like)  # the sort is stable: a stored row comes right before the new row of its key
    found = rows
    for name in optional:
        before = both[name].take(pa.array(np.maximum(0, np.arange(len(both)) - 1)))
        column = pc.if_else(pa.array(like), before, both[name]).filter(fresh)
        found = found.set_column(found.schema.get_field_index(name), found.schema.field(name), column)
    return found


def without_counterpart(stored: pa.Table, rows: pa.Table, key: Sequence[str]) -> Mask:
    """Return a mask of the ``rows`` whose key no ``stored`` row has.

    A key occurs at most once in each table.
    """
    both = pa.concat_tables([stored.select(key), rows.select(key)])
    order = pc.sort_indices(both, sort_keys=[(name, "ascending") for name in key]).to_numpy()
    met = np.zeros(len(both), dtype=bool)
    met[1:] = same_as_next(both.take(order), key)
    found = np.empty(len(both), dtype=bool)
    found[order] = ~met  # the sort is stable: a stored row comes right before the new row of its key
    return found[len(stored) :]


def joined(rows: pa.Table, parts: Sequence[Merged], key: Sequence[str]) -> Merged:
    """Return merges of different keys as one.

    :param rows: the merged rows of all.
    """
    current = pa.concat_tables([part.current for part in parts])
    order = pc.sort_indices(current, sort_keys=[(name, "ascending") for name in key])
    taken, restated = (np.concatenate([getattr(part, name) for part in parts])[order] for name in ("taken", "restated"))
    return Merged(rows, current.take(order), taken, restated)


def _with_stamps(table: pa.Table, stamp: str, microseconds: npt.NDArray[np.int64]) -> pa.Table:
    field = table.schema.field(stamp)
    column = pa.array(microseconds.astype("datetime64[us]")).cast(field.type)
    return table.set_column(table.schema.get_field_index(stamp), field, column)
