"""Write the sessions of every calendar into the Databricks edition.

Run it after a change of a calendar: `.venv/bin/python tools/databricks_sessions.py`. A test fails while the file is not up to date.
"""

from __future__ import annotations

import sys
from datetime import date, timedelta
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
SESSIONS = PROJECT / "include" / "sql" / "databricks" / "sessions.sql"
WIDTH = 132
MONDAY = date(1996, 1, 1)  # before any session, so that no remainder is negative
HEAD = """\
-- The sessions of each calendar, counted, for windows and returns: all days of its years but weekends, where they have none, and the
-- dates listed. Written by tools/databricks_sessions.py. Add a closing that no rule foresees to the list; the next run of the job counts
-- again. symbol_calendars names the calendar of the symbols that have another than XNYS: insert them.
USE CATALOG IDENTIFIER(:catalog);
USE SCHEMA IDENTIFIER(:schema);

CREATE TABLE IF NOT EXISTS symbol_calendars (
  symbol STRING NOT NULL,
  provider STRING NOT NULL,
  calendar STRING NOT NULL,
  CONSTRAINT symbol_calendars_pk PRIMARY KEY (symbol, provider)
) USING DELTA;

CREATE OR REPLACE TABLE market_sessions AS
"""


def text() -> str:
    """Return the text of the file."""
    from market_data.core.calendar import CALENDARS
    from market_data.warehouse.sessions import counted_sessions

    selects = [_calendar(name, [day for _, day in counted_sessions(name)]) for name in CALENDARS]
    return HEAD + "\nUNION ALL\n".join(selects) + ";\n"


def _calendar(name: str, sessions: list[date]) -> str:
    first, last = date(sessions[0].year, 1, 1), date(sessions[-1].year, 12, 31)
    there = set(sessions)
    weekends = any(day.weekday() > 4 for day in sessions)
    days = (first + timedelta(days=n) for n in range((last - first).days + 1))
    closed = [f"DATE '{day}'" for day in days if day not in there and (weekends or day.weekday() <= 4)]
    conditions = [
        *([] if weekends else [f"DATEDIFF(d.session_date, DATE '{MONDAY}') % 7 < 5"]),
        *([_listed(closed)] if closed else []),
    ]
    where = "\n WHERE " + "\n   AND ".join(conditions) if conditions else ""
    columns = f"'{name}' AS calendar, d.session_date, ROW_NUMBER() OVER (ORDER BY d.session_date) AS session_no"
    return f"SELECT {columns}\n  FROM (SELECT EXPLODE(SEQUENCE(DATE '{first}', DATE '{last}', INTERVAL 1 DAY)) AS session_date) d{where}"  # noqa: S608


def _listed(dates: list[str]) -> str:
    lines, line = [], "d.session_date NOT IN ("
    for text in dates:
        if len(line) + len(text) + 2 > WIDTH - 7:
            lines.append(line.rstrip())
            line = "  "
        line += f"{text}, "
    return "\n       ".join([*lines, line.rstrip(", ") + ")"])


if __name__ == "__main__":
    sys.path.insert(0, str(PROJECT / "plugins"))
    SESSIONS.write_text(text(), "utf-8")
