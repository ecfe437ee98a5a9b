"""Serve S3 on 127.0.0.1: ``python -m sandbox.s3 --port 8580 --folder .local/s3``."""

from __future__ import annotations

import argparse
from pathlib import Path

from sandbox.s3.server import application


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.s3")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, help="keeps the objects; default: memory only")
    options = parser.parse_args()

    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from werkzeug.serving import run_simple

    run_simple("127.0.0.1", options.port, application(options.folder), threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main()
