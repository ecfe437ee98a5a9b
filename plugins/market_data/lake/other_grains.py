"""Find the rows of the cells that are written, in the files of the other grains."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple, TypeVar

import pyarrow as pa

from market_data.core.errors import BrokenObject
from market_data.core.run import GRAINS, Grain
from market_data.datasets.base import Dataset
from market_data.lake import parquet, session_files
from market_data.lake.layout import Layout, symbol_of_folder
from market_data.lake.store import Lake

log = logging.getLogger(__name__)

AHEAD = 8
"""Parallel reads per writer."""

KEPT = 512
"""Session files whose rows are kept in memory, each below ``session_files.TAIL`` bytes: a year of one symbol needs 252."""

T = TypeVar("T")


class Beside(NamedTuple):
    """Rows of the other grains.

    Those of ``finer`` files count before equally new rows of the written grain, ``coarser`` ones after them.
    """

    finer: pa.Table
    coarser: pa.Table


@dataclass
class OtherGrains:
    """The files of a dataset and a provider that are not of ``grain``.

    It remembers which session files and symbols there are, for one ``land``.
    """

    lake: Lake
    layout: Layout
    dataset: Dataset
    provider: str
    grain: Grain
    _sessions: dict[int, dict[date, str]] = field(default_factory=dict)
    _symbols: frozenset[str] | None = None
    _kept: dict[str, pa.Table] = field(default_factory=dict)

    def rows(self, cells: pa.Table, *, anew: bool = False) -> Beside:
        """Return rows of the sessions and symbols of ``cells``, among others.

        :param cells: rows that share an object of the written grain.
        :param anew: list again what is remembered: an object changed in the meantime.
        """
        if anew:
            self._sessions, self._symbols, self._kept = {}, None, {}
        symbols, sessions = cells["symbol"].unique().to_pylist(), cells["session"].unique().to_pylist()
        # A dataset without periods has the same files with ``year`` and ``day``.
        own: Grain = "day" if self.dataset.files.year_grain == "day" and self.grain == "year" else self.grain
        found = {grain: self._rows_of(grain, symbols, sessions) for grain in GRAINS if grain != own}
        place, empty = GRAINS.index(own), self.dataset.schema.empty_table()
        return Beside(
            pa.concat_tables([empty, *(found[grain] for grain in GRAINS[:place] if grain in found)]),
            pa.concat_tables([empty, *(found[grain] for grain in GRAINS[place:] if grain in found)]),
        )

    def _rows_of(self, grain: Grain, symbols: Sequence[str], sessions: Sequence[date]) -> pa.Table:
        if grain == "session":
            return self._of_sessions(symbols, sessions)
        if grain == "year" and self.dataset.files.year_grain == "day":
            return self.dataset.schema.empty_table()
        return parquet.gather(self._of_symbols(grain, self._existing(symbols), sessions), self.dataset.schema)

    def _of_symbols(self, grain: Grain, symbols: Iterable[str], sessions: Sequence[date]) -> list[pa.Table]:
        layout, dataset, provider = self.layout, self.dataset, self.provider
        keys = [layout.object_key(dataset, provider, symbol, session, grain) for symbol in symbols for session in sessions]
        keys = list(dict.fromkeys(keys))
        if self.grain == "year" and keys:  # most sessions have no day file: they are beside or below the file of their period
            period = layout.object_key(dataset, provider, next(iter(symbols)), sessions[0], "year")
            listed = {key for key, _ in self.lake.list(period.rpartition("/")[0])}
            keys = [key for key in keys if key in listed]
        found = zip(keys, self.lake.get_many(keys, concurrency=AHEAD), strict=True)
        return [self._readable(lambda: parquet.decode_rows(stored.body, key, dataset)) for key, stored in found if stored]  # noqa: B023

    def _existing(self, symbols: Sequence[str]) -> Sequence[str]:
        """Return the ``symbols`` that may have files of their own."""
        if self.grain != "session":
            return symbols
        if self._symbols is None:
            folders = self.lake.folders(self.layout.root(self.dataset, self.provider))
            self._symbols = frozenset(filter(None, map(symbol_of_folder, folders)))
        return [symbol for symbol in symbols if symbol in self._symbols]

    def _of_sessions(self, symbols: Collection[str], sessions: Iterable[date]) -> pa.Table:
        keys = [key for session in sessions if (key := self._session_files(session.year).get(session))]
        found = self.lake.each(lambda key: self._session_rows(key, symbols), keys, concurrency=AHEAD)
        return parquet.gather(found, self.dataset.schema)

    def _session_files(self, year: int) -> dict[date, str]:
        if year not in self._sessions:
            self._sessions[year] = session_files.stored_sessions(self.lake, self.layout, self.dataset, self.provider, [year])
        return self._sessions[year]

    def _session_rows(self, key: str, symbols: Collection[str]) -> pa.Table:
        import pyarrow.compute as pc

        rows = self._kept.get(key)
        if rows is None:
            rows = self._readable(lambda: self._read(key, symbols))
        return rows.filter(pc.is_in(rows["symbol"], pa.array(sorted(symbols), pa.string())))

    def _read(self, key: str, symbols: Collection[str]) -> pa.Table:
        tail = self.lake.get_tail(key, session_files.TAIL)
        if tail is None:
            return self.dataset.schema.empty_table()
        if len(tail.body) < tail.size:
            rows = session_files.read_symbols(self.lake, key, self.dataset, symbols)
            return self.dataset.schema.empty_table() if rows is None else rows
        rows = parquet.decode_rows(tail.body, key, self.dataset)
        if len(self._kept) < KEPT:
            self._kept[key] = rows
        return rows

    def _readable(self, decode: Callable[[], pa.Table]) -> pa.Table:
        """Return the rows of an object; none if it cannot be read, which is logged."""
        try:
            return decode()
        except BrokenObject as error:
            log.warning("%s; it counts as absent", error)
            return self.dataset.schema.empty_table()
