"""The provider's calls on its server's log, by run: those that the report must count, and those of which nobody could tell."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.chaos.processes import Outcome


class CallBook:
    """Counts calls by run, try by try.

    :param count: returns how many calls the server's log has.
    :ivar made: calls of the tries of `fetch`, by run. ``lost``: of those, calls of tries that were killed: no report has them.
        ``again``: calls of tries that failed, which the next try may repeat.
    :ivar unclear: runs of which the client may have given a call up before the server saw it.
    """

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self._total = 0
        self.made: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.again: Counter[str] = Counter()
        self.unclear: set[str] = set()

    @contextmanager
    def of_try(self, run: str, task: str) -> Iterator[Callable[[Outcome], None]]:
        """Count the calls of a try; those of tries in between are theirs. The caller tells the outcome."""
        before, others = self._count(), self._total
        outcomes: list[Outcome] = []
        yield outcomes.append
        mine = self._count() - before - (self._total - others)
        self._total += mine
        if task != "fetch":
            return
        self.made[run] += mine
        for outcome in outcomes:
            if outcome.kind == "killed":
                self.lost[run] += mine
            elif outcome.kind != "ok":
                self.again[run] += mine

    def explained(self, run: str, document: dict[str, Any], planned: int) -> str:
        """Return what is wrong with the calls of a run; empty if they are explained.

        The report counts each call that the server saw, and may lack those of killed tries. The server saw no more than was planned,
        repeated, and made by tries that did not end well.

        :param document: the report. ``planned``: calls of the run's batches.
        """
        seen, lost, told = self.made[run], self.lost[run], int(document["api_calls"])
        if run in self.unclear:
            return ""
        if not told <= seen <= told + lost:
            return f"the server saw {seen} calls, {lost} of them by killed tries; the report has {told}"
        most = planned + int(document["retries"]) + lost + self.again[run]
        if seen > most:
            return f"the server saw {seen} calls; {planned} planned, {document['retries']} repeated and {most} in all are explained"
        return ""
