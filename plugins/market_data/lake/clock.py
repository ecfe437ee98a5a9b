"""Clocks: the worker's against the object store's, and stored stamps against the present.

The newest response wins by its stamp, so a wrong clock would drop newer values as older ones. It is an error instead.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

from market_data.core.dates import EPOCH, MICROSECOND
from market_data.core.errors import ClockError

if TYPE_CHECKING:
    from market_data.lake.store import Lake

log = logging.getLogger(__name__)

SKEW = timedelta(seconds=5)
"""Greatest difference of two clocks that is tolerated."""

TIMEOUT = 3.0


def worker_clock() -> datetime:
    """Return the time of this worker, UTC."""
    return datetime.now(UTC)


def check_clock(lake: Lake, clock: Callable[[], datetime] | None = None) -> None:
    """Compare the worker's clock with that of the object store.

    An object store that does not tell its time is not compared; the data requests that follow report its failures.

    :param clock: the worker's; None: ``worker_clock``.
    :raises ClockError: if they differ by more than ``SKEW``.
    """
    now = clock or worker_clock
    before = now()
    found = _folder_time(lake.root) if lake.root is not None else _server_time(lake.address, verify=lake.verify)
    after = now()
    if found is None:
        return
    first, last = found
    if before - last > SKEW or first - after > SKEW:
        gap = max(before - last, first - after)
        raise ClockError(
            f"the clock of host {socket.gethostname()} differs from that of the object store by {gap.total_seconds():,.0f} s: "
            f"{after:%Y-%m-%d %H:%M:%S} UTC and {first:%Y-%m-%d %H:%M:%S} UTC at {lake.url}; {SKEW.total_seconds():g} s are allowed. "
            "Nothing was requested or written. Synchronise the clock (NTP), then clear the failed tasks",
            gap,
        )


def check_stamp(stamp: int, now: int, name: str) -> None:
    """Check that a stored stamp does not lie in the future.

    :param stamp: microseconds since 1970, as ``now``.
    :param name: what has the stamp, for the message.
    :raises ClockError: if it is more than ``SKEW`` after ``now``.
    """
    if stamp <= now + SKEW // MICROSECOND:
        return
    stored, present = EPOCH + stamp * MICROSECOND, EPOCH + now * MICROSECOND
    raise ClockError(
        f"{name} has the stamp {stored:%Y-%m-%d %H:%M:%S} UTC, in the future: "
        f"the clock of host {socket.gethostname()} shows {present:%Y-%m-%d %H:%M:%S} UTC. "
        "One of the clocks was wrong, so it is not known which response is newer; nothing was replaced. "
        "Synchronise the clocks (NTP). If this host is right, move the object away and fetch its cells again (force)"
    )


def _folder_time(root: Path) -> tuple[datetime, datetime]:
    """Return the time that a folder's file system gives to a file written now.

    The file never has a name, where possible.
    """
    try:
        descriptor = os.open(root, os.O_TMPFILE | os.O_RDWR)
    except (AttributeError, OSError):  # not every file system has nameless files
        descriptor, name = tempfile.mkstemp(prefix=".clock-", dir=root)
        Path(name).unlink()
    try:
        os.write(descriptor, b"x")
        found = datetime.fromtimestamp(os.fstat(descriptor).st_mtime, UTC)
    finally:
        os.close(descriptor)
    return found, found


def _server_time(address: str, *, verify: bool | str) -> tuple[datetime, datetime] | None:
    """Return the first and last moment that a server's header ``Date`` may mean; it has whole seconds.

    The request is not signed: any response has the header.
    """
    import requests  # only workers have it: reading needs no Airflow

    try:
        response = requests.head(address, timeout=TIMEOUT, allow_redirects=False, verify=verify)
        found = parsedate_to_datetime(response.headers["Date"]).astimezone(UTC)
    except (requests.RequestException, KeyError, TypeError, ValueError) as error:
        log.info("the object store does not tell its time (%s): the clocks are not compared", type(error).__name__)
        return None
    return found, found + timedelta(seconds=1)
