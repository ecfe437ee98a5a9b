"""Compute one row of metrics per planned session, for the suite ``bars.sessions``.

The metrics show faults that the gate cannot see in one response.

Sessions are processed in order, and each is compared with *accepted* sessions before it, so that one bad session affects only itself.
If none is known (the first session ever, the first after a hole), the stored sessions after it are used instead.

A session that a person released may stand for a new level, or for itself alone. So a later session passes if it fits the sessions from the
released one on, or those that nobody released.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from market_data.core.calendar import Calendar
from market_data.core.instruments import calendar_of
from market_data.core.run import Grain
from market_data.quality.metric_rules import CRITICAL, MetricRule, Thresholds, session_rules

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

NAMED = 3  # symbols named in a reason
LEVEL = 0.5  # share of a session's bars that must be released for it to stand for a level of its own


@dataclass(frozen=True, slots=True)
class SessionBars:
    """A session's bars, one place per symbol of the run; NaN if there is none, or none to compare with.

    :param bars: intraday bars that each was folded from; NaN where unknown.
    :param most_volume: place of the symbol with the largest volume; any place where no volume is known.
    """

    session: date
    rows: int
    present: Bools
    close: Floats
    volume: Floats
    bars: Floats
    most_volume: int


@dataclass(slots=True)
class SessionMetrics:
    """The metrics of one planned session. None: does not apply.

    :param session: ISO date.
    :param planned: symbols planned.
    :param rows: rows stored; each intraday bar counts.
    :param present: of the expected symbols, those with a bar. ``expected``: the requested ones that had a bar in the session compared
        with, or all requested ones where there is no other session.
    :param rows_if_planned: ``rows``, where there should be some; ``rows_if_newest``: the same for the newest planned session;
        ``rows_if_few``: where so few symbols are planned that none may have rows, which deserves a warning.
    :param repeated_rows: rows beyond one per symbol.
    :param newest_stored: newest planned session with rows, ISO date, or ``none``.
    :param reference: session that prices are compared with, ISO date.
    :param compared: symbols with a close here and there; ``jumped`` of them moved by more than the jump factor.
    :param median_ratio: median of close here / close there.
    :param copied_ratio: share of the symbols with a close and a volume here and there that have the same ones.
    :param volume_ratio: volume here / volume there over the symbols in both, the median over the sessions compared with.
    :param jumps: the symbols that jumped, with both closes, where few are compared.
    :param bars_compared: symbols with intraday bars here and enough of them on ``bars_reference``; ``thin_symbols`` of them have less
        than their usual share here, as a ratio in ``thin_ratio`` where many are compared.
    :param thinned: symbols with far fewer intraday bars than on ``bars_reference``; ``thin``: some of them.
    """

    session: str
    planned: int
    rows: int
    rows_if_planned: int | None = None
    rows_if_newest: int | None = None
    rows_if_few: int | None = None
    repeated_rows: int = 0
    newest_stored: str = "none"
    present: int = 0
    expected: int = 0
    present_ratio: float | None = None
    present_ratio_alone: float | None = None
    reference: str | None = None
    compared: int = 0
    jumped: int = 0
    jumped_ratio: float | None = None
    jumped_if_few: int | None = None
    jumps: str = ""
    median_ratio: float | None = None
    median_ratio_if_many: float | None = None
    copied_ratio: float | None = None
    volume_ratio: float | None = None
    bars_compared: int = 0
    thin_symbols: int = 0
    thin_ratio: float | None = None
    thinned: int | None = None
    bars_reference: str | None = None
    thin: str = ""


class BarsBySession:
    """The bars of a run, by session.

    :param table: one bar per symbol and session: ``symbol``, ``session``, ``close``, ``volume``, ``bars`` (see ``session_bars.BARS``), in
        any order.
    :param released: further ones, which a person released; None: none.
    """

    def __init__(self, table: pa.Table, released: pa.Table | None = None) -> None:
        count = len(table)
        table = pa.concat_tables([table, released.select(table.column_names)]) if released is not None else table
        symbols = pc.unique(table["symbol"]).sort()  # sums do not depend on the order of the rows then
        days = table["session"].cast(pa.int32()).to_numpy()
        self.symbols: list[str] = symbols.to_pylist()
        calendars = [calendar_of(symbol) for symbol in self.symbols]
        self._calendars = list(dict.fromkeys(calendars))
        self._calendar_codes = np.array([self._calendars.index(calendar) for calendar in calendars], dtype=np.intp)
        order = np.argsort(days, kind="stable").astype(np.int32)
        days = days[order]
        self._codes = pc.index_in(table["symbol"], symbols).to_numpy()[order]
        self._close = _numbers(table["close"])[order]
        self._volume = _numbers(table["volume"])[order]
        self._bars = _numbers(table["bars"])[order]
        self._released = order >= count
        starts = np.concatenate([[0] * bool(len(days)), 1 + np.flatnonzero(days[1:] != days[:-1])]).astype(np.intp)
        ends = [*starts[1:], len(days)] if len(days) else []
        self._slices = {
            date.fromordinal(int(day) + date(1970, 1, 1).toordinal()): slice(int(start), int(end))
            for day, start, end in zip(days[starts], starts, ends, strict=True)
        }

    @property
    def sessions(self) -> list[date]:
        return sorted(self._slices)

    @property
    def judged(self) -> list[date]:
        """The sessions with bars that nobody released."""
        return [day for day in self.sessions if not self._released[self._slices[day]].all()]

    def released_share(self, session: date) -> float:
        """Return the share of the session's bars that a person released."""
        mask = self._released[self._slices.get(session, slice(0, 0))]
        return float(mask.mean()) if len(mask) else 0.0

    def day(self, session: date, *, judged: bool = True, released: bool = False) -> SessionBars:
        """Return the bars of ``session``; none where it has none.

        :param judged: those that nobody released. ``released``: those that a person released.
        """
        span = self._slices.get(session, slice(0, 0))
        mask = self._released[span]
        place = np.arange(span.start, span.stop)[(mask & released) | (~mask & judged)]
        codes = self._codes[place]
        present = np.zeros(len(self.symbols), dtype=bool)
        close, volume, bars = (np.full(len(self.symbols), np.nan) for _ in range(3))
        present[codes], close[codes], volume[codes], bars[codes] = True, self._close[place], self._volume[place], self._bars[place]
        close[~(np.isfinite(close) & (close > 0))] = np.nan
        volume[~(np.isfinite(volume) & (volume >= 0))] = np.nan
        most_volume = int(np.argmax(np.nan_to_num(volume, nan=-1.0))) if self.symbols else 0
        return SessionBars(session, len(codes), present, close, volume, bars, most_volume)

    def shorter(self, here: date, there: date) -> Floats:
        """Return per symbol the opening hours of ``here`` over those of ``there``; 1 unless that is less."""
        return np.array([_shorter(calendar, here, there) for calendar in self._calendars])[self._calendar_codes]

    def mask(self, symbols: Collection[str]) -> Bools:
        """Return a mask of the run's symbols that are among ``symbols``."""
        return np.array([symbol in symbols for symbol in self.symbols], dtype=bool)


