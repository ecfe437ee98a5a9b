"""The ages at which maintenance deletes what is not market data: `retention` in feeds.yaml."""

from __future__ import annotations

from market_data.core.messages import shown, suggestion

KINDS = {
    "receipts": "receipts",
    "reports": "logs/ingest",
    "quality": "quality",
    "staging": "staging",
    "quarantine": "quarantine",
    "remembered": "remembered",
    "failures": "failures",
    "audits": "audits",
}
"""Name in feeds.yaml -> folder of the lake. Rows of the raw area and the ledger are never among them, nor is the journal."""

LEAST, MOST = 7, 36_500
"""Days. Runs that are still at work, or are cleared within days, need what they have written."""


def retention_problems(ages: object) -> list[str]:
    """Return a sentence for each unknown name and each wrong age; ``ages`` is None without the key."""
    if ages is None:
        return []
    if not isinstance(ages, dict):
        return [f"retention is {shown(ages)}; names with ages in days are needed"]
    problems = []
    for name, days in ages.items():
        if name not in KINDS:
            problems.append(f"retention.{shown(name)[1:-1]} is unknown{suggestion(name, KINDS)}; known names: {', '.join(KINDS)}")
        elif days is not None and (type(days) is not int or not LEAST <= days <= MOST):
            problems.append(f"retention.{name} is {shown(days)}; a whole number of days, {LEAST} to {MOST:,}, or null is needed")
    return problems
