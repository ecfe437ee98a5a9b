"""The DAG ``watch_feeds``."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, task

from market_data.airflow.maintain.base import maintenance_dag
from market_data.core.errors import MarketDataError

DOC = """Tell people when a session is late, a run failed, data was refused, and so on. One message per cause, and one all-clear.

It looks at the lake, not at runs, so it also notices a DAG that is paused by mistake or a run that never started. A scheduler that is down
cannot run it: let `market-data watch` run on another machine too. Both share what was sent.

* **Switch it on**: unpause it. Set `due` on feeds and `alerts` in `feeds.yaml`.
* **A red run of this DAG**: the lake cannot be read, or a message could not be sent; the next run tries again.
"""
EVERY_FIVE_MINUTES = "*/5 * * * *"


def watch_feeds() -> DAG:
    """Return the DAG."""
    dag = maintenance_dag(
        "watch_feeds", "Messages on late sessions, failed runs and bad data", DOC, {}, EVERY_FIVE_MINUTES,
        retries=0, execution_timeout=timedelta(minutes=15),
    )  # fmt: skip
    with dag:

        @task(task_id="watch")
        def run() -> None:
            run_watch()

        run()
    return dag


def run_watch() -> list[str]:
    """Watch all feeds once and return what was sent.

    :raises MarketDataError: if a message could not be sent, after all others were.
    """
    from datetime import UTC, datetime

    from market_data.airflow.connections import open_lake, open_s3
    from market_data.airflow.notify import base_url, senders
    from market_data.alerts.watch import watch
    from market_data.config.feeds import load_alerts, load_feeds
    from market_data.lake.clock import check_clock

    alerts = load_alerts()
    _, done = watch(
        open_lake(), load_feeds(), alerts, senders(alerts), lambda: datetime.now(UTC),
        base_url=base_url(), check_clock=check_clock, open_s3=open_s3,
    )  # fmt: skip
    if done.failed:
        raise MarketDataError("not sent, tried again by the next run:\n  " + "\n  ".join(done.failed))
    return done.sent
