"""One file of a bucket that is adopted: what fits, what does not, and how it gets our form."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.batch import Request
from market_data.core.errors import BrokenObject, LakeError
from market_data.core.intervals import Interval
from market_data.core.messages import some
from market_data.core.outcome import State
from market_data.core.run import Grain
from market_data.lake import parquet
from market_data.lake.coverage import CELLS
from market_data.lake.object_writer import Refetch
from market_data.lake.writer import land
from market_data.maintenance.old_files import NotBarsError, convert, out_of_hours
from market_data.providers.registry import calendar_of_source, signed_of_source
from market_data.quality.gate import gate

if TYPE_CHECKING:
    from market_data.datasets.base import Dataset
    from market_data.lake.store import Lake, Stored
    from market_data.maintenance.old_keys import OldKey
    from market_data.pipeline.selection import Selection

KEPT = "adopted"
"""Folder of the old objects of rewritten files."""
PROBLEMS = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("problem", pa.string(), nullable=False),
        pa.field("rows", pa.int64()),
        pa.field("detail", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a file that does not fit.

    :param rows: rows concerned; None: the whole file.
    """

    key: str
    problem: str
    rows: int | None
    detail: str


@dataclass
class File:
    """A file that was read.

    :param rows: those that passed the gate, columns of ``dataset.received``; None: the file holds no bars of its symbol.
    :param ours: it has our key and our columns, so that it can be adopted as it is.
    :param lost_times: it has rows of which the session is not known: of intraday bars, any cell may lack one.
    :param seen: session -> when its rows were first seen, of a file with our columns.
    :param good: cells with rows, ``bad``: cells with a rejected row; schema ``CELLS``.
    """

    key: str
    stored: Stored
    rows: pa.Table | None = None
    ours: bool = False
    grain: Grain = "year"
    good: pa.Table = field(default_factory=CELLS.empty_table)
    bad: pa.Table = field(default_factory=CELLS.empty_table)
    problems: list[Problem] = field(default_factory=list)
    lost_times: bool = False
    seen: dict[date, datetime] = field(default_factory=dict)

    def report(self, problem: str, rows: int | None, detail: str) -> None:
        self.problems.append(Problem(self.key, problem, rows, detail))


def read_file(selection: Selection, key: str, parsed: OldKey, stored: Stored, zone: str) -> File:
    """Return a file with what fits and what does not."""
    dataset = selection.dataset
    calendar = calendar_of_source(selection.source)(parsed.symbol)
    file = File(key, stored)
    try:
        table = parquet.decode(stored.body, key)
    except BrokenObject as error:
        file.report("unreadable", None, str(error))
        return file
    if not len(table):
        file.report("empty", 0, "no rows")
        return file
    columns_fit = _has_our_columns(table, dataset)
    try:
        if columns_fit:
            received = _received(table, selection, file)
        else:
            old = convert(table, parsed.symbol, dataset, calendar, zone)
            received = old.rows
            if old.unknown:
                file.report("unknown columns", None, f"{', '.join(old.unknown)}: left out")
    except (NotBarsError, pa.ArrowException) as error:
        file.report("not bars", None, str(error)[:300])
        return file
    if received is None:
        return file
    late = out_of_hours(received, calendar) if dataset.is_intraday else pa.repeat(False, len(received))
    _reject(file, received.filter(late), "out of hours", "outside 04:00 to 20:00 New York time")
    span = _trimmed(received.filter(pc.invert(late)), parsed.span)
    request = Request(dataset.name, "adopt", (parsed.symbol,), (parsed.span,), calendar.name)
    gated = gate(
        dataset,
        received.filter(pc.invert(late)),
        request,
        calendar.sessions(span.start, span.end),
        signed_of_source(selection.source),
    )
    for reason, rows in _by_rule(gated.bad):
        _reject(file, rows, *reason)
    if not len(gated.good):
        file.report("no rows fit", 0, "every row was rejected")
        return file
    file.rows, file.good = gated.good, _cells(gated.good, State.HAVE)
    if file.lost_times and dataset.is_intraday:
        file.bad = file.good
    days = pc.unique(gated.good["session"]).to_pylist()
    file.grain = "day" if parsed.span.last == parsed.span.start else "year"
    file.ours = columns_fit and _is_our_key(selection, key, parsed.symbol, days)
    return file


def leave_unfinished(selection: Selection, file: File, symbol: str, written: datetime) -> None:
    """Do not record the cells of sessions that were not over when their rows were read.

    More rows may belong to them.

    :param written: when the object was written; rows in our form tell it themselves.
    """
    calendar = calendar_of_source(selection.source)(symbol)
    days = pc.unique(file.good["session"]).to_pylist()
    early = [day for day in days if file.seen.get(day, written) < calendar.session_close(day)]
    if early:
        mask = pc.is_in(file.good["session"], pa.array(early, pa.date32()))
        file.bad = pa.concat_tables([file.bad, file.good.filter(mask)])
        file.report("session not over", None, f"written before the end of {some(map(str, early))}")