@dataclass(frozen=True, slots=True)
class _Neighbours:
    """Sessions to compare with, nearest first: accepted ones before, or stored ones after.

    Any of them may itself be bad.

    :param wanted: the requested symbols; None where unknown: then any symbol may be one of them.
    """

    days: Sequence[SessionBars]
    before: bool
    wanted: Bools | None

    def fullest(self) -> int:
        return max((_overlap(day, self.wanted) for day in self.days), default=0)

    def reference(self) -> SessionBars | None:
        """Return the nearest session with at least half as many wanted symbols as the fullest one.

        This skips sessions in which only a few symbols were repaired.
        """
        counts = [_overlap(day, self.wanted) for day in self.days]
        return next((day for day, count in zip(self.days, counts, strict=True) if count and 2 * count >= max(counts)), None)


@dataclass(frozen=True, slots=True)
class _Moves:
    """Ratios of a session's closes to those of ``there``, for ``compared`` symbols.

    ``jumped``: places of the symbols that moved too far.
    """

    there: SessionBars
    compared: int
    jumped: NDArray[np.intp]
    median: float | None

    @property
    def share(self) -> float:
        return len(self.jumped) / self.compared


def measure(
    bars: BarsBySession,
    planned: Mapping[date, int],
    limits: Thresholds,
    *,
    requested: Mapping[date, Collection[str]] | None = None,
    refused: Collection[date] = (),
    recent_from: date = date.min,
    grain: Grain = "day",
) -> list[SessionMetrics]:
    """Return the metrics of the planned sessions, in order.

    :param bars: bars of the planned sessions and of sessions before the first of them, which count as accepted, as released ones do.
    :param planned: session -> number of symbols planned.
    :param requested: session -> the symbols planned, where known.
    :param refused: sessions refused for other reasons: no session is compared with them.
    :param recent_from: from this session on, the universe must be complete, whatever is known of other sessions.
    :param grain: selects the rules that refuse a session, see ``session_rules``.
    """
    if not planned:
        return []
    walk = _Walk(bars, planned, limits, requested or {}, refused, recent_from, grain)
    first = min(planned)
    found = []
    for session in sorted({*planned, *bars.sessions}):
        if session in planned:
            found.append(walk.step(session))
        elif session < first or bars.released_share(session):
            walk.accept(session, judged=session < first)
    return found


