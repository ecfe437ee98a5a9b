"""The vendor's rules for historical data, which a gateway may enforce.

https://interactivebrokers.github.io/tws-api/historical_limitations.html: no identical request within 15 seconds, fewer than six for
the same contract within two seconds, at most 60 within ten minutes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from market_data.core.capabilities import Window
from sandbox.ib_gateway.requests import GatewayRequest


@dataclass(frozen=True, slots=True)
class Rules:
    """
    :param windows: for all requests together.
    :param per_contract: for those for one contract.
    :param identical: seconds between two equal requests.
    """

    windows: tuple[Window, ...] = ()
    per_contract: Window | None = None
    identical: float = 0.0

    def scaled(self, factor: float) -> Rules:
        """Return the rules with all times multiplied by ``factor``."""
        windows = tuple(Window(window.calls, window.seconds * factor) for window in self.windows)
        contract = self.per_contract and Window(self.per_contract.calls, self.per_contract.seconds * factor)
        return Rules(windows, contract, self.identical * factor)


RULES = Rules((Window(60, 600.0),), Window(5, 2.0), 15.0)
"""The vendor's."""


class Pacing:
    """The accepted requests so far, to which the rules apply. Refused requests are not counted."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._accepted: list[tuple[float, GatewayRequest]] = []

    def admit(self, request: GatewayRequest, now: float) -> bool:
        """Return true if a request at ``now`` (monotonic seconds) keeps all rules, and count it in that case."""
        rules, before = self.rules, self._accepted
        same = (moment for moment, other in before if other.contract == request.contract)
        equal = (moment for moment, other in before if other.parameters == request.parameters)
        kept = (
            all(_fits(window, (moment for moment, _ in before), now) for window in rules.windows)
            and (rules.per_contract is None or _fits(rules.per_contract, same, now))
            and not any(now - moment < rules.identical for moment in equal)
        )
        if kept:
            before.append((now, request))
        return kept

    def forget(self) -> None:
        """Forget all requests."""
        self._accepted.clear()


def _fits(window: Window, moments: Iterable[float], now: float) -> bool:
    return sum(moment > now - window.seconds for moment in moments) < window.calls
