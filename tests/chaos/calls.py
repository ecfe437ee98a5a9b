"""The provider's calls on its server's log, by run: those that the report must count, and those of which nobody could tell."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.chaos.processes import Outcome


@dataclass(frozen=True)
class Try:
    """A try of `fetch` or of another task, from ``start`` to ``end``, monotonic."""

    run: str
    task: str
    start: float
    end: float
    kind: str


@dataclass
class Calls:
    """The calls of a run's `fetch`.

    :param lost: of ``made``, those of tries that were killed: no report has them. ``again``: those of tries that failed, which the next
        one may repeat. ``kills``: tries that were killed; each may have a call that the server sees only later.
    """

    made: int = 0
    lost: int = 0
    again: int = 0
    kills: int = 0


class CallBook:
    """Counts calls by run, try by try.

    :param moments: returns the moment of each call on the server's log, monotonic.
    :ivar given_up: runs whose client may have given a call up before the server saw it: the report may have more than the server.
    :ivar unclear: runs that made calls at the same time, or could not write down what they did.
    """

    def __init__(self, moments: Callable[[], Iterable[float]], clock: Callable[[], float] = time.monotonic) -> None:
        self._moments, self._clock = moments, clock
        self._tries: list[Try] = []
        self.given_up: set[str] = set()
        self.unclear: set[str] = set()

    @contextmanager
    def of_try(self, run: str, task: str) -> Iterator[Callable[[Outcome], None]]:
        """Note a try. Another one in between has its calls for itself. The caller tells the outcome."""
        start, outcomes = self._clock(), []  # type: tuple[float, list[Outcome]]
        yield outcomes.append
        self._tries.append(Try(run, task, start, self._clock(), outcomes[-1].kind if outcomes else ""))

    def of_run(self, run: str) -> Calls:
        """Return the calls of a run."""
        found = Calls(kills=sum(one.kind == "killed" for one in self._tries if (one.run, one.task) == (run, "fetch")))
        for moment in self._moments():
            mine = next((one for one in self._tries if one.start <= moment <= one.end), None)  # inner ones end first
            if mine is None or (mine.run, mine.task) != (run, "fetch"):
                continue
            found.made += 1
            found.lost += mine.kind == "killed"
            found.again += mine.kind not in ("killed", "ok")
        return found

    def explained(self, run: str, document: dict[str, Any], planned: int) -> str:
        """Return what is wrong with the calls of a run; empty if they are explained.

        The report counts each call that the server saw, and may lack those of killed tries. The server saw no more than was planned,
        repeated, and made by tries that did not end well. Where the client gives calls up, the report may have
        more calls than the server saw.

        :param document: the report. ``planned``: calls of the run's batches.
        """
        if run in self.unclear:
            return ""
        found, told = self.of_run(run), int(document["api_calls"])
        least = 0 if run in self.given_up else told
        if not least <= found.made <= told + found.lost + found.kills:
            return f"the server saw {found.made} calls, {found.lost} of them by killed tries; the report has {told}"
        if run in self.given_up:  # a fault may add a page, which is no retry
            return ""
        most = planned + int(document["retries"]) + found.lost + found.kills + found.again
        if found.made > most:
            return f"the server saw {found.made} calls; {planned} planned, {document['retries']} repeated and {most} in all are explained"
        return ""
