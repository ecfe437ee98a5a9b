"""Exact comparison of Arrow tables, and merging them by key."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Mask = npt.NDArray[np.bool_]


def same(left: pa.Table, right: pa.Table, columns: Iterable[str]) -> Mask:
    """Row by row, whether all ``columns`` are equal: floats exactly, null equal to null, NaN to NaN."""
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
    """For each row but the last, whether the next one is equal in ``columns``."""
    return same(table.slice(0, max(0, len(table) - 1)), table.slice(1), columns)


def merge(
    standing: pa.Table,
    new: pa.Table,
    *,
    key: Sequence[str],
    values: Sequence[str],
    stamp: str,
    optional: Collection[str] = (),
    published: str = "",
) -> tuple[pa.Table, pa.Table, bool]:
    """``new`` over ``standing``, both of one schema and each without a key twice; ``new`` by key.

    A new row replaces the standing one of its key, unless the values are equal or the standing ``stamp`` is newer; standing rows
    without a counterpart stay.

    :param published: a column of dates: neither does a new row replace one that was published later.
    :param optional: of ``values``, those that a new row may lack: a null in it is no difference, but a row that differs otherwise
        replaces the standing one as it is.
    :return: the merged rows by key; of these, the ones that answer for the keys of ``new``; whether anything changed.
    """
    compared = [*key, *values]
    if standing.select(compared).equals(new.select(compared)):
        return standing, standing, False
    both = pa.concat_tables([standing, new])
    order = pc.sort_indices(both, sort_keys=[(name, "ascending") for name in key])
    fresh = order.to_numpy() >= len(standing)
    both = both.take(order)
    met = same_as_next(both, key)  # the sort is stable: a standing row comes right before the new one of its key
    stamps = both[stamp].to_numpy().astype("int64")
    equal = same_as_next(both, [name for name in values if name not in optional])
    for name in optional:
        equal &= same_as_next(both, [name]) | both[name].slice(1).is_null().to_numpy()
    stays = met & (equal | (stamps[:-1] > stamps[1:]))
    if published:
        dates = both[published].to_numpy()
        stays |= met & (dates[:-1] > dates[1:])
    keep, answers = np.ones(len(both), dtype=bool), fresh.copy()
    keep[1:] &= ~stays
    keep[:-1] &= stays | ~met
    answers[:-1] |= met
    return both.filter(pa.array(keep)), both.filter(pa.array(keep & answers)), bool((keep & fresh).any())
