"""The assets of a feed: one event per run, and one per session for DAGs that process single sessions.

A DAG that runs once per session, whether a run loaded one or repaired twenty::

    with DAG("features", schedule=PartitionedAssetTimetable(assets=Asset.ref(name="polygon_ohlcv_1d_sessions"))):
        ...  # the session: dag_run.partition_key, such as 2024-01-02

Every Airflow component imports this module: keep it light.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk import Asset, get_parsing_context

from market_data.core.messages import counted

SUFFIX = "_sessions"


def outlets_of(dag_id: str, address: str, task_id: str) -> list[Asset]:
    """Return the assets of a feed, that of its sessions last.

    None in the process of another task than ``task_id``: for the first asset with an address, Airflow imports what every installed
    provider has on assets, boto3 and the ORM with it.
    """
    if get_parsing_context().task_id not in (None, task_id):
        return []
    return [loaded_asset(dag_id, address), sessions_asset(dag_id, address)]


def loaded_asset(dag_id: str, address: str) -> Asset:
    """Return the asset of a feed: one event per run that published."""
    return Asset(name=dag_id, uri=address, group="market-data", extra={"event": "one per run, with rows, sessions and report"})


def sessions_asset(dag_id: str, address: str) -> Asset:
    """Return the asset of a feed's sessions: one event per session with new values.

    The partition key of an event is the ISO date of its session.
    A run without new values emits one event without a key. It starts no DAG that is scheduled by partitions.
    """
    return Asset(
        name=f"{dag_id}{SUFFIX}", uri=f"{address}/sessions", group="market-data",
        extra={"event": "one per session with new values", "partition key": "date of the session, such as 2024-01-02"},
    )  # fmt: skip


def announce(events: Any, assets: Sequence[Asset], published: Mapping[str, Any]) -> None:
    """Describe the events of a run that Airflow emits when its task succeeds.

    :param events: ``outlet_events`` of the task's context.
    :param published: the result of ``publish_run``.
    """
    loaded, by_session = assets
    sessions: Sequence[str] = published["new_sessions"]
    events[loaded].extra = readable(published)
    events[by_session].extra = {"report": published["report"]}
    if sessions:
        events[by_session].add_partitions(list(sessions))


def readable(published: Mapping[str, Any]) -> dict[str, Any]:
    """Return the extra of a run's event in the order in which a person reads it."""
    sessions = list(published["sessions"])
    dates = " to ".join(dict.fromkeys([sessions[0], sessions[-1]])) if sessions else ""
    of_sessions = f" of {counted(len(sessions), 'session')}: {dates}" if sessions else ", none with a new value"
    return {
        "loaded": f"{counted(published['rows'], 'row')}{of_sessions}",
        "rows": published["rows"],
        "sessions": sessions,
        "report": published["report"],
    }
