"""One row of metrics per planned session: what the gate cannot see, computed for the suite ``bars.sessions``.

The sessions are walked in order, and each is compared with sessions *accepted* before it, so that one bad session condemns only
itself. Where none is known (the first session ever, the first after a hole) the landed sessions after it are looked at instead.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from market_data.core import calendar
from market_data.quality.suites import CRITICAL, MetricRule, Thresholds, session_rules
from market_data.quality.verdicts import Grain

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

NAMED = 3  # symbols named in a reason


@dataclass(frozen=True, slots=True)
class Day:
    """A session's bars, laid out over all symbols of the run; NaN where there is none or none that can be compared.

    :param bars: bars within the day that each of them is folded of; NaN where not known.
    :param most_volume: place of the symbol with the largest volume; any, where none has one.
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
    """What is measured of one planned session. None: does not apply.

    :param session: ISO date.
    :param planned: symbols planned.
    :param rows: rows landed; bars within the day each count.
    :param present: of the expected symbols, those with a bar. ``expected``: the asked ones that had a bar in the session compared
        with, or all asked ones where there is no other session.
    :param rows_if_planned: ``rows``, where there should be some; ``rows_if_newest``: the same for the newest planned session;
        ``rows_if_few``: where so few symbols are planned that there may be none, but that deserves a word.
    :param repeated_rows: rows more than there are symbols.
    :param newest_landed: newest planned session with rows, ISO date, or ``none``.
    :param reference: session that prices are compared with, ISO date.
    :param compared: symbols with a close here and there; ``jumped`` of them moved by more than the jump factor.
    :param median_ratio: median of close here / close there.
    :param copied_ratio: share of the symbols with a close and a volume here and there that have the same ones.
    :param volume_ratio: volume here / volume there over the symbols in both, the median over the sessions compared with.
    :param jumps: the symbols that jumped, with both closes, where few are compared.
    :param bars_compared: symbols with bars within the day here and, enough of them, on ``bars_reference``; ``thin_symbols`` of them have
        less than their usual share here, ``thin_ratio``, where many are compared.
    :param thinned: symbols with far fewer bars within the day than on ``bars_reference``; ``thin``: some of them.
    """

    session: str
    planned: int
    rows: int
    rows_if_planned: int | None = None
    rows_if_newest: int | None = None
    rows_if_few: int | None = None
    repeated_rows: int = 0
    newest_landed: str = "none"
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


class Bars:
    """Bars by session.

    :param table: one bar a symbol and session: ``symbol``, ``session``, ``close``, ``volume``, ``bars`` (see ``fold.BARS``), any order.
    """

    def __init__(self, table: pa.Table) -> None:
        symbols = pc.unique(table["symbol"]).sort()  # sums do not depend on the order of the rows then
        days = table["session"].combine_chunks().cast(pa.int32()).to_numpy()
        self.symbols: list[str] = symbols.to_pylist()
        order = np.argsort(days, kind="stable")
        self._codes = pc.index_in(table["symbol"], symbols).to_numpy()[order]
        self._close = _numbers(table["close"])[order]
        self._volume = _numbers(table["volume"])[order]
        self._bars = _numbers(table["bars"])[order]
        starts = np.flatnonzero(np.diff(days[order], prepend=np.int32(np.iinfo(np.int32).min)))
        ends = [*starts[1:], len(days)] if len(days) else []
        self._slices = {
            date.fromordinal(int(day) + date(1970, 1, 1).toordinal()): slice(int(start), int(end))
            for day, start, end in zip(days[order][starts], starts, ends, strict=True)
        }

    @property
    def sessions(self) -> list[date]:
        return sorted(self._slices)

    def day(self, session: date) -> Day:
        """The bars of ``session``; none where it has none."""
        place = self._slices.get(session, slice(0, 0))
        codes = self._codes[place]
        present = np.zeros(len(self.symbols), dtype=bool)
        close, volume, bars = (np.full(len(self.symbols), np.nan) for _ in range(3))
        present[codes], close[codes], volume[codes], bars[codes] = True, self._close[place], self._volume[place], self._bars[place]
        close[~(np.isfinite(close) & (close > 0))] = np.nan
        volume[~(np.isfinite(volume) & (volume >= 0))] = np.nan
        most_volume = int(np.argmax(np.nan_to_num(volume, nan=-1.0))) if self.symbols else 0
        return Day(session, len(codes), present, close, volume, bars, most_volume)

    def mask(self, symbols: Collection[str]) -> Bools:
        """Which of the symbols are among ``symbols``."""
        return np.array([symbol in symbols for symbol in self.symbols], dtype=bool)


