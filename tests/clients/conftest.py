"""An environment of the vendors' own clients, and how scripts run in it.

It is installed from the package index: without a network these tests fail.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def run(*command):
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    return subprocess.run(
        [str(part) for part in command], check=False, env=environment, capture_output=True, text=True, timeout=600
    )


@pytest.fixture(scope="session")
def python(tmp_path_factory):
    """The interpreter of an environment that has the clients."""
    folder = tmp_path_factory.mktemp("clients") / "venv"
    python, uv = folder / "bin" / "python", shutil.which("uv")
    wanted = ("--require-hashes", "-r", HERE / "requirements.lock")
    if uv:
        steps = [(uv, "venv", "--python", sys.executable, folder), (uv, "pip", "install", "--python", python, *wanted)]
    else:
        steps = [(sys.executable, "-m", "venv", folder), (python, "-m", "pip", "install", *wanted)]
    for step in steps:
        done = run(*step)
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-500:]
            pytest.fail(f"the vendor's clients cannot be installed; is the package index reachable? {said}")
    return python


@pytest.fixture(scope="session")
def asked(python):
    """Runs a script of this folder, and gives what it prints as JSON in its last line; above it is what the client logs."""

    def ask(script, *arguments):
        done = run(python, HERE / script, *arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return ask
