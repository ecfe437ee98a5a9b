"""Apply the decisions of people to the rows of a run.

Released values are neither judged again nor refused. Values that are confirmed to be wrong are neither judged nor loaded. Both hold as long
as the values are the ones decided on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from market_data.core.errors import LakeError
from market_data.core.outcome import CONFIRMED_WRONG, RELEASED_BY

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from market_data.datasets.base import Dataset
    from market_data.lake.coverage import Coverage
    from market_data.lake.decisions import Decisions
    from market_data.lake.store import Lake

Planned = Mapping[date, frozenset[str]]
"""Session -> the symbols to expect."""


def cell_columns(dataset: Dataset) -> list[str]:
    """Return the columns that the fingerprint of a stored cell is over."""
    return list(dict.fromkeys(("symbol", "session", *dataset.key, *dataset.values)))


def row_columns(dataset: Dataset) -> list[str]:
    """Return the columns that the fingerprint of a received row is over; a stored row has them too."""
    return dataset.received.names


@dataclass(frozen=True)
class Decided:
    """The cells of a run with exactly the values that a person decided on.

    :param cells: ``symbol``, ``session``, ``kind`` (of ``decisions.Kind``), ``reason``, and ``rows``: if the cell has any.
    :param bars: for bars: those of the released cells, see ``session_bars.BARS``.
    """

    cells: pa.Table
    bars: pa.Table

    def open(self, planned: Planned) -> dict[date, frozenset[str]]:
        """Return ``planned`` without the cells; sessions without further symbols are left out."""
        gone: dict[date, set[str]] = {}
        for symbol, session in zip(self.cells["symbol"].to_pylist(), self.cells["session"].to_pylist(), strict=True):
            gone.setdefault(session, set()).add(symbol)
        left = {session: symbols - gone[session] if session in gone else symbols for session, symbols in planned.items()}
        return {session: symbols for session, symbols in left.items() if symbols}

    def without(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Yield the tables without the rows of the cells."""
        return without(tables, self.cells)


def without(tables: Iterable[pa.Table], cells: pa.Table) -> Iterator[pa.Table]:
    """Yield the tables without the rows of ``cells``."""
    import pyarrow as pa

    from market_data.lake.coverage import contains

    for table in tables:
        known = table["session"].null_count == 0 and table["symbol"].null_count == 0
        yield table.filter(pa.array(~contains(cells, table))) if known and len(table) and len(cells) else table


def find_decided(
    dataset: Dataset, decisions: Decisions, planned: Planned, rows: Callable[[], Iterable[pa.Table]]
) -> Decided | None:
    """Return the cells that hold exactly what a person decided on; None if there are none.

    :param rows: returns the rows of the planned cells. It is called only if one of them has a decision.
    """
    import pyarrow as pa

    from market_data.lake import fingerprint
    from market_data.lake.coverage import contains
    from market_data.lake.decisions import CELL
    from market_data.quality import session_bars

    wanted = _among(decisions.cells, planned)
    if not len(wanted):
        return None
    fold = session_bars.folded if dataset.is_intraday else session_bars.bars
    columns, sums, bars = cell_columns(dataset), [], []
    for table in rows():
        here = table.filter(pa.array(contains(wanted, table))) if len(table) else table
        if len(here):
            sums.append(fingerprint.cell_hashes(here, columns))
            bars += [fold(here)] if dataset.is_bars else []
    found = [_decided(decisions, fingerprint.added(pa.concat_tables(sums)))] if sums else []
    empty = wanted.filter(pa.array(~contains(pa.concat_tables(sums), wanted))) if sums else wanted
    hashes = fingerprint.of_empty(empty["symbol"].to_pylist(), empty["session"].to_pylist())
    found.append(_with_words(decisions, empty, decisions.find(CELL, hashes), with_rows=False))
    cells = pa.concat_tables(found).combine_chunks()
    if not len(cells):
        return None
    return Decided(cells, _bars(bars, fold, cells) if bars else session_bars.BARS.empty_table())


def _bars(parts: list[pa.Table], fold: Callable[[pa.Table], pa.Table], cells: pa.Table) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data.lake.coverage import contains
    from market_data.lake.decisions import Kind
    from market_data.quality.session_bars import BARS

    released = cells.filter(pc.equal(cells["kind"], str(Kind.RELEASE)))
    found = fold(pa.concat_tables(parts)).select(BARS.names)
    return found.filter(pa.array(contains(released, found))) if len(released) else found.slice(0, 0)


