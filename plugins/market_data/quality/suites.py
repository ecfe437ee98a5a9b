"""The Great Expectations suites and their thresholds, in one place.

``bars.rows`` judges landed rows, one by one: what the gate promised must hold in the lake too. ``bars.sessions`` judges one row of
metrics per planned session (``sessions.py`` makes them): what no single answer can show. A metric that does not apply is null, and
null passes. Each expectation's ``meta`` names its rule; severity ``critical`` refuses the session, ``warning`` is only said.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from market_data.datasets.base import Dataset
from market_data.quality.gate import LIMIT, PRICES

CRITICAL, WARNING = "critical", "warning"
REQUIRED = ("symbol", "timeframe", "bar_time", "session", *PRICES, "provider", "ingest_ts")
ORDER = (("high", "low"), ("high", "open"), ("high", "close"), ("open", "low"), ("close", "low"))


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where a session stops being believable.

    :param min_compared: symbols that must be comparable before a share of them means anything: with 20, one symbol is 5 %.
    :param min_present_ratio: share of the expected symbols that must be there. Halts and listings move far below 1 % of a broad
        universe in a day; an answer cut short loses much more than 10 %.
    :param min_alone_ratio: the same for an old session that nothing near is known of: of today's universe, many were not listed then.
    :param jump_factor: a close this many times up or down counts as jumped: hardly any plain day does that, every split beyond 3:2
        does. Prices are raw, so one symbol's jump proves nothing.
    :param max_jumped_ratio: share of the compared symbols that may jump: splits come alone, a wrong unit or currency comes to all.
        The worst session of the last century moved the average share by less than a quarter.
    :param median_factor: a median move beyond this is only said: a crash that deserves a look, or a wrong scale below
        ``jump_factor``.
    :param volume_factor: total volume this many times above or below that of the sessions before. Half days trade 0.3 to 0.4 of
        it, the busiest days around three times; a wrong unit (lots of 100, thousands) is far outside.
    :param history_sessions: accepted sessions that the volume level is taken from: about a month.
    :param ahead_sessions: where no session before is known, landed sessions after that are looked at instead.
    :param max_hole_days: after more calendar days without a landed session nothing is compared across the hole. The longest closing
        of modern times left seven days between two sessions (September 2001); over weeks, prices move for good reasons.
    """

    min_compared: int = 20
    min_present_ratio: float = 0.9
    min_alone_ratio: float = 0.5
    jump_factor: float = 1.5
    max_jumped_ratio: float = 0.2
    median_factor: float = 1.25
    volume_factor: float = 10.0
    history_sessions: int = 20
    ahead_sessions: int = 5
    max_hole_days: int = 10


@dataclass(frozen=True, slots=True)
class SessionRule:
    """Bounds of one session metric.

    :param metric: column of the metrics; null where the rule does not apply.
    :param low: smallest value allowed, or None.
    :param high: largest value allowed, or None.
    :param says: the reason; ``{metric}`` of any metric is filled in, see ``sessions.words``.
    """

    name: str
    metric: str
    says: str
    low: float | None = None
    high: float | None = None
    severity: str = CRITICAL

    def holds(self, value: float | None) -> bool:
        """Whether a session with this value keeps the rule; what Great Expectations will say of it, known beforehand."""
        return value is None or ((self.low is None or value >= self.low) and (self.high is None or value <= self.high))


