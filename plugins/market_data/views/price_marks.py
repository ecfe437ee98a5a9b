"""Marks of page Prices: splits, dividends, sessions that were held back, restated values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from market_data.core.calendar import DAY
from market_data.core.messages import counted
from market_data.core.outcome import State
from market_data.lake.reader import read_rows
from market_data.lake.symbol_changes import without_withdrawn
from market_data.views.records import STATES
from market_data.views.run_reports import recent_reports, restatements

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.pipeline.selection import Selection
    from market_data.views.price_range import Chosen

HELD = (State.QUARANTINED, State.REFUSED)
RESTATED = "restated"


def marks_of(chosen: Chosen, actions: Mapping[str, Selection], rows: pa.Table, now: datetime) -> list[dict[str, Any]]:
    """Return the marks of a range, ascending.

    :param actions: source -> the corporate actions of it.
    :param rows: the bars of the range: a session is marked at its first one.
    :return: ``time`` as ``Chosen.clock``, ``session``, ``kind``, and ``text`` in words. ``kind`` is ``split``, ``dividend``,
        ``quarantined``, ``refused`` or ``restated``; the last ones are those that runs of the last 30 days reported.
    """
    first_bars: dict[date, int] = {}
    for session, moment in zip(rows["session"].to_pylist(), rows["bar_time"].to_pylist(), strict=True):
        first_bars.setdefault(session, chosen.clock(moment))

    def mark(session: date, kind: str, text: str) -> dict[str, Any]:
        time = first_bars[session] if session in first_bars else chosen.opening(session)
        return {"time": time, "session": session.isoformat(), "kind": kind, "text": text}

    found = [mark(*one) for part in (_actions(chosen, actions), _held(chosen), _restated(chosen, now)) for one in part]
    return sorted(found, key=lambda one: (one["time"], one["kind"], one["text"]))


def _actions(chosen: Chosen, actions: Mapping[str, Selection]) -> Iterable[tuple[date, str, str]]:
    """Yield each action once, whichever sources report it: an id is made of the values."""
    reported: dict[tuple[Any, ...], tuple[dict[str, Any], list[str]]] = {}
    for source, one in actions.items():
        stored = read_rows(chosen.place.lake, one.layout, one.dataset, source, [chosen.symbol], chosen.first, chosen.last + DAY)
        for row in without_withdrawn(stored, one.dataset).to_pylist():
            key = (row["action"], row["ex_date"], row["action_id"])
            reported.setdefault(key, (row, []))[1].append(source)
    for row, sources in reported.values():
        yield row["session"], row["action"], f"{_terms(row)}, ex-date {row['ex_date']}, reported by {', '.join(sources)}"


def _terms(row: Mapping[str, Any]) -> str:
    if row["action"] == "split":
        return f"{row['split_to']:.10g} for {row['split_from']:.10g}"
    return f"{row['amount']:.10g} {row['currency'] or 'USD'} per share"


def _held(chosen: Chosen) -> Iterable[tuple[date, str, str]]:
    records = chosen.place.records()
    for row in records.rows_of([chosen.symbol], chosen.sessions)[0].tolist():
        if row >= 0 and records.states[row] >= 0 and STATES[records.states[row]] in HELD:
            one = records.record(row)
            yield one["session"], one["state"], one["reason"] or "no reason is recorded"


def _restated(chosen: Chosen, now: datetime) -> Iterable[tuple[date, str, str]]:
    reports = recent_reports(chosen.place.lake, now)
    for one in restatements(reports, chosen.dataset.name, chosen.place.source):
        session = date.fromisoformat(one["session"])
        if one["symbol"] == chosen.symbol and chosen.first <= session <= chosen.last:
            yield session, RESTATED, f"{counted(one['rows'], 'bar')} by run {one['run_id']}"
