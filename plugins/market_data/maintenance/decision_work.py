"""Decide on cells that are held back, block by block: see :mod:`market_data.maintenance.release`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from market_data.core.outcome import EARLIER_VALUE, SOME_QUARANTINED, State
from market_data.core.run import Grain, RunInfo
from market_data.lake.decisions import Decision, Kind
from market_data.maintenance.held_rows import first_and_last, quarantined_rows, storable
from market_data.maintenance.state import run_of
from market_data.pipeline.decided import cell_columns, row_columns
from market_data.pipeline.load import in_chunks, load_id
from market_data.pipeline.selection import Selection
from market_data.providers.registry import calendar_of_source

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.lake.coverage import Coverage, Mask
    from market_data.lake.decisions import Decisions
    from market_data.lake.store import Lake
    from market_data.warehouse.base import Warehouse


@dataclass(frozen=True)
class Released:
    """Cells that were, or would be, decided on.

    :param cells: held cells of the selection; ``states``: how many are refused and how many quarantined.
    :param why: their reasons with the number of cells; ``why_rows``: those of quarantined rows with the number of rows.
    :param rows: rows that pass, or that are confirmed to be wrong.
    :param loaded: rows given to the warehouse, ``changed`` of them new or different there. 0 in a dry run.
    :param impossible: why quarantined rows cannot be released, with their number. Their cells stay quarantined.
    :param gone: quarantined cells whose rows are not in quarantine any more. A release leaves them.
    """

    cells: int
    first: date | None = None
    last: date | None = None
    states: dict[str, int] = field(default_factory=dict)
    why: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    loaded: int = 0
    changed: int = 0
    impossible: dict[str, int] = field(default_factory=dict)
    why_rows: dict[str, int] = field(default_factory=dict)
    gone: int = 0


class DecisionWork:
    """Decides on cells, block by block."""

    def __init__(
        self,
        lake: Lake,
        warehouse: Warehouse,
        selection: Selection,
        decision: Decision,
        only: str | None,
        grain: Grain,
        coverage: Coverage,
        *,
        dry_run: bool,
    ) -> None:
        self.lake, self.warehouse, self.selection = lake, warehouse, selection
        self.decision, self.only, self.grain, self.coverage, self.dry_run = decision, only, grain, coverage, dry_run
        self.run: RunInfo = run_of(str(decision.kind), decision.at)
        self.counts: Counter[str] = Counter()
        self.impossible: Counter[str] = Counter()
        self.why_rows: Counter[str] = Counter()
        self.number = 0
        self.held: list[pa.Table] = []
        self.done: list[pa.Table] = []

    def settled(self) -> pa.Table:
        """Return the cells decided on: ``symbol`` and ``session``."""
        import pyarrow as pa

        tables = [table.select(["symbol", "session"]) for table in self.done]
        return pa.concat_tables(tables) if tables else pa.table({})

    def found(self) -> Released:
        """Return the result so far."""
        import pyarrow as pa

        held = pa.concat_tables(self.held) if self.held else pa.table({})
        if not len(held):
            return Released(0)
        states, why = (Counter(held[name].cast("string").to_pylist()) for name in ("state", "reason"))
        counts = self.counts
        return Released(
            len(held), *first_and_last(held), dict(states), dict(why.most_common()), counts["rows"], counts["loaded"],
            counts["changed"], dict(self.impossible), dict(self.why_rows.most_common()), counts["gone"],
        )  # fmt: skip

    @cached_property
    def _decisions(self) -> Decisions:
        from market_data.lake import decisions

        return decisions.read(self.lake, self.selection.dataset.name, self.selection.source)

    def _undecided(self, rows: pa.Table, kind: Kind | None = None) -> pa.Array:
        """Return a mask of the rows without a decision, or without one of ``kind``."""
        import pyarrow as pa

        from market_data.lake import fingerprint
        from market_data.lake.decisions import ROW

        numbers = self._decisions.find(ROW, fingerprint.row_hashes(rows, row_columns(self.selection.dataset)))
        return pa.array(numbers < 0 if kind is None else ~self._decisions.are(kind, numbers))

    def _without_other(self, rows: pa.Table) -> pa.Table:
        """Return ``rows`` without those of the opposite decision, in cells that have further ones."""
        import pyarrow.compute as pc

        if not len(rows):
            return rows
        open_rows = self._undecided(rows, Kind.CONFIRM if self.decision.kind is Kind.RELEASE else Kind.RELEASE)
        return rows.filter(pc.or_(open_rows, pc.invert(_are_in(rows, rows.filter(open_rows)))))

    def _not_again(self, rows: pa.Table, rest: pa.Table) -> pa.Table:
        """Return ``rows`` without those on which there is an equal decision.

        :param rest: rows because of which the cells stay quarantined.
        """
        import pyarrow.compute as pc

        return rows.filter(pc.or_(self._undecided(rows, self.decision.kind), pc.invert(_are_in(rows, rest)))) if len(rows) else rows

    def block(self, cells: pa.Table) -> None:
        """Decide on some cells; record them last."""
        import pyarrow as pa
        import pyarrow.compute as pc

        states = cells["state"].cast(pa.string())
        refused = cells.filter(pc.equal(states, str(State.REFUSED)))
        quarantined = cells.filter(pc.equal(states, str(State.QUARANTINED)))
        rows, rest = quarantined_rows(self.lake, self.selection, quarantined, self.only)
        rest = rest.filter(self._undecided(rest)) if len(rest) else rest
        rows = self._without_other(rows)
        if self.only is not None:  # cells with a row of that reason
            quarantined = quarantined.filter(_are_in(quarantined, rows))
        self.held += [refused, quarantined]
        self.counts["gone"] += len(quarantined) - int(_mask(quarantined, rows).sum())
        self.why_rows.update(rows["reasons"].to_pylist())
        if self.decision.kind is Kind.RELEASE:
            self._release(refused, quarantined, rows, rest)
        else:
            self._confirm(refused, quarantined, rows, rest)
        self.number += 1

    def _release(self, refused: pa.Table, quarantined: pa.Table, rows: pa.Table, rest: pa.Table) -> None:
        import pyarrow as pa

        from market_data.lake import fingerprint
        from market_data.lake.decisions import CELL, ROW, values
        from market_data.lake.object_writer import Refetch
        from market_data.lake.writer import land

        selection, dataset = self.selection, self.selection.dataset
        passing, left, why = storable(selection, rows)
        self.impossible.update(why)
        rest = pa.concat_tables([rest, left])
        passing = self._not_again(passing, rest)
        if not len(refused) and not len(passing):
            return
        rowless = refused.filter(pa.array(~_mask(refused, self._stored(refused))))
        behind, _ = quarantined_rows(self.lake, selection, rowless, None)
        self.counts["rows"] += len(passing)
        if not self.dry_run and len(passing):
            land(self.lake, selection.layout, dataset, selection.source, passing, self.grain, refetch=Refetch(in_place=True))
        both = pa.concat_tables([refused, quarantined.filter(_are_in(quarantined, passing))])
        stored = self._stored(both)
        if self.dry_run:
            self.counts["rows"] += len(stored.filter(_are_in(stored, refused)))
            return
        self.counts["rows"] += len(stored.filter(_are_in(stored, refused)))
        partly = both.filter(_are_in(both, rest))
        whole = both.filter(pa.array(~_mask(both, rest)))
        sums = fingerprint.cell_hashes(stored, cell_columns(dataset))
        sums = sums.filter(_are_in(sums, whole))
        empty = whole.filter(pa.array(~_mask(whole, stored) & ~_mask(whole, behind)))
        names = row_columns(dataset)
        received = self._not_again(rows.filter(pa.array(~_mask_rows(rows, left, names))), rest)
        decided = [
            values(sums, CELL, fingerprint.finished(sums)),
            values(empty, CELL, fingerprint.of_empty(empty["symbol"].to_pylist(), empty["session"].to_pylist())),
            values(received, ROW, fingerprint.row_hashes(received, names)),
            values(passing, ROW, fingerprint.row_hashes(passing, names)),
        ]
        # Loaded first: rows of a cell that stays quarantined are not loaded again once they are decided on.
        self._load(stored)
        self._write(pa.concat_tables(decided))
        words = self.decision.words
        self.done += [_cells(part, State.RELEASED, words) for part in (sums, empty, partly)]
        self._record(
            _cells(sums, State.RELEASED, words),
            _cells(empty, State.EMPTY, f"{words}; it has no row"),
            _cells(partly, State.QUARANTINED, SOME_QUARANTINED),
            _cells(
                whole.filter(pa.array(~_mask(whole, stored) & _mask(whole, behind))), State.QUARANTINED, "the gate rejected the row"
            ),
        )

    def _confirm(self, refused: pa.Table, quarantined: pa.Table, rows: pa.Table, rest: pa.Table) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        from market_data.lake import fingerprint
        from market_data.lake.decisions import CELL, ROW, values

        dataset = self.selection.dataset
        stored = self._stored(refused)
        rows = self._not_again(rows, rest)
        self.counts["rows"] += len(stored) + len(rows)
        done = quarantined.filter(pa.array(~_mask(quarantined, rest)))
        if self.dry_run or not (len(refused) or len(rows) or len(done)):
            return
        sums = fingerprint.cell_hashes(stored, cell_columns(dataset))
        empty = refused.filter(pa.array(~_mask(refused, stored)))
        decided = [
            values(sums, CELL, fingerprint.finished(sums)),
            values(empty, CELL, fingerprint.of_empty(empty["symbol"].to_pylist(), empty["session"].to_pylist())),
            values(rows, ROW, fingerprint.row_hashes(rows, row_columns(dataset))),
        ]
        self._write(pa.concat_tables(decided))
        words = self.decision.words
        earlier = pc.ends_with(refused["reason"].cast(pa.string()), EARLIER_VALUE)
        reasons = done["reason"].cast(pa.string())
        others = pc.or_(pc.starts_with(reasons, SOME_QUARANTINED), pc.ends_with(reasons, EARLIER_VALUE))
        still = quarantined.filter(_are_in(quarantined, rest))
        partly = still.filter(_are_in(still, rows))
        self.done += [_cells(part, State.EMPTY, words) for part in (refused, done, partly)]
        self._record(
            _cells(refused.filter(pc.invert(earlier)), State.EMPTY, words),
            _cells(refused.filter(earlier), State.EMPTY, f"{words}; {EARLIER_VALUE}"),
            _cells(done.filter(pc.invert(others)), State.EMPTY, words),
            _cells(done.filter(others), State.HAVE, words),
        )

    def _stored(self, cells: pa.Table) -> pa.Table:
        """Return the lake's rows of ``cells``."""
        from market_data.lake.reader import read_rows

        selection = self.selection
        if not len(cells):
            return selection.dataset.schema.empty_table()
        first, last = first_and_last(cells)
        names = cells["symbol"].cast("string").unique().to_pylist()
        found = read_rows(self.lake, selection.layout, selection.dataset, selection.source, names, first, last + timedelta(days=1))
        return found.filter(_are_in(found, cells))

    def _write(self, decided: pa.Table) -> None:
        from market_data.lake import decisions

        if len(decided):
            decisions.write(self.lake, self.selection.dataset.name, self.selection.source, self.decision, decided)

    def _load(self, rows: pa.Table) -> None:
        selection = self.selection
        if selection.dataset.table is None:
            return
        for chunk in in_chunks([rows], self.warehouse.chunk_rows):
            calendar_of = calendar_of_source(selection.source)
            loaded = self.warehouse.load(selection.dataset, chunk, load_id(self.run, chunk), self.run, calendar_of)
            self.counts.update(loaded=loaded.rows_in, changed=loaded.rows_changed)

    def _record(self, *tables: pa.Table) -> None:
        import pyarrow as pa

        from market_data.lake.ledger import write_cells

        cells = pa.concat_tables(tables)
        place = (self.lake, self.selection.dataset.name, self.selection.source)
        batch_id = f"{self.decision.kind}-{self.number}"
        write_cells(*place, self.run, batch_id, self.coverage.changed(cells), recorded_at=self.decision.at)


