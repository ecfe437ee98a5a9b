"""Run the sample gateway as a process: ``python -m sandbox.ib_gateway``.

Ends with exit status 0 on SIGTERM and Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sandbox.ib_gateway import RULES, Rules, SampleGateway
from sandbox.sample_server import serve


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal comes; the exit code."""
    about = "A gateway in the manner of Interactive Brokers', on 127.0.0.1."
    parser = argparse.ArgumentParser("python -m sandbox.ib_gateway", description=about)
    parser.add_argument("--port", type=int, default=8502, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the generated prices (default: %(default)s)")
    parser.add_argument("--call-log", type=Path, metavar="FILE.jsonl", help="append a line for each call to it")
    parser.add_argument(
        "--rules", type=float, metavar="FACTOR", help="enforce the vendor's pacing, all its times multiplied by this"
    )
    options = parser.parse_args(arguments)

    rules = Rules() if options.rules is None else RULES.scaled(options.rules)
    return serve(
        "sample gateway",
        options.port,
        lambda: SampleGateway(options.port, rules, options.seed, call_log=options.call_log),
    )


if __name__ == "__main__":
    sys.exit(main())
