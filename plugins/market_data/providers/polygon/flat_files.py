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
import re
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, time, timedelta
from functools import partial
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
    ServerError,
    Throttled,
    TruncatedResponse,
)
from market_data.core.messages import shown
from market_data.core.retry_policy import RetryPolicy
from market_data.core.urls import credentials_problem
from market_data.datasets.registry import dataset as find_dataset
from market_data.http.client import Counters, Response, Transport, retry_after
from market_data.http.gzip_body import TooLargeError, unpacked
from market_data.http.rate_limit import Pacer
from market_data.providers.base import ProviderConfig, is_http
from market_data.providers.polygon.parse import PageTable
from market_data.providers.responses import DAY, drift
from market_data.providers.unexpected import OnceMore, Unexpected

ENDPOINT = "https://files.massive.com"
BUCKET = "flatfiles"
FOLDERS: Final = {"ohlcv-1d": "us_stocks_sip/day_aggs_v1", "ohlcv-1m": "us_stocks_sip/minute_aggs_v1"}

DUE = time(16)
"""UTC, of the day after the session: about eleven in the morning, New York time, in winter and in summer."""
LATE = timedelta(days=7)
"""Files have come days late (https://github.com/polygon-io/issues/issues/338); one that is missing for longer is an error."""
BLOCK = 1 << 20
"""Bytes of a file that are parsed at once."""
LONGEST_LINE = 64 * 1024
"""Bytes of a line; a regular one has about 80."""
MOST_TORN = 1000
"""Lines of a block that may have too few or too many fields."""
LONGEST_VALUE = 60
"""Characters of a value that a message shows."""
SHOWN = 3
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
_FORMS: Final = {
    pa.string(): r"^[!-~]+$",
    pa.float64(): r"^([-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,2})?)?$",
    pa.int64(): r"^([-+]?[0-9]{1,18}|[1-8][0-9]{18})?$",
}
"""The form of a value of each type, in a file that has others too."""
_WRONG_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "RequestTimeTooSkewed"}


class _NoSuchKeyError(BadRequest):
    """There is no such file."""


