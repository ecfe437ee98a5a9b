"""The difference between the stored memberships of an index and an update, as of one day."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from market_data.config.universes import Member
from market_data.core.symbol_changes import SymbolChange, follow


@dataclass(frozen=True)
class Diff:
    """The difference between a stored index and its update.

    :param joined: symbol -> first date, None where it is unknown; ``left``: symbol -> first date without it. Today's members only.
    :param renamed: old symbol -> new symbol and date, of companies that stay members.
    :param redated: stored memberships of which a date changes, in words.
    """

    count: int
    joined: Mapping[str, date | None]
    left: Mapping[str, date | None]
    renamed: Mapping[str, tuple[str, date]]
    redated: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the difference as text, one line each."""
        return [
            *(f"joined: {symbol} {moment or 'on an unknown date'}" for symbol, moment in sorted(self.joined.items())),
            *(f"left: {symbol} {moment}" for symbol, moment in sorted(self.left.items())),
            *(f"renamed: {old} is {new} since {moment}" for old, (new, moment) in sorted(self.renamed.items())),
            *(f"date: {text}" for text in self.redated),
        ]


def renames_by_date(before: Iterable[Member], after: Iterable[Member], day: date) -> list[SymbolChange]:
    """Return a change of symbol per member that is replaced by one that joined on the same old date.

    Sources that do not number companies show a change of symbol so.
    """
    now, then = {row.symbol for row in after if row.on(day)}, {row.symbol for row in before if row.removed is None}
    told = {row.symbol for row in after if row.removed is not None}
    gone: dict[date, list[str]] = {}
    new: dict[date, list[str]] = {}
    for rows, others, into in ((before, now | told, gone), (after, then, new)):
        for row in rows:
            if row.on(day) and row.symbol not in others and row.added and row.added < day - timedelta(days=30):
                into.setdefault(row.added, []).append(row.symbol)
    return [
        SymbolChange(day, gone[moment][0], new[moment][0]) for moment in gone if len(gone[moment]) == len(new.get(moment, ())) == 1
    ]


def difference(before: Sequence[Member], after: Sequence[Member], day: date, renames: Sequence[SymbolChange]) -> Diff:
    """Return the difference between two states of an index, as of ``day``."""
    old, new = ({row.symbol: row for row in rows if row.on(day)} for rows in (before, after))
    joined, left = {symbol: new[symbol].added for symbol in new.keys() - old.keys()}, old.keys() - new.keys()
    renamed: dict[str, tuple[str, date]] = {}
    for symbol in sorted(left):
        spans = follow(symbol, renames, old[symbol].added)
        later = next((span for span in spans if span.symbol in joined and span.start != date.min), None)
        if later:
            renamed[symbol] = (later.symbol, later.start)
    ends = {row.symbol: row.removed for row in after if row.symbol in left and row.removed}
    targets = {target for target, _ in renamed.values()}
    return Diff(
        len(new),
        {symbol: moment for symbol, moment in joined.items() if symbol not in targets},
        {symbol: ends.get(symbol) for symbol in left if symbol not in renamed},
        renamed,
        tuple(_redated(before, after, {*joined, *left})),
    )


def _redated(before: Iterable[Member], after: Iterable[Member], told: set[str]) -> list[str]:
    """Return the stored memberships with known dates that an update changes.

    :param told: symbols that are left out.
    """
    now: dict[str, list[Member]] = {}
    for row in after:
        now.setdefault(row.symbol, []).append(row)
    texts = []
    for row in before:
        same = now.get(row.symbol, ())
        if row.symbol in told or row in same or (row.added is None and row.removed is None):
            continue
        spans = ", ".join(f"{one.added or '...'} to {one.removed or '...'}" for one in same) or "none"
        texts.append(f"{row.symbol}: {row.added or '...'} to {row.removed or '...'}, now {spans}")
    return texts
