"""Decide what is wrong now, from what was read. Pure functions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from market_data.alerts.cause import Cause
from market_data.alerts.reports import ROOT_CAUSES, SENTENCES, AuditReport, Report, last_failed_for, named
from market_data.alerts.seen import Seen
from market_data.alerts.session_causes import RED_IS, session_causes
from market_data.config.alerts import Thresholds
from market_data.core.messages import dollars, some
from market_data.maintenance.audit.scope import Scope, left_by

if TYPE_CHECKING:
    from market_data.config.feeds import Feed

LAPSE = timedelta(days=30)
"""Age of a failed run of older sessions from which it is forgotten: perhaps nobody wants its dates, so it never heals."""
RUNS, CLOCK = "runs", "clock"


def has_lapsed(cause_id: str, now: datetime) -> bool:
    """Return True for failed runs that are too old, or whose cause's id lacks the day of failure."""
    kind, _, rest = cause_id.partition("/")
    try:
        return kind == RUNS and now.date() - date.fromisoformat(rest.rpartition("/")[2]) > LAPSE
    except ValueError:
        return True


def causes_of(seen: Seen, limits: Thresholds, now: datetime) -> Iterator[Cause]:
    """Yield the causes of one feed."""
    far = [one for one in _unresolved(seen.reports, now) if not seen.is_recent(one)]
    own, bad = session_causes(seen, {one.run_id for one in far}, limits, now)
    yield from own
    yield from _failed_runs(seen, bad, now)
    yield from _restated(seen, limits)
    feed = seen.feed.dag_id
    for one in seen.quarantined:
        if one.cells > limits.quarantined:
            yield Cause(
                f"quarantine/{feed}/{one.where}", feed, f"{feed} {one.where}: {one.cells:,} cells are quarantined",
                (f"Symbols: {some(one.symbols)}. More than {limits.quarantined:,} are reported (alerts.quarantined)",),
                "look at the reasons in quarantine/ of the lake, then fetch again, release or confirm the cells",
            )  # fmt: skip


def _is_told(report: Report, seen: Seen, bad: Collection[date]) -> bool:
    """Return True if causes of sessions cover a recent red run, or a later run was not red.

    The ledger has the state of each of its cells.
    """
    later = [one for one in seen.reports if one.ended > report.ended and report.last and one.covers(report.last, report.last)]
    return report.first == report.last or any(report.covers(day, day) for day in bad) or any(not one.red for one in later)


def _unresolved(reports: Sequence[Report], now: datetime) -> list[Report]:
    """Return the red reports without a later one of the same dates and at least as many symbols.

    One whose task failed resolves nothing. Reports of a shared cause are left out as long as the feed has it.
    """
    shared = {root for root in ROOT_CAUSES if last_failed_for(reports, root)}
    return [
        one
        for number, one in enumerate(reports)
        if one.red and one.first and one.last and not shared & one.roots.keys() and now.date() - one.ended.date() <= LAPSE
        and not any(
            later.covers(one.first, one.last) and later.symbols >= one.symbols and not later.stopped for later in reports[number + 1 :]
        )
    ]  # fmt: skip


def _failed_runs(seen: Seen, bad: Collection[date], now: datetime) -> Iterator[Cause]:
    """Yield a cause per day of failure and year, or span of years, of red runs.

    Those that a session in ``bad`` tells of are left out.
    """
    groups: defaultdict[tuple[str, date], list[Report]] = defaultdict(list)
    for one in _unresolved(seen.reports, now):
        if one.first and one.last and not (seen.is_recent(one) and _is_told(one, seen, bad)):
            years = sorted({one.first.year, one.last.year})
            groups["..".join(map(str, years)), one.ended.date()].append(one)
    feed = seen.feed.dag_id
    for (where, day), reports in groups.items():
        spans = some(f"{one.first}" if one.first == one.last else f"{one.first} to {one.last}" for one in reports)
        lines = dict.fromkeys(line for one in reports for line in one.red)
        runs = len({one.run_id for one in reports})
        yield Cause(
            f"{RUNS}/{feed}/{where}/{day}", feed, f"{feed} {where}: {'a run' if runs == 1 else f'{runs} runs'} failed",
            (f"Sessions: {spans}", *list(lines)[:10]), f"read the notes of their verdicts, see {RED_IS}",
        )  # fmt: skip


def _restated(seen: Seen, limits: Thresholds) -> Iterator[Cause]:
    feed = seen.feed.dag_id
    for report in seen.reports:
        for one in report.restated:
            if one["rows"] > limits.restated:
                yield Cause(
                    f"restated/{feed}/{report.run_id}/{one['attempt']}", feed, f"{feed}: {one['rows']:,} rows were restated",
                    (f"Run {report.run_id}: {some(one['cells'])}", "The new values replaced the old ones"),
                    "see gold_restatements; repeat what was computed from the old values", event=True,
                )  # fmt: skip


