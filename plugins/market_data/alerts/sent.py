"""Record in the lake which notifiers know of which cause, so that no message is sent twice.

One object, replaced conditionally, so that watchers may overlap. A watcher claims what it is about to send, sends it, and records it. If it
dies between sending and recording, its claim expires and the message is sent once more.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from market_data.alerts.cause import Cause, Message, all_clear, message_of
from market_data.core.errors import OTHER_FORM, MarketDataError
from market_data.http.client import within

if TYPE_CHECKING:
    from market_data.lake.store import Lake

log = logging.getLogger(__name__)

KEY = "alerts/state.json"
LEASE = timedelta(minutes=4)
"""How long a claim holds without a sign of its watcher: shorter than the time between two watches."""

PATIENCE = 30.0
"""Seconds that a notifier may take for a message."""

Send = Callable[[Message], None]
Entries = dict[str, dict[str, Any]]
"""Cause -> ``feed``, ``title``, ``event``, ``hosts``, ``found`` (ISO), ``told``: names of notifiers; ``claim``: ``by`` and ``until``
(ISO)."""


@dataclass
class Delivered:
    """The messages that a watch sent, as ``name: title``, and those that it could not send."""

    sent: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def read_state(lake: Lake) -> Entries:
    """Return the causes that were reported, or are about to be."""
    stored = lake.get(KEY)
    return _decoded(stored.body if stored else None)[1]


def deliver(
    lake: Lake,
    causes: Sequence[Cause],
    notifiers: Mapping[str, Send],
    clock: Callable[[], datetime],
    seen_at: datetime,
    *,
    judged: Callable[[str], bool] = lambda _: True,
    lapsed: Callable[[str], bool] = lambda _: False,
    base_url: str = "",
) -> Delivered:
    """Send each notifier the causes that it does not know, and an all-clear on each that has healed.

    A message that cannot be sent is tried again by the next watch, to that notifier only.

    :param notifiers: name -> function that sends a message; in this order, each within ``PATIENCE``.
    :param causes: those that there are at ``seen_at`` (UTC). A watcher that looked before another one changed the state does nothing.
    :param judged: tells of the id of a cause that is not among ``causes`` if it was looked for.
    :param lapsed: tells of the id of such a cause if it is forgotten without an all-clear.
    """
    token, done = uuid.uuid4().hex, Delivered()
    current = {cause.id: cause for cause in causes}
    claimed = _claim(lake, current, set(notifiers), token, clock(), seen_at, judged, lapsed)
    for name, send in notifiers.items():
        for cause_id, entry in claimed.items():
            cause = current.get(cause_id)
            if name not in _open_names(entry, set(notifiers), healed=cause is None):
                continue
            message = message_of(cause, base_url) if cause else all_clear(cause_id, entry["feed"], entry["title"], base_url)
            try:
                within(PATIENCE, partial(send, message))
            except TimeoutError:
                done.failed.append(f"{name}: {message.title} (not finished after {PATIENCE:g} s)")
                log.warning("not sent, tried again by the next watch, and so are all others to %s: %s", name, done.failed[-1])
                break  # it would hang again, while messages to others wait
            except Exception as error:  # noqa: BLE001 - each notifier has errors of its own; none may stop the others
                # Other errors may quote an address with a secret.
                reason = str(error) if isinstance(error, MarketDataError) else type(error).__name__
                done.failed.append(f"{name}: {message.title} ({reason})")
                log.warning("not sent, tried again by the next watch: %s", done.failed[-1])
                continue
            done.sent.append(f"{name}: {message.title}")
            _record(lake, cause_id, name, token, clock(), healed=cause is None)
    if claimed:
        _release(lake, token)
    return done


def _claim(
    lake: Lake,
    current: Mapping[str, Cause],
    names: Collection[str],
    token: str,
    now: datetime,
    seen_at: datetime,
    judged: Callable[[str], bool],
    lapsed: Callable[[str], bool],
) -> Entries:
    """Bring the state up to date, and return the entries with messages that this watcher is to send."""
    claimed: Entries = {}

    def revise(body: bytes | None) -> bytes | None:
        claimed.clear()
        changed_at, entries = _decoded(body)
        if changed_at is not None and seen_at < changed_at <= now:
            return None  # another watcher has looked later; a moment in the future is of a wrong clock
        before = _encoded(changed_at, entries)
        for cause in current.values():
            entry = entries.setdefault(cause.id, {"found": seen_at.isoformat(), "told": []})
            entry |= {"feed": cause.feed, "title": cause.title, "event": cause.event, "hosts": dict(cause.hosts)}
        for cause_id in [name for name in entries if name not in current and judged(name)]:
            entry = entries[cause_id]
            entry["told"] = [name for name in entry["told"] if name in names]
            if entry["event"] or lapsed(cause_id) or (not entry["told"] and not _is_claimed(entry, now)):
                del entries[cause_id]
        for cause_id, entry in entries.items():
            healed = cause_id not in current
            if (healed and not judged(cause_id)) or _is_claimed(entry, now):
                continue
            entry.pop("claim", None)
            if _open_names(entry, names, healed=healed):
                entry["claim"] = {"by": token, "until": (now + LEASE).isoformat()}
                claimed[cause_id] = dict(entry)
        return None if before == _encoded(changed_at, entries) else _encoded(seen_at, entries)

    lake.update(KEY, revise)
    return claimed


def _record(lake: Lake, cause_id: str, name: str, token: str, now: datetime, *, healed: bool) -> None:
    """Record that a message was sent, and prolong the watcher's claims."""

    def revise(body: bytes | None) -> bytes | None:
        changed_at, entries = _decoded(body)
        for entry in entries.values():
            if entry.get("claim", {}).get("by") == token:
                entry["claim"]["until"] = (now + LEASE).isoformat()
        if cause_id in entries:
            told = [one for one in entries[cause_id]["told"] if one != name]
            entries[cause_id]["told"] = told if healed else sorted([*told, name])
            if healed and not told:
                del entries[cause_id]
        return _encoded(changed_at, entries)

    lake.update(KEY, revise)


