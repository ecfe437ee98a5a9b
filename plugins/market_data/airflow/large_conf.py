"""Runs whose configuration makes Airflow's scheduler large."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

LARGEST = 20_000_000
"""Bytes of a run's configuration, times its batches. Airflow's scheduler takes about nine times as much memory while it reads them."""


def large_conf(conf: Mapping[str, Any] | None, batches: int) -> str:
    """Return what to do about a configuration that is too large for its batches; empty if it is not.

    In each of its loops, Airflow's scheduler reads the configuration of a run again for each of the run's task instances.

    :param conf: of the triggered run.
    """
    size = len(json.dumps(conf or {}, default=str))
    if size * batches <= LARGEST:
        return ""
    return (
        f"Airflow's scheduler reads the run's configuration of {size:,} bytes again for each of {batches:,} batches, which takes much "
        "memory: give the symbols by tickers_path or universe, or make larger batches (batch_size)"
    )
