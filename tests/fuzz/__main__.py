"""Fuzz the parsers, guided by the coverage of their code: ``make fuzz``, ``make fuzz SECONDS=60 TARGET="polygon range"``.

Inputs that reach new code are kept in ``.local/fuzz/corpus``; an input that fails, takes more than ``SECONDS_EACH`` or more than
``MEMORY_MB`` is written to ``.local/fuzz/found``, and the exit status is 1. Atheris is installed into ``.local/fuzz/site`` at the first
use: nothing else needs it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import PROJECT, TARGETS

FOLDER = PROJECT / ".local" / "fuzz"
LOCK = Path(__file__).parent / "requirements.lock"
SECONDS_EACH, MEMORY_MB, LONGEST = 5, 1024, 64 * 1024
"""Bounds of one input: seconds, memory of the process in MB, bytes."""
LAST = 40
"""Lines of the fuzzer's output that tell of a finding."""


def main(arguments: list[str]) -> int:
    """Fuzz the named targets one after another; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="TARGET", help=f"{', '.join(TARGETS)}; by default all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: %(default)s)")
    options = parser.parse_args(arguments)
    names = [name for name in options.names if name]
    if unknown := sorted(set(names) - set(TARGETS)):
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    install()
    clean = [fuzz(name, options.seconds) for name in names or TARGETS]
    return int(not all(clean))


def say(text: str) -> None:
    """Write a line now."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def install() -> None:
    """Install Atheris into the folder of the fuzzer, unless it is there."""
    site = FOLDER / "site"
    if (site / "atheris").exists():
        return
    uv = shutil.which("uv") or str(PROJECT / ".local" / "uv" / "bin" / "uv")
    command = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", site, "--require-hashes", "-r", LOCK]
    subprocess.run(command, check=True)


def fuzz(name: str, seconds: int) -> bool:
    """Fuzz a target; print how often it ran, and what it found. Return True if nothing was found."""
    corpus, found = FOLDER / "corpus" / name, FOLDER / "found" / name
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for body in TARGETS[name].seeds:
        (corpus / hashlib.sha1(body, usedforsecurity=False).hexdigest()).write_bytes(body)
    bounds = [f"-timeout={SECONDS_EACH}", f"-rss_limit_mb={MEMORY_MB}", f"-max_len={LONGEST}", f"-max_total_time={seconds}"]
    command = [
        sys.executable,
        "-m",
        "tests.fuzz.one",
        name,
        *bounds,
        f"-artifact_prefix={found}/",
        "-print_final_stats=1",
        str(corpus),
    ]
    path = os.pathsep.join(map(str, (FOLDER / "site", PROJECT, PROJECT / "plugins")))
    env = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, env=env, cwd=PROJECT, capture_output=True, text=True, errors="replace", check=False)
    units = re.findall(r"stat::number_of_executed_units: *(\d+)", done.stderr)
    peak = re.findall(r"stat::peak_rss_mb: *(\d+)", done.stderr)
    edges = re.findall(r"cov: (\d+)", done.stderr)
    ran = f"{int(units[-1]) if units else 0:>9,} runs, {edges[-1] if edges else 0:>6} edges, {peak[-1] if peak else 0:>5} MB"
    say(f"{name:<28} {ran}{'' if done.returncode == 0 else '  FOUND'}")
    if done.returncode:
        say("\n".join((done.stdout + done.stderr).splitlines()[-LAST:]))
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