class FlatFiles:
    """The flat files, through an Airflow connection of type ``aws``.

    Its login is the id of the S3 key, its password the secret.

    :param pacer: paces each file. The API's windows do not count these calls; the rate of a pool slot still applies.
    :param counters: counts the calls.
    :param retry: how often and when a call is repeated.
    """

    def __init__(
        self, provider: str, config: ProviderConfig, bucket: str, pacer: Pacer, counters: Counters, retry: RetryPolicy
    ) -> None:
        self.provider, self.config, self.bucket = provider, config, bucket
        sign = _signer(config.login, config.password, str(config.extra.get("region_name") or "us-east-1"))
        self.transport = _Signed(
            provider, endpoint(config), {}, pacer, self._classify, (config.password,), retry, counters=counters, sign=sign
        )

    def close(self) -> None:
        self.transport.close()
        self.config.close()

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
            read = partial(self._part, request=request, once_more=OnceMore())
            return self.transport.get(self._path(request), {}, str(request), read)
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

    def _part(self, response: Response, request: Request, once_more: OnceMore) -> PageTable:
        where = {"provider": self.provider, "request": str(request), "request_id": _request_id(response)}
        file = _FileReader(request, where)
        try:
            for names, lines in _blocks(response):
                file.add(names, lines)
        except EOFError:
            raise TruncatedResponse(f"the file ends early; {len(response.body)} bytes came", **where) from None
        except TooLargeError as error:
            raise ServerError(f"the file is too large: {error}", **where) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            text = f"{len(response.body)} bytes came that are not a whole gzip file ({type(error).__name__})"
            raise ServerError(text, **where) from None
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            raise drift(where, self.transport.plain(str(error)), "the file") from None
        if not file.rows and calendar.is_session(request.start):
            raise ServerError("the file of a session has no row", **where)
        kept, unexpected = file.finished()
        once_more.check(unexpected, where)
        source = response.headers.get("x-amz-meta-sample-source")
        return PageTable(kept, file.rows, None, where["request_id"], source=source, unexpected=unexpected)

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
    secret = credentials_problem(f"{name}: the S3 endpoint", url, "the S3 key belongs into login and password")
    found = {
        secret or "": secret is not None,
        f"{name}: login is empty; the id of the S3 key is needed there (its secret is the password)": not config.login,
        f"{name}: password is empty; the secret of the S3 key is needed there (its id is the login)": not config.password,
        f"{name}: extra.endpoint_url is {shown(url)}; a full URL is needed, e.g. {ENDPOINT}": secret is None and not is_http(url),
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
    :raises TooLargeError: if it grows too much, or a line is longer than any regular one.
    :raises gzip.BadGzipFile, zlib.error: if it is damaged, or none.
    """
    body, packed = response.body, response.body.startswith(b"\x1f\x8b")
    if not packed and response.headers.get("Content-Encoding", "").lower() not in UNPACKED:
        raise gzip.BadGzipFile
    names: list[str] | None = None
    rest = b""
    for piece in unpacked(body, BLOCK) if packed else (body[start : start + BLOCK] for start in range(0, len(body), BLOCK)):
        lines, found, rest = (rest + piece).rpartition(b"\n")
        if len(rest) > max(LONGEST_LINE, BLOCK):
            raise TooLargeError(f"a line of more than {LONGEST_LINE:,} bytes")
        if not found:
            continue
        if names is None:
            head, _, lines = lines.partition(b"\n")
            if len(head) > LONGEST_LINE:
                raise TooLargeError(f"a line of more than {LONGEST_LINE:,} bytes")
            names = head.removeprefix(BOM_UTF8).decode().strip().split(",")
        if lines:
            yield names, lines + b"\n"
    if rest or names is None:
        raise EOFError


class _FileReader:
    """Reads a file block by block: the rows of the request, and what else there is.

    :param where: ``provider``, ``request`` and ``request_id``, for messages.
    """

    def __init__(self, request: Request, where: Mapping[str, str]) -> None:
        self.request, self.where, self.rows = request, where, 0
        self._wanted = pa.array(request.symbols, pa.string())
        self._first, self._end = (
            int(calendar.at(moment, time()).timestamp()) * 10**9 for moment in (request.start, request.start + DAY)
        )
        self._strays = 0
        self._named: dict[str, None] = {}
        self._parts = [find_dataset(request.dataset).received.empty_table()]
        self._odd: list[pa.Table] = []
        self._lost: set[str] = set()
        self._anyones = ""

    def add(self, names: list[str], lines: bytes) -> None:
        """Read a block.

        :raises pa.ArrowInvalid: if a column is missing or repeated, or most rows cannot be read.
        """
        rows, problems = _parsed(names, lines)
        self.rows += len(rows)
        stamps = rows["window_start"]
        outside = pc.fill_null(pc.or_(pc.less(stamps, self._first), pc.greater_equal(stamps, self._end)), False)
        odd = pc.is_valid(problems)
        requested = pc.is_in(rows["ticker"], value_set=self._wanted)
        usual = pc.and_(requested, pc.invert(pc.or_(outside, odd)))
        self._parts.append(_table(self.request, rows.filter(usual)))
        if pc.any(outside).as_py():
            strays = rows.filter(outside)
            self._strays += len(strays)
            for stamp in stamps.filter(outside).slice(0, SHOWN).to_pylist():
                self._named[f"{datetime.fromtimestamp(stamp // 10**9, UTC):%Y-%m-%d %H:%M} UTC"] = None
            self._lost.update(strays.filter(pc.is_in(strays["ticker"], value_set=self._wanted))["ticker"].to_pylist())
        nameless = pc.is_null(rows["ticker"])
        here = pc.and_(pc.and_(odd, pc.or_(requested, nameless)), pc.invert(outside))
        if pc.any(here).as_py():
            bad = _table(self.request, rows.filter(here))
            bad = pa.table(bad.columns, names=bad.column_names)  # nullable
            self._odd.append(bad.append_column("reasons", problems.filter(here)))
            if bad["symbol"].null_count:
                self._anyones = "a row came whose symbol cannot be read"

    def finished(self) -> tuple[pa.Table, Unexpected]:
        """Return the rows of the request, and what else the file holds.

        :raises ServerError: if most rows are of another day.
        """
        said = f"rows of {', '.join([*self._named][:SHOWN])} came"
        if 2 * self._strays > self.rows:
            raise ServerError(said, **self.where)
        kept = pa.concat_tables(self._parts)
        lost = self._lost - set(pc.unique(kept["symbol"]).to_pylist()) if self._lost else ()
        odd = pa.concat_tables(self._odd) if self._odd else None
        return kept, Unexpected(self._strays, tuple(self._named), odd, dict.fromkeys(sorted(lost), said), self._anyones)


def _parsed(names: list[str], lines: bytes) -> tuple[pa.Table, pa.ChunkedArray]:
    """Return lines as columns, and what is wrong with some of them: null for the others.

    :raises pa.ArrowInvalid: if a column is missing or repeated, or most lines cannot be read.
    """
    if missing := [name for name in COLUMNS if name not in names]:
        raise pa.ArrowInvalid(f"column {', '.join(missing)} is missing; columns are {', '.join(names)}")
    if len(set(names)) < len(names):
        raise pa.ArrowInvalid(f"a column is there twice; columns are {', '.join(names)}")
    options = csv.ReadOptions(column_names=names, use_threads=False)
    try:
        rows = csv.read_csv(
            pa.py_buffer(lines), options, convert_options=csv.ConvertOptions(column_types=COLUMNS, include_columns=list(COLUMNS))
        )
    except pa.ArrowInvalid as error:
        return _by_row(names, lines, error)
    if pc.any(pc.equal(rows["ticker"], "")).as_py():
        return _by_row(names, lines, pa.ArrowInvalid("most lines have no ticker"))
    return rows, pa.chunked_array([pa.nulls(len(rows), pa.string())])


def _by_row(names: list[str], lines: bytes, error: pa.ArrowInvalid) -> tuple[pa.Table, pa.ChunkedArray]:
    """Return what `_parsed` does of lines that have not all the known form.

    :param error: why.
    :raises pa.ArrowInvalid: ``error``, if most lines have not.
    """
    torn: list[tuple[str, int]] = []

    def skip(row: csv.InvalidRow) -> str:
        torn.append((row.text, row.actual_columns))
        return "skip" if len(torn) <= MOST_TORN else "error"

    raw = csv.read_csv(
        pa.py_buffer(lines),
        csv.ReadOptions(column_names=names, use_threads=False),
        csv.ParseOptions(invalid_row_handler=skip),
        csv.ConvertOptions(column_types=dict.fromkeys(names, pa.binary()), include_columns=list(COLUMNS)),
    )
    columns: dict[str, Any] = {}
    problems: list[Any] = []
    for name, kind in COLUMNS.items():
        text = pc.fill_null(raw[name], b"")
        valid = pc.match_substring_regex(text, _FORMS[kind])
        shown_text = pc.utf8_slice_codeunits(_ascii(text), 0, LONGEST_VALUE)
        columns[name] = pc.if_else(valid, _ascii(text), None)
        if kind != pa.string():
            columns[name] = pc.if_else(pc.equal(columns[name], ""), None, columns[name]).cast(kind)
        problems.append(pc.if_else(valid, "", pc.binary_join_element_wise(f"; {name} is ", shown_text, "")))
    rows = pa.table(columns)
    found = pc.utf8_ltrim(pc.binary_join_element_wise(*problems, ""), "; ")
    found = pc.if_else(pc.equal(found, ""), None, found)
    if torn:
        extra = {name: pa.nulls(len(torn), kind) for name, kind in COLUMNS.items()}
        place = names.index("ticker")
        cells = [text.split(",") for text, _ in torn]
        extra["ticker"] = pa.array([line[place] if place < len(line) and line[place] else None for line in cells], pa.string())
        rows = pa.concat_tables([rows, pa.table(extra)])
        said = [f"the line has {count} fields, not {len(names)}: {shown(text, 200)}" for text, count in torn]
        found = pa.chunked_array([*found.chunks, pa.array(said, pa.string())], pa.string())
    if len(rows) > 1 and 2 * (len(rows) - found.null_count) > len(rows):
        raise error
    return rows, found


def _ascii(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return bytes as text; other signs than ASCII become question marks."""
    return pc.replace_substring_regex(text, "[^ -~]", b"?").cast(pa.string())


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