def count(cells: pa.Table, planned: Mapping[date, int], limits: Thresholds) -> list[SessionMetrics]:
    """Return the row counts of the planned sessions, in order, for a dataset that is not bars.

    An empty session is acceptable for a handful of symbols, and for cells requested again because they had none. The latter are sessions
    that plan less than half as many symbols as the largest one.

    :param cells: see ``session_bars.COUNTS``.
    """
    by_session = cells.group_by("session").aggregate([("rows", "sum"), ("symbol", "count")]).to_pylist()
    found = {row["session"]: (row["rows_sum"], row["symbol_count"]) for row in by_session}
    newest = max((day for day in found if day in planned), default=None)
    needed = max(limits.min_compared, max(planned.values(), default=0) / 2)
    counted = []
    for session in sorted(planned):
        rows, present = found.get(session, (0, 0))
        one = SessionMetrics(session.isoformat(), planned[session], rows, present=present, expected=planned[session])
        if planned[session] >= needed:
            one.rows_if_planned = rows
        elif planned[session]:
            one.rows_if_few = rows
        one.newest_stored = newest.isoformat() if newest else "none"
        counted.append(one)
    return counted


@dataclass(slots=True)
class _Walk:
    """Process the sessions in order and remember the accepted ones."""

    bars: BarsBySession
    planned: Mapping[date, int]
    limits: Thresholds
    requested: Mapping[date, Collection[str]]
    refused: Collection[date]
    recent_from: date
    grain: Grain
    stored: list[date] = field(init=False)
    accepted: deque[SessionBars] = field(init=False)  # nearest first
    last_seen: date = date.min
    masks: dict[frozenset[str], Bools] = field(default_factory=dict)
    regular: Bools = field(init=False)  # symbols that are expected to trade
    released: set[date] = field(default_factory=set)  # accepted sessions that stand for a level that a person released

    def __post_init__(self) -> None:
        self.regular = np.array([not self.limits.is_thin(symbol) for symbol in self.bars.symbols], dtype=bool)
        self.stored = [day for day in self.bars.judged if day in self.planned]
        self.accepted = deque(maxlen=self.limits.history_sessions)

    def accept(self, session: date, *, judged: bool = True) -> None:
        """Accept the released bars of ``session``, and with ``judged`` the others too."""
        day = self.bars.day(session, judged=judged, released=True)
        self._see(day)
        self.accepted.appendleft(day)
        if self.bars.released_share(session) >= LEVEL or (not judged and day.rows):
            self.released.add(session)

    def step(self, session: date) -> SessionMetrics:
        """Measure ``session``, and accept what satisfies the critical rules, or was released."""
        metrics, passed = self._judged(session)
        if passed or self.bars.released_share(session):
            self.accept(session, judged=passed)
        return metrics

    def _judged(self, session: date) -> tuple[SessionMetrics, bool]:
        """Return the metrics of ``session``, and if later sessions may be compared with it."""
        here = self.bars.day(session)
        metrics = _counts(here, self.planned[session], self.stored, newest=max(self.planned))
        metrics.expected, metrics.present = self._expected(session), int(np.count_nonzero(here.present & self.regular))
        if not here.rows:
            if self._few_requested(session):
                metrics.rows_if_planned = metrics.rows_if_newest = None
            return metrics, False
        self._see(here)
        tries = []
        for accepted in self._levels():
            tries.append(self._compared(here, replace(metrics), self._neighbours(here, accepted)))
            if self._holds(tries[-1]):
                return tries[-1], session not in self.refused
        return tries[0], False

    def _compared(self, here: SessionBars, metrics: SessionMetrics, others: _Neighbours) -> SessionMetrics:
        """Return the metrics with those that compare ``here`` with other sessions."""
        _presence(metrics, here, others, self.limits, self.regular)
        if others.reference() is None and here.session < self.recent_from:
            metrics.present_ratio, metrics.present_ratio_alone = None, metrics.present_ratio
        _prices(metrics, here, others, self.bars.symbols, self.limits)
        metrics.copied_ratio = _copied_ratio(here, others, self.limits)
        metrics.volume_ratio = _volume_ratio(here, others, self.limits)
        _thinned(metrics, here, others, self.bars, self.limits, self.regular)
        return metrics

    def _holds(self, metrics: SessionMetrics) -> bool:
        rules = (rule for rule in session_rules(self.limits, self.grain) if rule.severity == CRITICAL)
        return all(rule.holds(getattr(metrics, rule.metric)) for rule in rules)

    def _levels(self) -> Iterator[Sequence[SessionBars]]:
        """Yield the accepted sessions; if some were released, also those since, and those not released.

        The latter two only if they have enough symbols to compare with.
        """
        yield self.accepted
        places = [place for place, day in enumerate(self.accepted) if day.session in self.released]
        if not places:
            return
        since = list(self.accepted)[: places[0] + 1]
        for level in (since, [day for day in self.accepted if day.session not in self.released]):
            if max((_overlap(day, None) for day in level), default=0) >= self.limits.min_compared:
                yield level

    def _expected(self, session: date) -> int:
        """Return the number of symbols planned, without thin ones where it is known which are planned."""
        if session not in self.requested or not self.limits.thin_symbols:
            return self.planned[session]
        return sum(not self.limits.is_thin(symbol) for symbol in self.requested[session])

    def _see(self, day: SessionBars) -> None:
        if self.last_seen > date.min and (day.session - self.last_seen).days > self.limits.max_hole_days:
            self.accepted.clear()
        self.last_seen = day.session

    def _wanted(self, session: date) -> Bools | None:
        if session not in self.requested:
            return None
        symbols = frozenset(self.requested[session])
        if symbols not in self.masks:
            self.masks[symbols] = self.bars.mask(symbols)
        return self.masks[symbols]

    def _few_requested(self, session: date) -> bool:
        """Return True if a session requests so few cells that an empty response is acceptable.

        That holds for a handful of symbols, which may not be listed yet or be halted together. It also holds if other runs have stored most
        of the session: each day requests again the cells that had no bar on the days before.
        """
        if self._expected(session) < self.limits.min_compared:
            return True
        wanted, whole = self._wanted(session), _Neighbours(self.accepted, before=True, wanted=None).reference()
        return whole is not None and 2 * _overlap(whole, wanted) < _overlap(whole, None)

    def _neighbours(self, here: SessionBars, accepted: Sequence[SessionBars]) -> _Neighbours:
        """Return the accepted sessions before if they have enough symbols, else the stored ones after."""
        wanted = self._wanted(here.session)
        before = _Neighbours(accepted, before=True, wanted=wanted)
        if before.fullest() >= self.limits.min_compared:
            return before
        after = _Neighbours([self.bars.day(session) for session in self._ahead(here.session)], before=False, wanted=wanted)
        return before if accepted and after.fullest() < self.limits.min_compared else after

    def _ahead(self, session: date) -> Iterator[date]:
        """Yield the next stored sessions, up to the next hole."""
        start = bisect_right(self.stored, session)
        for later in self.stored[start : start + self.limits.ahead_sessions]:
            if (later - session).days > self.limits.max_hole_days:
                return
            yield later
            session = later


