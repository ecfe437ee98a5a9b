"""Retention: delete what is older than the ages in feeds.yaml.

Market data, the ledger and the journal are never deleted.

Each object is deleted in the version that was listed: one that was written again in the meantime stays.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from market_data.config.retention import KINDS
from market_data.core.messages import shortened
from market_data.core.outcome import State
from market_data.lake import conditional, staging
from market_data.lake.cells import table_of
from market_data.lake.coverage import Coverage
from market_data.lake.ledger import read_coverage
from market_data.lake.staging import StagedInfo
from market_data.lake.store import Lake, Listed
from market_data.maintenance import journal

AT_A_TIME = 5_000
_BATCH = re.compile(r"staging/(?P<dataset>[^/]+)/provider=(?P<source>[^/]+)/(?P<batch>run=[^/]+/[^/]+)/.+")
_RECEIPTS = re.compile(r"receipts/(?P<batch>[^/]+/provider=[^/]+/run=[^/]+/[^/]+)/.+")


@dataclass(frozen=True)
class Expired:
    """Result of applying the ages, or of its dry run.

    :param objects: kind -> objects deleted, or to delete in a dry run; ``bytes``: their size.
    :param left: a sentence on everything old that was left alone, with the reason.
    """

    dry_run: bool
    objects: Mapping[str, int] = field(default_factory=dict)
    bytes: int = 0
    left: tuple[str, ...] = ()

    def sentences(self) -> list[str]:
        """Return the result in words."""
        counts = ", ".join(f"{count:,} of {kind}" for kind, count in self.objects.items() if count) or "none"
        total = f"retention: objects past their age: {counts}; {self.bytes / 1e6:,.1f} MB"
        return [f"{total}; {'nothing was deleted (dry run)' if self.dry_run else 'deleted'}", *shortened(self.left)]


def apply_retention(
    lake: Lake, ages: Mapping[str, int | None], now: datetime, *, dry_run: bool = False, by: str = "market-data"
) -> Expired:
    """Delete the objects of each kind that are older than its age.

    Left alone and named: receipts of batches that have anything in staging, and what in staging is not recorded as loaded or refused. A
    store that ignores conditions of a DELETE keeps everything.

    :param ages: kind (of `config.retention.KINDS`) -> days; None: kept.
    :param by: who runs it, for the journal.
    """
    counts, left, size = Counter[str](), list[str](), 0
    wanted = [(kind, now - timedelta(days=days)) for kind in KINDS if (days := ages.get(kind)) is not None]
    if wanted and not dry_run and not conditional.honours_conditional_delete(lake):
        return Expired(dry_run, left=(f"the store of {lake.url} ignores conditions of a DELETE: nothing is deleted",))
    try:
        for kind, before in wanted:
            found: Iterator[Listed] = (item for item in lake.listed(KINDS[kind]) if item.modified < before)
            if kind == "receipts":
                found = _not_needed(lake, found, left)
            elif kind == "staging":
                found = _finished(lake, found, left)
            while some := list(islice(found, AT_A_TIME)):
                deleted = [True] * len(some) if dry_run else list(lake.each(lambda item: lake.delete_if(item.key, item.etag), some))
                counts[kind] += sum(deleted)
                size += sum(item.size for item, gone in zip(some, deleted, strict=True) if gone)
                left += [f"{item.key} was written again and is kept" for item, gone in zip(some, deleted, strict=True) if not gone]
    finally:
        if not dry_run and counts.total():
            what = {"deleted": dict(counts), "bytes": size, "ages": dict(ages)}
            journal.write(lake, journal.Entry(now, "retention", by, "objects past the age in feeds.yaml were deleted", what))
    return Expired(dry_run, dict(counts), size, tuple(left))


def _not_needed(lake: Lake, receipts: Iterator[Listed], left: list[str]) -> Iterator[Listed]:
    """Yield the receipts without those of batches that have anything in staging."""
    matches = (_BATCH.fullmatch(key) for key, _ in lake.list("staging"))
    needed = {f"{match['dataset']}/provider={match['source']}/{match['batch']}" for match in matches if match}
    kept: Counter[str] = Counter()
    for item in receipts:
        match = _RECEIPTS.fullmatch(item.key)
        if match and match["batch"] in needed:
            kept[match["batch"]] += 1
        elif match:
            yield item
    left += [f"{count:,} receipts of {batch} are kept: it has rows in staging" for batch, count in sorted(kept.items())]


def _finished(lake: Lake, found: Iterator[Listed], left: list[str]) -> Iterator[Listed]:
    """Yield the staging objects whose cells were all recorded after their rows arrived."""
    sources: dict[tuple[str, str], dict[str, Listed]] = {}
    for item in found:
        match = _BATCH.fullmatch(item.key)
        sources.setdefault((match["dataset"], match["source"]) if match else ("", ""), {})[item.key] = item
    waits = [f"{key} is kept: it is not an object of staging" for key in sources.pop(("", ""), ())]
    for (dataset, source), items in sorted(sources.items()):
        waiting = [item for item in staging.waiting(lake, dataset, source) if item.key in items]
        infos, _ = staging.describe(lake, waiting)
        coverage = read_coverage(lake, dataset, source) if infos else None
        for key, item in sorted(items.items()):
            if coverage is not None and key in infos and _is_recorded(coverage, infos[key]):
                yield item
            else:
                waits.append(f"{key} is kept: its rows are not recorded as loaded; the feed's next run loads them or says why not")
    left += waits


def _is_recorded(coverage: Coverage, info: StagedInfo) -> bool:
    """Return True if every cell with rows has a later record that says so: loaded, or refused."""
    cells = table_of(run for run in info.receipt.cells if run.with_rows)
    nothing: Sequence[str] = [str(State.EMPTY), str(State.PENDING)]
    states = coverage.states(cells)
    told = pc.and_(pc.is_valid(states), pc.invert(pc.fill_null(pc.is_in(states, pa.array(nothing)), False)))
    return bool(pc.all(pc.and_(told, coverage.recorded_after(cells, info.staged_us - 1)), min_count=0).as_py())
