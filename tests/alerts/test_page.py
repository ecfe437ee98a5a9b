"""The page *Feeds* and the messages agree on which sessions are complete."""

from dataclasses import replace
from datetime import date, timedelta
from random import Random

import pytest

from market_data.alerts.watch import find
from market_data.config.alerts import Alerts, Thresholds
from market_data.core.calendar import XNYS
from market_data.core.outcome import SUSPECTED_GAP
from market_data.maintenance.audit.expected import last_due
from market_data.views.coverage import grid_of
from market_data.views.feeds import strip_of
from market_data.views.places import place_of
from tests.alerts.desk import FEED, MEMBERS, Desk, new_york

DAYS = XNYS.sessions(date(2024, 2, 20), date(2024, 3, 8))
STRICT = Alerts(Thresholds(pending=0, quarantined=10_000))
STATES = ("have", "empty", "released", "pending", "refused", "quarantined", SUSPECTED_GAP, "")
OPEN_TO_BOTH = {"pending", "refused", ""}
"""States that are late for the messages, and not final on the page. The page also names quarantined cells and suspected gaps."""


def recorded(desk, day, states):
    for state in filter(None, set(states.values())):
        symbols = [symbol for symbol, found in states.items() if found == state]
        gap = state == SUSPECTED_GAP
        desk.cells(day, "empty" if gap else state, symbols=symbols, reason=f"{SUSPECTED_GAP}: none" if gap else "a reason")


@pytest.mark.parametrize("seed", range(20))
def test_a_session_is_reported_exactly_if_the_page_shows_cells_that_are_not_there(tmp_path, seed):
    random = Random(seed)
    desk = Desk(tmp_path, replace(FEED, start_date=DAYS[0]), alerts=STRICT)
    truth = {}
    for day in DAYS:
        desk.now = new_york(day, 20)
        odd = random.choices(STATES, k=random.choice((0, 0, 1, 2)))
        states = dict.fromkeys(MEMBERS, "have") | dict(zip(random.sample(MEMBERS, len(odd)), odd, strict=True))
        recorded(desk, day, states)
        truth[day] = set(odd)
    now = new_york(DAYS[-1] + timedelta(days=1), 9)
    told = {cause.id.rpartition("/")[2] for cause in find(desk.lake, desk.feeds, desk.alerts, now).causes}
    place = place_of(desk.lake, FEED.dag_id, feeds=desk.feeds)
    strip = strip_of(grid_of(place, now), XNYS, last_due(desk.feeds[0], XNYS, now))
    shown = {one["session"]: one for one in strip}
    for day in DAYS[-5:]:
        bad = bool(truth[day] & OPEN_TO_BOTH)
        assert (str(day) in told) is bad, truth[day]
        assert shown[str(day)]["complete"] is not bool(truth[day] & {*OPEN_TO_BOTH, "quarantined", SUSPECTED_GAP}), truth[day]
