"""The checkpoint's rules over metrics: missing symbols, price jumps, copied sessions, volume, holes.

Each rule bounds one metric of a session (``session_metrics.py``) or of a symbol's year (``year_metrics.py``). ``suites.py`` turns rules
into Great Expectations suites. A metric that does not apply is null, and null passes. Severity ``critical`` refuses the partition;
``warning`` is only reported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import translate
from functools import cache

from market_data.core.run import Grain

CRITICAL, WARNING = "critical", "warning"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The limits beyond which a session, or a symbol's year, is refused or reported.

    :param min_compared: symbols that must be comparable before a share of them means anything: with 20, one symbol is 5 %.
    :param min_present_ratio: share of the expected symbols that must be present. Halts and listings move far below 1 % of a broad
        universe in a day; a truncated response loses much more than 10 %.
    :param min_alone_ratio: the same for an old session without a known session nearby: many symbols of today were not listed then.
    :param jump_factor: a close this many times up or down counts as jumped: hardly any plain day does that, every split beyond 3:2
        does. Prices are raw, so one symbol's jump proves nothing.
    :param max_jumped_ratio: share of the compared symbols that may jump: splits come alone, a wrong unit or currency comes to all.
        The worst session of the last century moved the average share by less than a quarter.
    :param median_factor: a median move beyond this is only reported: a crash that deserves a look, or a wrong scale below
        ``jump_factor``.
    :param usual_copied_ratio: share of the compared symbols that may have close and volume of the session before again; hardly any
        does by chance.
    :param max_copied_ratio: with more, a session is the previous one under another date.
    :param volume_factor: total volume this many times above or below that of the sessions before. Half days trade 0.3 to 0.4 of
        it, the busiest days around three times; a wrong unit (lots of 100, thousands) is far outside.
    :param history_sessions: accepted sessions that the volume level is taken from: about a month.
    :param ahead_sessions: where no earlier session is known, so many stored sessions after it are used instead.
    :param max_hole_days: after more calendar days without a stored session nothing is compared across the hole. The longest closing
        of modern times left seven days between two sessions (September 2001); over weeks, prices move for good reasons.
    :param min_usual_bars: bars that a symbol must have had in a session before a share of them means anything.
    :param min_bars_ratio: share of that session's intraday bars which the next one should have. A half day has 54 % of them; with less
        than a quarter, the response was truncated or the symbol was halted.
    :param usual_bars_ratio: a symbol with less than this share of the previous session's intraday bars is thin; in proportion fewer
        where the session closes early. Illiquid shares fall below it now and then.
    :param max_thin_ratio: share of the compared symbols that may be thin: halts affect single symbols, a truncation affects all.
    :param min_year_sessions: sessions that a symbol's year must span before a share of them means anything.
    :param usual_year_ratio: share of the sessions in a symbol's life that should have a bar. A listed share trades in nearly all, and
        halts take days: of 505 large ones over five years, the worst year lacked 4 %. A tenth is a month of sessions: worth a look.
    :param min_year_ratio: with less than half, a moving average or a volatility over n bars spans more than twice its n sessions, and is
        not the symbol's year whatever the reason. Symbols that hardly ever trade are refused as well: name them in ``thin_symbols``, or
        lower this.
    :param max_hole_sessions: sessions in a row without a bar that are still a halt: about a month.
    :param listing_hole_sessions: a longer hole is not a loss if it neither begins nor ends with the requested part of a year. The symbol
        was delisted, and listed again, perhaps by another company (GM 2009 to 2010, DOW 2017 to 2019). A lost or truncated response
        leaves a hole that reaches the edge of the request.
    :param level_factor: a close this many times up or down on the previous bar: no day does that, and hardly any split.
    :param spike_factor: a close this many times above or below both its neighbours, or a high above its low: a misplaced point, a
        wrong unit, a stray print. In 600,000 bars of large shares no close came near it, and one range went beyond: a stray print.
    :param max_flat_sessions: consecutive bars with the same open, high, low and close: with more, the feed has stopped.
    :param thin_symbols: symbols that may trade rarely, and patterns of such (``*``, ``?``): neither a session nor a year is expected to
        have a bar of them, and holes are not reported.
    """

    min_compared: int = 20
    min_present_ratio: float = 0.9
    min_alone_ratio: float = 0.5
    jump_factor: float = 1.5
    max_jumped_ratio: float = 0.2
    median_factor: float = 1.25
    usual_copied_ratio: float = 0.1
    max_copied_ratio: float = 0.5
    volume_factor: float = 10.0
    history_sessions: int = 20
    ahead_sessions: int = 5
    max_hole_days: int = 10
    min_usual_bars: int = 20
    min_bars_ratio: float = 0.25
    usual_bars_ratio: float = 0.5
    max_thin_ratio: float = 0.2
    min_year_sessions: int = 20
    usual_year_ratio: float = 0.9
    min_year_ratio: float = 0.5
    max_hole_sessions: int = 20
    listing_hole_sessions: int = 60
    level_factor: float = 20.0
    spike_factor: float = 3.0
    max_flat_sessions: int = 30
    thin_symbols: tuple[str, ...] = ()

    def is_thin(self, symbol: str) -> bool:
        """Return True if ``symbol`` is one of ``thin_symbols``."""
        return bool(self.thin_symbols) and _any_of(self.thin_symbols).fullmatch(symbol) is not None


