"""A repair in a shell shows that it is at work, on a file system and on S3."""

import logging
import time
from datetime import UTC, datetime, timedelta

import pytest

from market_data.core.errors import LakeError
from market_data.core.run import IN_SHELL, RunInfo
from market_data.lake import at_work, clock

PLACE = ("ohlcv-1d", "mock")
RUN = RunInfo(IN_SHELL, "repair mock", "manual", 0, datetime(2026, 11, 20, tzinfo=UTC))


def test_a_run_is_at_work_inside_the_block_only(lake):
    assert not at_work.is_at_work(lake, *PLACE, RUN)
    with at_work.at_work(lake, *PLACE, RUN):
        assert at_work.is_at_work(lake, *PLACE, RUN)
        assert not at_work.is_at_work(lake, "ohlcv-1m", "mock", RUN)
        assert not at_work.is_at_work(lake, *PLACE, RunInfo(IN_SHELL, "another", "manual", 0, RUN.started))
    assert not at_work.is_at_work(lake, *PLACE, RUN)
    assert lake.list("") == []


@pytest.mark.parametrize(
    ("later", "works"), [(at_work.LASTS - timedelta(seconds=5), True), (at_work.LASTS + timedelta(seconds=5), False)]
)
def test_one_that_was_killed_counts_as_ended_some_minutes_later(lake, monkeypatch, later, works):
    with at_work.at_work(lake, *PLACE, RUN):
        right = clock.worker_clock
        monkeypatch.setattr(clock, "worker_clock", lambda: right() + later)
        assert at_work.is_at_work(lake, *PLACE, RUN) is works


def test_it_renews_its_object_after_a_failure_too(lake, monkeypatch, caplog):
    monkeypatch.setattr(at_work, "RENEWED", timedelta(milliseconds=1))
    renewals, update = [], lake.update

    def counted(key, revise):
        renewals.append(key)
        if len(renewals) == 2:
            raise LakeError("lake replace: 503")
        return update(key, revise)

    monkeypatch.setattr(lake, "update", counted)
    with caplog.at_level(logging.WARNING), at_work.at_work(lake, *PLACE, RUN):
        first = lake.list("staging")
        until = time.monotonic() + 30
        while len(renewals) < 4 and time.monotonic() < until:
            time.sleep(0.001)
    assert len(renewals) >= 4
    assert len(first) == 1
    assert set(renewals) == {first[0][0]}
    assert "other runs may soon take this repair for ended: lake replace: 503" in caplog.text
