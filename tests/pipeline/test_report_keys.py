"""Keys of run reports: runs of any number may start in the same second, as those of a cleared year do."""

from collections import Counter
from datetime import UTC, datetime

import pytest

from market_data.core.run import RunInfo
from market_data.lake.store import Lake
from market_data.pipeline import report_document

STARTED = datetime(2026, 11, 20, 23, 59, 50, tzinfo=UTC)


class CountingLake:
    """Count the requests to a lake."""

    def __init__(self, lake):
        self.lake, self.requests = lake, Counter()

    def __getattr__(self, name):
        self.requests[name] += 1
        return getattr(self.lake, name)


@pytest.fixture
def lake(tmp_path):
    return CountingLake(Lake.open(f"file://{tmp_path}"))


def write(lake, number, clear_number=1, **more):
    run = RunInfo("dag", f"scheduled__{number}", "scheduled", clear_number, STARTED)
    document = {"dag_id": run.dag_id, "run_id": run.run_id, "clear_number": clear_number, **more}
    return report_document.write(lake, document, run)


def test_1_000_runs_that_start_in_the_same_second_have_a_report_each_after_few_requests(lake):
    keys = [write(lake, number) for number in range(1_000)]
    assert len(set(keys)) == 1_000
    assert {key.rpartition("/")[0] for key in keys} == {"logs/ingest/date=2026-11-20"}
    assert sum(lake.requests.values()) < 4_000


def test_a_report_that_is_written_again_keeps_its_key_whatever_other_runs_wrote(lake):
    first = [write(lake, number) for number in range(100)]
    assert [write(lake, number, red=["late"]) for number in range(100)] == first
    assert b"late" in lake.lake.get(first[50]).body
    assert write(lake, 50, clear_number=2) not in first


def test_the_report_of_a_run_alone_is_named_by_its_start(lake):
    assert write(lake, 1) == f"logs/ingest/date=2026-11-20/run-{int(STARTED.timestamp())}.json"
