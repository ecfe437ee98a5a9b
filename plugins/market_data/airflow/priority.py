"""Which run goes first in a pool."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from airflow.task.priority_strategy import PriorityWeightStrategy

from market_data.core import calendar
from market_data.core.calendar import NEW_YORK

if TYPE_CHECKING:
    from airflow.models.taskinstance import TaskInstance

SESSION_RUN = re.compile(r"(?:scheduled|backfill)__(\d{4}-\d{2}-\d{2})(T\S+)?")
"""The id of a run that belongs to a session: it has the session's date, or the time from which the run may start.

Runs of a Backfill have the latter, as have scheduled ones of earlier versions: that time is on the session's date in New York.
"""


class NewestSessionFirst(PriorityWeightStrategy):
    """Give the tasks of newer sessions more weight, whatever else waits in the pool.

    The run of the newest session, tonight's, comes first. Runs that a person or another DAG triggered come next. Older sessions follow,
    newest first, whether missed, cleared or of a Backfill. All tasks of a run have the same weight.

    Airflow passes no run, only its id; for mapped tasks it passes nothing else. The weights, about 1.5 million, fit into 32 bits.
    """

    def get_weight(self, ti: TaskInstance) -> int:
        return weight(ti.run_id or "", datetime.now(UTC))


NEWEST_SESSION_FIRST = f"{__name__}.{NewestSessionFirst.__name__}"
"""The strategy by name: Airflow 3.3 stores an instance as its ``repr`` where a task is mapped, and the scheduler cannot read that."""


def weight(run_id: str, now: datetime) -> int:
    """Return the weight of the tasks of a run.

    A triggered run is placed right behind that of the last completed session, so it never precedes a session that ends later.
    """
    found = SESSION_RUN.match(run_id)
    if found:
        session = datetime.fromisoformat(found[1] + found[2]).astimezone(NEW_YORK) if found[2] else date.fromisoformat(found[1])
        return 2 * session.toordinal()
    return 2 * calendar.last_completed_session(now).toordinal() - 1
