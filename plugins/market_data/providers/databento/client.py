"""Databento's own client, with pacing, retries, a deadline and typed errors added.

The vendor's client builds requests, sends them and decodes DBN. It retries nothing and waits for ever on a response that trickles. It
also accepts a body that was cut at a record boundary: the caller of :meth:`Client.download` has to detect this.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import requests
import urllib3
from databento_dbn import DBNError
from requests.auth import HTTPBasicAuth
from zstandard import ZstdError

from market_data.core.errors import (
    NetworkError,
    ProviderError,
    RetriableError,
    SchemaDrift,
    ServerError,
    Throttled,
    TruncatedResponse,
)
from market_data.core.urls import shown_url
from market_data.http.client import REDIRECT, Response, Transport, cause, headers_without, tried, within, without, without_bom
from market_data.http.gzip_body import TooLargeError
from market_data.providers.databento.vendor_library import (
    BentoError,
    BentoHttpError,
    BentoWarning,
    DBNStore,
    Historical,
    check_backend_warnings,
    check_http_error,
)
from market_data.providers.responses import too_large

T = TypeVar("T")
R = TypeVar("R")

LARGEST_METADATA = 16 * 1024 * 1024
"""Bytes of a response without records. The largest regular one, the symbols of 2,000 parents, has about 1 MB."""
LARGEST_STREAM = 4 * 1024**3
"""Bytes of one download. The records of a request, at most 5 million, have less than half of it."""
CHUNK = 64 * 1024
METADATA_DEADLINE = 60.0


class RedirectedError(Exception):
    """A response is a redirect; the argument is its status."""


"""Seconds for one call that brings no records."""


@dataclass(frozen=True, slots=True)
class Question:
    """The requested records, in the vendor's terms.

    :param symbols: as they are sent -> as the caller has them.
    :param start: inclusive, ``end`` exclusive, UTC; of the moment at which the vendor got a record, where the schema has one.
    """

    dataset: str
    schema: str
    stype_in: str
    symbols: Mapping[str, str]
    start: datetime
    end: datetime

    @property
    def arguments(self) -> dict[str, Any]:
        """For the vendor's client."""
        start, end = (f"{moment:%Y-%m-%dT%H:%M:%S.%f}" for moment in (self.start, self.end))
        asked = {"dataset": self.dataset, "schema": self.schema, "stype_in": self.stype_in}
        return {**asked, "symbols": list(self.symbols), "start": start, "end": end}


def _called(
    api: Any,
    method: str,
    url: str,
    data: Mapping[str, Any] | None = None,
    params: Iterable[tuple[str, str | None]] | None = None,
    basic_auth: bool = False,
) -> requests.Response:
    """Make a call that brings no records, but read no more than a stated size.

    Otherwise it is as the vendor's client makes it. The response comes without a byte order mark, which the client's JSON parser refuses.

    :raises TooLargeError: if it is larger.
    """
    with _called_once(api, method, url, basic_auth=basic_auth, data=data, params=params) as (response, hidden):
        _read(response, hidden)
        check_backend_warnings(response)
        check_http_error(response)
        return response


def _streamed(api: Any, url: str, data: dict[str, Any], basic_auth: bool, path: Any = None) -> DBNStore:
    """Download records into a file, but read no more of a refusal or a stream than a stated size.

    :raises TooLargeError: if it is larger.
    """
    with _called_once(api, "POST", url, basic_auth=basic_auth, data=data) as (response, hidden):
        if response.status_code >= 400:
            _read(response, hidden)
        check_backend_warnings(response)
        check_http_error(response)
        size = 0
        with Path(path).open("xb") as file:
            for chunk in response.iter_content(CHUNK):
                size += len(chunk)
                if size > LARGEST_STREAM:
                    raise TooLargeError(f"more than {LARGEST_STREAM:,} bytes of records")
                file.write(chunk)
    return DBNStore.from_file(path)


def secrets_of(key: str) -> tuple[str, str]:
    """Return the texts that give a key away: itself, and what follows its prefix."""
    return key, key.removeprefix("db-")


@contextmanager
def _called_once(
    api: Any, method: str, url: str, *, basic_auth: bool, **given: Any
) -> Iterator[tuple[requests.Response, tuple[str, str]]]:
    """Yield the response to a call, its headers without the key, and the texts to take out of its body.

    The call is as the vendor's client makes it.

    :param given: what is sent.
    :raises RedirectedError: if it is a redirect: another host must see neither the key nor the request.
    """
    auth = HTTPBasicAuth(api._key, "") if basic_auth else None  # noqa: SLF001 - the client has no other way
    sent = {"headers": api._headers, "auth": auth, **given}  # noqa: SLF001
    timeout = (api.TIMEOUT, api.TIMEOUT)
    with requests.request(method, url, **sent, timeout=timeout, stream=True, allow_redirects=False) as response:
        if 300 <= response.status_code < 400:
            raise RedirectedError(response.status_code)
        hidden = secrets_of(api._key)  # noqa: SLF001
        response.headers = headers_without(response.headers, hidden)  # type: ignore[assignment]
        yield response, hidden


