"""The environment of the peers, `.local/bench/venv`: other stacks that fetch bars and write Parquet."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.measurement import PROJECT

FOLDER = PROJECT / ".local" / "bench"
PYTHON = FOLDER / "venv" / "bin" / "python"
LOCK = PROJECT / "benchmarks" / "requirements.lock"
WANTED = PROJECT / "benchmarks" / "requirements.in"

VERSIONS = """
import importlib.metadata, json
print(json.dumps({found.metadata["Name"].lower(): found.version for found in importlib.metadata.distributions()}))
"""


def install() -> None:
    """Make the environment hold the packages of the lock; quick where it does.

    If they cannot be installed together, each is tried alone: a peer that is missing is reported as not run.
    """
    done = FOLDER / "requirements.lock"
    if PYTHON.exists() and done.exists() and done.read_bytes() == LOCK.read_bytes():
        return
    print(
        f"Installing the packages of {LOCK.relative_to(PROJECT)} into {PYTHON.parents[1].relative_to(PROJECT)}, once",
        file=sys.stderr,
    )
    uv = _uv()
    if (
        not PYTHON.exists()
        and subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, FOLDER / "venv"], check=False).returncode
    ):
        return
    if subprocess.run([uv, "pip", "sync", "--quiet", "--python", PYTHON, LOCK], check=False).returncode == 0:
        shutil.copyfile(LOCK, done)
        return
    for name in wanted():
        subprocess.run([uv, "pip", "install", "--quiet", "--python", PYTHON, "--constraint", LOCK, name], check=False)


def wanted() -> list[str]:
    """Return the packages that the stacks import."""
    return [line for line in WANTED.read_text().splitlines() if line and not line.startswith(("#", "-"))]


def versions() -> dict[str, str]:
    """Return the version of every installed package; nothing if there is no environment."""
    if not PYTHON.exists():
        return {}
    done = subprocess.run([str(PYTHON), "-c", VERSIONS], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _uv() -> str:
    """Return the path of uv; as `make install` does, it is fetched into `.local/uv` where there is none."""
    local = PROJECT / ".local" / "uv"
    if found := shutil.which("uv"):
        return found
    if not (local / "bin" / "uv").exists():
        subprocess.run([sys.executable, "-m", "venv", str(local)], check=True)
        subprocess.run([str(Path(local, "bin", "python")), "-m", "pip", "install", "--quiet", "uv"], check=True)
    return str(local / "bin" / "uv")
