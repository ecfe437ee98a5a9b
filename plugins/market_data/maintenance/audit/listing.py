"""List the objects of a dataset and source as columns.

Ten years of day files are more than a million keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.errors import ParamError
from market_data.lake.layout import ALL_SYMBOLS, escape, unescape
from market_data.lake.session_files import stored_years

if TYPE_CHECKING:
    from market_data.lake.store import Lake
    from market_data.pipeline.selection import Selection

Numbers = npt.NDArray[np.int64]
Small = npt.NDArray[np.int8]

DAY, MONTH, YEAR, DOCUMENT = range(4)
"""Periods of objects: a session; a month or a year of sessions; a date that is not a session."""

SMALLEST_SHARE = 64
"""Bytes of a session file that count for one symbol, at least."""

IN_SESSION = 7
"""Kind of a session file. It is listed under ``ALL_SYMBOLS``, and by ``Listing.spread`` as a day file of each symbol."""

_SESSION_NAME = "session-"
_BELOW = (
    r"^(?:type=(?P<kind>[^/]+)/)?(?:symbol=(?P<symbol>[^/]+)/)?year=(?P<year>[0-9]{4})/(?:month=(?P<month>[0-9]{2})/)?"
    r"(?:docdate=(?P<docdate>[0-9-]{10})/)?(?P<name>[^/]+)\.parquet$"
)


@dataclass(frozen=True)
class Listing:
    """Objects as columns of equal length, in the order of symbol, first day and period.

    :param names: the symbols, each once; ``symbols`` has positions in it.
    :param periods: ``DAY``, ``MONTH``, ``YEAR`` or ``DOCUMENT``.
    :param days: the first day of the period, in days since 1970.
    :param kinds: positions in the dataset's kinds of files; 0 without any; ``IN_SESSION``.
    :param foreign: keys below the folder that are not of the layout.
    """

    selection: Selection
    names: tuple[str, ...]
    symbols: Numbers
    periods: Small
    days: Numbers
    kinds: Small
    sizes: Numbers
    foreign: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def positions(self) -> dict[str, int]:
        """Symbol -> its position in ``names``."""
        return {name: position for position, name in enumerate(self.names)}

    @cached_property
    def last_days(self) -> Numbers:
        """The last day of each object's period, in days since 1970."""
        days = self.days.astype("datetime64[D]")
        month_end = (days.astype("datetime64[M]") + np.timedelta64(1, "M")).astype("datetime64[D]") - 1
        year_end = (days.astype("datetime64[Y]") + np.timedelta64(1, "Y")).astype("datetime64[D]") - 1
        found: Numbers = np.choose(np.minimum(self.periods, YEAR), [days, month_end, year_end]).astype(np.int64)
        return np.where(self.periods == DOCUMENT, self.days, found)

    def codes(self, period: int) -> Numbers:
        """Return ``cell_codes`` of the objects of one period, by its first day."""
        chosen = self.periods == period
        return cell_codes(self.symbols[chosen], self.days[chosen])

    def spread(self, symbols: Sequence[str], codes: Numbers) -> Listing:
        """Return the listing with each session file as a day file of its cells.

        A session file without any of ``codes`` stays as it is.

        :param symbols: those of ``codes``, by number; all are in ``names`` of the result.
        """
        files = np.flatnonzero(self.kinds == IN_SESSION)
        if not len(files):
            return self
        days, rows = self.days[files], codes - (((codes + (1 << 31)) >> 32) << 32)
        place = np.minimum(np.searchsorted(days, rows), len(days) - 1)
        held = codes[days[place] == rows]
        own, file = (held + (1 << 31)) >> 32, files[place[days[place] == rows]]
        names = tuple(sorted({*self.names, *symbols}))
        numbers = {name: number for number, name in enumerate(names)}
        to_new = np.array([numbers[name] for name in self.names], dtype=np.int64)
        of_cells = np.array([numbers[name] for name in symbols], dtype=np.int64)
        empty = np.setdiff1d(files, file)
        others = np.flatnonzero(self.kinds != IN_SESSION)
        kept = np.concatenate([others, empty, file])
        number = np.concatenate([to_new[self.symbols[others]], to_new[self.symbols[empty]], of_cells[own]])
        share = np.bincount(file, minlength=len(self))[kept]
        order = np.lexsort((self.kinds[kept], self.periods[kept], self.days[kept], number))
        kept, number, share = kept[order], number[order], share[order]
        sizes = np.where(share > 1, np.maximum(self.sizes[kept] // np.maximum(share, 1), SMALLEST_SHARE), self.sizes[kept])
        columns = (number, self.periods[kept], self.days[kept], self.kinds[kept], sizes)
        return replace(self, names=names, **dict(zip(("symbols", "periods", "days", "kinds", "sizes"), columns, strict=True)))

    def key(self, row: int) -> str:
        """Return the key of an object."""
        chosen, kinds = self.selection, self.selection.dataset.files.kinds
        if self.kinds[row] == IN_SESSION:
            return chosen.layout.session_key(chosen.dataset, chosen.source, day_of(self.days[row]))
        grain = "day" if self.periods[row] in (DAY, DOCUMENT) else "year"
        kind = kinds[self.kinds[row]] if kinds else None
        name = self.names[self.symbols[row]]
        return chosen.layout.object_key(chosen.dataset, chosen.source, name, day_of(self.days[row]), grain, kind)  # type: ignore[arg-type]


def cell_codes(symbols: Numbers, days: Numbers) -> Numbers:
    """Return one number per symbol and day; it sorts by symbol, then by day."""
    return (symbols << 32) + days


def day_of(number: int | np.int64) -> date:
    """Return the date that is ``number`` days after 1970-01-01."""
    found: date = np.datetime64(int(number), "D").astype(date)
    return found


def numbers_of(days: Sequence[date]) -> Numbers:
    """Return dates as days since 1970."""
    return np.array(days, dtype="datetime64[D]").astype(np.int64)


def list_objects(lake: Lake, selection: Selection) -> Listing:
    """List the selected objects. One LIST, or one per symbol of the selection."""
    layout, dataset = selection.layout, selection.dataset
    root = root_of(selection)
    folders = [root]
    if selection.symbols is not None:
        kinds = dataset.files.kinds or (None,)
        folders = [layout.symbol_prefix(dataset, selection.source, symbol, kind) for symbol in selection.symbols for kind in kinds]
        folders += [f"{root}/year={year:04d}" for year in stored_years(lake, layout, dataset, selection.source)]
    escaped: dict[str, int] = {}
    parts: list[Numbers] = [np.empty((5, 0), dtype=np.int64)]
    foreign: list[str] = []
    for folder in folders:
        for some in lake.walk(folder):
            table = pa.table({"key": [key for key, _ in some], "size": pa.array([size for _, size in some], pa.int64())})
            if not layout.provider_level:  # another source's folder lies beside the symbols
                table = table.filter(pc.invert(pc.starts_with(table["key"], f"{root}/provider=")))
            parts.append(parse_keys(table, selection, escaped, foreign))
    symbols, periods, days, kinds_of, sizes = np.concatenate(parts, axis=1)
    parts.clear()  # each is a part of the peak memory
    names = [unescape(name) for name in escaped]
    ranks = np.argsort(np.argsort(np.array(names, dtype=object))) if names else np.empty(0, dtype=np.int64)
    symbols = ranks[symbols] if len(symbols) else symbols
    order = np.lexsort((kinds_of, periods, days, symbols))
    periods, kinds_of = periods.astype(np.int8)[order], kinds_of.astype(np.int8)[order]
    listing = Listing(
        selection, tuple(sorted(names)), symbols[order], periods, days[order], kinds_of, sizes[order], tuple(sorted(foreign))
    )
    return _between(listing, selection)


def root_of(selection: Selection) -> str:
    """Return the folder of a dataset and source, without a closing slash."""
    return selection.layout.root(selection.dataset, selection.source)


def _between(listing: Listing, selection: Selection) -> Listing:
    first, last = numbers_of([selection.start, selection.end])
    inside = (listing.days <= last) & ((listing.last_days >= first) | (listing.periods == DOCUMENT))
    if inside.all():
        return listing
    names = ("symbols", "periods", "days", "kinds", "sizes")
    return replace(listing, **{name: getattr(listing, name)[inside] for name in names})


def parse_keys(table: pa.Table, selection: Selection, escaped: dict[str, int], foreign: list[str]) -> Numbers:
    """Return symbol, period, first day, kind and size of each object of the layout.

    Other keys are added to ``foreign``.

    :param table: ``key`` and ``size``.
    :param escaped: the symbols as the keys have them, by number; gets those that are new.
    """
    keys, root = table["key"].combine_chunks(), root_of(selection) + "/"
    below = pc.if_else(pc.starts_with(keys, root), pc.utf8_slice_codeunits(keys, len(root)), "")
    parts = pc.extract_regex(below, _BELOW)
    texts = {
        name: pc.fill_null(pc.struct_field(parts, name), "") for name in ("kind", "symbol", "year", "month", "docdate", "name")
    }
    symbol, year, month, name = (texts[part] for part in ("symbol", "year", "month", "name"))
    ending = pc.utf8_slice_codeunits(name, -10)
    has_month, has_document = pc.not_equal(month, ""), pc.not_equal(texts["docdate"], "")
    is_document = pc.and_(has_document, pc.equal(name, pc.binary_join_element_wise(symbol, texts["docdate"], "-")))
    is_month = pc.and_(has_month, pc.equal(name, "data"))
    in_month = pc.equal(pc.utf8_slice_codeunits(ending, 0, 7), pc.binary_join_element_wise(year, month, "-"))
    is_day = pc.and_(pc.and_(has_month, in_month), pc.equal(name, pc.binary_join_element_wise(symbol, ending, "-")))
    is_session = pc.and_(pc.and_(has_month, in_month), pc.equal(name, pc.binary_join_element_wise(_SESSION_NAME, ending, "")))
    is_session = pc.and_(pc.and_(is_session, pc.equal(symbol, ALL_SYMBOLS)), selection.dataset.has_session_files)
    is_day = pc.or_(is_day, is_session)
    is_year = pc.and_(pc.invert(pc.or_(has_month, has_document)), pc.equal(name, pc.binary_join_element_wise(symbol, year, "-")))
    first = pc.if_else(
        is_year, pc.binary_join_element_wise(year, "01-01", "-"), pc.binary_join_element_wise(year, month, "01", "-")
    )
    first = pc.if_else(is_document, texts["docdate"], pc.if_else(is_day, ending, first))
    days = pc.strptime(first, format="%Y-%m-%d", unit="s", error_is_null=True)
    kinds = pc.fill_null(pc.index_in(texts["kind"], pa.array(selection.dataset.files.kinds or ("",))), -1).to_numpy()
    periods = np.select([_mask(is_day), _mask(is_month), _mask(is_year), _mask(is_document)], [DAY, MONTH, YEAR, DOCUMENT], -1)
    kinds = np.where(_mask(is_session), IN_SESSION, kinds)
    unique = pc.unique(symbol).to_pylist()
    good = {one for one in unique if one and (one in escaped or _is_escaped(one))}
    symbol_fits = _mask(pc.is_in(symbol, pa.array(sorted(good), pa.string()))) | _mask(is_session)
    fits = (periods >= 0) & (kinds >= 0) & ~_mask(pc.is_null(days)) & symbol_fits
    foreign += keys.filter(pa.array(~fits)).to_pylist()
    chosen = symbol.filter(pa.array(fits)).dictionary_encode()
    codes = np.array([escaped.setdefault(one, len(escaped)) for one in chosen.dictionary.to_pylist()], dtype=np.int64)
    stamps = days.filter(pa.array(fits)).cast(pa.date32()).cast(pa.int32()).to_numpy().astype(np.int64)
    own = codes[chosen.indices.to_numpy()] if len(chosen) else np.empty(0, dtype=np.int64)
    return np.stack([own, periods[fits].astype(np.int64), stamps, kinds[fits].astype(np.int64), table["size"].to_numpy()[fits]])


def _mask(values: pa.Array) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = pc.fill_null(values, False).to_numpy(zero_copy_only=False)
    return found


def _is_escaped(text: str) -> bool:
    try:
        return escape(unescape(text)) == text
    except ParamError:
        return False
