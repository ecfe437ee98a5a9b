"""The sample gateway: a small server with the socket protocol of Interactive Brokers' TWS and Gateway.

``make run`` starts it as a process (``python -m sandbox.ib_gateway``), the tests inside their own (`SampleGateway`). It
responds to a client's start-up requests and to requests for contract details and historical bars. It keeps a call log, enforces the
vendor's pacing rules if configured, and injects faults on request. Stocks have the sample API's prices; futures and indices have
generated ones.

Tests against it do not prove three properties of the real gateway. It may count durations differently (here ``D`` means trading
days, all else calendar time). Its soft throttle may begin elsewhere. Its prices are adjusted for splits; these are not.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

if importlib.util.find_spec("market_data") is None:  # Airflow puts plugins/ on the path; this server also runs without it
    sys.path.append(str(Path(__file__).resolve().parents[2] / "plugins"))

from sandbox.ib_gateway.calls import GatewayCall, read_call_log
from sandbox.ib_gateway.pacing import RULES, Rules
from sandbox.ib_gateway.server import SampleGateway


def connection(host: str, port: int) -> dict[str, Any]:
    """Return the Airflow connection to the sample gateway, in the settings file's format."""
    return {"conn_type": "market_data_ib", "conn_host": host, "conn_port": port, "conn_extra": {"plan": "sample", "client_id": 1}}


__all__ = ["RULES", "GatewayCall", "Rules", "SampleGateway", "connection", "read_call_log"]
