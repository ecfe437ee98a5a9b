"""Look for trouble in all feeds and report it.

Meant to run every five minutes, in several places.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from market_data.alerts.cause import Cause
from market_data.alerts.causes import (
    CLOCK,
    RUNS,
    audit_causes,
    causes_of,
    clock_causes,
    has_lapsed,
    shared_causes,
)
from market_data.alerts.reports import SENTENCES, Report, month_start, read_audits, read_reports, spend_of
from market_data.alerts.seen import RECENT, SESSION, Quarantined, Seen, first_record, sessions_to_see
from market_data.alerts.sent import Delivered, Send, deliver, read_state
from market_data.alerts.sessions import status_of
from market_data.config.alerts import Alerts
from market_data.core.errors import ClockError
from market_data.core.outcome import State
from market_data.providers.registry import known_provider
from market_data.providers.spec import source_of

if TYPE_CHECKING:
    from market_data.config.feeds import Feed
    from market_data.lake.coverage import Coverage
    from market_data.lake.store import Lake

OpenS3 = Callable[[str], bytes]
OF_FEED = (SESSION, RUNS, "restated")
"""Kinds of causes of which nothing is known without a feed's universe."""
BLIND = (
    "Meanwhile missing, pending, refused and quarantined cells are not watched, and there are no all-clears of these feeds; "
    "failed runs, and sessions on which no run reports, are"
)
SKEW = timedelta(minutes=5)
"""Error of this host's clock up to which it still knows what is due: as long as the time between two watches."""
SILENT = timedelta(days=1)
"""A host that has not looked at its clock for so long is gone."""


@dataclass(frozen=True)
class Found:
    """The causes that there are at a moment.

    :param blind: beginnings of the ids of causes of which it is not known if they have healed.
    """

    causes: tuple[Cause, ...]
    blind: tuple[str, ...] = ()

    def judged(self, cause_id: str) -> bool:
        """Return True if a cause that was not found has healed."""
        return not cause_id.startswith(self.blind)


def watch(
    lake: Lake,
    feeds: Sequence[Feed],
    alerts: Alerts,
    notifiers: Mapping[str, Send],
    clock: Callable[[], datetime],
    *,
    base_url: str = "",
    check_clock: Callable[[Lake], None] | None = None,
    open_s3: OpenS3 | None = None,
) -> tuple[Found, Delivered]:
    """Find what is wrong and send each notifier what it does not know yet.

    :param notifiers: name -> function that sends a message, or raises.
    :param clock: returns the present, UTC.
    :param base_url: of Airflow, for links; may be empty.
    :param check_clock: raises ``ClockError`` if this host's clock is wrong; None: not checked.
    :param open_s3: returns the body of an ``s3://`` URL, for tickers files; None: there is no access.
    :raises LakeError: if the object store fails. Nothing is known then, and nothing is sent.
    """
    now = clock()
    found = find(lake, feeds, alerts, now, check_clock=check_clock, open_s3=open_s3)
    told = deliver(
        lake, found.causes, notifiers, clock, now, judged=found.judged, lapsed=lambda one: has_lapsed(one, now), base_url=base_url
    )
    return found, told


def find(
    lake: Lake,
    feeds: Sequence[Feed],
    alerts: Alerts,
    now: datetime,
    *,
    check_clock: Callable[[Lake], None] | None = None,
    open_s3: OpenS3 | None = None,
) -> Found:
    """Return what is wrong at ``now``. Sends nothing.

    Reads what was written since ``RECENT`` before the oldest open cause. A host whose clock is wrong gives no all-clear; by more than
    ``SKEW``, it does not know what is due and judges nothing else.
    """
    entries = read_state(lake)
    problem, lost = _problem_of_clock(lake, check_clock)
    hosts = _wrong_hosts(entries, now, problem)
    if lost:
        return Found(tuple(clock_causes((), (), hosts, problem or "")), ("",))
    opened = [
        datetime.fromisoformat(entry["found"])
        for name, entry in entries.items()
        if not (entry["event"] or name.startswith(CLOCK) or has_lapsed(name, now))
    ]
    since, month = min([now, *opened]).astimezone(UTC) - RECENT, month_start(now)
    reports = read_reports(lake, min(since, month) if alerts.thresholds.spend_usd is not None else since, now)
    recent = [one for one in reports if one.ended >= since]
    causes: list[Cause] = []
    blind: list[str] = [""] if problem else []
    for feed in feeds:
        seen, trouble, unknown = _see(lake, feed, recent, since, now, entries, open_s3)
        blind += [f"{kind}/{feed.dag_id}/" for kind in unknown]
        causes += [*trouble, *causes_of(seen, alerts.thresholds, now)]
    charges = {
        name: spend_of(reports, [one.dag_id for one in feeds if one.provider == name], now)
        for name in sorted({one.provider for one in feeds})
    }
    causes += shared_causes(feeds, recent, alerts.thresholds, charges, f"{month:%Y-%m}")
    causes += clock_causes(feeds, recent, hosts, problem or "")
    causes += audit_causes(read_audits(lake, since, now), feeds)
    return Found(tuple({one.id: one for one in causes}.values()), tuple(blind))