@cache
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(translate(pattern) for pattern in patterns))


@dataclass(frozen=True, slots=True)
class MetricRule:
    """Bounds of one metric.

    :param metric: column of the metrics; null where the rule does not apply.
    :param low: smallest value allowed, or None.
    :param high: largest value allowed, or None.
    :param says: the reason; ``{metric}`` of any metric is filled in, see ``session_walk.reason`` and ``year_metrics.reason``.
    """

    name: str
    metric: str
    says: str
    low: float | None = None
    high: float | None = None
    severity: str = CRITICAL

    def holds(self, value: float | None) -> bool:
        """Return True if ``value`` satisfies the rule: what Great Expectations will decide, known in advance."""
        return value is None or ((self.low is None or value >= self.low) and (self.high is None or value <= self.high))


@cache
def session_rules(limits: Thresholds, grain: Grain = "day") -> tuple[MetricRule, ...]:
    """Return the rules of ``bars.sessions``.

    With grain ``year``, faults of one symbol alone are left to ``year_rules``.
    """
    jump, least = f"{limits.jump_factor:g}", f"{100 * limits.min_present_ratio:g} %"
    volume_low, median_low = 1 / limits.volume_factor, 1 / limits.median_factor
    rules = (
        MetricRule("row_count", "rows_if_planned", "row count: no rows, {planned} symbols planned", low=1),
        MetricRule(
            "present_ratio",
            "present_ratio",
            f"row count: {{present}} of {{expected}} expected symbols ({{present_percent}}), at least {least} needed",
            low=limits.min_present_ratio,
        ),
        MetricRule(
            "present_ratio_alone",
            "present_ratio_alone",
            f"row count: {{present}} of {{expected}} planned symbols, at least {100 * limits.min_alone_ratio:g} % needed"
            " where no session near is known",
            low=limits.min_alone_ratio,
        ),
        MetricRule(
            "present_ratio_unproved",
            "present_ratio_alone",
            "row count: {present} of {expected} planned symbols; no session near is known to hold that against",
            low=limits.min_present_ratio,
            severity=WARNING,
        ),
        MetricRule(
            "freshness",
            "rows_if_newest",
            "freshness: the newest planned session has no rows, the newest with rows is {newest_stored}",
            low=1,
        ),
        MetricRule("unique_symbols", "repeated_rows", "unique key: {repeated_rows} rows more than symbols", high=0),
        MetricRule(
            "price_jump",
            "jumped_ratio",
            f"price jump: {{jumped}} of {{compared}} symbols ({{jumped_percent}}) are more than {jump} x up or down"
            f" on {{reference}} (median {{median_ratio:.3g}} x), at most {100 * limits.max_jumped_ratio:g} % allowed",
            high=limits.max_jumped_ratio,
        ),
        MetricRule(
            "copied_bars",
            "copied_ratio",
            f"copied bars: {{copied_percent}} of the symbols have close and volume of {{reference}} again,"
            f" at most {100 * limits.max_copied_ratio:g} % allowed",
            high=limits.max_copied_ratio,
        ),
        MetricRule(
            "volume_level",
            "volume_ratio",
            f"volume: {{volume_ratio:.3g}} x that of the other sessions, {volume_low:g} x to {limits.volume_factor:g} x allowed",
            low=volume_low,
            high=limits.volume_factor,
        ),
        MetricRule(
            "thin_session",
            "thin_ratio",
            f"few bars: {{thin_symbols}} of {{bars_compared}} symbols ({{thin_percent}}) have less than {100 * limits.usual_bars_ratio:g} %"
            f" of their usual bars (those on {{bars_reference}}), at most {100 * limits.max_thin_ratio:g} % allowed",
            high=limits.max_thin_ratio,
        ),
        MetricRule(
            "copied_bars_some",
            "copied_ratio",
            f"copied bars: {{copied_percent}} of the symbols have close and volume of {{reference}} again;"
            f" up to {100 * limits.usual_copied_ratio:g} % may be chance",
            high=limits.usual_copied_ratio,
            severity=WARNING,
        ),
        MetricRule(
            "median_move",
            "median_ratio_if_many",
            f"median price: {{median_ratio:.3g}} x that of {{reference}}, {median_low:g} x to {limits.median_factor:g} x is usual",
            low=median_low,
            high=limits.median_factor,
            severity=WARNING,
        ),
        MetricRule(
            "price_jump_few",
            "jumped_if_few",
            f"price jump: {{jumps}} on {{reference}}, more than {jump} x; a split, or a wrong price",
            high=0,
            severity=WARNING,
        ),
        MetricRule(
            "few_bars",
            "thinned",
            f"few bars: {{thin}}, less than {100 * limits.min_bars_ratio:g} % of those on {{bars_reference}}; "
            "a halt, or a truncated response",
            high=0,
            severity=WARNING,
        ),
    )
    return tuple(rule for rule in rules if grain == "day" or rule.name != "unique_symbols")


