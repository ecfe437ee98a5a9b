"""Parameters of a Databento request, and its refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sandbox.vendors.messages import VendorRequest, VendorResponse

DAY = timedelta(days=1)
SECOND = 1_000_000_000  # in nanoseconds
DOCS = "https://databento.com/docs/api-reference-historical"
CASES = {
    400: "bad_request",
    401: "auth_authentication_failed",
    402: "account_insufficient_funds",
    403: "license_not_found_unauthorized",
    404: "not_found",
    422: "unprocessable_request",
    429: "rate_limit_exceeded",
}


class DatabentoRefusal(Exception):
    """A request that the vendor refuses, with a case and a payload."""

    def __init__(self, status: int, case: str, message: str, payload: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.case, self.payload = status, case, payload


@dataclass(frozen=True, slots=True)
class Query:
    """A requested range: records stamped from ``start`` (inclusive) to ``end`` (exclusive), UTC."""

    dataset: str
    schema: str
    symbols: tuple[str, ...]
    stype: str
    start: datetime
    end: datetime

    @property
    def dates(self) -> tuple[date, date]:
        """The UTC dates that it touches, half-open."""
        return self.start.date(), (self.end + DAY - timedelta(microseconds=1)).date()

    @property
    def span(self) -> tuple[int, int]:
        """Start and end, nanoseconds."""
        return nanoseconds(self.start), nanoseconds(self.end)


def nanoseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def stamp(moment: datetime) -> str:
    """Format a time stamp as payloads have it."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}000Z"


def refused(
    request: VendorRequest, status: int, case: str, message: str, payload: Mapping[str, str] | None = None
) -> VendorResponse:
    detail = {
        "case": case,
        "message": message,
        "status_code": status,
        "docs": DOCS,
        "payload": payload,
    }
    return VendorResponse(request, status, {"detail": detail})


def needed(request: VendorRequest, name: str) -> str:
    if not request.parameters.get(name):
        raise DatabentoRefusal(422, "validation_failed", f"The parameter `{name}` is missing.")
    return request.parameters[name]


def choice(request: VendorRequest, name: str, default: str | None, allowed: tuple[str, ...]) -> str:
    value = request.parameters.get(name) or default or needed(request, name)
    if value not in allowed:
        raise DatabentoRefusal(422, "validation_failed", f"`{name}` is '{value}'; this server has: {', '.join(allowed)}.")
    return value


def moment_of(text: str, name: str) -> datetime:
    """Parse a date, a moment in ISO 8601 (UTC where it names no zone) or nanoseconds since the epoch."""
    try:
        if text.isdecimal() and len(text) > 8:
            return datetime.fromtimestamp(int(text) / SECOND, UTC)
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise DatabentoRefusal(422, "validation_failed", f"`{name}` is '{text}', which is not a valid datetime.") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