def _problem_of_clock(lake: Lake, check_clock: Callable[[Lake], None] | None) -> tuple[str | None, bool]:
    """Return what is wrong with this host's clock, and True if it is useless.

    The sentences are empty if it is right, None if nobody looked.
    """
    if check_clock is None:
        return None, False
    try:
        check_clock(lake)
    except ClockError as error:
        lost = error.gap is None or error.gap > SKEW
        meanwhile = "watches nothing else meanwhile" if lost else "watches everything meanwhile, but there are no all-clears of it"
        return f"{error}. Host {socket.gethostname()} {meanwhile}", lost
    return "", False


def _wrong_hosts(entries: Mapping[str, Mapping[str, Any]], now: datetime, problem: str | None) -> dict[str, str]:
    """Return the hosts whose clocks are known to be wrong, see ``Cause.hosts``.

    Each host judges its own clock only.
    """
    known = {
        name: moment
        for name, moment in entries.get(CLOCK, {}).get("hosts", {}).items()
        if now - datetime.fromisoformat(moment) < SILENT
    }
    if problem is not None:
        known.pop(socket.gethostname(), None)
    return known | ({socket.gethostname(): now.astimezone(UTC).isoformat()} if problem else {})


def _see(
    lake: Lake,
    feed: Feed,
    reports: Sequence[Report],
    since: datetime,
    now: datetime,
    open_ids: Collection[str],
    open_s3: OpenS3 | None,
) -> tuple[Seen, list[Cause], Sequence[str]]:
    """Return what is known of a feed, why something is not, and the kinds of causes that cannot be judged."""
    from market_data.lake.ledger import read_coverage
    from market_data.maintenance.audit.expected import universe_of_feed

    source = source_of(known_provider(feed.provider), feed.options)
    coverage = read_coverage(lake, feed.dataset, source, min(since, first_record(feed, now, open_ids)))
    own = [one for one in reports if one.dag_id == feed.dag_id]
    trouble = [_ledger_cause(feed, source, coverage)] if coverage.unreadable else []
    unknown = (*OF_FEED, "quarantine") if coverage.broken else ()
    quarantined = [] if coverage.broken else _quarantined(coverage, since)
    if feed.due is None and not own and not len(coverage):
        return Seen(feed, {}), trouble, unknown  # not in use
    universe, notes = universe_of_feed(lake, feed, open_s3)
    if notes:
        return Seen(feed, {}, (), quarantined), [*trouble, _universe_cause(feed, notes[0])], unknown or OF_FEED
    days = sessions_to_see(feed, now, _first_recorded(coverage), own, open_ids)
    found = {day: replace(status_of(coverage, universe, source, day), known=not coverage.broken) for day in days}
    return Seen(feed, found, own, quarantined, open_ids), trouble, unknown


def _ledger_cause(feed: Feed, source: str, coverage: Coverage) -> Cause:
    problems = coverage.unreadable
    more = len(problems) - SENTENCES
    lines = [*problems[:SENTENCES], *([f"and {more:,} more"] if more > 0 else []), *([BLIND] if coverage.broken else [])]
    return Cause(
        f"ledger/{feed.dataset}/{source}", feed.dag_id, f"{feed.dataset} of {source}: the ledger cannot be read", tuple(lines),
        "restore these objects from a backup, or move them away; then market-data audit names the cells whose records are lost",
    )  # fmt: skip


def _universe_cause(feed: Feed, problem: str) -> Cause:
    name = feed.dag_id
    return Cause(f"universe/{name}", name, f"{name}: the universe cannot be read", (problem,), "correct the universe of the feed")


def _first_recorded(coverage: Coverage) -> date | None:
    import pyarrow.compute as pc

    first: date | None = pc.min(coverage.table["session"]).as_py()
    return first


def _quarantined(coverage: Coverage, since: datetime) -> list[Quarantined]:
    """Return the cells that were quarantined since then, by session; those of older sessions by year."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = coverage.table
    late = pc.greater_equal(table["recorded_at"], pa.scalar(since, table.schema.field("recorded_at").type))
    found = table.filter(pc.and_(late, pc.equal(table["state"].cast(pa.string()), str(State.QUARANTINED))))
    groups: dict[str, list[str]] = {}
    columns = (found["symbol"].cast(pa.string()).to_pylist(), found["session"].to_pylist(), found["recorded_at"].to_pylist())
    for symbol, session, recorded in zip(*columns, strict=True):
        where = str(session) if recorded.date() - session <= RECENT else str(session.year)
        groups.setdefault(where, []).append(symbol)
    return [Quarantined(where, len(symbols), tuple(dict.fromkeys(symbols))) for where, symbols in sorted(groups.items())]
