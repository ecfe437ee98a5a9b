"""Polygon's flat files: one S3 object holds every ticker's day or minute bars of a session.

Sources: https://massive.com/docs/flat-files/quickstart and, on when they come,
https://massive.com/knowledge-base/article/what-time-are-massives-flat-files-ready-each-day. Prices are as traded
(https://github.com/polygon-io/issues/issues/321). Columns are found by name: their order is open, close, high, low. Volumes may be
fractional. Plans have different years, and a refusal is a 403, for a key that is wrong too.

The transport of all calls reads a file, signed as S3 requires (AWS Signature Version 4): about 20 MB as sent. It is unpacked and parsed in
blocks, so that at most one block of the market is in memory beside the requested symbols. A file is complete when all of its
``Content-Length`` came, the gzip stream ends with the right checksum, and the last line with a line break. An object that is stored with
``Content-Encoding: gzip`` has been unpacked and checked by the transport.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import requests
from pyarrow import csv

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.errors import (
    AuthError,
    BadRequest,
    EntitlementError,
    NotYetAvailable,
    ProviderError,
    SchemaDrift,
    ServerError,
    Throttled,
    TruncatedResponse,
)
from market_data.datasets.registry import dataset as find_dataset
from market_data.http.client import Counters, Response, Transport, retry_after
from market_data.http.rate_limit import Pacer
from market_data.providers.base import ProviderConfig
from market_data.providers.polygon.parse import PageTable
from market_data.providers.responses import DAY

ENDPOINT = "https://files.massive.com"
BUCKET = "flatfiles"
FOLDERS: Final = {"ohlcv-1d": "us_stocks_sip/day_aggs_v1", "ohlcv-1m": "us_stocks_sip/minute_aggs_v1"}

DUE = time(16)
"""UTC, of the day after the session: about eleven in the morning, New York time, in winter and in summer."""
LATE = timedelta(days=7)
"""Files have come days late (https://github.com/polygon-io/issues/issues/338); one that is missing for longer is an error."""
BLOCK = 1 << 20
"""Bytes of a file that are parsed at once."""
UNPACKED: Final = ("gzip", "x-gzip")
"""Encodings of a transfer that the transport undoes."""

COLUMNS: Final = {
    "ticker": pa.string(),
    "volume": pa.float64(),
    "open": pa.float64(),
    "close": pa.float64(),
    "high": pa.float64(),
    "low": pa.float64(),
    "window_start": pa.int64(),
    "transactions": pa.int64(),
}
_WRONG_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "RequestTimeTooSkewed"}


class _NoSuchKeyError(BadRequest):
    """There is no such file."""


