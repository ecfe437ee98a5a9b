"""A fixture that makes runs quick: no Great Expectations, no threads, no log, each object decoded once."""

import logging

import pyarrow as pa
import pytest

from market_data.lake import clock, parquet
from market_data.quality import checkpoint
from tests.pipeline.model_run import decode_once, quick_checkpoint


@pytest.fixture
def quick(monkeypatch):
    threads = pa.cpu_count()
    pa.set_cpu_count(1)  # the tables are small
    monkeypatch.setattr(checkpoint, "run_checkpoint", quick_checkpoint)
    monkeypatch.setattr(clock, "_server_time", lambda *_, **__: None)  # the lake is in memory
    monkeypatch.setattr(parquet, "decode", decode_once)
    monkeypatch.setattr(logging.root.manager, "disable", logging.ERROR)
    yield
    pa.set_cpu_count(threads)