def rewrite(lake: Lake, selection: Selection, file: File) -> None:
    """Give the rows of a file our form. The old object is kept under ``adopted/``.

    Its rows count as first seen when the old object was written, so that whatever a provider sent since is newer.

    :raises LakeError: if the old object was changed meanwhile.
    :raises BrokenObject: if the file of ours into which the rows belong exists and cannot be read.
    """
    key, dataset = file.key, selection.dataset
    seen = lake.modified(key)
    if file.rows is None or seen is None or file.ours:
        return
    _keep(lake, key, file.stored.body)
    extra = {"timeframe": dataset.timeframe, "provider": selection.source, "ingest_ts": seen}
    rows = pa.table(
        [
            file.rows[name]
            if name in file.rows.column_names
            else pa.repeat(pa.scalar(extra[name], dataset.schema.field(name).type), len(file.rows))
            for name in dataset.schema.names
        ],
        schema=dataset.schema,
    )
    days = pc.unique(rows["session"]).to_pylist()
    symbol = rows["symbol"][0].as_py()
    targets = {selection.layout.object_key(dataset, selection.source, symbol, day, file.grain) for day in days}
    if targets == {key}:
        if not lake.put_if(key, parquet.encode(parquet.by_key(rows, dataset.key)), file.stored.etag):
            raise LakeError(f"lake object {key} was changed while it was adopted; run it again")
        return
    land(lake, selection.layout, dataset, selection.source, rows, file.grain, refetch=Refetch(mend=False))
    lake.delete(key)


def _keep(lake: Lake, key: str, body: bytes) -> None:
    """Copy an old object, and read the copy back."""
    target = f"{KEPT}/{key}"
    if not lake.put_new(target, body):
        stored = lake.get(target)
        if stored is None or stored.body != body:
            target = f"{target.removesuffix('.parquet')}-{hashlib.sha256(body).hexdigest()[:12]}.parquet"
            lake.put_new(target, body)
    copy = lake.get(target)
    if copy is None or copy.body != body:
        raise LakeError(f"the copy of {key} at {target} is not equal to it; nothing was changed")


def _has_our_columns(table: pa.Table, dataset: Dataset) -> bool:
    needed = {field.name for field in dataset.schema if not field.nullable}
    return needed <= set(table.column_names)


def _received(table: pa.Table, selection: Selection, file: File) -> pa.Table | None:
    """Return the rows of a file with our columns, as received ones; None if they are another provider's."""
    dataset = selection.dataset
    rows = parquet.decode(file.stored.body, file.key, dataset.schema)
    extra = sorted(set(table.column_names) - set(dataset.schema.names))
    if extra:
        file.report("unknown columns", None, f"{', '.join(extra)}: not read")
    for name, wanted in (("provider", selection.source), ("timeframe", dataset.timeframe)):
        others = [value for value in pc.unique(rows[name]).to_pylist() if value != wanted]
        if others:
            file.report(f"other {name}", None, f"rows of {some(map(str, others))}; {wanted} is adopted")
            return None
    last = rows.group_by("session").aggregate([("ingest_ts", "max")])
    file.seen = dict(zip(last["session"].to_pylist(), last["ingest_ts_max"].to_pylist(), strict=True))
    return rows.select(dataset.received.names)


def _trimmed(rows: pa.Table, span: Interval) -> Interval:
    """Return the part of ``span`` in which there are rows: a file of all history has a long one."""
    first, last = pc.min_max(rows["session"]).as_py().values()
    if first is None:
        return Interval(span.start, span.start)
    start, end = max(span.start, first), min(span.end, date.fromordinal(last.toordinal() + 1))
    return Interval(start, max(start, end))


def _by_rule(bad: pa.Table) -> list[tuple[tuple[str, str], pa.Table]]:
    """Return the rejected rows by the first rule that each breaks, with an example of its reason."""
    found: dict[str, tuple[str, list[int]]] = {}
    for place, reason in enumerate(bad["reasons"].to_pylist()):
        first = reason.split("; ")[0]
        kind = _kind(first)
        found.setdefault(kind, (first, []))[1].append(place)
    return [((kind, example), bad.take(places)) for kind, (example, places) in found.items()]


def _kind(reason: str) -> str:
    for words, kind in (
        ("was not requested", "wrong symbol"),
        ("outside the request", "session outside the path"),
        ("not a session", "not a session"),
        ("conflicting duplicate", "conflicting duplicates"),
        ("duplicate row", "duplicates"),
        ("outside the trading day", "out of hours"),
        (" is null", "unreadable value"),
    ):
        if words in reason:
            return kind
    return "rejected by the gate"


def _reject(file: File, rows: pa.Table, kind: str, detail: str) -> None:
    if len(rows):
        file.report(kind, len(rows), detail)
        # One copy of a duplicate is kept: its cell is complete.
        known = rows.filter(pc.and_(pc.is_valid(rows["symbol"]), pc.is_valid(rows["session"])))
        if kind != "duplicates" and len(known):
            file.bad = pa.concat_tables([file.bad, _cells(known, State.QUARANTINED)])
        file.lost_times = file.lost_times or len(known) < len(rows)


def _cells(rows: pa.Table, state: State) -> pa.Table:
    unique = rows.group_by(["symbol", "session"]).aggregate([])
    return pa.table([unique["symbol"], unique["session"], [str(state)] * len(unique), [""] * len(unique)], schema=CELLS)


def _is_our_key(selection: Selection, key: str, symbol: str, days: list[date]) -> bool:
    layout, dataset = selection.layout, selection.dataset
    grains: tuple[Grain, ...] = ("day", "year")
    return any({layout.object_key(dataset, selection.source, symbol, day, grain) for day in days} == {key} for grain in grains)
