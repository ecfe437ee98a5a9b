"""Find the day files that can be folded: of closed months, and without a cell that waits in staging."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa

from market_data.config.run_params import RECHECK_SESSIONS
from market_data.core.calendar import Calendar
from market_data.core.errors import LakeError
from market_data.core.outcome import State
from market_data.core.run import Grain
from market_data.lake import begun, receipts, staging
from market_data.lake.cells import table_of
from market_data.lake.coverage import CELLS, contains
from market_data.lake.layout import ALL_SYMBOLS, ParsedKey, receipts_prefix
from market_data.lake.receipts import CellRun
from market_data.lake.session_files import stored_sessions, stored_years
from market_data.lake.store import Lake
from market_data.pipeline.selection import Selection
from market_data.providers.registry import calendar_of_source

log = logging.getLogger(__name__)

AHEAD = 8
"""Symbols that are listed at a time."""


@dataclass(frozen=True)
class Group:
    """The day files that go into one file.

    :param key: of the year or month file of a symbol, or of a session file.
    :param symbol: ``ALL_SYMBOLS`` for a session file.
    :param days: the keys of the day files, ascending.
    """

    key: str
    symbol: str
    days: list[str]


@dataclass(frozen=True)
class Foldable:
    """The day files of a selection that can be folded.

    :param waiting: the cells that wait in staging, of schema ``coverage.CELLS``.
    :param blocked: why nothing can be folded; empty if something can.
    :param to: the grain of the files that they go into: ``year`` or ``session``.
    """

    lake: Lake
    selection: Selection
    now: datetime
    waiting: pa.Table
    blocked: tuple[str, ...] = ()
    to: Grain = "year"

    @classmethod
    def of(cls, lake: Lake, selection: Selection, now: datetime, to: Grain = "year") -> Foldable:
        """Read what waits in staging. A layout without providers may hold the rows of several sources."""
        sources = [selection.source]
        if not selection.layout.provider_level:
            folders = lake.folders(f"staging/{selection.dataset.name}")
            sources = sorted({*sources, *(folder.rpartition("/provider=")[2] for folder in folders if "/provider=" in folder)})
        cells, blocked = [CELLS.empty_table()], []
        for source in sources:
            runs, unknown = _waiting(lake, selection.dataset.name, source)
            cells.append(table_of(runs))
            blocked += [f"nothing of {source} is folded: its cells are not known: {words}" for words in unknown]
        return cls(lake, selection, now, pa.concat_tables(cells), tuple(blocked), to)

    def groups(self, symbols: Sequence[str], left: list[str]) -> Iterator[Group]:
        """Yield what can be folded, symbol by symbol; add a sentence on everything else to ``left``."""
        if self.blocked:
            return
        calendar_of, dataset = calendar_of_source(self.selection.source), self.selection.dataset
        open_months: Counter[str] = Counter()
        of_sessions: dict[str, list[str]] = defaultdict(list)
        for symbol, keys in zip(symbols, self.lake.each(self._day_files, symbols, concurrency=AHEAD), strict=True):
            if not keys:
                continue
            first_open = self._first_open(calendar_of(symbol))
            closed = [(key, day) for key, day in keys if (day.year, day.month) < first_open]
            open_months.update(f"{day:%Y-%m}" for _, day in keys if (day.year, day.month) >= first_open)
            periods: dict[str, list[str]] = defaultdict(list)
            for (key, day), waits in zip(closed, self._wait(symbol, [day for _, day in closed]), strict=True):
                if waits:
                    left.append(f"{key} is left alone: its cell waits in staging; the feed's next run loads it")
                else:
                    target = self.selection.layout.object_key(dataset, self.selection.source, symbol, day, self.to)
                    (of_sessions if self.to == "session" else periods)[target].append(key)
            for target, days in periods.items():
                yield Group(target, symbol, days)
        for target, days in of_sessions.items():
            yield Group(target, ALL_SYMBOLS, days)
        left += [
            f"{count:,} day files of {month} are left alone: the month is not closed"
            for month, count in sorted(open_months.items())
        ]

    def _day_files(self, symbol: str) -> list[tuple[str, date]]:
        """Return key and session of the symbol's day files in the selection, ascending."""
        selection = self.selection
        folder = selection.layout.symbol_prefix(selection.dataset, selection.source, symbol)
        parsed = ((key, selection.layout.parse(key)) for key, _ in self.lake.list(folder))
        return [(key, found.session) for key, found in parsed if _is_day_file(found, selection) and found and found.session]

    def session_files(self, left: list[str]) -> dict[date, str]:
        """Return session -> key of the selected session files of closed months, ascending.

        Count the others in ``left``.
        """
        selection = self.selection
        place = (self.lake, selection.layout, selection.dataset, selection.source)
        years = [year for year in stored_years(*place) if selection.start.year <= year <= selection.end.year]
        first_open = self._first_open(calendar_of_source(selection.source)(ALL_SYMBOLS))
        found = {day: key for day, key in stored_sessions(*place, years).items() if selection.start <= day <= selection.end}
        closed = {day: key for day, key in found.items() if (day.year, day.month) < first_open}
        if len(closed) < len(found):
            left.append(f"{len(found) - len(closed):,} session files are left alone: their month is not closed")
        return closed

    def wait(self, rows: pa.Table) -> bool:
        """Return True if a cell of ``rows`` waits in staging."""
        return bool(len(self.waiting)) and bool(contains(self.waiting, rows.select(["symbol", "session"])).any())

    def _first_open(self, calendar: Calendar) -> tuple[int, int]:
        """Return the month of the first session that is not final, or that scheduled runs request again."""
        session = calendar.last_completed_session(self.now)
        for _ in range(max(self.selection.dataset.settle_sessions, RECHECK_SESSIONS)):
            session = calendar.previous_session(session)
        session = calendar.next_session(session)
        return session.year, session.month

    def _wait(self, symbol: str, days: Sequence[date]) -> Sequence[bool]:
        if not len(self.waiting) or not days:
            return [False] * len(days)
        cells = pa.table({"symbol": pa.array([symbol] * len(days), pa.string()), "session": pa.array(days, pa.date32())})
        found: list[bool] = contains(self.waiting, cells).tolist()
        return found


def _is_day_file(found: ParsedKey | None, selection: Selection) -> bool:
    if found is None or found.session is None or found.grain != "day" or found.folder != selection.dataset.folder:
        return False
    return selection.start <= found.session <= selection.end


def _waiting(lake: Lake, dataset: str, source: str) -> tuple[list[CellRun], list[str]]:
    """Return the cells that wait in staging or are being written; and what cannot be known."""
    waiting = staging.waiting(lake, dataset, source)
    infos, messages = staging.describe(lake, waiting)
    runs = [run for info in infos.values() for run in info.receipt.cells]
    unknown = []
    for item in waiting if messages else ():
        if item.key not in infos and lake.get(item.key) is not None:
            folder = receipts_prefix(dataset, source, item.run_key, item.spec_hash)
            try:
                runs += receipts.read_one(lake, f"{folder}/{item.request_id}.parquet").receipt.cells
            except LakeError:
                unknown.append(f"staging object {item.key} and its receipt cannot be read")
    marks, broken = begun.marks(lake, dataset, source)
    for info in marks.values():
        for block in info.receipt.request.blocks:
            runs.append(CellRun(block.symbols, State.HAVE, "", block.intervals, calendar_name=block.calendar_name))
    return runs, [*unknown, *broken]
