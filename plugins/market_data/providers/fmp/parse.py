"""How Financial Modeling Prep writes: the names of symbols, refusals in words, JSON arrays, CSV files.

A refusal is any body that is neither a JSON array nor a CSV file, whatever its status: ``{"Error Message": "..."}`` comes with 200 too,
and 402 is plain text. See https://site.financialmodelingprep.com/developer/docs/stable; the words are those of recorded answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta

import msgspec
import pyarrow as pa
import pyarrow.csv as pc_csv

from market_data.core.capabilities import Quota
from market_data.core.errors import (
    AuthError,
    BadRequest,
    EntitlementError,
    ProviderError,
    QuotaExhausted,
    SchemaDrift,
    ServerError,
    Throttled,
    TruncatedResponse,
)
from market_data.http.client import Answer, retry_after
from market_data.http.rate_limit import LONG_WINDOW, FileLimiter
from market_data.providers.responses import pause

DAY = timedelta(days=1)
BULK_PAUSE = 30.0
"""Seconds to wait after a bulk file that came too soon after another; how long the vendor wants is not known."""

_CLASS = re.compile(r"(?<=[A-Z])\.(?=[A-E]$)")
_FILE = re.compile(rb'\s*"?(symbol|date)"?,')
_GATE = re.compile(r"(premium query parameter|(special|restricted|exclusive|legacy) endpoint)", re.IGNORECASE)
_PART = re.compile("values? (set )?for '(period|limit)'")


class NotInPlan(EntitlementError):
    """The plan does not include this symbol; others it does."""


class PartNotInPlan(EntitlementError):
    """The plan does not include a period of this symbol's statements, or so many of them; others it does."""


def vendors_name(symbol: str) -> str:
    """``BRK-B`` for ``BRK.B``: a class of shares, A to E, stands behind a dash. Other dots are exchanges (``VOD.L``) and stay."""
    return _CLASS.sub("-", symbol)


def words(answer: Answer) -> str | None:
    """What an answer says instead of data, or None where it is data, as far as its beginning tells."""
    body = answer.body.strip()
    if body.startswith(b"[") or _FILE.match(body):
        return None
    try:
        said = msgspec.json.decode(body)
    except msgspec.MsgspecError:
        return body.decode(errors="replace")
    if isinstance(said, dict):
        said = next((said[name] for name in ("Error Message", "message", "error") if said.get(name)), "")
    return str(said or "")


def classify(
    answer: Answer, where: Mapping[str, str], plain: Callable[[str], str], conn_id: str, quota: Quota, now: datetime
) -> ProviderError | None:
    """The typed error of an answer that is no data, or None. Status and words count alike, as any words come with status 200 too.

    :param where: ``provider`` and ``request``, for messages.
    :param plain: `Transport.plain`.
    :param conn_id: the connection whose password the key is.
    :param quota: the account's.
    """
    said, status = words(answer), answer.status
    if status < 400 and said is None:
        return None
    spoken = said or ""
    text = plain(spoken) or f"nothing but HTTP status {status}"
    error: ProviderError
    if status == 429 or "limit reach" in spoken.lower():
        error = _used_up(answer, spoken.lower(), text, quota, now)
    elif status == 401 or "invalid api key" in spoken.lower():
        error = AuthError(f"{text} (the key is the password of connection {conn_id!r})")
    elif "value set for 'symbol'" in spoken:
        error = NotInPlan(text)
    elif _PART.search(spoken):
        error = PartNotInPlan(text)
    elif status in (402, 403) or _GATE.search(spoken):
        error = EntitlementError(text)
    elif status < 400:
        error = ServerError(f"the answer is neither a list nor a file but HTTP {status} with: {text}")
    elif status >= 500:
        error = ServerError(text)
    else:
        error = BadRequest(f"{text} (HTTP {status})")
    return error.at(provider=where["provider"], request=where["request"])


