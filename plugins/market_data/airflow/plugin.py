"""Airflow plugin, loaded by the wheel's entry point or by ``plugins/market_data_plugin.py``."""

from __future__ import annotations

from typing import ClassVar

from airflow.plugins_manager import AirflowPlugin

from market_data.airflow import task_notes
from market_data.airflow.links import LINKS
from market_data.airflow.priority import NewestSessionFirst
from market_data.airflow.timetable import SessionTimetable
from market_data.airflow.web import mount


class MarketDataPlugin(AirflowPlugin):
    """Registers the timetable of sessions, the order in a pool, task notes, links and the pages."""

    name = "market_data"
    timetables: ClassVar = [SessionTimetable]
    priority_weight_strategies: ClassVar = [NewestSessionFirst]
    global_operator_extra_links: ClassVar = list(LINKS)
    listeners: ClassVar = [task_notes]
    fastapi_apps: ClassVar = mount.fastapi_apps()
    fastapi_root_middlewares: ClassVar = mount.root_middlewares()
    external_views: ClassVar = mount.external_views()
