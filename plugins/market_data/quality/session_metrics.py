"""The metrics of a session, each computed from its bars and those of its neighbours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from market_data.quality.bars_by_session import BarsBySession, Bools, Floats, SessionBars
from market_data.quality.metric_rules import Thresholds

NAMED = 3  # symbols named in a reason


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


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Sessions to compare with, nearest first: accepted ones before, or stored ones after.

    Any of them may itself be bad.

    :param wanted: the requested symbols; None where unknown: then any symbol may be one of them.
    """

    days: Sequence[SessionBars]
    before: bool
    wanted: Bools | None

    def fullest(self) -> int:
        return max((overlap(day, self.wanted) for day in self.days), default=0)

    def reference(self) -> SessionBars | None:
        """Return the nearest session with at least half as many wanted symbols as the fullest one.

        This skips sessions in which only a few symbols were repaired.
        """
        counts = [overlap(day, self.wanted) for day in self.days]
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


def overlap(day: SessionBars, wanted: Bools | None) -> int:
    return int(np.count_nonzero(day.present if wanted is None else day.present & wanted))


def counts(here: SessionBars, planned: int, stored: Sequence[date], newest: date) -> SessionMetrics:
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


def add_presence(metrics: SessionMetrics, here: SessionBars, others: Neighbours, limits: Thresholds, regular: Bools) -> None:
    reference = others.reference()
    if reference is not None:
        expected = regular & (reference.present if others.wanted is None else reference.present & others.wanted)
        count = int(np.count_nonzero(expected))
        # Fewer were planned than had bars, and it is unknown which: then all present are compared with all planned.
        if others.wanted is not None or count <= metrics.planned:
            metrics.expected, metrics.present = count, int(np.count_nonzero(expected & here.present))
    if metrics.expected >= limits.min_compared:
        metrics.present_ratio = metrics.present / metrics.expected


def add_prices(metrics: SessionMetrics, here: SessionBars, others: Neighbours, symbols: Sequence[str], limits: Thresholds) -> None:
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


def _moves_since(here: SessionBars, others: Neighbours, limits: Thresholds) -> _Moves | None:
    reference = others.reference()
    return None if reference is None else _moves(here, reference, limits)


def _moves_ahead(here: SessionBars, others: Neighbours, limits: Thresholds) -> _Moves | None:
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


def copied_ratio_of(here: SessionBars, others: Neighbours, limits: Thresholds) -> float | None:
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


def volume_ratio_of(here: SessionBars, others: Neighbours, limits: Thresholds) -> float | None:
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


def add_thinned(
    metrics: SessionMetrics, here: SessionBars, others: Neighbours, bars: BarsBySession, limits: Thresholds, regular: Bools
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
