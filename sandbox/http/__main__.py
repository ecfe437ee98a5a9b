"""``python -m sandbox.http``: the sample API as a process. Ends with 0 on SIGTERM and Ctrl-C."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sandbox.http import SampleApi, Window
from sandbox.sample_server import serve


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal comes; the exit code."""
    parser = argparse.ArgumentParser(
        "python -m sandbox.http", description="The APIs of several vendors on 127.0.0.1, Polygon's at the root."
    )
    parser.add_argument("--port", type=int, default=8099, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--data", type=Path, metavar="FILE.parquet", help="serve its symbol, date, open, high, low, close, volume")
    parser.add_argument("--calls", type=int, action="append", default=[], help="calls of a quota window; repeatable with --seconds")
    parser.add_argument("--seconds", type=float, action="append", default=[], help="length of that quota window")
    parser.add_argument("--api-key", default="sample", metavar="KEY", help="the key it knows (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the generated prices (default: %(default)s)")
    parser.add_argument("--call-log", type=Path, metavar="FILE.jsonl", help="append a line for each call to it")
    options = parser.parse_args(arguments)
    if len(options.calls) != len(options.seconds):
        given = f"--calls is given {len(options.calls)} times, --seconds {len(options.seconds)} times"
        parser.error(f"{given}; each quota window needs one of both")

    limits = [Window(calls, seconds) for calls, seconds in zip(options.calls, options.seconds, strict=True)]
    return serve(
        "sample API",
        options.port,
        lambda: SampleApi(options.port, options.data, limits, options.api_key, options.seed, call_log=options.call_log),
    )


if __name__ == "__main__":
    sys.exit(main())
