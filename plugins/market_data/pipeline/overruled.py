"""Rows that the gate rejects although a person has decided on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING

from market_data.pipeline.decided import row_columns
from market_data.pipeline.run_context import RunContext

if TYPE_CHECKING:
    from market_data.core.batch import Request
    from market_data.datasets.base import Signed
    from market_data.lake.decisions import Decisions
    from market_data.quality.gate import Gated


@dataclass
class Overruled:
    """Applies decisions to a response. They are read when the gate first rejects a row.

    :param confirmed: cell -> reason, for cells with rows that a person confirmed to be wrong. They are dropped.
    """

    context: RunContext
    confirmed: dict[tuple[str, date], str] = field(default_factory=dict)

    @cached_property
    def _decisions(self) -> Decisions:
        from market_data.lake import decisions

        return decisions.read(self.context.lake, self.context.feed.dataset, self.context.source)

    def apply(self, gated: Gated, request: Request, sessions: Sequence[date], signed: Signed) -> Gated:
        """Return the rows after the decisions: released ones are good, those confirmed to be wrong are gone."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        from market_data.lake import fingerprint
        from market_data.lake.decisions import ROW, Kind
        from market_data.quality import gate

        decisions = self._decisions
        if not decisions:
            return gated
        bad, dataset = gated.bad, self.context.dataset
        hashes = fingerprint.row_hashes(bad, row_columns(dataset))
        numbers = decisions.find(ROW, hashes)
        # One copy of a duplicate row is judged by itself.
        numbers[pc.equal(bad["reasons"], "duplicate row").to_numpy(zero_copy_only=False)] = -1
        wrong, passes = decisions.are(Kind.CONFIRM, numbers), decisions.are(Kind.RELEASE, numbers)
        if not wrong.any() and not passes.any():
            return gated
        cells = zip(*(bad.filter(pa.array(wrong))[name].to_pylist() for name in ("symbol", "session")), strict=True)
        for cell, number in zip(cells, numbers[wrong].tolist(), strict=True):
            self.confirmed[cell] = decisions.made[number].words
        good = gated.good
        if passes.any():
            once = np.flatnonzero(passes)[np.unique(hashes[passes], return_index=True)[1]]
            rows = gate.released(dataset, bad.take(pa.array(np.sort(once))), request, sessions, signed)
            good = pa.concat_tables([good, rows])
        return replace(gated, good=good, bad=bad.filter(pa.array(~(wrong | passes))))
