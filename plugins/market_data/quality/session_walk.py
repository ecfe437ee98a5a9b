"""Compute one row of metrics per planned session, for the suite ``bars.sessions``.

The metrics show faults that the gate cannot see in one response.

Sessions are processed in order, and each is compared with *accepted* sessions before it, so that one bad session affects only itself.
If none is known (the first session ever, the first after a hole), the stored sessions after it are used instead.

A session that a person released may stand for a new level, or for itself alone. So a later session passes if it fits the sessions from the
released one on, or those that nobody released.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date

import numpy as np
import pyarrow as pa

from market_data.core.run import Grain
from market_data.quality.bars_by_session import BarsBySession, Bools, SessionBars
from market_data.quality.metric_rules import CRITICAL, MetricRule, Thresholds, session_rules
from market_data.quality.session_metrics import (
    Neighbours,
    SessionMetrics,
    add_presence,
    add_prices,
    add_thinned,
    copied_ratio_of,
    counts,
    overlap,
    volume_ratio_of,
)

LEVEL = 0.5  # share of a session's bars that must be released for it to stand for a level of its own


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
        metrics = counts(here, self.planned[session], self.stored, newest=max(self.planned))
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

    def _compared(self, here: SessionBars, metrics: SessionMetrics, others: Neighbours) -> SessionMetrics:
        """Return the metrics with those that compare ``here`` with other sessions."""
        add_presence(metrics, here, others, self.limits, self.regular)
        if others.reference() is None and here.session < self.recent_from:
            metrics.present_ratio, metrics.present_ratio_alone = None, metrics.present_ratio
        add_prices(metrics, here, others, self.bars.symbols, self.limits)
        metrics.copied_ratio = copied_ratio_of(here, others, self.limits)
        metrics.volume_ratio = volume_ratio_of(here, others, self.limits)
        add_thinned(metrics, here, others, self.bars, self.limits, self.regular)
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
            if max((overlap(day, None) for day in level), default=0) >= self.limits.min_compared:
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
        wanted, whole = self._wanted(session), Neighbours(self.accepted, before=True, wanted=None).reference()
        return whole is not None and 2 * overlap(whole, wanted) < overlap(whole, None)

    def _neighbours(self, here: SessionBars, accepted: Sequence[SessionBars]) -> Neighbours:
        """Return the accepted sessions before if they have enough symbols, else the stored ones after."""
        wanted = self._wanted(here.session)
        before = Neighbours(accepted, before=True, wanted=wanted)
        if before.fullest() >= self.limits.min_compared:
            return before
        after = Neighbours([self.bars.day(session) for session in self._ahead(here.session)], before=False, wanted=wanted)
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
