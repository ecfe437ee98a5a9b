"""Arrow without pandas, in a process of its own: this one may have it already."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from market_data.core.without_pandas import leave_pandas_out
leave_pandas_out()
import pyarrow as pa
rows = pa.table({"a": pa.array([1, None])})
print("pandas" in sys.modules, rows.to_pandas()["a"].isna().sum(), "pandas" in sys.modules)
"""


def test_arrow_takes_pandas_only_to_convert_to_it() -> None:
    env = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.split() == ["False", "1", "True"]