@dataclass(frozen=True, slots=True)
class _Neighbours:
    """Sessions to compare with, nearest first: accepted ones before, or landed ones after, any of which may itself be bad.

    :param wanted: the symbols asked for; None where not known, then any may be one of them.
    """

    days: Sequence[Day]
    before: bool
    wanted: Bools | None

    def fullest(self) -> int:
        return max((_overlap(day, self.wanted) for day in self.days), default=0)

    def reference(self) -> Day | None:
        """The nearest with at least half as many of the wanted symbols as the fullest: not one where a few were repaired."""
        counts = [_overlap(day, self.wanted) for day in self.days]
        return next((day for day, count in zip(self.days, counts, strict=True) if count and 2 * count >= max(counts)), None)


@dataclass(frozen=True, slots=True)
class _Moves:
    """Closes of a session over those of ``there``, for ``compared`` symbols; ``jumped``: places of those that moved too far."""

    there: Day
    compared: int
    jumped: NDArray[np.intp]
    median: float | None

    @property
    def share(self) -> float:
        return len(self.jumped) / self.compared


def measure(
    bars: Bars,
    planned: Mapping[date, int],
    limits: Thresholds,
    *,
    asked: Mapping[date, Collection[str]] | None = None,
    refused: Collection[date] = (),
    recent_from: date = date.min,
    grain: Grain = "day",
) -> list[SessionMetrics]:
    """The metrics of the planned sessions, in order.

    :param bars: of the planned sessions and, taken as accepted, of sessions before the first of them.
    :param planned: session -> number of symbols planned.
    :param asked: session -> the symbols planned, where known.
    :param refused: sessions refused for other reasons: none is compared with them.
    :param recent_from: from this session on the universe should be there in full, whatever is known of other sessions.
    :param grain: whose rules refuse a session, see ``session_rules``.
    """
    if not planned:
        return []
    walk = _Walk(bars, planned, limits, asked or {}, refused, recent_from, grain)
    first = min(planned)
    for session in (day for day in bars.sessions if day < first):
        walk.accept(bars.day(session))
    return [walk.step(session) for session in sorted(planned)]