def _cells(cells: pa.Table, state: State, reason: str) -> pa.Table:
    import pyarrow as pa

    from market_data.lake.coverage import CELLS

    columns = [
        cells["symbol"].cast(pa.string()),
        cells["session"],
        pa.repeat(str(state), len(cells)),
        pa.repeat(reason, len(cells)),
    ]
    return pa.table(columns, schema=CELLS)


def _mask(cells: pa.Table, others: pa.Table) -> Mask:
    """Return a numpy mask of the ``cells`` that occur in ``others``."""
    import numpy as np

    from market_data.lake.coverage import contains

    if not len(cells) or not len(others):
        return np.zeros(len(cells), dtype=bool)
    plain = [table.select(["symbol", "session"]) for table in (others, cells)]
    return contains(*(table.set_column(0, "symbol", table["symbol"].cast("string")).combine_chunks() for table in plain))


def _are_in(cells: pa.Table, others: pa.Table) -> pa.Array:
    import pyarrow as pa

    return pa.array(_mask(cells, others))


def _mask_rows(rows: pa.Table, others: pa.Table, columns: list[str]) -> Mask:
    """Return a numpy mask of the ``rows`` that occur in ``others``."""
    import numpy as np

    from market_data.lake import fingerprint

    return np.isin(fingerprint.row_hashes(rows, columns), fingerprint.row_hashes(others, columns))