def reason(rule: MetricRule, metrics: SessionMetrics) -> str:
    """Return the reason for a session that breaks ``rule``: the observed value and what is allowed."""
    percents = {
        "present_percent": f"{100 * (metrics.present_ratio or 0):.3g} %",
        "jumped_percent": f"{100 * (metrics.jumped_ratio or 0):.3g} %",
        "copied_percent": f"{100 * (metrics.copied_ratio or 0):.3g} %",
        "thin_percent": f"{100 * (metrics.thin_ratio or 0):.3g} %",
    }
    return rule.says.format(**{**asdict(metrics), **percents})


def _overlap(day: SessionBars, wanted: Bools | None) -> int:
    return int(np.count_nonzero(day.present if wanted is None else day.present & wanted))


def _counts(here: SessionBars, planned: int, stored: Sequence[date], newest: date) -> SessionMetrics:
    present = int(np.count_nonzero(here.present))
    rows = here.rows if np.isnan(here.bars).all() else int(np.nansum(here.bars))
    return SessionMetrics(
        session=here.session.isoformat(),
        planned=planned,
        rows=rows,
        rows_if_planned=rows if planned else None,
        rows_if_newest=rows if planned and here.session == newest else None,
        repeated_rows=here.rows - present,
        newest_stored=stored[-1].isoformat() if stored else "none",
        present=present,
        expected=planned,
    )