def _used_up(answer: Answer, spoken: str, text: str, quota: Quota, now: datetime) -> ProviderError:
    """``Limit Reach`` is the day's quota on a plan that has one, else the minute's. Bulk files have a throttle of their own."""
    if "bandwidth" in spoken:
        return QuotaExhausted(f"{text}; it counts the bytes of the last 30 days")
    if "bulk endpoint" in spoken:
        return Throttled(text, retry_after=retry_after(answer.headers) or BULK_PAUSE)
    if "limit reach" in spoken and any(window.seconds >= LONG_WINDOW for window in quota.limits):
        resets = _renewed(now)
        return QuotaExhausted(f"{text}; the day's quota is renewed at {resets:%Y-%m-%d %H:%M} UTC", resets_at=resets)
    return Throttled(text, retry_after=pause(answer.headers, quota))


def _renewed(now: datetime) -> datetime:
    """When the day's quota is. Not documented; users report midnight UTC."""
    return datetime.combine(now.astimezone(UTC).date() + DAY, time(), UTC)


class DayLimiter(FileLimiter):
    """Counts a day's calls as the vendor does, not those of the last 24 hours: so both say the same of when it is renewed."""

    def _within_quota(self, log: list[float], now: float) -> list[float]:
        if any(window.seconds > DAY.total_seconds() for window in self.windows):
            return super()._within_quota(log, now)
        renewed = _renewed(datetime.fromtimestamp(now, UTC))
        today = [call for call in log if call >= (renewed - DAY).timestamp()]
        try:
            return super()._within_quota(today, now)
        except QuotaExhausted as error:
            resets = min(renewed, error.resets_at or renewed)
            raise QuotaExhausted(
                f"all calls are used; the quota is renewed at {resets:%Y-%m-%d %H:%M} UTC", resets_at=resets
            ) from None


def read_file(body: bytes, needed: Collection[str], where: Mapping[str, str]) -> pa.Table:
    """The lines of a CSV file as text, empty fields as null. An empty array is an empty file.

    A last line without a line end is left out, as nothing says that it is whole.

    :param needed: columns that it must have.
    :raises TruncatedResponse: if a line has not all columns.
    :raises SchemaDrift: if a column is missing.
    """
    if body.strip() == b"[]":
        return pa.table({name: pa.array([], pa.string()) for name in needed})
    head, line_end, _ = body.partition(b"\n")
    names = [name.strip().strip('"') for name in head.decode(errors="replace").split(",")]
    if not line_end:
        raise TruncatedResponse(f"the file ends in its header; {len(body)} bytes came", **where)
    if missing := [name for name in needed if name not in names]:
        raise drift(where, f"the file has no column {', '.join(missing)}; its columns: {', '.join(names)}")
    try:
        rows = pc_csv.read_csv(
            pa.py_buffer(body),
            read_options=pc_csv.ReadOptions(use_threads=False, column_names=names, skip_rows=1),
            convert_options=pc_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True
            ),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV" in str(error):
            return pa.table({name: pa.array([], pa.string()) for name in names})
        raise TruncatedResponse(f"the file ends early or is damaged ({' '.join(str(error).split())[:80]})", **where) from None
    return rows if body.endswith(b"\n") else rows.slice(0, len(rows) - 1)


def asked_rows(rows: pa.Table, symbols: Sequence[str]) -> pa.Table:
    """The rows of ``symbols``, with these in a column ``asked``; ``symbol`` is the vendor's name."""
    names = [pa.array([vendors_name(symbol) for symbol in symbols], pa.string()), pa.array(symbols, pa.string())]
    return rows.join(pa.table(names, names=["symbol", "asked"]), "symbol", join_type="inner", use_threads=False)


def drift(where: Mapping[str, str], found: str) -> SchemaDrift:
    """The error of an answer of another form."""
    return SchemaDrift(
        f"{where['provider']}: {where['request']}: {found}. To do: see the provider's changelog; the hook has to learn the new form"
    )