class FlatFiles:
    """The flat files, through an Airflow connection of type ``aws``.

    Its login is the id of the S3 key, its password the secret.

    :param pacer: paces each file. The API's windows do not count these calls; the rate of a pool slot still applies.
    :param counters: counts the calls.
    """

    def __init__(self, provider: str, config: ProviderConfig, bucket: str, pacer: Pacer, counters: Counters) -> None:
        self.provider, self.config, self.bucket = provider, config, bucket
        sign = _signer(config.login, config.password, str(config.extra.get("region_name") or "us-east-1"))
        self.transport = _Signed(
            provider, endpoint(config), {}, pacer, self._classify, (config.password,), counters=counters, sign=sign
        )

    def close(self) -> None:
        self.transport.close()

    def probe(self) -> str:
        """Make one cheap call that needs the key; return a message for the user.

        :raises ProviderError: if it did not.
        """
        params: dict[str, str | int] = {"list-type": "2", "max-keys": 1, "prefix": f"{FOLDERS['ohlcv-1d']}/"}
        self.transport.get(f"/{self.bucket}", params, "a listing of the flat files", lambda response: response.status)
        return f"{endpoint(self.config)} listed the flat files"

    def session(self, request: Request, now: datetime) -> PageTable:
        """Return the requested symbols' bars of one session; none on a day on which the exchange is closed.

        :raises NotYetAvailable: if the file may still come.
        :raises ServerError: if it should have come long ago. It is not taken for an empty session, whose cells would never be fetched
            for again.
        """
        try:
            return self.transport.get(self._path(request), {}, str(request), lambda response: self._part(response, request))
        except _NoSuchKeyError as error:
            day, where = request.start, {"provider": self.provider, "request": str(request), "request_id": error.request_id}
            if not calendar.is_session(day):
                return PageTable(find_dataset(request.dataset).received.empty_table(), 0, None, error.request_id)
            due = datetime.combine(day + DAY, DUE, UTC)
            if now < due + LATE:
                until = max(due, datetime.combine(now.date() + DAY, DUE, UTC))
                raise NotYetAvailable("there is no file of the session yet", until=until, **where) from None
            text = f"there is no file of the session, which was due at {due:%Y-%m-%d %H:%M} UTC; the endpoint range may have it"
            raise ServerError(text, **where) from None

    def _path(self, request: Request) -> str:
        return quote(f"/{self.bucket}/{FOLDERS[request.dataset]}/{request.start:%Y/%m/%Y-%m-%d}.csv.gz")

    def _part(self, response: Response, request: Request) -> PageTable:
        where = {"provider": self.provider, "request": str(request), "request_id": _request_id(response)}
        lines, parts = 0, [find_dataset(request.dataset).received.empty_table()]
        wanted = pa.array(request.symbols, pa.string())
        try:
            for block in _blocks(response):
                rows = _parsed(block)
                lines += len(rows)
                if strange := _outside(rows["window_start"], request.start):
                    raise ServerError(f"rows of {strange:%Y-%m-%d %H:%M} UTC came", **where)
                parts.append(_table(request, rows.filter(pc.is_in(rows["ticker"], value_set=wanted))))
        except EOFError:
            raise TruncatedResponse(f"the file ends early; {len(response.body)} bytes came", **where) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            text = f"{len(response.body)} bytes came that are not a whole gzip file ({type(error).__name__})"
            raise ServerError(text, **where) from None
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            said = self.transport.plain(str(error))
            raise SchemaDrift(
                f"{self.provider}: {request}: the file is not of the known form: {said}. "
                "To do: see the provider's changelog; the hook has to learn the new form"
            ) from None
        if not lines and calendar.is_session(request.start):
            raise ServerError("the file of a session has no row", **where)
        source = response.headers.get("x-amz-meta-sample-source")
        return PageTable(pa.concat_tables(parts), lines, None, where["request_id"], source=source)

    def _classify(self, response: Response, what: str) -> ProviderError | None:
        """Return the typed error of an unsuccessful response. S3 describes it in XML (``Code``, ``Message``)."""
        if response.status < 400:
            return None
        code, said = (self.transport.plain(_element(response.body, name)) for name in ("Code", "Message"))
        text = " ".join(filter(None, (code, said and f"({said})"))) or f"HTTP status {response.status}"
        where = {"provider": self.provider, "request": what, "request_id": _request_id(response)}
        kind = _kind(response.status, code)
        if kind is Throttled:
            return Throttled(text, retry_after=retry_after(response.headers), **where)
        if kind is AuthError:
            text += f": login and password of connection {self.config.conn_id!r} are the S3 key"
        if code == "NoSuchBucket":
            text += f": the bucket is {self.bucket!r}"
        return kind(text, **where)


def _kind(status: int, code: str) -> type[ProviderError]:
    """Return the error that a response of S3 means."""
    if code in _WRONG_KEYS:
        return AuthError
    if code == "NoSuchBucket":
        return BadRequest
    if code == "SlowDown":
        return Throttled
    if status >= 500:
        return ServerError
    return {401: AuthError, 403: EntitlementError, 404: _NoSuchKeyError, 429: Throttled}.get(status, BadRequest)


def endpoint(config: ProviderConfig) -> str:
    """Return the address of the S3 server."""
    return str(config.extra.get("endpoint_url") or config.base_url or ENDPOINT)


def problems(config: ProviderConfig) -> list[str]:
    """Return a sentence for each thing that is wrong with the S3 connection."""
    name, url = f"connection {config.conn_id!r}", endpoint(config)
    found = {
        f"{name}: login is empty; the id of the S3 key is needed there (its secret is the password)": not config.login,
        f"{name}: password is empty; the secret of the S3 key is needed there (its id is the login)": not config.password,
        f"{name}: extra.endpoint_url is {url!r}; a full URL is needed, e.g. {ENDPOINT}": not re.match("https?://[^/]", url),
    }
    return [text for text, is_so in found.items() if is_so]


