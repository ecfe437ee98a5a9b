"""Everything that was listed: the tickers of a provider, as memberships of a universe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from market_data.config.symbols import symbol_problem
from market_data.config.universes import Member, in_order
from market_data.core.messages import some
from market_data.core.spelling import canonical
from market_data.maintenance.index_history import History
from market_data.maintenance.index_sources.found import Constituent

if TYPE_CHECKING:
    import pyarrow as pa

DAY = timedelta(days=1)
KINDS = ("CS", "ADRC", "ETF")
"""Kinds of tickers that belong to the universe: common stocks, depositary receipts, funds."""

Tickers = Callable[..., "pa.Table"]
"""``tickers(day, active=...)`` of a provider's hook: columns ``ticker``, ``type``, ``cik``, ``name``, ``delisted``."""


def listing(
    tickers: Tickers,
    day: date,
    earlier: Iterable[date] = (),
    spelling: Callable[[str], str] = canonical,
    kinds: Sequence[str] = KINDS,
) -> tuple[History, tuple[Constituent, ...]]:
    """Return all listings up to ``day``, with dates of delisting, and the companies of ``day``.

    The first date of a listing is not in the data. Each day of ``earlier`` narrows it: a symbol that was not listed then, and is later, is
    a member from the next date on. Without one that lacks it, its first date stays unknown.

    :param tickers: makes about a dozen calls each time.
    :param spelling: the canonical symbol of a vendor's name.
    """
    wanted = set(kinds)
    active = [row for row in tickers(day, active=True).to_pylist() if not wanted or row["type"] in wanted]
    gone = [row for row in tickers(day, active=False).to_pylist() if not wanted or row["type"] in wanted]
    snapshots = {
        moment: {spelling(row["ticker"]) for row in tickers(moment, active=True).to_pylist()} for moment in sorted(set(earlier))
    }
    odd: list[str] = []
    undated: list[str] = []
    ends: dict[str, set[date | None]] = {}
    for row, is_gone in [*((row, False) for row in active), *((row, True) for row in gone)]:
        symbol = spelling(row["ticker"])
        if symbol_problem(symbol):
            odd.append(symbol)
        elif is_gone and row["delisted"] is None:
            undated.append(symbol)
        else:
            ends.setdefault(symbol, set()).add(row["delisted"] if is_gone else None)
    return _history(ends, snapshots, odd, undated), _companies(active, spelling)


def _history(
    ends: Mapping[str, set[date | None]], snapshots: Mapping[date, set[str]], odd: Sequence[str], undated: Sequence[str]
) -> History:
    members: list[Member] = []
    reused: list[str] = []
    for symbol, found in ends.items():
        previous: date | None = None
        for end in sorted(found, key=lambda moment: moment or date.max):
            since = _since(symbol, end, snapshots)
            if previous is not None:
                reused.append(symbol)
                since = max(filter(None, (since, previous)))
            if since is None or end is None or since < end:
                members.append(Member(symbol, since, end))
                previous = end
    sentences = [
        (odd, "tickers are not symbols of a stock or fund and are left out"),
        (undated, "tickers are delisted on an unknown date and are left out"),
        (reused, "symbols belonged to several companies; a later one is a member since the earlier one was delisted"),
    ]
    texts = tuple(f"{len(names):,} {text}: {some(names)}" for names, text in sentences if names)
    return History(in_order(members), leaving=frozenset(row.symbol for row in members if row.removed), sentences=texts)


def _since(symbol: str, end: date | None, snapshots: Mapping[date, set[str]]) -> date | None:
    """Return the first date of the listing that ended on ``end``, as far as the snapshots tell."""
    since = None
    for moment, names in snapshots.items():
        if end is not None and moment >= end:
            break
        if symbol in names:
            return since
        since = moment + DAY
    return since


def _companies(active: Iterable[Mapping[str, Any]], spelling: Callable[[str], str]) -> tuple[Constituent, ...]:
    rows = ((spelling(row["ticker"]), row) for row in active)
    return tuple(Constituent(symbol, row["name"] or "", (row["cik"] or "").zfill(10) if row["cik"] else "") for symbol, row in rows)
