"""Reports of runs are read once each, and the newest stay in memory."""

import json
from datetime import UTC, datetime, timedelta

from market_data.lake.store import Lake
from market_data.views import run_reports

NOW = datetime(2024, 10, 3, 12, tzinfo=UTC)


def test_the_newest_reports_stay_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(run_reports, "MOST", 2)
    lake = Lake.open(f"file://{tmp_path}")
    keys = []
    for back in range(4):
        moment = NOW - timedelta(days=back)
        document = dict.fromkeys(run_reports.KEPT, None) | {"start_time": moment.isoformat(), "run_id": f"r{back}"}
        keys.append(f"logs/ingest/date={moment:%Y-%m-%d}/run-1.json")
        lake.put_new(keys[-1], json.dumps(document).encode())
    found = run_reports.recent_reports(lake, NOW)
    assert [one["run_id"] for one in found] == ["r0", "r1", "r2", "r3"]
    assert {key for url, key, _ in run_reports._READ if url == lake.url} == set(keys[:2])
