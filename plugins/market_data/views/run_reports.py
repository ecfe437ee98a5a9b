"""The run reports of the last weeks, read once each: they alone have restatements by run."""

from __future__ import annotations

import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any

from market_data.core.errors import OTHER_FORM
from market_data.pipeline.report_document import FOLDER

if TYPE_CHECKING:
    from market_data.lake.store import Lake

log = logging.getLogger(__name__)

KEPT = ("run_id", "dag_id", "provider", "dataset", "start_time", "end_time", "restated", "refused", "warnings", "rows_quarantined",
        "api_calls")  # fmt: skip
LATER = ("cost_usd", "attempts")
"""Keys of a report that are kept in memory, and those that older reports lack."""

MOST = 4_000
"""Reports in memory; the ones that were not used for longest are dropped first."""

GUARD = 10.0
"""Seconds for which a list of reports counts as current."""

_LOCK = threading.Lock()
_FOUND: dict[tuple[str, date, int], tuple[float, list[Mapping[str, Any]]]] = {}
_READ: OrderedDict[tuple[str, str, str], Mapping[str, Any] | None] = OrderedDict()


def recent_reports(lake: Lake, now: datetime, days: int = 30) -> list[Mapping[str, Any]]:
    """Return the reports of runs of the last ``days``, newest first; only the keys of ``KEPT``."""
    first = now.astimezone(UTC).date()
    with _LOCK:
        moment, found = _FOUND.get((lake.url, first, days), (-GUARD, []))
    if monotonic() - moment < GUARD:
        return found
    folders = [f"{FOLDER}/date={first - timedelta(days=back)}" for back in range(days + 1)]
    listed = [(lake.url, one.key, one.etag) for found in lake.each(lambda key: list(lake.listed(key)), folders) for one in found]
    reports = [place for place in listed if place[1].endswith(".json")]
    with _LOCK:
        new = [place for place in reports if place not in _READ]
    bodies = zip(new, lake.get_many([key for _, key, _ in new]), strict=True)
    read = {place: _kept(place[1], stored.body) for place, stored in bodies if stored}
    with _LOCK:
        _READ.update(read)
        read_before = [_READ[place] for place in reports if place in _READ]
        for place in reversed(reports):  # the newest are dropped last
            if place in _READ:
                _READ.move_to_end(place)
        while len(_READ) > MOST:
            _READ.popitem(last=False)
        newest = sorted((one for one in read_before if one), key=lambda report: str(report["start_time"]), reverse=True)
        _FOUND.clear()  # one list is enough: pages of one deployment have one lake
        _FOUND[lake.url, first, days] = (monotonic(), newest)
    return newest


def restatements(reports: Sequence[Mapping[str, Any]], dataset: str, source: str) -> list[dict[str, Any]]:
    """Return the values that a run found changed after publication: a row per run, attempt and cell.

    It is that of the first report on it.
    """
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for report in sorted(reports, key=lambda one: str(one["end_time"]), reverse=True):
        if (report["dataset"], report["provider"]) == (dataset, source):
            for one in report["restated"]:
                key = (report["dag_id"], report["run_id"], one.get("attempt", report["end_time"]), one["symbol"], one["session"])
                cell = {name: value for name, value in one.items() if name != "attempt"}
                found[key] = {**cell, "run_id": report["run_id"], "dag_id": report["dag_id"], "at": report["end_time"]}
    return list(found.values())


def _kept(key: str, body: bytes) -> Mapping[str, Any] | None:
    """Return the kept part of a report; None, which is logged, if it is not one."""
    try:
        document = json.loads(body)
        return {**{name: document[name] for name in KEPT}, **{name: document.get(name) for name in LATER}}
    except OTHER_FORM as error:
        log.warning("run report %s is left out: %s", key, type(error).__name__)
        return None