def count(cells: pa.Table, planned: Mapping[date, int], limits: Thresholds) -> list[SessionMetrics]:
    """The metrics of the planned sessions of a dataset that is not bars, in order: what came, which may be nothing.

    Nothing at all is in order of a handful of symbols, and of what is asked again because it did not come before: where a session plans
    less than half of what the widest one does.

    :param cells: see ``fold.COUNTS``.
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
        one.newest_landed = newest.isoformat() if newest else "none"
        counted.append(one)
    return counted


@dataclass(slots=True)
class _Walk:
    """Goes through the sessions in order and remembers which were accepted."""

    bars: Bars
    planned: Mapping[date, int]
    limits: Thresholds
    asked: Mapping[date, Collection[str]]
    refused: Collection[date]
    recent_from: date
    grain: Grain
    landed: list[date] = field(init=False)
    accepted: deque[Day] = field(init=False)  # nearest first
    last_seen: date = date.min
    masks: dict[frozenset[str], Bools] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.landed = [day for day in self.bars.sessions if day in self.planned]
        self.accepted = deque(maxlen=self.limits.history_sessions)

    def accept(self, day: Day) -> None:
        self._see(day)
        self.accepted.appendleft(day)

    def step(self, session: date) -> SessionMetrics:
        """Measure ``session``, and accept it if it keeps the critical rules."""
        here = self.bars.day(session)
        metrics = _counts(here, self.planned[session], self.landed, newest=max(self.planned))
        if not here.rows:
            if self._few_asked(session):
                metrics.rows_if_planned = metrics.rows_if_newest = None
            return metrics
        self._see(here)
        others = self._neighbours(here)
        _presence(metrics, here, others, self.limits)
        if others.reference() is None and session < self.recent_from:
            metrics.present_ratio, metrics.present_ratio_alone = None, metrics.present_ratio
        _prices(metrics, here, others, self.bars.symbols, self.limits)
        metrics.copied_ratio = _copied_ratio(here, others, self.limits)
        metrics.volume_ratio = _volume_ratio(here, others, self.limits)
        _thinned(metrics, here, others, self.bars.symbols, self.limits)
        rules = (rule for rule in session_rules(self.limits, self.grain) if rule.severity == CRITICAL)
        if session not in self.refused and all(rule.holds(getattr(metrics, rule.metric)) for rule in rules):
            self.accept(here)
        return metrics

    def _see(self, day: Day) -> None:
        if self.last_seen > date.min and (day.session - self.last_seen).days > self.limits.max_hole_days:
            self.accepted.clear()
        self.last_seen = day.session

    def _wanted(self, session: date) -> Bools | None:
        if session not in self.asked:
            return None
        symbols = frozenset(self.asked[session])
        if symbols not in self.masks:
            self.masks[symbols] = self.bars.mask(symbols)
        return self.masks[symbols]

    def _few_asked(self, session: date) -> bool:
        """Whether so few cells of a session are asked for that it is in order when none comes.

        That is so for a handful of symbols, which may not be listed yet or be halted together; and where other runs have brought the
        session in the main: each day asks again for what had no bar on the days before.
        """
        if self.planned[session] < self.limits.min_compared:
            return True
        wanted, whole = self._wanted(session), _Neighbours(self.accepted, before=True, wanted=None).reference()
        return whole is not None and 2 * _overlap(whole, wanted) < _overlap(whole, None)

    def _neighbours(self, here: Day) -> _Neighbours:
        """Accepted sessions before where they have symbols enough, else landed ones after."""
        wanted = self._wanted(here.session)
        before = _Neighbours(self.accepted, before=True, wanted=wanted)
        if before.fullest() >= self.limits.min_compared:
            return before
        after = _Neighbours([self.bars.day(session) for session in self._ahead(here.session)], before=False, wanted=wanted)
        return before if self.accepted and after.fullest() < self.limits.min_compared else after

    def _ahead(self, session: date) -> Iterator[date]:
        """The next landed sessions, up to the next hole."""
        start = bisect_right(self.landed, session)
        for later in self.landed[start : start + self.limits.ahead_sessions]:
            if (later - session).days > self.limits.max_hole_days:
                return
            yield later
            session = later


def words(rule: MetricRule, metrics: SessionMetrics) -> str:
    """What to say of a session that breaks ``rule``: the observed value and what is allowed."""
    percents = {
        "present_percent": f"{100 * (metrics.present_ratio or 0):.3g} %",
        "jumped_percent": f"{100 * (metrics.jumped_ratio or 0):.3g} %",
        "copied_percent": f"{100 * (metrics.copied_ratio or 0):.3g} %",
        "thin_percent": f"{100 * (metrics.thin_ratio or 0):.3g} %",
    }
    return rule.says.format(**{**asdict(metrics), **percents})


def _overlap(day: Day, wanted: Bools | None) -> int:
    return int(np.count_nonzero(day.present if wanted is None else day.present & wanted))


def _counts(here: Day, planned: int, landed: Sequence[date], newest: date) -> SessionMetrics:
    present = int(np.count_nonzero(here.present))
    rows = here.rows if np.isnan(here.bars).all() else int(np.nansum(here.bars))
    return SessionMetrics(
        session=here.session.isoformat(),
        planned=planned,
        rows=rows,
        rows_if_planned=rows if planned else None,
        rows_if_newest=rows if planned and here.session == newest else None,
        repeated_rows=here.rows - present,
        newest_landed=landed[-1].isoformat() if landed else "none",
        present=present,
        expected=planned,
    )


def _presence(metrics: SessionMetrics, here: Day, others: _Neighbours, limits: Thresholds) -> None:
    reference = others.reference()
    if reference is not None:
        expected = reference.present if others.wanted is None else reference.present & others.wanted
        count = int(np.count_nonzero(expected))
        # Fewer planned than there were, and not known which: then all that came are held against all that were planned.
        if others.wanted is not None or count <= metrics.planned:
            metrics.expected, metrics.present = count, int(np.count_nonzero(expected & here.present))
    if metrics.expected >= limits.min_compared:
        metrics.present_ratio = metrics.present / metrics.expected


def _prices(metrics: SessionMetrics, here: Day, others: _Neighbours, symbols: Sequence[str], limits: Thresholds) -> None:
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


def _moves_since(here: Day, others: _Neighbours, limits: Thresholds) -> _Moves | None:
    reference = others.reference()
    return None if reference is None else _moves(here, reference, limits)


def _moves_ahead(here: Day, others: _Neighbours, limits: Thresholds) -> _Moves | None:
    """The moves to the sessions after, by the middle one: one of two may be the bad one, so one alone proves nothing."""
    tries = [moves for there in others.days if (moves := _moves(here, there, limits)).compared >= limits.min_compared]
    tries.sort(key=lambda moves: moves.share)
    return tries[(len(tries) - 1) // 2] if len(tries) > 1 else None


def _moves(here: Day, there: Day, limits: Thresholds) -> _Moves:
    ratio = here.close / there.close
    both = np.isfinite(ratio)
    jumped = np.flatnonzero(both & ((ratio > limits.jump_factor) | (ratio < 1 / limits.jump_factor)))
    compared = int(np.count_nonzero(both))
    return _Moves(there, compared, jumped, float(np.median(ratio[both])) if compared else None)


def _copied_ratio(here: Day, others: _Neighbours, limits: Thresholds) -> float | None:
    there = others.reference() if others.before else None
    if there is None:
        return None
    # What did not trade has its close again, and no volume again, for a good reason.
    both = np.isfinite(here.close) & np.isfinite(there.close) & (here.volume > 0) & (there.volume > 0)
    compared = int(np.count_nonzero(both))
    if compared < limits.min_compared:
        return None
    again = both & _equal(here.close, there.close) & _equal(here.volume, there.volume)
    return int(np.count_nonzero(again)) / compared


def _equal(here: Floats, there: Floats) -> Bools:
    """Equal but for the last digit: bars of earlier runs come back from decimals."""
    equal: Bools = np.abs(here - there) <= 1e-12 * there
    return equal


def _volume_ratio(here: Day, others: _Neighbours, limits: Thresholds) -> float | None:
    """Volume here over volume there, of the symbols in both: the middle one of the sessions compared with.

    The symbol with most volume is left out on either side: one wrong number says nothing of a session.
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


