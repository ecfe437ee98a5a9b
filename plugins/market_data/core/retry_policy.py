"""How one call is repeated within a task."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from market_data.core.messages import shown, suggestion


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The tries of a call, and the waits between them.

    A provider's Retry-After goes before the computed wait. A wait of more than 60 s is left to the task's own retry, which frees the
    slot of the pool (``max_retries``, ``retry_delay_seconds``).

    :param attempts: tries, the first included.
    :param base_delay: seconds before the second try.
    :param factor: by which each further wait is longer.
    :param longest_delay: seconds that no wait exceeds, jitter apart.
    :param jitter: share by which a wait is made shorter or longer at random, so that tasks do not retry at the same moment.
    """

    attempts: int = 5
    base_delay: float = 1.0
    factor: float = 2.0
    longest_delay: float = 20.0
    jitter: float = 0.1

    def delay(self, failures: int, random: float) -> float:
        """Return the seconds to wait.

        :param failures: failed tries so far, at least 1.
        :param random: 0 (inclusive) to 1 (inclusive).
        """
        grown = min(failures - 1, math.log(self.longest_delay / self.base_delay, self.factor) + 1) if self.factor > 1 else 0
        seconds = min(self.base_delay * self.factor ** max(grown, 0), self.longest_delay)
        return seconds * (1 + self.jitter * (2 * random - 1))


USUAL = RetryPolicy()

_RANGES: Mapping[str, tuple[float, float]] = {
    "attempts": (1, 20),
    "base_delay": (0.1, 3600),
    "factor": (1, 10),
    "longest_delay": (0.1, 3600),
    "jitter": (0, 1),
}


def retry_problems(given: Mapping[object, object]) -> list[str]:
    """Return a sentence per key of a feed's ``retry`` that is unknown or has a value that is not allowed."""
    problems = []
    for key, value in given.items():
        if key not in _RANGES or not isinstance(key, str):
            problems.append(f"retry.{key} is unknown{suggestion(key, _RANGES)}; known: {', '.join(_RANGES)}")
            continue
        low, high = _RANGES[key]
        kinds = (int,) if key == "attempts" else (int, float)
        if type(value) not in kinds or not low <= value <= high:  # type: ignore[operator]  # a number by then
            number = "whole number" if key == "attempts" else "number"
            problems.append(f"retry.{key} is {shown(value)}; a {number} from {low:g} to {high:g} is needed")
    return problems
