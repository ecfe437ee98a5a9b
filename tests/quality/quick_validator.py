"""A stand-in for the checkpoint's `Validator` that decides the same without Great Expectations' machinery, in a hundredth of the time.

It takes the suites as they are. `test_quick_validator.py` compares it with Great Expectations over any tables. It serves tests about
what happens before and after the checkpoint; rules and verdicts are tested with Great Expectations itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from market_data.core.errors import QualityError
from market_data.quality.great_expectations import EXAMPLES, BrokenExpectation, plain


class QuickValidator:
    """Decide with pandas what each expectation of a suite finds."""

    def __init__(self, run_name: str) -> None:
        self.validations: list[dict[str, Any]] = []

    def checkpoint(self, suite: Any) -> Any:
        return suite

    def run(self, suite: Any, table: pa.Table) -> list[BrokenExpectation]:
        frame = table.to_pandas(date_as_object=False)
        self.validations.append({"statistics": {"evaluated_expectations": len(suite.expectations)}})
        return [found for one in suite.expectations if (found := _broken(one, frame[one.column])) is not None]


def _broken(expectation: Any, values: pd.Series[Any]) -> BrokenExpectation | None:
    unexpected = EXPECTATIONS[type(expectation).__name__](expectation, values)
    if not unexpected.any():
        return None
    configured = expectation.configuration
    return BrokenExpectation(
        rule=expectation.meta["rule"],
        severity=str(configured.severity.value),
        kwargs=plain({key: value for key, value in configured.kwargs.items() if key != "batch_id"}),
        places=np.flatnonzero(unexpected),
        observed=plain(values[unexpected].tolist()[:EXAMPLES]),
    )


def _between(expectation: Any, values: pd.Series[Any]) -> pd.Series[bool]:
    low = values < expectation.min_value if expectation.min_value is not None else False
    high = values > expectation.max_value if expectation.max_value is not None else False
    return values.notna() & (low | high)


def _in_set(expectation: Any, values: pd.Series[Any]) -> pd.Series[bool]:
    return values.notna() & ~values.isin(expectation.value_set)


def _sum_between(expectation: Any, values: pd.Series[Any]) -> pd.Series[bool]:
    total = values.sum()
    if not expectation.min_value <= total <= expectation.max_value:
        raise QualityError(f"rule {expectation.meta['rule']} is broken: {plain(total)}")
    return pd.Series(data=False, index=values.index)


EXPECTATIONS: dict[str, Callable[[Any, pd.Series[Any]], pd.Series[bool]]] = {
    "ExpectColumnValuesToBeBetween": _between,
    "ExpectColumnValuesToBeInSet": _in_set,
    "ExpectColumnSumToBeBetween": _sum_between,
}
