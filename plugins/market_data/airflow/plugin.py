"""Airflow plugin, loaded by the wheel's entry point or by ``plugins/market_data_plugin.py``."""

from __future__ import annotations

from typing import ClassVar

from airflow.plugins_manager import AirflowPlugin

from market_data.airflow import task_notes
from market_data.airflow.links import LINKS
from market_data.airflow.priority import NewestSessionFirst
from market_data.airflow.timetable import SessionTimetable


class MarketDataPlugin(AirflowPlugin):
    """Registers the timetable of sessions, the order in a pool, links, and the writer of task notes."""

    name = "market_data"
    timetables: ClassVar = [SessionTimetable]
    priority_weight_strategies: ClassVar = [NewestSessionFirst]
    global_operator_extra_links: ClassVar = list(LINKS)
    listeners: ClassVar = [task_notes]
