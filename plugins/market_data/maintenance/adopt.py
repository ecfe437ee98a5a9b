"""Adopt a bucket of older tools: record in the coverage ledger what it holds.

From then on, runs extend the bucket and request only what is missing.

A file is adopted as it is where it has our key and our columns. One of another form is rewritten on request: the old object is kept under
``adopted/``, and its rows get a file of ours. Rows that the gate rejects are not rewritten, and their cells are not recorded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from market_data.core.errors import BrokenObject, ParamError
from market_data.maintenance import journal
from market_data.pipeline.selection import EVER, Selection

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.config.feeds import Feed
    from market_data.lake.coverage import Coverage
    from market_data.lake.store import Lake
    from market_data.maintenance.adopted_file import File, Problem
    from market_data.maintenance.old_keys import OldKey

JOB = "adopt"
MOST_PROBLEMS = 10_000
"""Problems that are listed; all are counted."""
CELLS_AT_A_TIME = 250_000
"""Cells of one ledger object, about."""


@dataclass(frozen=True)
class Terms:
    """How a bucket is adopted.

    :param rewrite: give files of another form ours; the old objects are kept under ``adopted/``.
    :param zone: of times without one: ``UTC`` or ``exchange``; empty: as the hours of trading show.
    """

    dry_run: bool = True
    rewrite: bool = False
    zone: str = ""
    by: str = ""
    reason: str = "adopted the bucket of an older tool"

    def __post_init__(self) -> None:
        if self.zone not in ("", "UTC", "exchange"):
            raise ParamError([f"zone is {self.zone!r}; allowed: UTC, exchange"])


@dataclass
class Adopted:
    """Result of an adoption.

    :param files: objects found. ``fitting``: adopted as they are; ``other``: of another form, to rewrite; ``rewritten`` of them;
        ``unfit``: not adopted at all.
    :param cells: cells recorded, or to record in a dry run. ``known``: those that the ledger has a record of already, which stays.
    :param kinds: problem -> number of files; ``problems``: the first ``MOST_PROBLEMS`` of them, per file.
    """

    source: str
    dataset: str
    dry_run: bool
    symbols: int = 0
    files: int = 0
    fitting: int = 0
    other: int = 0
    rewritten: int = 0
    unfit: int = 0
    rows: int = 0
    cells: int = 0
    known: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def add(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self.kinds[problem.problem] = self.kinds.get(problem.problem, 0) + 1
            if len(self.problems) < MOST_PROBLEMS:
                self.problems.append(problem)

    def to_json(self) -> dict[str, Any]:
        counts = {name: value for name, value in vars(self).items() if name != "problems"}
        return {**counts, "problems": [vars_of(problem) for problem in self.problems]}

    def table(self) -> pa.Table:
        """Return the problems, a row each."""
        import pyarrow as pa

        from market_data.maintenance.adopted_file import PROBLEMS

        return pa.Table.from_pylist([vars_of(problem) for problem in self.problems], schema=PROBLEMS)

    def lines(self) -> list[str]:
        """Return the totals in sentences."""
        done = "would be recorded (dry run)" if self.dry_run else "recorded"
        kinds = ", ".join(f"{kind} in {count:,} files" for kind, count in sorted(self.kinds.items())) or "none"
        texts = [
            f"{self.dataset} of {self.source}: {self.files:,} files of {self.symbols:,} symbols, {self.rows:,} rows that fit;"
            f" {self.cells:,} cells {done}, {self.known:,} have a record already",
            f"{self.fitting:,} files fit, {self.other:,} have another form ({self.rewritten:,} rewritten), {self.unfit:,} do not fit",
            f"problems: {kinds}",
        ]
        if self.other > self.rewritten:
            texts.append(
                f"{self.other - self.rewritten:,} files are not adopted without --rewrite. Do not run the feed before: it would set aside"
                " those that have the name of a file of ours"
            )
        if not self.dry_run and self.cells:
            texts.append("The warehouse does not have these rows yet: market-data rebuild-warehouse loads them")
        return texts


def vars_of(problem: Problem) -> dict[str, Any]:
    """Return a problem with JSON values."""
    return {"key": problem.key, "problem": problem.problem, "rows": problem.rows, "detail": problem.detail}


def selection_of(feed: Feed) -> Selection:
    """Return the part of the lake that a feed's bucket is.

    :raises ParamError: if the feed's keys have a provider level, or its dataset is not bars.
    """
    from market_data.config.layouts import layout_of
    from market_data.datasets.registry import dataset

    problems = []
    if feed.provider_level:
        problems.append(f"feed {feed.dag_id} has provider=... in its keys; set provider_level: false in feeds.yaml first")
    if not dataset(feed.dataset).is_bars:
        problems.append(f"feed {feed.dag_id} has {feed.dataset}; only bars can be adopted")
    if problems:
        raise ParamError(problems)
    return Selection(dataset(feed.dataset), feed.provider, layout_of(feed))


def adopt(lake: Lake, selection: Selection, now: datetime, terms: Terms, prefix: str | None = None) -> Adopted:
    """Adopt the files below ``prefix``.

    Idempotent: what is adopted stays as it is, and cells with a record keep it. Killed at any point, the next call goes on.

    :param selection: of one source; with ``symbols``, only these; with dates, only cells of these sessions are recorded.
    :param prefix: folder of the ``symbol=`` folders; None: that of the dataset in the feed's layout.
    :raises LakeError: if the store fails; what was recorded before is true.
    """
    import pyarrow as pa

    from market_data.lake.coverage import CELLS
    from market_data.lake.ledger import read_coverage

    result = Adopted(selection.source, selection.dataset.name, terms.dry_run)
    coverage = read_coverage(lake, selection.dataset.name, selection.source)
    folder = prefix.strip("/") if prefix else f"{selection.layout.raw_prefix}/{selection.dataset.folder}"
    held: list[pa.Table] = []
    first = ""
    for symbol, files in _by_symbol(lake, selection, folder, result):
        first = first or symbol
        result.symbols += 1
        held.append(_adopt_symbol(lake, selection, files, terms, coverage, result))
        if sum(map(len, held)) >= CELLS_AT_A_TIME:
            _record(lake, selection, pa.concat_tables(held), first, coverage, now, dry_run=terms.dry_run)
            held, first = [], ""
    _record(lake, selection, pa.concat_tables([CELLS.empty_table(), *held]), first, coverage, now, dry_run=terms.dry_run)
    result.problems.sort(key=lambda problem: (problem.key, problem.problem))
    if not terms.dry_run and (result.cells or result.rewritten):
        what = {name: value for name, value in result.to_json().items() if name != "problems"}
        entry = journal.Entry(now, JOB, terms.by or JOB, terms.reason, {**what, "prefix": folder})
        journal.write(lake, entry)
        body = json.dumps(result.to_json(), indent=1).encode()
        lake.put_new(f"logs/adopt/date={now.date()}/{selection.source}-{selection.dataset.name}-{now:%H%M%S%f}.json", body)
    return result


def _by_symbol(
    lake: Lake, selection: Selection, folder: str, result: Adopted
) -> Iterator[tuple[str, list[tuple[str, OldKey, datetime]]]]:
    """Yield symbol and (key, parsed key, when it was written) of its files; count and report all others."""
    from market_data.maintenance.adopted_file import Problem
    from market_data.maintenance.old_keys import parse

    groups: dict[str, list[tuple[str, OldKey, datetime]]] = {}
    wanted = set(selection.symbols or ())
    for key, _, written, _ in lake.listed(folder):
        ours = selection.layout.parse(key)
        if ours is not None and ours.grain == "session":
            continue  # no older tool wrote such a file
        parsed = parse(key)
        if isinstance(parsed, str):
            result.files, result.unfit = result.files + 1, result.unfit + 1
            result.add([Problem(key, "other file", None, parsed)])
        elif not wanted or parsed.symbol in wanted:
            result.files += 1
            groups.setdefault(parsed.symbol, []).append((key, parsed, written))
    # Files with the name of one of ours first: the rows of others are merged into them.
    for symbol, files in sorted(groups.items()):
        yield symbol, sorted(files, key=lambda file: (selection.layout.parse(file[0]) is None, file[0]))


def _adopt_symbol(
    lake: Lake,
    selection: Selection,
    files: Sequence[tuple[str, OldKey, datetime]],
    terms: Terms,
    coverage: Coverage,
    result: Adopted,
) -> pa.Table:
    """Adopt the files of one symbol and return the cells to record."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data.lake.coverage import CELLS, contains
    from market_data.maintenance.adopted_file import Problem, leave_unfinished, read_file, rewrite

    good, bad = [CELLS.empty_table()], [CELLS.empty_table()]
    bodies = zip(files, lake.get_many(key for key, _, _ in files), strict=True)
    for (key, parsed, written), stored in bodies:
        if stored is None:
            continue
        file: File = read_file(selection, key, parsed, stored, terms.zone)
        leave_unfinished(selection, file, parsed.symbol, written)
        result.add(file.problems)
        bad.append(file.bad)
        if file.rows is None:
            result.unfit += 1
            continue
        if file.ours:
            result.fitting += 1
        else:
            result.other += 1
            if not terms.dry_run and terms.rewrite:
                try:
                    rewrite(lake, selection, file)
                except BrokenObject as error:
                    result.add([Problem(key, "not rewritten", None, str(error))])
                    continue
                result.rewritten += 1
        if file.ours or terms.rewrite:
            result.rows += len(file.rows)
            good.append(file.good)
    cells, rejected = pa.concat_tables(good), pa.concat_tables(bad)
    cells = cells.group_by(["symbol", "session", "state", "reason"]).aggregate([]).select(CELLS.names).cast(CELLS)
    inside = pc.and_(pc.greater_equal(cells["session"], selection.start), pc.less_equal(cells["session"], selection.end))
    cells = cells.filter(inside) if (selection.start, selection.end) != EVER else cells
    cells = cells.filter(pa.array(~contains(rejected, cells)))
    known = pc.is_valid(coverage.states(cells))
    result.known += pc.sum(known).as_py() or 0
    cells = cells.filter(pc.invert(known))
    result.cells += len(cells)
    return cells


def _record(
    lake: Lake, selection: Selection, cells: pa.Table, first: str, coverage: Coverage, now: datetime, *, dry_run: bool
) -> None:
    from market_data.core.run import RunInfo
    from market_data.lake.layout import escape
    from market_data.lake.ledger import write_cells

    if dry_run or not len(cells):
        return
    run = RunInfo(f"{JOB}-{selection.source}", JOB, "manual", 0, now)
    place = (lake, selection.dataset.name, selection.source)
    write_cells(*place, run, f"adopted-{escape(first)}", cells, recorded_at=coverage.next_stamp(cells, now))