@cache
def year_rules(limits: Thresholds) -> tuple[MetricRule, ...]:
    """Return the rules of ``bars.years``."""

    def warn(name: str, metric: str, says: str, **bounds: float) -> MetricRule:
        return MetricRule(name, metric, says, **bounds, severity=WARNING)

    complete = "row count: {present} of {expected} sessions from its first bar to its last ({present_percent}),"
    return (
        MetricRule(
            "year_complete",
            "present_ratio",
            f"{complete} at least {100 * limits.min_year_ratio:g} % needed; if it trades rarely, add it to checks.thin_symbols of the feed",
            low=limits.min_year_ratio,
        ),
        MetricRule("unique_sessions", "repeated_rows", "unique key: {repeated_rows} rows more than sessions", high=0),
        warn(
            "year_nearly_complete",
            "present_ratio",
            f"{complete} {100 * limits.usual_year_ratio:g} % is usual",
            low=limits.usual_year_ratio,
        ),
        warn(
            "hole",
            "hole",
            "hole: no bar in {hole} sessions, {hole_from} to {hole_to}; a halt, a change of listing, or lost",
            high=limits.max_hole_sessions,
        ),
        warn(
            "price_level",
            "level",
            "price level: close {level_close:g} on {level_on} after {level_before:g} on {level_from}, {level:.3g} x;"
            " a split, another company, or a wrong unit",
            high=limits.level_factor,
        ),
        warn(
            "price_spike",
            "spike",
            "price spike: close {spike_close:g} on {spike_on} between {spike_before:g} and {spike_after:g}",
            high=limits.spike_factor,
        ),
        warn(
            "price_range",
            "range",
            "price range: high {range_high:g} and low {range_low:g} on {range_on}, {range:.3g} x; a stray print",
            high=limits.spike_factor,
        ),
        warn(
            "stale",
            "flat",
            "stale: the same open, high, low and close in {flat} bars, {flat_from} to {flat_to}",
            high=limits.max_flat_sessions,
        ),
    )


ON = {"price_level": "level_on", "price_spike": "spike_on", "price_range": "range_on", "stale": "flat_to"}
"""Rules of ``bars.years`` about a session of the year -> the metric that holds its date."""


@cache
def symbol_rules(limits: Thresholds) -> tuple[MetricRule, ...]:
    """Return the rules of ``bars.symbols``: those of ``bars.years`` about single sessions."""
    return tuple(rule for rule in year_rules(limits) if rule.name in ON)


NOTHING_CAME = (
    MetricRule("row_count", "rows_if_planned", "row count: no rows, {planned} symbols planned", low=1),
    MetricRule(
        "row_count_few",
        "rows_if_few",
        "row count: no rows, {planned} symbols planned; the newest session with rows is {newest_stored}",
        low=1,
        severity=WARNING,
    ),
)
"""The rules over the sessions of a busy dataset that is not bars."""
