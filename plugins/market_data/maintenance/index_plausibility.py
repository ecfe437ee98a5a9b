"""Judge a change of an index before it is written.

It may have too few members, too many changes, names that trade on, or names that nobody knows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from market_data.config.indices import FOLDER, key_of
from market_data.config.universes import Member, known, read_members, read_universe
from market_data.core.errors import ConfigError
from market_data.core.messages import some
from market_data.maintenance.index_difference import Diff

if TYPE_CHECKING:
    from market_data.lake.store import Lake

RECENT = timedelta(days=10)
"""A name trades on if the ledger has a session of it after it left, and within this time."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a plausible update.

    :param least: members at least; ``most``: at most.
    :param changes: names that join, and that leave, at once; and dates of memberships that change. Renamed companies do not count.
    """

    least: int
    most: int
    changes: int


@dataclass(frozen=True)
class Witness:
    """Knowledge of symbols in the lake and in this project, independent of the source.

    :param last: symbol -> last session in the ledger of bars.
    :param known: symbols of any universe, other index or listing.
    """

    last: Mapping[str, date]
    known: frozenset[str]


def objections(
    diff: Diff, limits: Limits, witness: Witness, joining: Collection[str], leaving: Collection[str], *, first: bool
) -> list[str]:
    """Return a sentence per reason not to write an update; empty for a plausible one.

    :param joining: symbols of which a row of the list of changes says that they joined; ``leaving``: that they left. A name that is merely
        missing and trades on is suspicious; one that was replaced in the index trades on as a rule.
    :param first: there is no stored index: joining names are not judged.
    """
    found = []
    if not limits.least <= diff.count <= limits.most:
        found.append(f"{diff.count:,} members; {limits.least:,} to {limits.most:,} are plausible (min_members, max_members)")
    if first:
        return found
    for what, names in (("join", list(diff.joined)), ("leave", list(diff.left)), ("get another date", list(diff.redated))):
        if len(names) > limits.changes:
            found.append(f"{len(names):,} {what} at once; at most {limits.changes:,} are plausible (max_changes): {some(names)}")
    trading = [
        f"{symbol} (left {moment}, traded {witness.last[symbol]})"
        for symbol, moment in diff.left.items()
        if moment and symbol not in leaving and symbol in witness.last and witness.last[symbol] >= moment - RECENT
    ]
    if trading:
        found.append(f"{len(trading)} leave without a row that says so, and trade on by the ledger: {some(trading)}")
    unknown = [symbol for symbol in diff.joined if symbol not in {*witness.known, *witness.last, *joining}]
    if unknown:
        found.append(f"{len(unknown)} join that no ledger, universe or listing knows, without a row that says so: {some(unknown)}")
    return found


def listed_objections(diff: Diff, witness: Witness) -> list[str]:
    """Return a sentence if symbols are delisted that trade after that date by the ledger."""
    trading = [
        f"{symbol} (delisted {moment}, traded {witness.last[symbol]})"
        for symbol, moment in diff.left.items()
        if moment and symbol in witness.last and witness.last[symbol] > moment
    ]
    return [f"{len(trading)} are delisted and trade on by the ledger: {some(trading)}"] if trading else []


def witness_of(lake: Lake, index: str, symbols: Iterable[str]) -> Witness:
    """Return what the ledger of daily bars, the universes and the other indices know of ``symbols``."""
    wanted = list(dict.fromkeys(symbols))
    names = {row.symbol for name in known() for row in read_universe(name).members}
    for key, _ in lake.list(FOLDER.rstrip("/")):
        stored = lake.get(key) if key != key_of(index) else None
        names |= {row.symbol for row in _readable(stored.body, key)} if stored else set()
    return Witness(_last_sessions(lake, wanted), frozenset(names & set(wanted)))


def _readable(body: bytes, key: str) -> Sequence[Member]:
    try:
        return read_members(body.decode("utf-8-sig"), source=key)
    except (ConfigError, UnicodeDecodeError):
        return ()


def _last_sessions(lake: Lake, symbols: Sequence[str]) -> dict[str, date]:
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data.core.outcome import State
    from market_data.lake.ledger import read_coverage, sources

    found: dict[str, date] = {}
    for source in sources(lake, "ohlcv-1d") if symbols else ():
        cells = read_coverage(lake, "ohlcv-1d", source).table.select(["symbol", "session", "state"])
        have = pc.and_(
            pc.equal(cells["state"].cast(pa.string()), str(State.HAVE)),
            pc.is_in(cells["symbol"].cast(pa.string()), pa.array(symbols, pa.string())),
        )
        cells = cells.filter(have)
        latest = pa.table({"symbol": cells["symbol"].cast(pa.string()), "session": cells["session"]}).group_by("symbol")
        for row in latest.aggregate([("session", "max")]).to_pylist():
            found[row["symbol"]] = max(row["session_max"], found.get(row["symbol"], date.min))
    return found
