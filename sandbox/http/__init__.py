"""The sample API: a small HTTP server that speaks the dialects of several vendors: Polygon's at the root, each under its name.

``make run`` starts it as a process (``python -m sandbox.http``), the tests inside their own (`SampleApi`). Its prices
are recorded ones where a package carries them, seeded generated ones for all else, or those of a Parquet file; the header
``X-Sample-Source`` of every answer with data tells which. It keeps a call log and makes faults on request.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("market_data") is None:  # Airflow puts plugins/ on the path; this server also runs without it
    sys.path.append(str(Path(__file__).resolve().parents[2] / "plugins"))

from market_data.core.capabilities import Window
from sandbox.http.calls import Call, max_in_window, read_call_log
from sandbox.http.server import SampleApi

__all__ = ["Call", "SampleApi", "Window", "max_in_window", "read_call_log"]