@cache
def session_rules(limits: Thresholds) -> tuple[SessionRule, ...]:
    """The rules of ``bars.sessions``."""
    jump, least = f"{limits.jump_factor:g}", f"{100 * limits.min_present_ratio:g} %"
    volume_low, median_low = 1 / limits.volume_factor, 1 / limits.median_factor
    return (
        SessionRule("row_count", "rows_if_planned", "row count: no rows, {planned} symbols planned", low=1),
        SessionRule(
            "present_ratio",
            "present_ratio",
            f"row count: {{present}} of {{expected}} expected symbols ({{present_percent}}), at least {least} needed",
            low=limits.min_present_ratio,
        ),
        SessionRule(
            "present_ratio_alone",
            "present_ratio_alone",
            f"row count: {{present}} of {{expected}} planned symbols, at least {100 * limits.min_alone_ratio:g} % needed"
            " where no session near is known",
            low=limits.min_alone_ratio,
        ),
        SessionRule(
            "present_ratio_unproved",
            "present_ratio_alone",
            "row count: {present} of {expected} planned symbols; no session near is known to hold that against",
            low=limits.min_present_ratio,
            severity=WARNING,
        ),
        SessionRule(
            "freshness",
            "rows_if_newest",
            "freshness: the newest planned session has no rows, the newest with rows is {newest_landed}",
            low=1,
        ),
        SessionRule("unique_symbols", "repeated_rows", "unique key: {repeated_rows} rows more than symbols", high=0),
        SessionRule(
            "price_jump",
            "jumped_ratio",
            f"price jump: {{jumped}} of {{compared}} symbols ({{jumped_percent}}) are more than {jump} x up or down"
            f" on {{reference}} (median {{median_ratio:.3g}} x), at most {100 * limits.max_jumped_ratio:g} % allowed",
            high=limits.max_jumped_ratio,
        ),
        SessionRule(
            "volume_level",
            "volume_ratio",
            f"volume: {{volume_ratio:.3g}} x that of the other sessions, {volume_low:g} x to {limits.volume_factor:g} x allowed",
            low=volume_low,
            high=limits.volume_factor,
        ),
        SessionRule(
            "median_move",
            "median_ratio_if_many",
            f"median price: {{median_ratio:.3g}} x that of {{reference}}, {median_low:g} x to {limits.median_factor:g} x is usual",
            low=median_low,
            high=limits.median_factor,
            severity=WARNING,
        ),
        SessionRule(
            "price_jump_few",
            "jumped_if_few",
            f"price jump: {{jumps}} on {{reference}}, more than {jump} x; a split, or a wrong price",
            high=0,
            severity=WARNING,
        ),
    )


def sessions_suite(limits: Thresholds) -> Any:
    """The Great Expectations suite ``bars.sessions`` over the table of ``sessions.SessionMetrics``."""
    import great_expectations as gx

    between = gx.expectations.ExpectColumnValuesToBeBetween
    return gx.ExpectationSuite(
        "bars.sessions",
        expectations=[
            between(column=rule.metric, min_value=rule.low, max_value=rule.high, severity=rule.severity, meta={"rule": rule.name})
            for rule in session_rules(limits)
        ],
    )


def rows_suite(dataset: Dataset, provider: str) -> Any:
    """The Great Expectations suite ``bars.rows`` over landed rows (columns of ``dataset.schema``).

    :param provider: the one provider that every row must carry.
    """
    import great_expectations as gx

    e = gx.expectations

    def rule(name: str, expectation: Any, **arguments: Any) -> Any:
        return expectation(severity=CRITICAL, meta={"rule": name}, **arguments)

    def known(a: str, b: str) -> Any:
        # The default ignores a pair only when both are null, and a null then counts as out of order too.
        return rule(
            f"{a}_not_below_{b}",
            e.ExpectColumnPairValuesAToBeGreaterThanB,
            column_A=a,
            column_B=b,
            or_equal=True,
            ignore_row_if="either_value_is_missing",
        )

    between, one_of = e.ExpectColumnValuesToBeBetween, e.ExpectColumnValuesToBeInSet
    return gx.ExpectationSuite(
        "bars.rows",
        expectations=[
            rule("columns", e.ExpectTableColumnsToMatchSet, column_set=list(dataset.schema.names), exact_match=True),
            *(rule(f"{name}_present", e.ExpectColumnValuesToNotBeNull, column=name) for name in REQUIRED),
            rule("unique_key", e.ExpectCompoundColumnsToBeUnique, column_list=list(dataset.key)),
            *(known(a, b) for a, b in ORDER),
            *(
                rule(f"{name}_positive", between, column=name, min_value=0, strict_min=True, max_value=LIMIT, strict_max=True)
                for name in PRICES
            ),
            rule("volume_not_negative", between, column="volume", min_value=0, max_value=LIMIT, strict_max=True),
            rule("timeframe", one_of, column="timeframe", value_set=[dataset.timeframe]),
            rule("provider", one_of, column="provider", value_set=[provider]),
        ],
    )
