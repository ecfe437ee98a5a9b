"""Historical bars: parse and check requests, and find their bars."""

from __future__ import annotations

import calendar as months
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from market_data.core.calendar import NEW_YORK
from sandbox.ib_gateway.contracts import Listing
from sandbox.ib_gateway.prices import GatewayBar, Prices, opens
from sandbox.ib_gateway.requests import GatewayRequest

SIZES = {"1 day": None, "5 mins": 5, "1 min": 1}
"""Bar sizes that are served -> minutes."""
LEGAL = (
    *("1 secs", "5 secs", "10 secs", "15 secs", "30 secs", "1 min", "2 mins", "3 mins", "5 mins", "10 mins", "15 mins"),
    *("20 mins", "30 mins", "1 hour", "2 hours", "3 hours", "4 hours", "8 hours", "1 day", "1W", "1M"),
)
SHOWN = ("TRADES", "MIDPOINT", "BID", "ASK", "ADJUSTED_LAST")

NO_DATA, UNKNOWN, INVALID, BAD_END, NO_END, NOT_SUBSCRIBED = 162, 200, 321, 10314, 10339, 354
SERVICE = "Historical Market Data Service error message:"
PACING = f"{SERVICE}Historical data request pacing violation"
NO_DEFINITION = "No security definition has been found for the request"


class Refused(Exception):
    """An error as the vendor numbers and words it."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


@dataclass(frozen=True, slots=True)
class Span:
    """Range from ``start`` (inclusive) to ``end`` (exclusive), or a number of ``sessions`` before ``end``."""

    start: datetime
    end: datetime
    sessions: int | None = None


def span(request: GatewayRequest, now: datetime) -> Span:
    """Return the range that the request's end and duration describe.

    :raises Refused: if one of them is invalid.
    """
    end = _end(request.end) or now
    count, _, unit = request.duration.partition(" ")
    if not count.isdigit() or int(count) < 1 or unit not in ("S", "D", "W", "M", "Y"):
        raise Refused(
            INVALID, "Error validating request.-'bW' : cause - Historical data duration is invalid. Legal ones are <n> S|D|W|M|Y"
        )
    number = int(count)
    if unit == "S" and number > 86_400:
        raise Refused(INVALID, "Error validating request.-'bW' : cause - Historical data requests for durations longer than 86400 secs "
                      "must be made in days, weeks, months, or years")  # fmt: skip
    if unit == "D" and number > 365:
        raise Refused(INVALID, "Error validating request.-'bW' : cause - Historical data requests for durations longer than 365 days "
                      "must be made in years")  # fmt: skip
    local = end.astimezone(NEW_YORK)
    starts: Mapping[str, Callable[[], datetime]] = {
        "S": lambda: (end - timedelta(seconds=number)).astimezone(NEW_YORK),
        "D": lambda: local - timedelta(days=number),
        "W": lambda: local - timedelta(weeks=number),
        "M": lambda: _months_before(local, number),
        "Y": lambda: _months_before(local, 12 * number),
    }
    return Span(starts[unit](), local, number if unit == "D" else None)


def the_only(found: Sequence[Listing], request: GatewayRequest) -> Listing:
    """Return the only contract that matches the request.

    :raises Refused: if none or several match.
    """
    if len(found) > 1:
        raise Refused(UNKNOWN, f"The contract description specified for {request.contract.symbol} is ambiguous.")
    if not found:
        raise Refused(UNKNOWN, NO_DEFINITION)
    return found[0]


def check(request: GatewayRequest, listing: Listing) -> None:
    """Check that the request is valid for this contract.

    :raises Refused: if it is not.
    """
    if request.size not in LEGAL:
        raise Refused(
            INVALID,
            "Error validating request.-'bW' : cause - Historical data bar size setting is invalid. Legal ones are: "
            + ", ".join(LEGAL),
        )
    if request.what not in SHOWN or (listing.sec_type == "IND" and request.what != "TRADES"):
        raise Refused(
            INVALID, f"Error validating request.-'bW' : cause - What to show field is missing or incorrect: {request.what}"
        )
    if request.end and listing.sec_type == "CONTFUT":
        raise Refused(NO_END, "Setting end date/time for continuous future security type is not allowed.")
    if request.end and request.what == "ADJUSTED_LAST":
        raise Refused(INVALID, "Error validating request.-'bW' : cause - End date/time not supported with adjusted last")


def bars(request: GatewayRequest, listing: Listing, prices: Prices, span: Span) -> list[GatewayBar]:
    """Return the bars of a span, ascending.

    :raises Refused: if there are none.
    """
    first, last = span.start.date(), span.end.date()
    if span.sessions is not None:
        first -= timedelta(days=span.sessions + 14)  # as many trading days lie in there
    days = [day for day in prices.sessions(listing, first, last + timedelta(days=2)) if opens(listing, day) < span.end]
    if span.sessions is not None:
        days = days[-span.sessions :]
    minutes = SIZES.get(request.size)
    if minutes is None:
        found = [bar for bar in prices.daily(listing, days) if span.sessions or bar.opens >= span.start]
    else:
        found = prices.minutes(listing, days, minutes, regular=request.regular)
        found = [bar for bar in found if bar.opens < span.end and (span.sessions or bar.opens >= span.start)]
    if not found:
        raise Refused(
            NO_DATA, f"{SERVICE}HMDS query returned no data: {listing.local_symbol}@{listing.exchange} {request.what.title()}"
        )
    if request.what != "TRADES":
        away = {"BID": -listing.tick, "ASK": listing.tick}.get(request.what, 0.0)
        found = [_quote(bar, away) for bar in found]
    return found


def rows(request: GatewayRequest, listing: Listing, found: Sequence[GatewayBar]) -> list[list[str]]:
    """Return the fields of each bar in the protocol's format."""
    daily = SIZES.get(request.size) is None
    zone = ZoneInfo(listing.zone)

    def stamp(bar: GatewayBar) -> str:
        if daily:
            return f"{bar.session:%Y%m%d}"
        if request.format_date == 2:
            return str(int(bar.opens.timestamp()))
        return f"{bar.opens.astimezone(zone):%Y%m%d %H:%M:%S} {listing.zone}"

    return [
        [stamp(bar), *(f"{price:.4f}" for price in bar[2:6]), f"{bar.volume:.10g}", f"{bar.wap:.10g}", str(bar.count)]
        for bar in found
    ]


