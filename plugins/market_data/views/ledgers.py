"""The coverage ledgers that pages show, and what is made of them.

They are kept in memory and refreshed by reading only what is new. One cache per process. A page never shows what was outdated before
the latest listing, and listings are at most ``GUARD`` seconds old.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Protocol

import numpy as np

from market_data.core.errors import MarketDataError
from market_data.views.records import Records

if TYPE_CHECKING:
    from market_data.lake.ledger import Object
    from market_data.lake.store import Lake

log = logging.getLogger(__name__)

GUARD = 2.0
"""Seconds for which a listing counts as current."""

MOST_BYTES = 500_000_000
"""Bytes of all ledgers in memory, with what is made of them, about; those that were not used for longest are dropped first. The latest one
is always kept."""


class Sized(Protocol):
    """A value that tells its bytes, without those of the records that it is made of."""

    @property
    def nbytes(self) -> int: ...


@dataclass
class _Ledger:
    """A ledger as it was last read.

    :param listed: key -> version tag of its objects.
    :param numbers: key -> number of those objects whose records are in ``records``.
    :param broken: key -> why it was left out.
    :param checked: when it was last read, or reading it failed; ``failure``: why it did.
    :param current: its records, and what is made of exactly them, by name, the latest last.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    checked: float | None = None
    failure: MarketDataError | None = None
    listed: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    current: tuple[Records, OrderedDict[str, Sized]] = field(default_factory=lambda: (Records.none(), OrderedDict()))

    @property
    def records(self) -> Records:
        return self.current[0]

    @property
    def nbytes(self) -> int:
        records, made = self.current
        return records.nbytes + sum(one.nbytes for one in made.values())


