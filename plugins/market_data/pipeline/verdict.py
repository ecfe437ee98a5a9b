"""The verdict on a run in sentences: why it is red, and what deserves a look though it is green."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from market_data.core.messages import counted, some
from market_data.core.outcome import SUSPECTED_GAP, State
from market_data.pipeline.open_cells import Findings
from market_data.pipeline.report import Tally
from market_data.pipeline.run_context import RunContext
from market_data.pipeline.run_result import RunResult

if TYPE_CHECKING:
    import pyarrow as pa

WARNED = 10
"""Sessions and symbol-years whose warnings are shown; the report has all."""

MOST_SESSIONS = 5
"""Sessions named in a sentence."""

MOST_REFUSED = 10
"""Earlier refusals named in a verdict."""

MAY_BE_ACTIVE = "whether it is active is not known; the run loads them, or else the feed's next run"

FORCE = "release it (`market-data release`), or fetch it again with force"


def red_sentences(context: RunContext, result: RunResult, tally: Tally, findings: Findings) -> list[str]:
    """Return the reasons why the run is red, one sentence each; empty if it is not."""
    red = [f"batch {b['batch']} failed: {b['error']}" for b in tally.batches if b["state"] == "failed"]
    share, most = tally.missing_share(result), context.params.max_missing_ratio
    if share > most:
        red += [
            *tally.refusals(),
            f"{share:.1%} of the planned cells are missing; {most:.1%} is tolerated (max_missing_ratio)",
        ]
    if any(batch["state"] == "success" for batch in tally.batches) and result.loaded is None:
        red.append("fetched rows were not loaded: see the logs of `check` and `load`")
    red += _leftovers_red(result, tally)
    red += [f"{named(v.partition)} was refused: {'; '.join(v.reasons)}" for v in result.refused.values()]
    judged = [*result.refused, *(v["partition"] for left in result.leftovers for v in left["refused"])]
    return red + open_red(context, findings, judged)


def open_red(context: RunContext, findings: Findings, judged: Iterable[str] = ()) -> list[str]:
    """Return a sentence per refused session, and one if more cells are open than the run tolerates.

    :param judged: partitions that this run has judged itself; they have sentences of their own.
    """
    red = _still_refused(findings.own.of(str(State.REFUSED)), judged)
    if not context.dataset.is_bars:
        return red
    for kind, most in context.params.tolerated.items():
        share = findings.own.counts[kind] / max(1, findings.own.total)
        if share > most:
            red.append(f"{share:.1%} of the run's cells are {kind}; {most:.1%} is tolerated (tolerate.{kind})")
    return red


def warning_sentences(context: RunContext, result: RunResult, tally: Tally, findings: Findings) -> list[str]:
    """Return the findings that do not make the run red, one sentence each."""
    source, warnings = context.source, []
    misspelt = {symbol for symbol, known in findings.unknown.items() if known}  # open_warnings has a sentence on these
    if nowhere := [symbol for symbol in tally.nowhere(result) if symbol not in misspelt]:
        warnings.append(f"no bars for {some(nowhere)}: not listed in these sessions, or unknown to {source}")
    if quarantined := tally.totals["quarantined"]:
        warnings.append(
            f"{counted(quarantined, 'row')} {'was' if quarantined == 1 else 'were'} quarantined; see quarantine/ in the lake"
        )
    warnings += open_warnings(context, findings)
    if missing := tally.totals["missing"]:
        verb, kept = ("is", "it is") if missing == 1 else ("are", "they are")
        warnings.append(f"{counted(missing, 'stored row')} {verb} missing from the responses of {source}; {kept} kept")
    if tally.restated:
        cells = [f"{symbol} {session}" for symbol, session, *_ in sorted(tally.restated)]
        warnings.append(f"{source} restated {some(cells)}; the new values replaced the old ones (gold_restatements)")
    warnings += list(tally.unreadable)[:WARNED]
    if tally.lost_cells:
        warnings.append(f"{source} no longer has {some(tally.lost_cells)}; the stored bars are kept")
    if tally.missing_share(result) <= context.params.max_missing_ratio:
        warnings += tally.refusals()
    warnings += [
        f"loaded {len(left['keys'])} requests that {left['run_id']} had left in staging" for left in result.loaded_leftovers
    ]
    for done, counts in zip(("wait in staging", "had begun to write their rows"), tally.unloaded.uncertain, strict=True):
        warnings += [f"{count} requests of {run} {done}: {MAY_BE_ACTIVE}" for run, count in counts.items()]
    warnings += [f"{source} reported: {words}" for words in tally.said]
    warnings += (result.loaded or {}).get("differences", [])
    warnings += result.summary.get("conditions", ())
    warned = (result.checked or {}).get("warned", ())
    warnings += [f"{named(v['partition'])}: {'; '.join(v['reasons'])}" for v in warned[:WARNED]]
    if len(warned) > WARNED:
        warnings.append(f"and {len(warned) - WARNED} more sessions or symbol-years with warnings; see `warned` in the report")
    return warnings


def open_warnings(context: RunContext, findings: Findings) -> list[str]:
    """Return a sentence per kind of open cell of the run, and what is open in older sessions."""
    own, warnings = findings.own, []
    meant = {symbol: known for symbol, known in findings.unknown.items() if known}
    if meant:
        pairs = some(f"{symbol} (did you mean {known}?)" for symbol, known in meant.items())
        warnings.append(f"no bar in the response, and none in the ledger: {pairs}")
    pending = own.counts[str(State.PENDING)]
    if pending and not context.dataset.grows:
        later = f"scheduled runs request them again until {context.dataset.settle_sessions} sessions later"
        warnings.append(
            f"{pending:,} of {own.total:,} cells are pending, not available from {context.source} yet: "
            f"{by_session(own.of(str(State.PENDING)))}; {later}"
        )
    if quarantined := own.counts[str(State.QUARANTINED)]:
        cells = own.of(str(State.QUARANTINED))
        warnings.append(f"{quarantined:,} of {own.total:,} cells are quarantined: {by_session(cells)}; {_again(context)}")
    if own.released is not None and len(own.released):
        warnings.append(f"{len(own.released):,} of {own.total:,} cells were released by a person: {by_session(own.released)}")
    if findings.found is not None and len(findings.found):
        warnings.append(
            f"{counted(len(findings.found), SUSPECTED_GAP)}, no bar although the symbol trades before and after: "
            f"{by_session(findings.found.sort_by('session'))}; requested again 10, 30 and 90 sessions after its session"
        )
    if findings.older:
        warnings.append(f"open in older sessions: {_older(findings.older)}")
    if days := findings.unfetched:
        warnings.append(
            f"{counted(len(days), 'session')} older than catch_up_sessions without a state, {days[0]} to {days[-1]}: "
            "fetch the range with a manual run"
        )
    return warnings


def _again(context: RunContext) -> str:
    settle = context.dataset.settle_sessions
    return f"scheduled runs request them again until {settle} sessions later, any run with force"


def headline(context: RunContext, document: Mapping[str, Any], report: str) -> str:
    """Return the first line of the note of a published run: figures, and the address of the report."""
    kind = "bar" if context.dataset.is_bars else "row"
    figures = [counted(document[name], noun) for name, noun in (("total_tickers", "symbol"), ("rows_landed", kind))]
    figures += [f"{document['rows_loaded']:,} loaded", counted(document["api_calls"], "call")]
    return f"{', '.join(figures)}, {document['duration_seconds'] / 60:.1f} minutes. Report: {context.lake.url}/{report}"


def by_session(cells: pa.Table, most: int = MOST_SESSIONS) -> str:
    """Return the cells by session, e.g. ``2026-11-20 IBM, MSFT; 2026-11-23 IBM``.

    :param cells: has ``symbol`` and ``session``, by session.
    """
    groups: dict[date, list[str]] = {}
    for session, symbol in zip(cells["session"].to_pylist(), cells["symbol"].to_pylist(), strict=True):
        groups.setdefault(session, []).append(symbol)
    parts = [f"{session} {some(sorted(symbols), 5)}" for session, symbols in list(groups.items())[:most]]
    more = [f"and {len(groups) - most:,} more sessions"] if len(groups) > most else []
    return "; ".join([*parts, *more])


def named(partition: str) -> str:
    """Return a partition in words."""
    return partition if "/" in partition else f"session {partition}"


def _still_refused(cells: pa.Table, judged: Iterable[str]) -> list[str]:
    import pyarrow.compute as pc

    from market_data.quality.verdicts import is_refused

    cells = cells.filter(pc.invert(is_refused(cells, judged)))
    groups: dict[tuple[str, date], list[tuple[date, str]]] = {}
    columns = (cells[name].to_pylist() for name in ("reason", "recorded_at", "session", "symbol"))
    for reason, recorded, session, symbol in zip(*columns, strict=True):
        groups.setdefault((reason, recorded.date()), []).append((session, symbol))
    red = [
        f"{_place(members)} was refused on {day} and is not loaded ({counted(len(members), 'cell')}): {reason}; {FORCE}"
        for (reason, day), members in list(groups.items())[:MOST_REFUSED]
    ]
    more = len(groups) - MOST_REFUSED
    return [*red, *([f"and {more} more earlier refusals; see `refused_cells` in the report"] if more > 0 else [])]


def _place(members: Sequence[tuple[date, str]]) -> str:
    """Return the session, the symbol-year or the span of refused cells, in words."""
    sessions, symbols = sorted({session for session, _ in members}), {symbol for _, symbol in members}
    if len(sessions) == 1:
        return f"session {sessions[0]}"
    if len(symbols) == 1 and sessions[0].year == sessions[-1].year:
        return f"{next(iter(symbols))}/{sessions[0].year}"
    return f"{sessions[0]} to {sessions[-1]}"


def _older(groups: Sequence[Mapping[str, Any]]) -> str:
    sessions: dict[str, list[str]] = {}
    for group in groups:
        more = f" and {group['count'] - len(group['symbols']):,} more" if group["count"] > len(group["symbols"]) else ""
        sessions.setdefault(group["session"], []).append(
            f"{group['count']:,} {group['kind']} ({', '.join(group['symbols'])}{more})"
        )
    shown = [f"{session}: {', '.join(parts)}" for session, parts in list(sessions.items())[-MOST_SESSIONS:]]
    rest = len(sessions) - len(shown)
    return "; ".join([*shown, *([f"and {counted(rest, 'earlier session')}"] if rest else [])])


def _leftovers_red(result: RunResult, tally: Tally) -> list[str]:
    """Return a sentence per leftover of earlier runs that is still not in the warehouse."""
    left, failed = result.leftovers, result.leftover_errors
    red = [f"rows that {left[int(n)]['run_id']} left in staging were not loaded: {error}" for n, error in failed.items()]
    already = {left[int(n)]["run_id"] for n in failed}
    red += [
        f"{count} requests of {run} wait in staging and were not loaded; the feed's next run loads them"
        for run, count in tally.unloaded.staged.items()
        if run not in already
    ]
    red += [
        f"{count} requests of {run} were interrupted while their rows were written to the lake; the feed's next run loads these rows"
        for run, count in tally.unloaded.interrupted.items()
    ]
    red += [
        f"staging object cannot be read: {message}; fetch its cells again (force), then delete it"
        for message in tally.unloaded.broken
    ]
    return red + [
        f"{named(v['partition'])}, left in staging by {group['run_id']}, was refused: {'; '.join(v['reasons'])}"
        for group in left
        for v in group["refused"]
    ]