def _quote(bar: GatewayBar, away: float) -> GatewayBar:
    moved = {name: round(getattr(bar, name) + away, 4) for name in ("open", "high", "low", "close")}
    return bar._replace(**moved, volume=-1.0, wap=-1.0, count=-1)


_END = re.compile(r"(\d{8})[ -] ?(\d\d:\d\d:\d\d)(?: (\S+))?")


def _end(text: str) -> datetime | None:
    """The moment, or None for now. Without a zone and with a hyphen it is UTC, else New York."""
    if not text:
        return None
    found = _END.fullmatch(text)
    day, clock, zone = found.groups() if found else ("", "", None)
    try:
        moment = datetime.strptime(f"{day} {clock}", "%Y%m%d %H:%M:%S")  # noqa: DTZ007 - its zone comes with the next line
        return moment.replace(tzinfo=UTC if zone is None and "-" in text else ZoneInfo(zone or "America/New_York"))
    except (ValueError, ZoneInfoNotFoundError):
        raise Refused(
            BAD_END,
            "End Date/Time: The date, time, or time-zone entered is invalid. The correct format is yyyymmdd hh:mm:ss xx/xxxx "
            "where yyyymmdd and xx/xxxx are optional. E.g.: 20031126 15:59:00 US/Eastern",
        ) from None


def _months_before(moment: datetime, number: int) -> datetime:
    year, month = divmod(moment.year * 12 + moment.month - 1 - number, 12)
    day = min(moment.day, months.monthrange(year, month + 1)[1])
    return moment.replace(year=year, month=month + 1, day=day)
