"""Fuzz one target in this process: ``python -m tests.fuzz.one TARGET``, with arguments of libFuzzer behind it."""

import sys

import atheris

with atheris.instrument_imports(include=["market_data", "ib_async"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    _, name, *arguments = sys.argv
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()
