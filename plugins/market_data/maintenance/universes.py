"""Keep the index files of the lake up to date from public sources, today's members and the past.

``metadata/indices/{index}.csv`` has an interval per membership, with the symbol as traded. An implausible update is refused with its
difference to the stored file, until a person overrules it with a reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from market_data.config.indices import key_of, update_index
from market_data.config.universes import Member, read_members
from market_data.core import settings
from market_data.core.calendar import NEW_YORK
from market_data.core.errors import ConfigError, LakeError, ParamError
from market_data.core.messages import shown, suggestion
from market_data.core.symbol_changes import HasBars, SymbolChange
from market_data.maintenance import journal
from market_data.maintenance.companies import (
    companies_text,
    key_of_companies,
    key_of_renames,
    read_companies,
    read_renames,
    renames_by_cik,
    renames_text,
)
from market_data.maintenance.index_difference import Diff, difference, renames_by_date
from market_data.maintenance.index_history import History, history, new_renames, renames_in
from market_data.maintenance.index_plausibility import Limits, listed_objections, objections, witness_of
from market_data.maintenance.index_sources.found import Found

if TYPE_CHECKING:
    from market_data.lake.store import Lake
    from market_data.maintenance.listings import Tickers

JOB = "universes"
MOST_LINES = 1_000
"""Lines of a difference that are shown."""
LISTED = "listed"
"""The universe of everything that is listed, from a provider's reference data."""


@dataclass(frozen=True, slots=True)
class Index:
    """An index that can be kept up to date.

    :param sources: setting with the addresses of its sources; ``past``: of its memberships.
    :param limits: bounds of a plausible update.
    :param expected: members at least and at most in any year, for the report of gaps.
    """

    name: str
    limits: Limits
    expected: tuple[int, int] | None = None
    sources: str = ""
    past: str = ""


INDICES: Mapping[str, Index] = {
    index.name: index
    for index in (
        Index("sp500", Limits(495, 515, 15), (495, 510), "MARKET_DATA_SP500_SOURCES", "MARKET_DATA_SP500_HISTORY"),
        Index("nasdaq100", Limits(98, 110, 15), (98, 110), "MARKET_DATA_NASDAQ100_SOURCES", "MARKET_DATA_NASDAQ100_HISTORY"),
        Index("dow30", Limits(30, 30, 4), (30, 30), "MARKET_DATA_DOW30_SOURCES", "MARKET_DATA_DOW30_HISTORY"),
        Index(LISTED, Limits(3_000, 40_000, 1_000)),
    )
}
DEFAULT = ("sp500", "nasdaq100", "dow30")


@dataclass(frozen=True)
class Reading:
    """A source of an index, read.

    :param address: where it was read.
    :param failed: a sentence per address before it that failed.
    :param listing: the memberships of a listing, which needs no history.
    """

    address: str
    found: Found
    past: Found | None = None
    failed: tuple[str, ...] = ()
    listing: History | None = None


