"""Let three hosts use one account for a long time, and judge them by the vendor's log.

No window may be over, and the quota has to be used.

Usage: ``python -m benchmarks.rate_limits [--store postgres|redis] [--minutes 30]``; ``--help`` lists the rest. Each host has clocks of its
own, a minute apart, and as root on Linux a network namespace. Calls are held up before and after they are counted, and now and then a
process is killed outright. The first window is not judged for the share: the account begins full.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from sandbox.call_log import most_in
from tests.http.test_many_hosts import BESIDE, running, shared, vendor_of
from tests.services.network import available, network


def arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser("python -m benchmarks.rate_limits", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--store", choices=["postgres", "redis"], default="postgres")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--calls", type=int, action="append", help="calls of a window, repeatable with --seconds (default: 300)")
    parser.add_argument("--seconds", type=float, action="append", help="length of that window (default: 60)")
    parser.add_argument("--slots", type=int, default=8, help="of each host (default: %(default)s)")
    parser.add_argument(
        "--hold-up", type=float, default=0.25, help="most seconds a call is held up, each way (default: %(default)s)"
    )
    parser.add_argument("--kill-every", type=float, default=20.0, help="seconds; 0: none is killed (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of what is killed (default: %(default)s)")
    return parser.parse_args()


def cpu_seconds() -> float:
    """Return the CPU seconds of this process's children that live."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            total += sum(process.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return total


def main() -> int:
    """Run, and print the figures; return 1 if a window was over."""
    options = arguments()
    windows = list(zip(options.calls or [300], options.seconds or [60.0], strict=True))
    longest = max(seconds for _, seconds in windows)
    if 60 * options.minutes <= longest:
        raise SystemExit(f"--minutes {options.minutes:g} is not longer than the first window of {longest:g} s, which is not judged")
    draw, kills = random.Random(options.seed), 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        apart = BESIDE if (why := available()) else stack.enter_context(network("a", "b", "c"))
        print(f"hosts: {why or 'network namespaces'}; windows: {windows}; {3 * options.slots} slots", flush=True)
        vendor = stack.enter_context(vendor_of(options.hold_up, apart.address))
        store = stack.enter_context(shared(options.store, folder, apart.address))
        rules = {"windows": windows}
        hosts = stack.enter_context(running(vendor, [store] * 3, rules, apart.hosts, slots=options.slots, feeds=2))
        vendor.await_calls(1)
        begun, cpu, mine = time.monotonic(), cpu_seconds(), time.process_time()
        ends = begun + 60 * options.minutes
        while (now := time.monotonic()) < ends:
            time.sleep(max(0.0, min(options.kill_every or ends, ends - now)))
            if options.kill_every and time.monotonic() < ends:
                draw.choice(hosts).kill_worker(draw.randrange(100_000))
                kills += 1
        moments, cpu, mine = vendor.moments, cpu_seconds() - cpu, time.process_time() - mine
    over = False
    counted = [moment for moment in moments if begun + longest <= moment < ends]
    span = ends - begun - longest
    for calls, seconds in windows:
        most = most_in(moments, seconds)
        over = over or most > calls
        share = len(counted) / (calls * span / seconds)
        print(f"{calls} in {seconds:g} s: at most {most} in a window, {share:.1%} of the quota used")
    print(f"{len(moments)} calls in {options.minutes:g} minutes, {kills} processes killed, {options.store}")
    print(
        f"CPU: {1000 * cpu / max(1, len(moments)):.2f} ms per call, and {1000 * mine / max(1, len(moments)):.2f} ms of the vendor's"
    )
    return int(over)


if __name__ == "__main__":
    sys.exit(main() or os.EX_OK)
