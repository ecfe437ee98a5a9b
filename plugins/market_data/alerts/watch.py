"""Look for trouble in all feeds and report it.

Meant to run every five minutes, in several places.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from market_data.alerts.cause import Cause
from market_data.alerts.causes import (
    RECENT,
    Quarantined,
    Seen,
    audit_causes,
    causes_of,
    first_record,
    has_lapsed,
    sessions_to_see,
    shared_causes,
)
from market_data.alerts.reports import Report, read_audits, read_reports, spend_of
from market_data.alerts.sent import Delivered, Send, deliver, read_state
from market_data.alerts.sessions import status_of
from market_data.config.alerts import Alerts
from market_data.core.errors import ClockError
from market_data.core.outcome import State
from market_data.providers.registry import known_provider
from market_data.providers.spec import source_of

if TYPE_CHECKING:
    from market_data.config.feeds import Feed
    from market_data.lake.ledger import Coverage
    from market_data.lake.store import Lake

CLOCK = "clock/"


@dataclass(frozen=True)
class Found:
    """The causes that there are at a moment.

    :param blind: beginnings of the ids of causes that could not be looked for.
    """

    causes: tuple[Cause, ...]
    blind: tuple[str, ...] = ()

    def judged(self, cause_id: str) -> bool:
        """Return True if the cause was looked for. Each host judges its own clock only."""
        other_host = cause_id.startswith(CLOCK) and cause_id != own_clock_id()
        return not other_host and not cause_id.startswith(self.blind)


def watch(
    lake: Lake,
    feeds: Sequence[Feed],
    alerts: Alerts,
    notifiers: Mapping[str, Send],
    clock: Callable[[], datetime],
    *,
    base_url: str = "",
    check_clock: Callable[[Lake], None] | None = None,
) -> tuple[Found, Delivered]:
    """Find what is wrong and send each notifier what it does not know yet.

    :param notifiers: name -> function that sends a message, or raises.
    :param clock: returns the present, UTC.
    :param base_url: of Airflow, for links; may be empty.
    :param check_clock: raises ``ClockError`` if this host's clock is wrong; None: not checked.
    :raises LakeError: if the object store fails. Nothing is known then, and nothing is sent.
    """
    now = clock()
    found = find(lake, feeds, alerts, now, check_clock=check_clock)
    told = deliver(
        lake, found.causes, notifiers, clock, now, judged=found.judged, lapsed=lambda one: has_lapsed(one, now), base_url=base_url
    )
    return found, told


def find(
    lake: Lake, feeds: Sequence[Feed], alerts: Alerts, now: datetime, *, check_clock: Callable[[Lake], None] | None = None
) -> Found:
    """Return what is wrong at ``now``. Sends nothing.

    Reads what was written since ``RECENT`` before the oldest open cause.
    """
    entries = read_state(lake)
    opened = [
        datetime.fromisoformat(entry["found"])
        for name, entry in entries.items()
        if not (entry["event"] or name.startswith(CLOCK) or has_lapsed(name, now))
    ]
    since = min([now, *opened]).astimezone(UTC) - RECENT
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    reports = read_reports(lake, min(since, month) if alerts.thresholds.spend_usd is not None else since, now)
    recent = [one for one in reports if one.ended >= since]
    causes: list[Cause] = []
    blind: list[str] = []
    for feed in feeds:
        seen, problem = _see(lake, feed, recent, since, now, entries)
        if problem:
            blind += [f"{kind}/{feed.dag_id}/" for kind in ("session", "runs", "restated")]
            causes.append(_universe_cause(feed, problem))
        causes += causes_of(seen, alerts.thresholds, now)
    charges = {
        name: spend_of(reports, [one.dag_id for one in feeds if one.provider == name], now)
        for name in sorted({one.provider for one in feeds})
    }
    causes += shared_causes(feeds, recent, alerts.thresholds, charges, f"{now:%Y-%m}")
    causes += audit_causes(read_audits(lake, since, now), feeds)
    try:
        if check_clock is not None:
            check_clock(lake)
    except ClockError as error:
        causes.append(Cause(own_clock_id(), "", f"the clock of host {socket.gethostname()} is wrong", (str(error),), "use NTP"))
    return Found(tuple(causes), tuple(blind))


def own_clock_id() -> str:
    """Return the id of the cause that this host's clock is wrong."""
    return f"{CLOCK}{socket.gethostname()}"


def _see(
    lake: Lake, feed: Feed, reports: Sequence[Report], since: datetime, now: datetime, open_ids: Collection[str]
) -> tuple[Seen, str]:
    """Return what is known of a feed, and why its universe cannot be read, if it cannot."""
    from market_data.lake.ledger import read_coverage
    from market_data.maintenance.audit.expected import universe_of_feed

    source = source_of(known_provider(feed.provider), feed.options)
    coverage = read_coverage(lake, feed.dataset, source, min(since, first_record(feed, now, open_ids)))
    own = [one for one in reports if one.dag_id == feed.dag_id]
    quarantined = _quarantined(coverage, since)
    if feed.due is None and not own and not len(coverage):
        return Seen(feed, {}), ""  # not in use
    universe, notes = universe_of_feed(lake, feed)
    if notes:
        return Seen(feed, {}, (), quarantined), notes[0]
    days = sessions_to_see(feed, now, _first_recorded(coverage), own, open_ids)
    return Seen(feed, {day: status_of(coverage, universe, source, day) for day in days}, own, quarantined, open_ids), ""


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