def _presence(metrics: SessionMetrics, here: SessionBars, others: _Neighbours, limits: Thresholds, regular: Bools) -> None:
    reference = others.reference()
    if reference is not None:
        expected = regular & (reference.present if others.wanted is None else reference.present & others.wanted)
        count = int(np.count_nonzero(expected))
        # Fewer were planned than had bars, and it is unknown which: then all present are compared with all planned.
        if others.wanted is not None or count <= metrics.planned:
            metrics.expected, metrics.present = count, int(np.count_nonzero(expected & here.present))
    if metrics.expected >= limits.min_compared:
        metrics.present_ratio = metrics.present / metrics.expected


def _prices(metrics: SessionMetrics, here: SessionBars, others: _Neighbours, symbols: Sequence[str], limits: Thresholds) -> None:
    moves = _moves_since(here, others, limits) if others.before else _moves_ahead(here, others, limits)
    if moves is None or not moves.compared:
        return
    metrics.reference = moves.there.session.isoformat()
    metrics.compared, metrics.jumped, metrics.median_ratio = moves.compared, len(moves.jumped), moves.median
    if moves.compared >= limits.min_compared:
        metrics.jumped_ratio, metrics.median_ratio_if_many = moves.share, moves.median
    else:
        metrics.jumped_if_few = metrics.jumped
        metrics.jumps = ", ".join(f"{symbols[i]} {here.close[i]:g} after {moves.there.close[i]:g}" for i in moves.jumped)


def _moves_since(here: SessionBars, others: _Neighbours, limits: Thresholds) -> _Moves | None:
    reference = others.reference()
    return None if reference is None else _moves(here, reference, limits)


