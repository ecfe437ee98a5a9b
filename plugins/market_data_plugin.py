"""What Airflow loads of this package; everything else is imported from ``market_data`` where it is used."""

from typing import ClassVar

from airflow.plugins_manager import AirflowPlugin

from market_data.airflow import task_notes
from market_data.airflow.timetable import SessionTimetable


class MarketDataPlugin(AirflowPlugin):
    """The timetable of exchange sessions, and the notes on task instances."""

    name = "market_data"
    timetables: ClassVar = [SessionTimetable]
    listeners: ClassVar = [task_notes]
