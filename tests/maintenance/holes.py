"""Holes in a healthy world, each with the finding that is expected of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core import calendar
from market_data.core.errors import BrokenObject
from market_data.datasets.bars import OHLCV_1D
from market_data.lake import parquet
from market_data.lake.coverage import SCHEMA
from market_data.maintenance.findings import Cause, Repair
from tests.maintenance.worlds import DAILY_FROM, World

Cell = tuple[str, date]
Expected = dict[Cell | str, tuple[Cause, Repair]]
"""A cell, or the key of an object, and what is found there."""


class Holes:
    """Makes holes at random; no two touch the same cell or object."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.random = world, np.random.default_rng(seed)
        self.expected: Expected = {}
        self.made: Counter[str] = Counter()
        self._used: set[Cell] = set()
        self._statements: list[str] = []
        self._unrecorded: set[Cell] = set()
        self._kinds = [getattr(self, name) for name in dir(self) if name.startswith("hole_")]

    def make(self, count: int, ledger_objects: int = 1) -> None:
        """Make ``count`` holes of all kinds in turn, and ``ledger_objects`` further ones."""
        paths = {session: path for path in self.ledger_paths() if len(found := self.sessions_of(path)) == 1 for session in found}
        broken = self.daily_sessions()[:: max(1, len(self.daily_sessions()) // max(1, ledger_objects))][:ledger_objects]
        for number, session in enumerate(broken):
            self.ledger_object(session, paths[session], deleted=number % 2 == 1)
        while sum(self.made.values()) < count:
            kind = self._kinds[sum(self.made.values()) % len(self._kinds)]
            kind()
            self.made[kind.__name__] += 1
        self._forget_records()
        self.world.change(*self._statements)

    # -- kinds: of the ledger ------------------------------------------------------------------------------------------------------

    def hole_record_of_a_bar(self) -> None:
        cell = self.cell()
        self._unrecorded.add(cell)
        self.expected[cell] = Cause.NOT_RECORDED, Repair.LEDGER

    def hole_record_without_a_bar(self) -> None:
        cell = self.cell(empty=True)
        self._unrecorded.add(cell)
        self.expected[cell] = Cause.MISSING, Repair.LEDGER

    def hole_cell(self) -> None:
        """Record and object are gone; only the receipt knows."""
        cell = self.cell(daily=True)
        self._unrecorded.add(cell)
        self.path(cell).unlink()
        self.expected[cell] = Cause.MISSING, Repair.FETCH

    def ledger_object(self, session: date, path, *, deleted: bool) -> None:
        for symbol, empty in zip(self.world.symbols, self.world.empty[:, self.world.sessions.index(session)], strict=True):
            self._used.add((symbol, session))
            if not deleted:
                self.expected[symbol, session] = Cause.LEDGER_UNREADABLE, Repair.LEDGER
            else:
                self.expected[symbol, session] = Cause.MISSING if empty else Cause.NOT_RECORDED, Repair.LEDGER
        if deleted:
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-20])
            self.expected[str(path.relative_to(self.world.root))] = Cause.LEDGER_UNREADABLE, Repair.LEDGER

    # -- kinds: of the lake --------------------------------------------------------------------------------------------------------

    def hole_day_file(self) -> None:
        cell = self.cell(daily=True)
        self.path(cell).unlink()
        self.expected[cell] = Cause.OBJECT_MISSING, Repair.FETCH

    def hole_year_file(self) -> None:
        cells = self.year()
        self.path(cells[0]).unlink()
        self.expected |= dict.fromkeys(cells, (Cause.OBJECT_MISSING, Repair.FETCH))

    def hole_unreadable_day_file(self) -> None:
        cell = self.cell(daily=True)
        self.corrupt(cell)
        self.expected[cell] = Cause.OBJECT_UNREADABLE, Repair.FETCH

    def hole_unreadable_year_file(self) -> None:
        cells = self.year()
        self.corrupt(cells[0])
        self.expected |= dict.fromkeys(cells, (Cause.OBJECT_UNREADABLE, Repair.FETCH))

    def hole_altered_day_file(self) -> None:
        cell = self.cell(daily=True)
        self.rewrite(cell, lambda rows: self.altered(rows, [cell[1]]))
        self.expected[cell] = Cause.OBJECT_CHANGED, Repair.FETCH

    def hole_altered_rows_of_a_year_file(self) -> None:
        cells = self.some_of_a_year()
        self.rewrite(cells[0], lambda rows: self.altered(rows, [session for _, session in cells]))
        self.expected |= dict.fromkeys(cells, (Cause.OBJECT_CHANGED, Repair.FETCH))

    def hole_rows_of_a_year_file(self) -> None:
        cells = self.some_of_a_year()
        gone = pa.array([session for _, session in cells], pa.date32())
        self.rewrite(cells[0], lambda rows: rows.filter(pc.invert(pc.is_in(rows["session"], gone))))
        self.expected |= dict.fromkeys(cells, (Cause.OBJECT_CHANGED, Repair.FETCH))

    # -- kinds: of silver ----------------------------------------------------------------------------------------------------------

    def hole_silver_row(self) -> None:
        cell = self.cell()
        self._statements.append(f"DELETE FROM silver_prices WHERE {self.where(cell)}")
        self.expected[cell] = Cause.NOT_LOADED, Repair.LOAD

    def hole_silver_value(self) -> None:
        cell = self.cell()
        column = self.random.choice(["open_px", "close_px", "volume", "vwap", "trade_count"])
        change = self.random.choice(["+ 1", "- 1", "* 2", "+ NULL" if column in ("volume", "vwap") else "+ 3"])
        self._statements.append(f"UPDATE silver_prices SET {column} = {column} {change} WHERE {self.where(cell)}")
        self.expected[cell] = Cause.WAREHOUSE_CHANGED, Repair.LOAD

    def hole_row_only_in_silver(self) -> None:
        cell, other = self.cell(empty=True), self.cell()
        self._used.discard(other)
        names = "symbol, timeframe, provider, open_px, high_px, low_px, close_px, volume, row_hash, load_id, ingest_ts, loaded_at"
        self._statements.insert(  # before anything happens to the other row
            0,
            f"INSERT INTO silver_prices ({names}, bar_time) SELECT '{cell[0]}', {names.partition(', ')[2]}, TIMESTAMP '{cell[1]}'"
            f" FROM silver_prices WHERE {self.where(other)}",
        )
        self.expected[cell] = Cause.ONLY_IN_WAREHOUSE, Repair.REMOVE

    # -- parts ---------------------------------------------------------------------------------------------------------------------

    def cell(self, *, empty: bool = False, daily: bool = False) -> Cell:
        """Take a cell that no other hole touches. Year files of every second symbol are left to ``year``."""
        first = self.world.sessions.index(self.daily_sessions()[0])
        free = self.world.empty == empty
        free[::2, :first] = False
        if daily:
            free[:, :first] = False
        choice = np.argwhere(free)
        while True:
            row, column = choice[self.random.integers(len(choice))].tolist()
            cell = self.world.symbols[row], self.world.sessions[column]
            if cell not in self._used:
                self._used.add(cell)
                return cell

    def year(self) -> list[Cell]:
        """Take all cells with a bar of a year file; those without are taken too."""
        while True:
            number, year = 2 * int(self.random.integers((len(self.world.symbols) + 1) // 2)), int(self.random.choice([2022, 2023]))
            symbol = self.world.symbols[number]
            cells = [(symbol, session) for session in self.world.sessions if session.year == year and session < DAILY_FROM]
            if not self._used & set(cells):
                self._used |= set(cells)
                return [cell for cell in cells if not self.world.empty[number, self.world.sessions.index(cell[1])]]

    def some_of_a_year(self) -> list[Cell]:
        """Take one to five cells of a year file, and the file."""
        cells = self.year()
        chosen = self.random.choice(len(cells), self.random.integers(1, 6), replace=False)
        return [cells[place] for place in sorted(chosen.tolist())]

    def daily_sessions(self) -> list[date]:
        return [session for session in self.world.sessions if session >= DAILY_FROM]

    def path(self, cell: Cell):
        return self.world.root / self.world.key(*cell)

    def corrupt(self, cell: Cell) -> None:
        body = self.path(cell).read_bytes()
        kinds = (b"", b"x", body[: len(body) // 2], body[:-1], b"<html>503</html>" * 20, bytes(len(body)))
        self.path(cell).write_bytes(kinds[self.random.integers(len(kinds))])

    def rewrite(self, cell: Cell, change) -> None:
        rows = parquet.decode_rows(self.path(cell).read_bytes(), "x", OHLCV_1D)
        self.path(cell).write_bytes(parquet.encode(change(rows)))

    def altered(self, rows: pa.Table, sessions: list[date]) -> pa.Table:
        hit = pc.is_in(rows["session"], pa.array(sessions, pa.date32()))
        name = str(self.random.choice(["open", "close", "volume"]))
        values = pc.if_else(hit, pc.add(rows[name], 0.25), rows[name])
        return rows.set_column(rows.column_names.index(name), OHLCV_1D.schema.field(name), values)

    @staticmethod
    def where(cell: Cell) -> str:
        return f"symbol = '{cell[0]}' AND bar_time = TIMESTAMP '{cell[1]}'"

    def ledger_paths(self):
        return sorted((self.world.root / "manifest").rglob("*.parquet"))

    def sessions_of(self, path) -> set[date]:
        return set(parquet.decode(path.read_bytes(), "x", SCHEMA)["session"].to_pylist())

    def _forget_records(self) -> None:
        """Take the records out of the ledger's objects."""
        for path in self.ledger_paths():
            try:
                rows = parquet.decode(path.read_bytes(), "x", SCHEMA)
            except BrokenObject:
                continue
            cells = zip(rows["symbol"].to_pylist(), rows["session"].to_pylist(), strict=True)
            kept = [cell not in self._unrecorded for cell in cells]
            if not all(kept):
                path.write_bytes(parquet.encode(rows.filter(pa.array(kept))))


def expanded(findings: pa.Table) -> Iterator[tuple[Cell | str, tuple[Cause, Repair]]]:
    """Yield each cell, or the key of each object without one, and what was found."""
    for row in findings.to_pylist():
        what = Cause(row["cause"]), Repair(row["repair"])
        if row["symbol"] is None:
            yield row["key"], what
            continue
        for session in calendar.sessions(row["first_session"], row["last_session"] + timedelta(days=1)):
            yield (row["symbol"], session), what