def _among(cells: pa.Table, planned: Planned) -> pa.Table:
    """Return the cells that are planned."""
    import pyarrow as pa
    import pyarrow.compute as pc

    near = cells.filter(pc.is_in(cells["session"], pa.array(sorted(planned), pa.date32())))
    pairs = zip(near["symbol"].to_pylist(), near["session"].to_pylist(), strict=True)
    return near.filter(pa.array([symbol in planned[session] for symbol, session in pairs], pa.bool_()))


def _decided(decisions: Decisions, sums: pa.Table) -> pa.Table:
    from market_data.lake import fingerprint
    from market_data.lake.decisions import CELL

    return _with_words(decisions, sums, decisions.find(CELL, fingerprint.finished(sums)), with_rows=True)


def _with_words(decisions: Decisions, cells: pa.Table, numbers: npt.NDArray[np.int64], *, with_rows: bool) -> pa.Table:
    """Return the cells with a decision, with its kind and words."""
    import pyarrow as pa

    cells, numbers = cells.filter(pa.array(numbers >= 0)), numbers[numbers >= 0]
    made = [decisions.made[number] for number in numbers.tolist()]
    columns: dict[str, Any] = {
        "symbol": cells["symbol"].cast(pa.string()),
        "session": cells["session"],
        "kind": pa.array([str(decision.kind) for decision in made], pa.string()),
        "reason": pa.array([decision.words for decision in made], pa.string()),
        "rows": pa.repeat(with_rows, len(cells)),
    }
    return pa.table(columns)


def keep(lake: Lake, key: str, decided: Decided) -> str:
    """Write the decided cells of a run to the lake for its later steps; return ``key``."""
    from market_data.lake import parquet

    body = parquet.encode(decided.cells)
    lake.update(key, lambda stored: None if stored == body else body, new=True)
    return key


def kept(lake: Lake, checked: Mapping[str, Any]) -> pa.Table | None:
    """Return the decided cells that ``check`` kept; None if there are none."""
    from market_data.lake import parquet

    key = checked.get("decided")
    if not key:
        return None
    stored = lake.get(key)
    if stored is None:
        raise LakeError(f"lake object {key} does not exist any more; clear `check` with downstream")
    return parquet.decode(stored.body, key)


def confirmed(cells: pa.Table) -> pa.Table:
    """Return the decided cells that must not be loaded."""
    import pyarrow.compute as pc

    from market_data.lake.decisions import Kind

    return cells.filter(pc.equal(cells["kind"], str(Kind.CONFIRM)))


def with_decided(cells: pa.Table, decided: pa.Table) -> pa.Table:
    """Return ``cells`` (of ``coverage.CELLS``) with the states and reasons of the decisions.

    :param decided: see ``kept``.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data.core.outcome import State
    from market_data.lake.coverage import CELLS, contains
    from market_data.lake.decisions import Kind

    here = decided.filter(pa.array(contains(cells, decided)))
    released = pc.and_(pc.equal(here["kind"], str(Kind.RELEASE)), here["rows"])
    states = pc.if_else(released, str(State.RELEASED), str(State.EMPTY))
    settled = pa.table([here["symbol"], here["session"], states, here["reason"]], schema=CELLS)
    return pa.concat_tables([cells.cast(CELLS).filter(pa.array(~contains(here, cells))), settled])


def without_settled(cells: pa.Table, coverage: Coverage) -> pa.Table:
    """Return ``cells`` without those whose new state is that of a decision that the ledger has already.

    An ``empty`` cell may be recorded as ``have`` there: other rows of it are loaded.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    new = cells["reason"].cast(pa.string())
    by_words = {words: pc.starts_with(new, words) for words in (RELEASED_BY, CONFIRMED_WRONG)}
    if not any(pc.any(decided).as_py() for decided in by_words.values()):
        return cells
    old, settled = coverage.reasons(cells), pa.repeat(False, len(cells))
    for words, decided in by_words.items():
        settled = pc.or_(settled, pc.and_(decided, pc.fill_null(pc.starts_with(old, words), False)))
    return cells.filter(pc.invert(settled))


def exempt_rows(dataset: Dataset, decisions: Decisions) -> Callable[[pa.Table], Any] | None:
    """Return a function that masks the stored rows that were released one by one; None if there are none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data.lake import fingerprint
    from market_data.lake.decisions import ROW, Kind

    if not pc.any(pc.equal(decisions.table["of"], ROW)).as_py():
        return None

    def mask(rows: pa.Table) -> pa.Array:
        numbers = decisions.find(ROW, fingerprint.row_hashes(rows, row_columns(dataset)))
        return pa.array(decisions.are(Kind.RELEASE, numbers))

    return mask
