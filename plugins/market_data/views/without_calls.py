"""A provider hook that plans without a call: it leaves out what only the provider knows, and names it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import TypeVar

from market_data.core.batch import Request
from market_data.core.capabilities import Capabilities, Condition
from market_data.core.messages import some
from market_data.providers.base import Fetched, ProviderHook

T = TypeVar("T")


class _CallNeededError(Exception):
    """The provider would have to be called."""


class WithoutCalls(ProviderHook):
    """Plans as ``hook`` does, as far as that takes no call.

    ``later`` has a sentence for each thing that is known at the start of the run only.

    :param hook: not connected; it is not used elsewhere.
    """

    def __init__(self, hook: ProviderHook) -> None:
        super().__init__(hook.config, options=hook.options, connections=hook.connections)
        self._hook, self.retry = hook, hook.retry
        self.spec, self.plans, self.default_plan = hook.spec, hook.plans, hook.default_plan  # type: ignore[misc]  # those of the class
        hook.connect = _refuse  # type: ignore[method-assign]
        self.later: list[str] = []

    def connect(self) -> None:
        pass

    def close(self) -> None:
        pass

    def capabilities(self, dataset: str) -> Capabilities:
        return self._hook.capabilities(dataset)

    def vendor_symbol(self, symbol: str) -> str:
        return self._hook.vendor_symbol(symbol)

    def expand(self, symbols: Sequence[str], first: date, last: date) -> tuple[str, ...]:
        sentence = f"The instruments of {some(symbols, 5)} are known at the start of the run; each symbol counts as one here"
        return self._known(lambda: self._hook.expand(symbols, first, last), tuple(symbols), sentence)

    def conditions(self, dataset: str, first: date, last: date) -> Mapping[date, Condition]:
        return self._known(lambda: self._hook.conditions(dataset, first, last), {}, "")

    def cost(self, requests: Sequence[Request]) -> float | None:
        return self._known(
            lambda: self._hook.cost(requests), None, "The charge is known at the start of the run; a dry run shows it"
        )

    def fetch(self, request: Request) -> Fetched:
        raise NotImplementedError(f"{request}: a plan fetches nothing")

    def _probe(self) -> str:
        raise NotImplementedError("a plan makes no call")

    def _known(self, find: Callable[[], T], otherwise: T, sentence: str) -> T:
        try:
            return find()
        except (_CallNeededError, RuntimeError):  # RuntimeError: a hook that is not connected
            self.later += [sentence] if sentence and sentence not in self.later else []
            return otherwise


def _refuse() -> None:
    raise _CallNeededError
