"""What the tasks of a run do, without Airflow: plan, fetch, check, load, publish, judge.

A run's data takes this path::

    plan     universe x sessions = cells, minus coverage -> requests -> batches
    fetch    each batch: hook -> gate -> lake and quarantine -> receipt objects        (many tasks)
    check    one Great Expectations checkpoint over what landed -> a verdict for each session
    load     passed sessions -> warehouse, in chunks, a transaction each
    publish  coverage, report, completion flag
    judge    red when anything planned is missing or refused
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from market_data import calendar
from market_data.datasets import dataset as find_dataset
from market_data.errors import ParamError
from market_data.feeds import INCLUDE, Feed
from market_data.interval import coalesce, union
from market_data.params import RunParams, Wanted
from market_data.plan import Plan, make_plan
from market_data.types import Batch, Evidence, Receipt, Request, RunInfo, State, Verdict

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.datasets.base import Dataset
    from market_data.hooks.base import ProviderHook
    from market_data.lake.layout import Layout
    from market_data.lake.manifest import Coverage
    from market_data.lake.store import Lake
    from market_data.warehouse.base import Warehouse

log = logging.getLogger(__name__)

SETTLE_SESSIONS = 3
"""A cell that came back empty stays ``pending`` until this many sessions after its own: vendors add late bars until then."""

LOAD_ROWS = 250_000
"""Rows of one load transaction, about."""


@dataclass(frozen=True)
class Job:
    """What all tasks of a run share.

    :param source: what stands in the lake and the warehouse as provider, e.g. ``polygon`` or ``alpaca~iex``.
    """

    feed: Feed
    params: RunParams
    run: RunInfo
    lake: Lake
    layout: Layout
    source: str

    @property
    def dataset(self) -> Dataset:
        return find_dataset(self.feed.dataset)


# -- plan ------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Planned:
    """What ``plan`` found out.

    :param plan: what will be asked.
    :param sessions: sessions of the run, lookback included.
    :param symbols: how many the universe has.
    :param covered: cells that coverage has already.
    :param pending: sessions that the provider's plan cannot have yet.
    """

    plan: Plan
    sessions: tuple[date, ...]
    symbols: int
    covered: int
    pending: tuple[date, ...]

    @property
    def summary(self) -> dict[str, Any]:
        """Totals for XCom and report."""
        return {
            **self.plan.estimate(),
            "symbols": self.symbols,
            "sessions": len(self.sessions),
            "from": min(self.sessions, default=None) and min(self.sessions).isoformat(),
            "to": max(self.sessions, default=None) and max(self.sessions).isoformat(),
            "covered": self.covered,
            "pending": [session.isoformat() for session in self.pending],
        }


def plan_run(job: Job, hook: ProviderHook, wanted: Wanted, symbols: Sequence[str], now: datetime) -> Planned:
    """Which cells are missing, and how to ask for them.

    Own cells are asked again when the run is forced or was cleared; all others only where coverage has no state for them, a
    ``pending`` one counting as none for scheduled runs.

    :raises ParamError: if the provider's plan has no history that old, or the work is too much for a run.
    """
    from market_data.lake.manifest import read_coverage

    capabilities = hook.capabilities(job.feed.dataset)
    start = capabilities.history_start
    if start and wanted.own and wanted.own[0] < start:
        raise ParamError([f"start_date is {wanted.own[0]}; the plan {hook.config.extra.get('plan', hook.default_plan)!r} has sessions from {start} on"])
    asked = [s for s in (*wanted.lookback, *wanted.own) if not start or s >= start]
    pending = tuple(s for s in asked if _available(s, capabilities.available_after) > now)
    sessions = tuple(s for s in asked if s not in pending)
    coverage = read_coverage(job.lake, job.feed.dataset, job.source)
    known = set(State) - ({State.PENDING} if job.run.run_type == "scheduled" else set())
    covered = coverage.covered(symbols, sessions, states=known)
    refetch = job.params.force or job.run.clear_number > 0
    again = sum(1 << bit for bit, session in enumerate(sessions) if session in set(wanted.own)) if refetch else 0
    everything = (1 << len(sessions)) - 1
    missing = {symbol: everything & (~covered.get(symbol, 0) | again) for symbol in symbols}
    plan = make_plan(
        job.feed.dataset,
        missing,
        sessions,
        capabilities,
        batch_size=job.params.batch_size,
        endpoint=job.params.endpoint,
        refetch=refetch,
    )
    return Planned(plan, sessions, len(symbols), len(symbols) * len(sessions) - plan.cells, pending)


def _available(session: date, after: float) -> datetime:
    from datetime import UTC

    return datetime(session.year, session.month, session.day, tzinfo=UTC) + timedelta(seconds=after)


def symbols_of(params: RunParams, feed: Feed, as_of: date, open_text: Callable[[str], str]) -> tuple[str, ...]:
    """The symbols of a run: its own list, else its file, else its universe as of a date.

    :param open_text: reads a local path or an ``s3://`` address.
    :raises ParamError: naming every bad line of the file.
    """
    from market_data.universe import members, read_tickers

    if params.symbols:
        return params.symbols
    if params.tickers_path:
        return read_tickers(open_text(params.tickers_path), source=params.tickers_path)
    return members(params.universe or feed.universe, as_of, folder=INCLUDE / "universes")


# -- fetch -----------------------------------------------------------------------------------------------------------------------


def fetch_batch(job: Job, hook: ProviderHook, batch: Batch, now: Callable[[], datetime]) -> Receipt:
    """Fetch a batch, request by request; each one is gated, landed and receipted before the next is asked.

    Requests that an earlier try of this attempt has finished are not asked again: their receipt objects say so.

    :raises ProviderError: if a request failed for good; the finished ones stay finished.
    """
    from market_data.lake import receipts

    started = time.monotonic()
    prefix = receipts.prefix(job.feed.dataset, job.source, job.run, batch)
    finished = dict(receipts.finished(job.lake, prefix))
    resumed = len(finished)
    requests = list(batch.requests(_sessions_of(batch.intervals)))
    for number, request in enumerate(requests, 1):
        if request.id in finished:
            continue
        detail = _fetch_request(job, hook, batch, request, now())
        finished[request.id] = detail
        log.info(
            "%s: %s: request %d of %d: %d rows landed, %d quarantined",
            batch.id, request, number, len(requests), detail.rows_landed, detail.rows_quarantined,
        )  # fmt: skip
    return _receipt(batch, prefix, [finished[r.id] for r in requests], resumed, time.monotonic() - started)
