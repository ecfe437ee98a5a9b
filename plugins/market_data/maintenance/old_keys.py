"""Keys of older tools: ``.../symbol=AAPL/year=2024/...``, a file per day, month or year."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

from market_data.config.symbols import symbol_problem
from market_data.core.calendar import FIRST, LAST
from market_data.core.intervals import DAY, Interval
from market_data.core.messages import shown
from market_data.core.spelling import canonical
from market_data.lake.layout import unescape

_SYMBOL = re.compile(r"(?:.*/)?symbol=(?P<symbol>[^/]+)/(?P<rest>.+)\.parquet")
_LEVEL = re.compile(r"(?P<name>[a-z_]+)=(?P<value>[^/]*)", re.ASCII)
_DATE = re.compile(r"(?<!\d)(\d{4})-?(\d{2})-?(\d{2})(?!\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class OldKey:
    """The parts of a key.

    :param span: the dates that the path allows.
    """

    symbol: str
    span: Interval


def parse(key: str) -> OldKey | str:
    """Return the parts of a key of an older tool, or the problem with it in words."""
    found = _SYMBOL.fullmatch(key)
    if found is None:
        return "is not a Parquet file" if not key.endswith(".parquet") else "has no folder symbol="
    *folders, name = found["rest"].split("/")
    levels: dict[str, str] = {}
    for folder in folders:
        level = _LEVEL.fullmatch(folder)
        if level is None or level["name"] not in ("year", "month", "day", "date"):
            return f"has the folder {shown(folder)}; year=, month=, day= and date= are known"
        levels[level["name"]] = level["value"]
    if "/provider=" in f"/{key.partition('symbol=')[0]}":
        return "has a provider level: it is not of the plain layout"
    symbol = canonical(unescape(found["symbol"]))
    if wrong := symbol_problem(symbol):
        return f"symbol {shown(symbol)} {wrong}"
    try:
        return OldKey(symbol, _span(levels, name))
    except ValueError:
        return f"has dates that do not exist, or contradict each other: {shown(found['rest'], 80)}"


def _span(levels: dict[str, str], name: str) -> Interval:
    """Return the dates of a path: the narrowest of its folders and the name of the file."""
    span = Interval(FIRST, LAST)
    if year := levels.get("year"):
        month, day = levels.get("month"), levels.get("day")
        start = date(int(year), int(month or 1), int(day or 1))
        if month and day:
            end = start + DAY
        elif month:
            end = date(start.year + start.month // 12, start.month % 12 + 1, 1)
        else:
            end = date(start.year + 1, 1, 1)
        span = Interval(max(span.start, start), min(span.end, end))
    texts = [levels.get("date", ""), name]
    for text in texts:
        if dated := _DATE.search(text):
            one = date(int(dated[1]), int(dated[2]), int(dated[3]))
            if one not in span:
                raise ValueError(text)
            span = Interval(one, one + DAY)
    if span.start >= span.end:
        raise ValueError(name)
    return span
