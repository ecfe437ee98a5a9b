"""Repairs in a shell that are at work.

Airflow has no run of them, so each keeps an object in the lake and renews it. One that was killed renews it no more: ``LASTS`` later it
counts as ended, and the feed's next run loads what it has left.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread

from market_data.core.errors import LakeError
from market_data.core.run import RunInfo
from market_data.lake import clock
from market_data.lake.layout import staging_prefix
from market_data.lake.store import Lake

log = logging.getLogger(__name__)

RENEWED = timedelta(seconds=20)
LASTS = timedelta(minutes=3)


@contextmanager
def at_work(lake: Lake, dataset: str, provider: str, run: RunInfo) -> Iterator[None]:
    """Show other runs of a dataset and provider that ``run`` is active, for as long as the block takes.

    :raises LakeError: if the object cannot be written at first. Later failures are logged: the next renewal may succeed.
    """
    key, ended = _key(dataset, provider, run), Event()
    _renew(lake, key)

    def keep_on() -> None:
        while not ended.wait(RENEWED.total_seconds()):
            try:
                _renew(lake, key)
            except LakeError as error:
                log.warning("other runs may soon take this repair for ended: %s", error)

    renewing = Thread(target=keep_on, name="at-work", daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        lake.delete(key)


def is_at_work(lake: Lake, dataset: str, provider: str, run: RunInfo) -> bool:
    """Return true if ``run`` is in `at_work`, or was killed there less than ``LASTS`` ago."""
    renewed = lake.modified(_key(dataset, provider, run))
    return renewed is not None and clock.worker_clock() - renewed < LASTS


def _key(dataset: str, provider: str, run: RunInfo) -> str:
    return f"{staging_prefix(dataset, provider)}/run={run.key}/at-work.json"


def _renew(lake: Lake, key: str) -> None:
    """Write the object again: its age counts."""
    moment = clock.worker_clock().isoformat()
    lake.update(key, lambda _: f'{{"renewed": "{moment}"}}\n'.encode())