def _moves_ahead(here: SessionBars, others: _Neighbours, limits: Thresholds) -> _Moves | None:
    """Return the moves to the median one of the later sessions.

    A single later session proves nothing: it may be the bad one of the two.
    """
    tries = [moves for there in others.days if (moves := _moves(here, there, limits)).compared >= limits.min_compared]
    tries.sort(key=lambda moves: moves.share)
    return tries[(len(tries) - 1) // 2] if len(tries) > 1 else None


def _moves(here: SessionBars, there: SessionBars, limits: Thresholds) -> _Moves:
    ratio = here.close / there.close
    both = np.isfinite(ratio)
    jumped = np.flatnonzero(both & ((ratio > limits.jump_factor) | (ratio < 1 / limits.jump_factor)))
    compared = int(np.count_nonzero(both))
    return _Moves(there, compared, jumped, float(np.median(ratio[both])) if compared else None)


def _copied_ratio(here: SessionBars, others: _Neighbours, limits: Thresholds) -> float | None:
    there = others.reference() if others.before else None
    if there is None:
        return None
    # A symbol that did not trade repeats its close, and has no volume again, for a good reason.
    both = np.isfinite(here.close) & np.isfinite(there.close) & (here.volume > 0) & (there.volume > 0)
    compared = int(np.count_nonzero(both))
    if compared < limits.min_compared:
        return None
    again = both & _equal(here.close, there.close) & _equal(here.volume, there.volume)
    return int(np.count_nonzero(again)) / compared


def _equal(here: Floats, there: Floats) -> Bools:
    """Return where values are equal but for the last digit: bars of earlier runs were stored as decimals."""
    equal: Bools = np.abs(here - there) <= 1e-12 * there
    return equal


def _volume_ratio(here: SessionBars, others: _Neighbours, limits: Thresholds) -> float | None:
    """Return the volume here over the volume there, as the median over the sessions compared with.

    Only symbols in both count.

    The symbol with most volume is left out on either side: one wrong number proves nothing about a session.
    """
    ratios = []
    for there in others.days:
        both = np.isfinite(here.volume) & np.isfinite(there.volume)
        if np.count_nonzero(both) < limits.min_compared:
            continue
        both[[here.most_volume, there.most_volume]] = False
        base = float(there.volume[both].sum())
        if base > 0:
            ratios.append(float(here.volume[both].sum()) / base)
    if others.before:
        return float(np.median(ratios)) if ratios else None
    ratios.sort(key=lambda ratio: abs(math.log(ratio)) if ratio else math.inf)
    return ratios[(len(ratios) - 1) // 2] if len(ratios) > 1 else None


def _thinned(
    metrics: SessionMetrics, here: SessionBars, others: _Neighbours, bars: BarsBySession, limits: Thresholds, regular: Bools
) -> None:
    symbols, there = bars.symbols, others.reference() if others.before else None
    if there is None:
        return
    many = regular & (there.bars >= limits.min_usual_bars)  # false where not known
    thin = np.flatnonzero(many & (here.bars < limits.min_bars_ratio * there.bars))
    both = many & np.isfinite(here.bars)
    usual = limits.usual_bars_ratio * bars.shorter(here.session, there.session) * there.bars
    metrics.bars_compared, metrics.thin_symbols = int(np.count_nonzero(both)), int(np.count_nonzero(both & (here.bars < usual)))
    if metrics.bars_compared >= limits.min_compared:
        metrics.thin_ratio = metrics.thin_symbols / metrics.bars_compared
    if many.any():
        metrics.thinned, metrics.bars_reference = len(thin), there.session.isoformat()
    words = [f"{symbols[i]} {here.bars[i]:g} after {there.bars[i]:g}" for i in thin[:NAMED]]
    metrics.thin = ", ".join([*words, *([f"{len(thin) - NAMED} more symbols"] if len(thin) > NAMED else [])])


def _shorter(calendar: Calendar, here: date, there: date) -> float:
    """Return the opening hours of ``here`` over those of ``there`` if ``here`` closes early; else 1."""
    if not (calendar.is_session(there) and calendar.is_early_close(here)):
        return 1.0
    return min(1.0, calendar.hours(here) / calendar.hours(there))


def _numbers(column: pa.ChunkedArray) -> Floats:
    if column.null_count == len(column):
        return np.broadcast_to(np.nan, len(column))
    numbers: Floats = column.to_numpy()
    return numbers
