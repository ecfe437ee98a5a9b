"""The Great Expectations suites and their thresholds.

``bars.rows`` judges the numbers of stored rows that break each row rule, per partition (``row_counts.py`` counts them).
``bars.sessions`` judges one row of metrics per planned session (``session_metrics.py``): what no single response can show.
``bars.years`` judges one row per symbol and year (``year_metrics.py``): what no single session can show. With grain ``day``,
``bars.symbols`` judges of these rows what concerns single sessions. Intraday bars have the same suites, all but the first over
sessions folded to one bar. Other datasets have a suite of rows of their own (``trades.rows``); busy ones
(``Dataset.busy``) also have one of sessions, which only judges whether there are any rows.
A metric that does not apply is null, and null passes. Each expectation's ``meta`` names its rule. Severity ``critical`` refuses the
partition; ``warning`` is only reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from market_data.datasets.base import Dataset
from market_data.quality.great_expectations import library
from market_data.quality.metric_rules import CRITICAL, MetricRule
from market_data.quality.row_counts import RowCounts, RowRule

DOCS_PARTITIONS, DOCS_VALUES = 10, 5
"""Partitions, and values of broken rows, that the Data Docs name per row rule."""


def metrics_suite(name: str, rules: Sequence[MetricRule]) -> Any:
    """Return the Great Expectations suite ``name`` over a table of metrics, one expectation per rule."""
    gx = library()
    between = gx.expectations.ExpectColumnValuesToBeBetween
    return gx.ExpectationSuite(
        name,
        expectations=[
            between(column=rule.metric, min_value=rule.low, max_value=rule.high, severity=rule.severity, meta={"rule": rule.name})
            for rule in rules
        ],
    )


def family(dataset: Dataset) -> str:
    """Return the first part of the names of the suites of ``dataset``."""
    return "bars" if dataset.is_bars else dataset.name


def rows_suite(dataset: Dataset, counts: RowCounts) -> Any:
    """Return the Great Expectations suite ``bars.rows``, ``trades.rows`` ... over the table of ``counts``.

    It expects 0 broken rows per partition and rule, and that the counts cover every row.
    """
    gx = library()
    e = gx.expectations
    covered = e.ExpectColumnSumToBeBetween(
        column="rows_checked",
        min_value=counts.rows,
        max_value=counts.rows,
        description=f"rows_checked: every stored row is counted in one partition, {counts.rows} in all.",
        severity=CRITICAL,
        meta={"rule": "rows_checked"},
    )
    none_broken = [
        e.ExpectColumnValuesToBeInSet(
            column=rule.name,
            value_set=[0],
            description=f"{rule.name}: {rule.demand}. {_found(counts, rule)}",
            severity=CRITICAL,
            meta={"rule": rule.name, "columns": list(rule.columns)},
        )
        for rule in counts.rules
    ]
    return gx.ExpectationSuite(f"{family(dataset)}.rows", expectations=[covered, *none_broken])


def _found(counts: RowCounts, rule: RowRule) -> str:
    """Return the partitions with rows that break ``rule``, and some of the rows' values, as room allows."""
    partitions = counts.broken_partitions(rule.name)
    if not partitions:
        return "No row breaks it."
    named = [f"{partition}: {counts.broken(rule.name, partition)}" for partition in partitions[:DOCS_PARTITIONS]]
    more = f"; {len(partitions) - DOCS_PARTITIONS} more partitions" if len(partitions) > DOCS_PARTITIONS else ""
    values = ", ".join(map(str, counts.values[rule.name][:DOCS_VALUES]))
    return f"Broken in {'; '.join(named)}{more}. Values: {values}."
