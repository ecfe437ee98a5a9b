"""The vendor's own clients understand the sample API: it does not merely mirror how our hook reads the vendor.

They are installed into an environment of their own, from the package index: without a network these tests fail.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from include.local.sample_api import SampleApi
from include.local.sample_api.vendors.polygon import NOT_ENTITLED, closing, midnight

HERE = Path(__file__).parent
KEY = "a-key"
MONTH = (date(2012, 3, 1), date(2012, 3, 31))

pytestmark = pytest.mark.slow


def run(*command):
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    return subprocess.run(
        [str(part) for part in command], check=False, env=environment, capture_output=True, text=True, timeout=240
    )


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of an environment that has the clients."""
    folder = tmp_path_factory.mktemp("clients") / "venv"
    python, wanted, uv = folder / "bin" / "python", HERE / "requirements.txt", shutil.which("uv")
    if uv:
        steps = [(uv, "venv", "--python", sys.executable, folder), (uv, "pip", "install", "--python", python, "-r", wanted)]
    else:
        steps = [(sys.executable, "-m", "venv", folder), (python, "-m", "pip", "install", "-r", wanted)]
    for step in steps:
        done = run(*step)
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-500:]
            pytest.fail(f"the vendor's clients cannot be installed; is the package index reachable? {said}")
    return python


@pytest.fixture(scope="module")
def api():
    with SampleApi(api_key=KEY) as api:
        yield api


@pytest.fixture(scope="module", params=["massive", "polygon"])
def heard(request, python, api):
    """What a client made of the answers."""
    api.forget()
    api.fault("forbidden", match="2012-07-02")
    api.fault("not_found", match="2012-07-03")
    api.fault("server_error", match="2012-07-05", times=None)
    api.fault("throttled", match="2012-07-06", times=None)
    api.fault("truncated", match=f"cursor={cursor(7)}", times=None, clean=True)
    done = run(python, HERE / "ask.py", request.param, api.url, KEY)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])  # above it is what the client logs


def cursor(limit):
    """The cursor of pages of so many rows."""
    return base64.urlsafe_b64encode(f"limit={limit}&sort=asc".encode()).decode().rstrip("=")


def values(bar, stamp):
    return [stamp(bar.session), bar.open, bar.high, bar.low, bar.close, bar.volume, bar.vwap, bar.trades]


def test_a_range_is_followed_through_all_its_pages(heard, api):
    bars = api.prices.range("AAPL", *MONTH)
    assert len(bars) == 22
    assert heard["paged"] == [values(bar.adjusted, midnight) for bar in bars]
    paged = [call for call in api.calls if call.ticker == "AAPL" and f"cursor={cursor(5)}" in call.target]
    assert len(paged) == 4


def test_values_are_read_as_they_are_held(heard, api):
    assert heard["whole"] == [values(bar, midnight) for bar in api.prices.range("AAPL", *MONTH)]
    assert heard["generated"] == [values(bar, midnight) for bar in api.prices.range("SPY", *MONTH)]


def test_a_grouped_day_has_every_ticker(heard, api):
    held = {bar.symbol: values(bar, closing) for bar in api.prices.session(date(2012, 6, 1))}
    assert len(held) > 500
    assert heard["grouped"] == held


def test_nothing_to_bring_is_nothing(heard):
    assert (heard["unknown"], heard["closed"]) == ([], {})


@pytest.mark.parametrize(
    ("case", "error", "text"),
    [
        ("wrong key", "BadResponse", "Unknown API Key"),
        ("forbidden", "BadResponse", NOT_ENTITLED),
        ("not found", "BadResponse", "NOT_FOUND"),
        ("server error", "MaxRetryError", "too many 500 error responses"),
        ("throttled", "MaxRetryError", "too many 429 error responses"),
    ],
)
def test_errors_are_the_clients_errors(heard, case, error, text):
    assert heard[case][0] == error
    assert text in heard[case][1]


def test_a_client_loses_rows_in_silence_where_a_page_is_cut(heard, api):
    """Why the hook does not use one."""
    assert len(heard["cut"]) == 7 < len(api.prices.range("AAPL", *MONTH))