def _read(response: requests.Response, hidden: Sequence[str]) -> None:
    """Read the body of a response, but for what is ``hidden``.

    :raises TooLargeError: if it is larger than any regular one.
    """
    body = bytearray()
    for chunk in response.iter_content(CHUNK):
        body += chunk
        if len(body) > LARGEST_METADATA:
            raise TooLargeError(f"more than {LARGEST_METADATA:,} bytes of JSON")
    content = without(without_bom(bytes(body)), hidden)
    if problem := too_large(content):
        raise TooLargeError(problem)
    response._content = content  # noqa: SLF001 - requests has no other way


@dataclass
class Client(Transport):
    """The vendor's client for one account.

    :param key: never shown; ``secrets`` has to hold it too.
    :param deadline: seconds for one download, from looking the name up to the last byte.
    """

    key: str = field(default="", repr=False)
    deadline: float = 300.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._official = Historical(self.key)
        # ``gateway`` would turn http into https, and a server on this machine has no certificate.
        for name in ("metadata", "symbology", "timeseries"):
            api = getattr(self._official, name)
            api._base_url = f"{self.base_url.rstrip('/')}/v0/{name}"  # noqa: SLF001
            api._headers["accept-encoding"] = "identity"  # noqa: SLF001 - a gzip stream that ends early is taken for whole
            api._post = partial(_called, api, "POST")  # noqa: SLF001
            api._get = partial(_called, api, "GET")  # noqa: SLF001
            api._stream = partial(_streamed, api)  # noqa: SLF001

    # -- requests -----------------------------------------------------------------------------------------------------------

    def dataset_range(self, dataset: str, what: str) -> Mapping[str, Any]:
        """First and last moment of a dataset: ``start`` and ``end``, as the vendor writes them."""
        return self._metadata(what, lambda: self._official.metadata.get_dataset_range(dataset), dict)

    def conditions(self, dataset: str, first: date, last: date, what: str) -> list[dict[str, Any]]:
        """Return date, condition and last modification of each UTC date, both ends inclusive. Free."""
        found: list[dict[str, Any]] = self._metadata(
            what, lambda: self._official.metadata.get_dataset_condition(dataset, first, last), list
        )
        return found

    def record_count(self, question: Question, what: str) -> int:
        """Return how many records there are. Free."""
        return self._metadata(what, lambda: self._official.metadata.get_record_count(**question.arguments), int)

    def cost(self, question: Question, what: str) -> float:
        """Return what they cost, US dollars. Free to ask."""
        return float(self._metadata(what, lambda: self._official.metadata.get_cost(**question.arguments), (int, float)))

    def resolve(
        self, dataset: str, symbols: list[str], stypes: tuple[str, str], first: date, end: date, what: str
    ) -> Mapping[str, list[dict[str, str | None]]]:
        """Resolve symbols; a free call.

        The result is symbol -> spans with ``d0`` (inclusive), ``d1`` (exclusive) and ``s``, the resolved symbol.

        :param stypes: the symbology of ``symbols``, and that of the response.
        """
        response = self._metadata(
            what, lambda: self._official.symbology.resolve(dataset, symbols, stypes[0], stypes[1], first, end), dict
        )
        try:
            return msgspec.convert(response.get("result", {}), dict[str, list[dict[str, str | None]]])
        except msgspec.ValidationError as error:
            raise self._drift(what, self.plain(str(error))) from None

    def download(self, question: Question, what: str, read: Callable[[DBNStore, tuple[str, ...]], T]) -> T:
        """Return the records, through a file that is gone afterwards.

        :param read: makes of the decoder and the vendor's words beside it what is wanted; raises a RetriableError for what has to be
            downloaded again.
        """

        def attempt() -> T:
            # A call that was given up may still be writing.
            with tempfile.TemporaryDirectory(prefix="market-data-", ignore_cleanup_errors=True) as folder:
                path = Path(folder) / "response.dbn.zst"
                arguments = {**question.arguments, "path": path}
                store, words = self._once(what, lambda: self._official.timeseries.get_range(**arguments), self.deadline)
                self.counters.bytes += path.stat().st_size
                return self._decoded(what, lambda: read(store, words))

        return self._tried(attempt)

    # -- how ---------------------------------------------------------------------------------------------------------------------

    def _metadata(self, what: str, call: Callable[[], R], kind: type | tuple[type, ...]) -> R:
        def attempt() -> R:
            response, _ = self._once(what, call, min(self.deadline, METADATA_DEADLINE))
            self.counters.bytes += len(str(response))
            if (
                isinstance(response, kind)
                and not isinstance(response, bool)
                and not (isinstance(response, dict) and "detail" in response)
            ):
                return response
            if isinstance(response, dict) and "detail" in response:
                raise ServerError(self.plain(f"an error with HTTP 200: {response['detail']}"), **self._where(what))
            raise self._drift(what, f"{type(response).__name__} came")

        return self._tried(attempt)

    def _tried(self, attempt: Callable[[], T]) -> T:
        return tried(attempt, counters=self.counters, retry=self.retry, patience=self.patience, sleep=self.sleep)

    def _once(self, what: str, call: Callable[[], T], deadline: float) -> tuple[T, tuple[str, ...]]:
        """Make one paced call; return its result and the vendor's warnings."""
        where = self._where(what)
        try:
            permit = self.pacer.wait()
        except ProviderError as error:
            raise error.at(**where) from None  # a limiter knows neither provider nor request
        self.counters.calls += 1
        for api in (self._official.metadata, self._official.symbology, self._official.timeseries):
            api.TIMEOUT = self.timeout[1]  # type: ignore[assignment]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                response = within(deadline, call, permit)
            except TimeoutError:
                raise NetworkError(f"no whole response in {deadline:g} s", **where) from None
            except BentoHttpError as error:
                raise self._refusal(error, what) from None
            except RedirectedError as error:
                raise ServerError(REDIRECT % error.args[0], **where) from None
            except TooLargeError as error:
                raise ServerError(f"the response is too large: {error}", **where) from None
            except Exception as error:  # noqa: BLE001 - every secrets backend has errors of its own
                raise self._failure(error, what) from None
        said = [self.plain(str(one.message)) for one in caught if issubclass(one.category, BentoWarning)]
        return response, tuple(dict.fromkeys(said))

    def _decoded(self, what: str, read: Callable[[], T]) -> T:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", BentoWarning)  # of a record that is cut: the count tells
                return read()
        except (BentoError, DBNError, ZstdError, ValueError, TypeError, ArithmeticError, LookupError) as error:
            raise self._failure(error, what) from None

    # -- errors ------------------------------------------------------------------------------------------------------------------

    def _where(self, what: str) -> dict[str, str]:
        return {"provider": self.provider, "request": what}

    def _drift(self, what: str, said: str) -> SchemaDrift:
        return SchemaDrift(
            f"{self.provider}: {what}: the response is not of the known form: {said}. "
            "To do: see the provider's changelog; the hook or the databento package has to learn the new form"
        )

    def _refusal(self, error: BentoHttpError, what: str) -> Exception:
        """Return the typed error of a response with a status from 400 on."""
        body = error.http_body or b""
        response = Response(error.http_status, error.headers, body.encode() if isinstance(body, str) else body)
        failure = self.classify(response, what) or ServerError(f"HTTP status {error.http_status}", **self._where(what))
        if isinstance(failure, Throttled):
            self.counters.throttled += 1
            self.pacer.penalise(failure.retry_after or 1.0)
        return failure

    def _failure(self, error: Exception, what: str) -> Exception:
        """Return the typed error of a transfer, or of a body that is not what it should be."""
        where, size = self._where(what), f"{type(error).__name__}"
        if isinstance(error, BentoError) and isinstance(error.__context__, Exception):
            error = error.__context__  # "Error streaming response": this is the error
        if isinstance(error, requests.exceptions.RequestException):
            return self._transfer(error, where)
        if isinstance(error, OSError):
            return RetriableError(f"the response could not be kept in a file: {error.strerror}", **where)
        if isinstance(error, DBNError) and "newer version" in str(error):
            return self._drift(what, self.plain(str(error)))
        if isinstance(error, DBNError | ZstdError):
            return TruncatedResponse(f"the DBN ends early or is damaged ({size})", **where)
        return ServerError(f"the response is not what it should be ({size})", **where)

    def _transfer(self, error: requests.exceptions.RequestException, where: Mapping[str, str]) -> ProviderError:
        waited = f"{self.timeout[1]:g} s"
        if isinstance(error, requests.exceptions.Timeout):
            return NetworkError(f"no response in {waited} ({type(error).__name__})", **where)
        if any(isinstance(argument, urllib3.exceptions.ReadTimeoutError) for argument in error.args):
            return NetworkError(f"the response stopped for {waited} in its middle", **where)
        if isinstance(error, requests.exceptions.ChunkedEncodingError):
            return TruncatedResponse(f"the body ended early ({cause(error)})", **where)
        if isinstance(error, requests.exceptions.ContentDecodingError):
            return ServerError("the body cannot be decompressed", **where)
        if isinstance(error, requests.exceptions.JSONDecodeError):
            return ServerError("the response is not JSON", **where)
        return NetworkError(f"no response from {shown_url(self.base_url)} ({cause(error)})", **where)
