"""The sample gateway: a small server that speaks the socket protocol of Interactive Brokers' TWS and Gateway.

``make run`` starts it as a process (``python -m sandbox.ib_gateway``), the tests inside their own (`SampleGateway`). It
answers a client's start-up questions, contract details and historical bars; it keeps a call log, enforces the vendor's pacing rules
when told to, and makes faults on request. Stocks have the prices of the sample API; futures and indices have generated ones.

What it does not prove: how the real one counts a duration (here ``D`` are trading days, all else is calendar time), where its soft
throttle begins, and that its prices are adjusted for splits, which these are not.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("market_data") is None:  # Airflow puts plugins/ on the path; this server also runs without it
    sys.path.append(str(Path(__file__).resolve().parents[2] / "plugins"))

from sandbox.ib_gateway.calls import Call, read_call_log
from sandbox.ib_gateway.pacing import RULES, Rules
from sandbox.ib_gateway.server import SampleGateway

__all__ = ["RULES", "Call", "Rules", "SampleGateway", "read_call_log"]
