"""The stack that `make run` starts on one machine: Airflow, an S3 server, sample provider servers.

Everything lives in `.local/` and listens on 127.0.0.1.
"""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("market_data") is None:  # Airflow puts plugins/ on the path; these programs also run without it
    sys.path.append(str(Path(__file__).resolve().parents[2] / "plugins"))
