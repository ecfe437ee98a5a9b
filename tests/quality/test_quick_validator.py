"""`QuickValidator` and Great Expectations find the same."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from market_data.core.errors import QualityError
from market_data.quality.great_expectations import Validator
from market_data.quality.metric_rules import MetricRule, Thresholds, session_rules, symbol_rules, year_rules
from market_data.quality.suites import metrics_suite
from tests.quality.quick_validator import QuickValidator

RULES = {
    "sessions": session_rules(Thresholds(), "day"),
    "sessions of years": session_rules(Thresholds(), "year"),
    "years": year_rules(Thresholds()),
    "symbols": symbol_rules(Thresholds()),
}
NUMBER = st.one_of(st.none(), st.floats(-2, 40), st.sampled_from([0.0, 1.0, math.inf, -math.inf, math.nan]))


def both(suite, table):
    """What each of the two finds, as comparable values."""
    found = []
    for kind in (Validator, QuickValidator):
        validator = kind("r")
        try:
            broken = validator.run(validator.checkpoint(suite()), table)
            found.append(
                [(one.rule, one.severity, one.kwargs, one.places.tolist(), one.places.dtype, one.observed) for one in broken]
            )
        except QualityError as error:
            found.append(str(error))
        found[-1] = (found[-1], [one["statistics"]["evaluated_expectations"] for one in validator.validations])
    return found


def metrics(rules, rows):
    columns = {rule.metric: pa.array([row[place] for row in rows], pa.float64()) for place, rule in enumerate(rules)}
    return pa.table({"partition": pa.array([f"p{place}" for place in range(len(rows))]), **columns})


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@settings(max_examples=4)
@given(st.data())
def test_metrics_are_judged_alike(rules, data):
    rows = data.draw(st.lists(st.tuples(*[NUMBER] * len(rules)), min_size=1, max_size=30))
    real, quick = both(lambda: metrics_suite("bars.any", rules), metrics(rules, rows))
    assert quick == real


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, 0.0, 2.0, 2.5, -1.0])
@pytest.mark.parametrize(("low", "high"), [(None, 2.0), (0.0, None), (0.0, 2.0), (2.5, 2.5)])
def test_a_bound_is_judged_alike(low, high, value):
    rule = MetricRule("rule", "metric", "critical", low, high)
    real, quick = both(lambda: metrics_suite("bars.any", [rule]), metrics([rule], [(value,), (1.0,), (value,)]))
    assert quick == real


def counts_suite(names, total):
    """The suite of `suites.rows_suite`, over any counts."""
    import great_expectations as gx

    e = gx.expectations
    covered = e.ExpectColumnSumToBeBetween(
        column="rows_checked", min_value=total, max_value=total, severity="critical", meta={"rule": "rows_checked"}
    )
    none = [
        e.ExpectColumnValuesToBeInSet(column=name, value_set=[0], severity="critical", meta={"rule": name, "columns": [name]})
        for name in names
    ]
    return gx.ExpectationSuite("any.rows", expectations=[covered, *none])


@settings(max_examples=4)
@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=30), st.integers(0, 1))
@example([(1, 2, 3)] * 30, 0)
@example([(1, 0, 0)], 1)
def test_counts_are_judged_alike(rows, missing):
    columns = dict(zip(("rows_checked", "one", "other"), np.array(rows).T, strict=True))
    table = pa.table({"partition": pa.array([f"p{place}" for place in range(len(rows))]), **columns})
    total = sum(row[0] for row in rows) + missing
    real, quick = both(lambda: counts_suite(("one", "other"), total), table)
    assert quick == real