@dataclass(frozen=True)
class Terms:
    """How an update is made.

    :param least: instead of the index's own limit; ``most`` and ``changes`` likewise.
    :param overrule: a person's reason to write an implausible update; ``by``: that person.
    """

    dry_run: bool = True
    least: int | None = None
    most: int | None = None
    changes: int | None = None
    overrule: str = ""
    by: str = ""

    def __post_init__(self) -> None:
        if self.overrule and not self.by:
            raise ParamError(["an implausible update is overruled without a name; the person's name is needed (by)"])

    def limits(self, index: Index) -> Limits:
        given = {name: getattr(self, name) for name in ("least", "most", "changes")}
        return replace(index.limits, **{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True)
class Updated:
    """Result of an update.

    :param objections: why it is implausible; empty for a plausible one.
    :param sentences: gaps and contradictions of the sources.
    :param written: the index file was changed.
    :param changed: the update differs from the stored file.
    """

    index: str
    address: str
    day: date
    diff: Diff
    objections: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    written: bool = False
    changed: bool = False
    overruled: bool = False

    @property
    def refused(self) -> bool:
        return bool(self.objections) and not self.overruled

    def lines(self) -> list[str]:
        """Return the result as text: a headline, the difference, objections, then gaps."""
        state = (
            "refused" if self.refused else "written" if self.written else "not written (dry run)" if self.changed else "as before"
        )
        counts = f"{len(self.diff.joined):,} joined, {len(self.diff.left):,} left, {len(self.diff.renamed):,} renamed"
        lines = self.diff.lines()
        over = [f"  overruled: {text}" for text in self.objections] if self.overruled else []
        return [
            f"{self.index}: {self.diff.count:,} members on {self.day} from {self.address}; {counts}; {state}",
            *(f"  {line}" for line in lines[:MOST_LINES]),
            *([f"  and {len(lines) - MOST_LINES:,} more"] if len(lines) > MOST_LINES else []),
            *(f"  implausible: {text}" for text in self.objections if self.refused),
            *over,
            *(f"  gap: {text}" for text in self.sentences),
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "address": self.address,
            "day": self.day.isoformat(),
            "members": self.diff.count,
            "joined": {symbol: moment and moment.isoformat() for symbol, moment in sorted(self.diff.joined.items())},
            "left": {symbol: moment and moment.isoformat() for symbol, moment in sorted(self.diff.left.items())},
            "renamed": {old: {"to": new, "date": moment.isoformat()} for old, (new, moment) in sorted(self.diff.renamed.items())},
            "redated": list(self.diff.redated),
            "objections": list(self.objections),
            "gaps": list(self.sentences),
            "refused": self.refused,
            "written": self.written,
            "changed": self.changed,
        }


def index_of_name(name: str) -> Index:
    """Return the index of that name; ``ParamError`` lists those there are."""
    if name not in INDICES:
        raise ParamError([f"index is {shown(name)}{suggestion(name, INDICES)}; known: {', '.join(INDICES)}"])
    return INDICES[name]


def day_of(now: datetime) -> date:
    """Return the date in New York."""
    return now.astimezone(NEW_YORK).date()


def read_index_sources(index: Index, *, source: str | None = None, past: str | None = None) -> Reading:
    """Fetch the source of an index, and its memberships where an address is set.

    :param source: address instead of the setting's; ``past`` likewise.
    :raises ConfigError: if no address is set, or one is not valid.
    :raises ProviderError: if no address can be read; names each.
    """
    from market_data.maintenance.index_sources.download import first_usable

    addresses = [source] if source else settings.value(index.sources).split()
    read = first_usable(index.name, addresses, index.sources)
    where = past or settings.value(index.past)
    older = first_usable(index.name, [where], index.past) if where else None
    if older and not older.found.memberships:
        raise ConfigError(f"{index.past}: {older.address} has no memberships; columns ticker, start_date, end_date are needed")
    if read.found.memberships and not read.found.constituents:
        raise ConfigError(f"{index.sources}: {read.address} has memberships, not today's members; set it as {index.past}")
    return Reading(read.address, read.found, older.found if older else None, read.failed)


def read_listing(tickers: Tickers, day: date, earlier: Iterable[date] = ()) -> Reading:
    """Return everything that a provider's reference data list, see `listings.listing`."""
    from market_data.maintenance.listings import listing
    from market_data.providers.polygon.symbols import from_vendor

    found, companies = listing(tickers, day, earlier, from_vendor)
    return Reading("the provider's reference data", Found(companies), listing=found)


def update_universe(lake: Lake, index: Index, reading: Reading, now: datetime, terms: Terms) -> Updated:
    """Bring an index file up to date.

    A dry run, and a refused update, write nothing. An update without a difference writes nothing either.

    :raises LakeError: if the store fails, or another writer changes the file meanwhile.
    :raises ConfigError: if the stored file is invalid.
    """
    day, key = day_of(now), key_of(index.name)
    stored = lake.get(key)
    text = stored.body.decode("utf-8-sig", "replace") if stored else None
    before = read_members(text, source=key) if text is not None else ()
    own = read_renames(lake, index.name)
    by_cik = renames_by_cik(read_companies(lake, index.name), reading.found.constituents, day)
    found, renames = _with_renames(lake, reading, index, before, day, new_renames(by_cik, own) + own)
    change = update_index(text, found.members, day, source=key, since_ever=True)
    after = read_members(change.text, source=key) if change.text is not None else before
    diff = difference(before, after, day, [*found.renames, *renames])
    witness = witness_of(lake, index.name, [*diff.joined, *diff.left])
    judged = objections(diff, terms.limits(index), witness, found.joining, found.leaving, first=text is None)
    judged += listed_objections(diff, witness) if reading.listing else []
    overruled = bool(judged and terms.overrule)
    result = Updated(
        index.name, reading.address, day, diff, tuple(judged), (*reading.failed, *found.sentences), changed=change.text is not None
    )
    result = replace(result, overruled=overruled)
    if terms.dry_run or result.refused:
        return result
    # Changes of symbols first: where the process is killed before the index is written, they are known the next time.
    _write(lake, key_of_renames(index.name), renames_text(new_renames(renames, own) + own) if renames or own else None)
    if change.text is not None:
        _replace(lake, key, stored.body if stored else None, change.text)
    _write(lake, key_of_companies(index.name), companies_text(reading.found.constituents))
    if overruled and change.text is not None:
        what = {name: value for name, value in result.to_json().items() if name not in ("gaps", "written", "refused")}
        journal.write(lake, journal.Entry(now, JOB, terms.by, terms.overrule, what))
    return replace(result, written=change.text is not None)


def _with_renames(
    lake: Lake, reading: Reading, index: Index, before: Sequence[Member], day: date, own: Sequence[SymbolChange]
) -> tuple[History, list[SymbolChange]]:
    """Return the history, and the changes of symbols that only the index's sources tell."""
    if reading.listing is not None:
        return reading.listing, []
    of_lake, has_bars = _lake_renames(lake)
    own = [*own, *renames_in(reading.found.changes)]

    def told(renames: Sequence[SymbolChange]) -> History:
        return history(
            reading.found,
            day,
            [*of_lake, *new_renames(renames, of_lake)],
            past=reading.past,
            expected=index.expected,
            has_bars=has_bars,
        )

    found = told(own)
    same_date = renames_by_date(before, found.members, day)
    if same_date:
        own = [*own, *new_renames(same_date, own)]
        found = told(own)
    return found, new_renames(own, of_lake)


def _lake_renames(lake: Lake) -> tuple[list[SymbolChange], HasBars]:
    from market_data.config.layouts import default_layout
    from market_data.datasets.registry import dataset
    from market_data.lake.symbol_changes import bars_in, read_symbol_changes

    return read_symbol_changes(lake, default_layout(), dataset("symbol-changes")), bars_in(lake)


def _write(lake: Lake, key: str, text: str | None) -> None:
    if text is not None:
        lake.update(key, lambda stored: None if stored == text.encode() else text.encode())


def _replace(lake: Lake, key: str, judged: bytes | None, text: str) -> None:
    def revise(stored: bytes | None) -> bytes:
        if stored != judged:
            raise LakeError(f"{key} was changed by another writer while its update was judged; run it again")
        return text.encode()

    lake.update(key, revise)
