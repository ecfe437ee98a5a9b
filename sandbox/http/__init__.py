"""The sample API, a small HTTP server with several vendors' dialects.

Polygon's is at the root; each vendor has a path under its own name.

``make run`` starts it as a process (``python -m sandbox.http``), the tests inside their own (`SampleApi`). Its prices
are recorded ones where a package carries them, seeded generated ones for all else, or those of a Parquet file. The header
``X-Sample-Source`` of every data response names the source. The server keeps a call log and injects faults on request.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("market_data") is None:  # Airflow puts plugins/ on the path; this server also runs without it
    sys.path.append(str(Path(__file__).resolve().parents[2] / "plugins"))

from market_data.core.capabilities import Window
from sandbox.call_log import max_in_window
from sandbox.http.calls import Call, read_call_log
from sandbox.http.server import SampleApi

__all__ = ["Call", "SampleApi", "Window", "max_in_window", "read_call_log"]
