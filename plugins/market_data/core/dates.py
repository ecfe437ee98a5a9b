"""Dates and moments as people, programs and columns write them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def read_date(text: str) -> date:
    """Return an ISO date, or the date of an ISO timestamp that is midnight in its own offset.

    Programs write dates so: ``2026-11-02T00:00:00Z``, ``2026-11-02 00:00:00``, ``2026-11-02T00:00:00-05:00``.

    :raises ValueError: for anything else. A timestamp within a day is not a date: which session it means is not known.
    """
    if not _DATE.match(text):  # Python reads 20261102 and 2026-W45 too
        raise ValueError(text)
    found = datetime.fromisoformat(text)
    if found.time() != time():
        raise ValueError(text)
    return found.date()


def dates_of(column: Any) -> list[Any]:
    """Return a column of dates as Python's, null as None.

    It takes a hundredth of the time of ``to_pylist``.

    :param column: ``pa.ChunkedArray`` or ``pa.Array`` of ``date32``.
    """
    found: list[Any] = column.to_numpy(zero_copy_only=False).tolist()
    return found


def microseconds(moment: datetime) -> int:
    """Return microseconds since 1970, UTC."""
    return (moment - EPOCH) // MICROSECOND


def naive_utc(moment: datetime) -> datetime:
    """Return the instant in UTC without a time zone: drivers drop zones in different ways."""
    return moment.astimezone(UTC).replace(tzinfo=None)