def shared_causes(
    feeds: Sequence[Feed], reports: Sequence[Report], limits: Thresholds, spend: Mapping[str, float], month: str
) -> Iterator[Cause]:
    """Yield the causes that concern several feeds: quota used up, charges.

    :param spend: provider -> charges in ``month`` in US dollars.
    """
    hit: defaultdict[str, list[tuple[Feed, Report]]] = defaultdict(list)
    for feed, report in _hit(feeds, reports, "QuotaExhausted"):
        hit[feed.conn_id].append((feed, report))
    for account, found in hit.items():
        dag_id = found[0][0].dag_id if len(found) == 1 else ""
        yield Cause(
            f"QuotaExhausted/{account}", dag_id, f"{account}: the quota is used up", tuple(_of_runs(found, "QuotaExhausted")),
            "wait until the time in the message, then clear the failed tasks",
        )  # fmt: skip
    for provider, charged in spend.items():
        if limits.spend_usd is not None and charged > limits.spend_usd:
            yield Cause(
                f"spend/{provider}/{month}", "", f"{provider}: {dollars(charged)} in {month}",
                (f"More than {dollars(limits.spend_usd)} are reported (alerts.spend_usd)",),
                "lower max_cost_usd or pause the feed, or raise the threshold", event=True,
            )  # fmt: skip


def _hit(feeds: Sequence[Feed], reports: Sequence[Report], root: str) -> Iterator[tuple[Feed, Report]]:
    """Yield the feeds whose last run failed for a root cause only, with its report."""
    for feed in feeds:
        if found := last_failed_for([one for one in reports if one.dag_id == feed.dag_id], root):
            yield feed, found


def _of_runs(found: Sequence[tuple[Feed, Report]], root: str) -> list[str]:
    return [f"{feed.dag_id} {one.first} to {one.last}: {one.roots[root]}" for feed, one in found]


def clock_causes(feeds: Sequence[Feed], reports: Sequence[Report], hosts: Mapping[str, str], problem: str = "") -> Iterator[Cause]:
    """Yield the one cause that clocks are wrong: those of hosts that watch, and those of workers.

    :param hosts: see ``Cause``.
    :param problem: a sentence on the clock of this host; empty if it is right.
    """
    found = list(_hit(feeds, reports, "ClockError"))
    if not hosts and not found:
        return
    names = sorted(hosts)
    title = "a clock is wrong" if not names else f"the clock of host {names[0]} is wrong"
    lines = [problem, *_of_runs(found, "ClockError"), f"Hosts that found their clock wrong: {some(names)}" if names[1:] else ""]
    yield Cause(
        CLOCK, found[0][0].dag_id if len(found) == 1 and not hosts else "",
        title if len(names) < 2 else f"the clocks of {len(names)} hosts are wrong", tuple(filter(None, lines)),
        "synchronise the clocks (NTP), then clear the failed tasks", hosts=hosts,
    )  # fmt: skip


def audit_causes(audits: Sequence[AuditReport], feeds: Sequence[Feed]) -> Iterator[Cause]:
    """Yield a cause per dataset and source with findings that no later audit was about.

    :param audits: oldest first.
    """
    places: defaultdict[tuple[str, str], list[AuditReport]] = defaultdict(list)
    for one in audits:
        known = places[one.dataset, one.source]
        left = () if one.scope.whole else map(partial(_without, one.scope), known)
        known[:] = [report for report in (*left, one) if report.findings or report.left_out]
    for (name, source), found in places.items():
        feed = next((one.dag_id for one in feeds if (one.dataset, one.provider) == (name, source.partition("~")[0])), "")
        findings = [finding for one in found for finding in one.findings]
        if found:
            yield Cause(
                f"audit/{name}/{source}", feed, f"{name} of {source}: an audit found gaps",
                (*_counts(found), *map(named, findings[:SENTENCES]), f"Report: {found[-1].key}"),
                "repair them (market-data repair, or maintain_coverage); the next audit that reads their objects "
                "(market-data audit --whole) gives the all-clear",
            )  # fmt: skip


def _counts(found: Sequence[AuditReport]) -> Iterator[str]:
    """Yield the number of findings by cause; by repair for the reports that lack some of them."""
    causes = Counter(one["cause"] for report in found if not report.left_out for one in report.findings)
    repairs = sum((Counter(report.repairs) for report in found if report.left_out), Counter[str]())
    for counts, what in ((causes, ""), (repairs, "repair: ")):
        if counts:
            yield what + ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _without(scope: Scope, earlier: AuditReport) -> AuditReport:
    """Return an audit's findings without those that a later audit was about."""
    return earlier if earlier.left_out else replace(earlier, findings=tuple(left_by([scope], earlier.findings)))