class Ledgers:
    """A cache of ledgers; threads may share it.

    :param guard: seconds for which a listing counts as current.
    :param clock: returns seconds.
    """

    def __init__(self, most_bytes: int = MOST_BYTES, guard: float = GUARD, clock: Callable[[], float] = monotonic) -> None:
        self._most, self._guard, self._clock = most_bytes, guard, clock
        self._lock = threading.Lock()
        self._ledgers: OrderedDict[tuple[str, str, str], _Ledger] = OrderedDict()

    def get(self, lake: Lake, dataset: str, source: str) -> Records:
        """Return the records of a dataset (by name) and source; none if nothing is recorded.

        :raises LakeError: if the store fails. Calls that wait meanwhile, or come shortly after, get the same error and do not try.
        """
        place = (lake.url, dataset, source)
        with self._lock:
            ledger = self._ledgers.setdefault(place, _Ledger())
            self._ledgers.move_to_end(place)
        with ledger.lock:
            asked = self._clock()
            if ledger.checked is None or asked - ledger.checked >= self._guard:
                ledger.failure = None
                try:
                    _refresh(ledger, lake, dataset, source)
                except MarketDataError as error:
                    ledger.failure, asked = error, self._clock()
                ledger.checked = asked
            if ledger.failure is not None:
                raise ledger.failure.with_traceback(None)
            found = ledger.records
        self._shrink()
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of all ledgers in memory, with what is made of them."""
        with self._lock:
            return sum(ledger.nbytes for ledger in self._ledgers.values())

    def recall(self, records: Records, name: str) -> Sized | None:
        """Return what was made of these records under a name; None if nothing is kept."""
        with self._lock:
            return self._made_of(records).get(name)

    def keep(self, records: Records, name: str, made: Sized) -> None:
        """Keep what is made of records, as long as they are current and in memory."""
        with self._lock:
            known = self._made_of(records)
            known[name] = made
            known.move_to_end(name)
        self._shrink()

    def _made_of(self, records: Records) -> OrderedDict[str, Sized]:
        found = (made for own, made in (ledger.current for ledger in self._ledgers.values()) if own is records)
        return next(found, OrderedDict())

    def _shrink(self) -> None:
        with self._lock:
            sizes = {place: ledger.nbytes for place, ledger in self._ledgers.items()}
            total = sum(sizes.values())
            for place, size in sizes.items():
                if total <= self._most:
                    return
                if len(self._ledgers) > 1:
                    del self._ledgers[place]
                    total -= size
            for _, made in (ledger.current for ledger in self._ledgers.values()):
                while total > self._most and len(made) > 1:
                    total -= made.popitem(last=False)[1].nbytes


LEDGERS = Ledgers()
"""The ledgers of this process."""


def records_of(lake: Lake, dataset: str, source: str) -> Records:
    """Return the records of a dataset (by name) and source from the cache of this process."""
    return LEDGERS.get(lake, dataset, source)


def warm(open_lake: Callable[[], Lake], places: Callable[[Lake], Iterable[tuple[str, str]]]) -> threading.Thread:
    """Read ledgers in a background thread, so that the first page need not wait for them.

    :param places: returns dataset and source of each ledger. Errors are logged; the page reports them when it is opened.
    """

    def work() -> None:
        try:
            lake = open_lake()
            for dataset, source in places(lake):
                records_of(lake, dataset, source)
        except MarketDataError as error:
            log.warning("the coverage ledgers are not read ahead: %s", error)
        except Exception:
            log.exception("the coverage ledgers are not read ahead")

    thread = threading.Thread(target=work, name="market-data-ledgers", daemon=True)
    thread.start()
    return thread


def _refresh(ledger: _Ledger, lake: Lake, dataset: str, source: str) -> None:
    """Bring ``ledger`` up to date; it is unchanged if reading fails."""
    from market_data.lake.layout import manifest_prefix
    from market_data.lake.ledger import FOLDED_FOLDER, own_objects

    folder = manifest_prefix(dataset, source)
    folded_prefix = f"{folder}/{FOLDED_FOLDER}/"
    listed = _list(lake, folder)
    if listed == ledger.listed:
        return
    own = set(own_objects(folder, list(listed)))
    foreign = {key for key in listed if key not in own and not key.startswith(folded_prefix)}
    known = ledger.listed
    found = _read(lake, sorted(key for key in own if known.get(key) != listed[key]))
    # Folded objects are listed after the others were read: they have the records of those that were deleted in the meantime.
    folded = _list(lake, folded_prefix.rstrip("/"))
    found |= _read(lake, sorted(key for key, tag in folded.items() if known.get(key) != tag))
    current = {key: tag for key, tag in listed.items() if not key.startswith(folded_prefix)} | folded
    for key, one in found.items():
        if one.etag is None:
            del current[key]
        else:
            current[key] = one.etag
    broken = {key: text for key, text in ledger.broken.items() if current.get(key) == known.get(key)}
    broken |= {key: one.problem for key, one in found.items() if one.problem}
    broken |= {key: f"lake object {key} does not belong to the coverage ledger" for key in foreign}
    _replace(ledger, current, found, broken)


def _replace(ledger: _Ledger, current: dict[str, str], found: Mapping[str, Object], broken: dict[str, str]) -> None:
    removed = [number for key, number in ledger.numbers.items() if key not in current or key in found]
    numbers = {key: number for key, number in ledger.numbers.items() if key in current and key not in found}
    first = max(ledger.numbers.values(), default=-1) + 1
    added = [(key, one.records) for key, one in found.items() if one.records is not None]
    fresh = {key: first + place for place, (key, _) in enumerate(added)}
    every = numbers | fresh
    order = np.zeros(first + len(added), dtype=np.int32)
    for place, key in enumerate(sorted(every, key=lambda key: ("/run=folded/" in key, key))):
        order[every[key]] = place
    version = hashlib.sha256("\n".join(f"{key} {tag}" for key, tag in sorted(current.items())).encode()).hexdigest()[:16]
    tables = [(fresh[key], table) for key, table in added]
    records = ledger.records.revised(removed, tables, order, version, [broken[key] for key in sorted(broken)])
    for key in sorted(broken.keys() - ledger.broken.keys()):
        log.warning("%s; it is left out", broken[key])
    ledger.listed, ledger.numbers, ledger.broken, ledger.current = current, every, broken, (records, OrderedDict())


def _list(lake: Lake, folder: str) -> dict[str, str]:
    return {one.key: one.etag for one in lake.listed(folder)}


def _read(lake: Lake, keys: Sequence[str]) -> dict[str, Object]:
    from market_data.lake.ledger import read_objects

    return {one.key: one for one in read_objects(lake, keys)}
