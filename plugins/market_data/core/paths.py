"""Where the project's own files are."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
INCLUDE = Path(os.environ.get("MARKET_DATA_INCLUDE") or ROOT / "include")
"""The project's ``include`` folder."""
