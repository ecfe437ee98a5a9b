"""The SQL that reads recent bars from silver, for the checkpoint to compare with.

It is the same for every engine; for its syntax see ``upsert_sql.py``.
"""

# ruff: noqa: S608  only names from ``schema`` and whole numbers enter the text; values are bound

from __future__ import annotations

NEW_YORK_HOURS = 5
"""Hours to subtract from ``bar_time`` for its date in New York. In winter that is New York's clock. In summer it is an hour behind,
which changes no date between 01:00 and midnight; shares trade from 04:00 to 20:00."""


def first_of_previous(silver: str, sessions: int) -> str:
    """Return the earliest of the last ``sessions`` bar times before a moment.

    Binds: timeframe, provider, moment.
    """
    return (
        "SELECT MIN(d.bar_time) AS first_bar_time\n"
        f"  FROM (SELECT DISTINCT bar_time FROM {silver}\n"
        "         WHERE timeframe = ? AND provider = ? AND bar_time < ?\n"
        f"         ORDER BY bar_time DESC FETCH FIRST {sessions:d} ROWS ONLY) d"
    )


def last_before(silver: str) -> str:
    """Return the latest bar time before a moment. Binds: timeframe, provider, moment."""
    return f"SELECT MAX(bar_time) AS last_bar_time FROM {silver} WHERE timeframe = ? AND provider = ? AND bar_time < ?"


def folded_bars(silver: str) -> str:
    """Return the last bar of each symbol and New York date, with the date's volume and number of bars.

    Reads bars between two moments, the second exclusive.
    Binds: timeframe, provider, the moments, timeframe, provider. The date is taken in its parts, because engines differ in how to
    cut a moment to its date.
    """
    parts = ", ".join(f"EXTRACT({part} FROM bar_time - INTERVAL '{NEW_YORK_HOURS}' HOUR)" for part in ("YEAR", "MONTH", "DAY"))
    return (
        "SELECT p.symbol, p.bar_time, p.close_px, d.volume, d.bars\n"
        "  FROM (SELECT symbol, MAX(bar_time) AS last_bar_time, SUM(volume) AS volume, COUNT(*) AS bars\n"
        f"          FROM {silver}\n"
        "         WHERE timeframe = ? AND provider = ? AND bar_time >= ? AND bar_time < ?\n"
        f"         GROUP BY symbol, {parts}) d\n"
        f"  JOIN {silver} p ON (p.symbol = d.symbol AND p.bar_time = d.last_bar_time)\n"
        " WHERE p.timeframe = ? AND p.provider = ?\n"
        " ORDER BY p.symbol, p.bar_time"
    )


def previous_bars(silver: str) -> str:
    """Return the bars between two moments, the second exclusive. Binds: timeframe, provider, the moments."""
    return (
        "SELECT symbol, bar_time, close_px, volume, 1 AS bars\n"
        f"  FROM {silver}\n"
        " WHERE timeframe = ? AND provider = ? AND bar_time >= ? AND bar_time < ?\n"
        " ORDER BY symbol, bar_time"
    )
