"""Exact comparison of Arrow tables, and merging them by key."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

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


def merge(
    stored: pa.Table,
    new: pa.Table,
    *,
    key: Sequence[str],
    values: Sequence[str],
    stamp: str,
    optional: Collection[str] = (),
    published: str = "",
) -> tuple[pa.Table, pa.Table, bool]:
    """Merge ``new`` rows, sorted by key, into ``stored`` rows of the same schema.

    A key occurs at most once in each table.
    A new row replaces the stored row of its key, unless the values are equal or the ``stamp`` of the stored row is newer. Stored rows
    without a counterpart are kept.

    :param published: a column of dates: a new row does not replace a row that was published later.
    :param optional: the ``values`` that a new row may lack: a null does not count as a difference. A row that differs in another
        value replaces the stored row as a whole.
    :return: the merged rows by key; those of them with the keys of ``new``; True if anything changed.
    """
    compared = [*key, *values]
    if stored.select(compared).equals(new.select(compared)):
        return stored, stored, False
    both = pa.concat_tables([stored, new])
    order = pc.sort_indices(both, sort_keys=[(name, "ascending") for name in key])
    fresh = order.to_numpy() >= len(stored)
    both = both.take(order)
    met = same_as_next(both, key)  # the sort is stable: a stored row comes right before the new row of its key
    stamps = both[stamp].to_numpy().astype("int64")
    equal = same_as_next(both, [name for name in values if name not in optional])
    for name in optional:
        equal &= same_as_next(both, [name]) | both[name].slice(1).is_null().to_numpy()
    stays = met & (equal | (stamps[:-1] > stamps[1:]))
    if published:
        dates = both[published].to_numpy()
        stays |= met & (dates[:-1] > dates[1:])
    keep, matching = np.ones(len(both), dtype=bool), fresh.copy()
    keep[1:] &= ~stays
    keep[:-1] &= stays | ~met
    matching[:-1] |= met
    return both.filter(pa.array(keep)), both.filter(pa.array(keep & matching)), bool((keep & fresh).any())