def _thinned(metrics: SessionMetrics, here: Day, others: _Neighbours, symbols: Sequence[str], limits: Thresholds) -> None:
    there = others.reference() if others.before else None
    if there is None:
        return
    many = there.bars >= limits.min_usual_bars  # false where not known
    thin = np.flatnonzero(many & (here.bars < limits.min_bars_ratio * there.bars))
    both = many & np.isfinite(here.bars)
    usual = limits.usual_bars_ratio * _shorter(here.session, there.session) * there.bars
    metrics.bars_compared, metrics.thin_symbols = int(np.count_nonzero(both)), int(np.count_nonzero(both & (here.bars < usual)))
    if metrics.bars_compared >= limits.min_compared:
        metrics.thin_ratio = metrics.thin_symbols / metrics.bars_compared
    if many.any():
        metrics.thinned, metrics.bars_reference = len(thin), there.session.isoformat()
    words = [f"{symbols[i]} {here.bars[i]:g} after {there.bars[i]:g}" for i in thin[:NAMED]]
    metrics.thin = ", ".join([*words, *([f"{len(thin) - NAMED} more symbols"] if len(thin) > NAMED else [])])


def _shorter(here: date, there: date) -> float:
    """How much shorter the session ``here`` is than ``there`` because it closes early, as a share; 1 where it is not.

    Never above 1: what futures trade on a holiday counts with the session after it, which may be the early close itself.
    """
    return _open_hours(here) / _open_hours(there) if calendar.is_early_close(here) else 1.0


def _open_hours(session: date) -> float:
    close = calendar.EARLY_CLOSE if calendar.is_early_close(session) else calendar.CLOSE
    return close.hour - 9.5


def _numbers(column: pa.ChunkedArray) -> Floats:
    numbers: Floats = column.combine_chunks().to_numpy(zero_copy_only=False)
    return numbers
