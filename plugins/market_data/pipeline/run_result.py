"""The results of the tasks of a run: the input of `publish`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from typing import Any

from market_data.core.batch import Batch
from market_data.core.outcome import Receipt, Verdict
from market_data.pipeline.load import judged


@dataclass(frozen=True)
class RunResult:
    """The results of a run's tasks.

    :param batches: the planned batches.
    :param receipts: of the batches that succeeded.
    :param errors: batch id -> error of a failed batch.
    :param checked: the result of ``check_run``; None if it failed or was skipped.
    :param loaded: the result of ``load_run``; None if it failed or was skipped.
    :param summary: ``Planned.summary``.
    """

    batches: Sequence[Batch]
    receipts: Sequence[Receipt]
    errors: Mapping[str, str] = field(default_factory=dict)
    checked: Mapping[str, Any] | None = None
    loaded: Mapping[str, Any] | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)

    def consistent(self) -> RunResult:
        """Return the results that belong together.

        A cleared task that does not run again leaves its old result.
        """
        checked, loaded = self.checked, self.loaded
        if checked is not None and checked["prefixes"] != [receipt.prefix for receipt in self.receipts]:
            checked = None
        if loaded is not None and (checked is None or loaded["of"] != judged(checked)):
            loaded = None
        return replace(self, checked=checked, loaded=loaded)

    @cached_property
    def refused(self) -> dict[str, Verdict]:
        """The refused partitions of this run's own rows, by name."""
        return {v["partition"]: Verdict.from_json(v) for v in (self.checked or {}).get("refused", ())}

    @property
    def leftovers(self) -> Sequence[Mapping[str, Any]]:
        """The leftovers of earlier runs in staging, as ``check`` judged them."""
        found: Sequence[Mapping[str, Any]] = (self.checked or {}).get("leftovers", ())
        return found

    @property
    def leftover_errors(self) -> Mapping[str, str]:
        """Number of the leftover in ``leftovers`` -> why it was not loaded."""
        found: Mapping[str, str] = (self.loaded or {}).get("leftover_errors", {})
        return found

    @property
    def loaded_leftovers(self) -> list[Mapping[str, Any]]:
        """The leftovers that this run loaded."""
        if self.checked is None or self.loaded is None:
            return []
        return [left for n, left in enumerate(self.leftovers) if str(n) not in self.leftover_errors]

    @property
    def symbols(self) -> list[str]:
        """The requested symbols, each once."""
        return list(dict.fromkeys(symbol for batch in self.batches for symbol in batch.symbols))

    @property
    def sessions(self) -> set[date]:
        """The requested sessions, those of the lookback included."""
        return {session for batch in self.batches for block in batch.blocks for session in block.sessions}

    @property
    def planned(self) -> int:
        """The number of planned cells."""
        return sum(batch.cells for batch in self.batches)