# -- signing ---------------------------------------------------------------------------------------------------------------------

Sign = Callable[[requests.PreparedRequest], requests.PreparedRequest]


class _Signed(Transport):
    """Sign each call.

    The signature covers the moment and the whole address, so it cannot be a fixed header.
    """

    def __init__(self, *args: Any, sign: Sign, **more: Any) -> None:
        super().__init__(*args, **more)
        self._session.auth = sign


def _signer(key_id: str, secret: str, region: str) -> Sign:
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    auth = S3SigV4Auth(Credentials(key_id, secret), "s3", region)

    def sign(call: requests.PreparedRequest) -> requests.PreparedRequest:
        request = AWSRequest(call.method, call.url)
        auth.add_auth(request)
        call.headers.update(request.headers.items())
        return call

    return sign


# -- reading ---------------------------------------------------------------------------------------------------------------------


def _blocks(response: Response) -> Iterator[tuple[list[str], bytes]]:
    """Yield the lines of a file, many at once, each time with the column names.

    :raises EOFError: if the gzip stream or the last line ends early.
    :raises gzip.BadGzipFile, zlib.error: if it is damaged, or none.
    """
    body, packed = io.BytesIO(response.body), response.body.startswith(b"\x1f\x8b")
    if not packed and response.headers.get("Content-Encoding", "").lower() not in UNPACKED:
        raise gzip.BadGzipFile
    names: list[str] | None = None
    rest = b""
    with gzip.GzipFile(fileobj=body) if packed else body as file:
        while piece := file.read(BLOCK):
            lines, found, rest = (rest + piece).rpartition(b"\n")
            if not found:
                continue
            if names is None:
                head, _, lines = lines.partition(b"\n")
                names = head.decode().strip().split(",")
            if lines:
                yield names, lines + b"\n"
    if rest or names is None:
        raise EOFError


def _parsed(block: tuple[list[str], bytes]) -> pa.Table:
    """Lines as columns.

    :raises pa.ArrowInvalid: if a column is missing, a line has too few fields, or a value is of another type.
    """
    names, lines = block
    if missing := [name for name in COLUMNS if name not in names]:
        raise pa.ArrowInvalid(f"column {', '.join(missing)} is missing; columns are {', '.join(names)}")
    return csv.read_csv(
        pa.py_buffer(lines),
        csv.ReadOptions(column_names=names, use_threads=False),
        convert_options=csv.ConvertOptions(column_types=COLUMNS, include_columns=list(COLUMNS)),
    )


def _outside(stamps: pa.ChunkedArray, day: date) -> datetime | None:
    """Return a moment that is not of ``day`` in New York, or None.

    :param stamps: nanoseconds.
    """
    first, last = (int(calendar.at(moment, time()).timestamp()) * 10**9 for moment in (day, day + DAY))
    ends = pc.min_max(stamps).as_py().values()
    strange = next((end for end in ends if end is not None and not first <= end < last), None)
    return None if strange is None else datetime.fromtimestamp(strange // 10**9, UTC)


def _table(request: Request, rows: pa.Table) -> pa.Table:
    """Return the columns of a bar."""
    schema, n = find_dataset(request.dataset).received, len(rows)
    day = np.datetime64(request.start, "us")
    opened = pa.array(np.full(n, day)) if request.dataset == "ohlcv-1d" else pc.divide(rows["window_start"], 1000)
    columns = {
        "symbol": rows["ticker"],
        "bar_time": opened.cast(pa.timestamp("us")).cast(schema.field("bar_time").type),
        "session": pa.array(np.full(n, day.astype("datetime64[D]"))),
        **{name: rows[name] for name in ("open", "high", "low", "close", "volume")},
        "trade_count": rows["transactions"],
    }
    return pa.table([columns.get(field.name, pa.nulls(n, field.type)) for field in schema], schema=schema)


def _element(body: bytes, name: str) -> str:
    """Return the text of an element of an S3 error."""
    found = re.search(rb"<%b>(.*?)</%b>" % (name.encode(), name.encode()), body, re.DOTALL)
    return found[1].decode(errors="replace") if found else ""


def _request_id(response: Response) -> str:
    headers: Mapping[str, str] = response.headers
    return headers.get("x-amz-request-id", "")
