"""What Airflow loads of this package: by the entry point of an installed wheel, or by ``plugins/market_data_plugin.py``."""

from __future__ import annotations

from typing import ClassVar

from airflow.plugins_manager import AirflowPlugin

from market_data.airflow import task_notes
from market_data.airflow.timetable import SessionTimetable


class MarketDataPlugin(AirflowPlugin):
    """The timetable of exchange sessions, and the notes on task instances."""

    name = "market_data"
    timetables: ClassVar = [SessionTimetable]
    listeners: ClassVar = [task_notes]