def _release(lake: Lake, token: str) -> None:
    """Drop the watcher's claims."""

    def revise(body: bytes | None) -> bytes | None:
        changed_at, entries = _decoded(body)
        own = [entry for entry in entries.values() if entry.get("claim", {}).get("by") == token]
        for entry in own:
            del entry["claim"]
        return _encoded(changed_at, entries) if own else None

    lake.update(KEY, revise)


def _open_names(entry: Mapping[str, Any], names: Collection[str], *, healed: bool) -> list[str]:
    """Return the notifiers that need a message: on the cause, or on its end."""
    told = set(entry["told"])
    return sorted(told & set(names) if healed else set(names) - told)


def _is_claimed(entry: Mapping[str, Any], now: datetime) -> bool:
    claim = entry.get("claim")
    return claim is not None and datetime.fromisoformat(claim["until"]) > now


def _encoded(changed_at: datetime | None, entries: Entries) -> bytes:
    return json.dumps({"changed_at": changed_at and changed_at.isoformat(), "causes": entries}, indent=1, sort_keys=True).encode()


def _decoded(body: bytes | None) -> tuple[datetime | None, Entries]:
    """Return when the state was changed, and its entries.

    An object that cannot be read has none: open causes are reported again.
    """
    if body is None:
        return None, {}
    try:
        found = json.loads(body)
        entries: Entries = {}
        for name, entry in found["causes"].items():
            datetime.fromisoformat(entry["found"])
            given = {**entry, "told": list(entry["told"]), "hosts": _moments(entry.get("hosts", {}))}
            entries[name] = {"feed": "", "title": name, "event": False, **given}
        return (datetime.fromisoformat(found["changed_at"]) if found["changed_at"] else None), entries
    except OTHER_FORM as error:
        log.warning("%s cannot be read (%s); all open causes are reported again", KEY, type(error).__name__)
        return None, {}


def _moments(hosts: Mapping[str, str]) -> dict[str, str]:
    """Return the hosts if each has a moment.

    :raises ValueError: if one has something else.
    """
    return {name: datetime.fromisoformat(moment).isoformat() for name, moment in hosts.items()}
