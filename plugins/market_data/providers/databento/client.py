"""Databento's own client, with pacing, retries, a deadline and typed errors added.

The vendor's client builds requests, sends them and decodes DBN. It retries nothing and waits for ever on a response that trickles. It
also accepts a body that was cut at a record boundary: the caller of :meth:`Client.download` has to detect this.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3
from databento import DBNStore, Historical
from databento.common.error import BentoError, BentoHttpError, BentoWarning
from databento_dbn import DBNError
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
from market_data.http.client import Response, Transport, cause, tried, within

T = TypeVar("T")
R = TypeVar("R")

METADATA_DEADLINE = 60.0
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


@dataclass
class Client(Transport):
    """The vendor's client for one account.

    :param key: never shown; ``secrets`` has to hold it too.
    :param attempts: tries of one call, the first included. Few: downloads are charged for what they bring, and the task's own retry
        waits without a slot of the pool.
    :param deadline: seconds for one download, from looking the name up to the last byte.
    """

    key: str = field(default="", repr=False)
    attempts: int = 2
    deadline: float = 300.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._official = Historical(self.key)
        # ``gateway`` would turn http into https, and a server on this machine has no certificate.
        for name in ("metadata", "symbology", "timeseries"):
            api = getattr(self._official, name)
            api._base_url = f"{self.base_url.rstrip('/')}/v0/{name}"  # noqa: SLF001
            api._headers["accept-encoding"] = "identity"  # noqa: SLF001 - a gzip stream that ends early is taken for whole

    # -- requests -----------------------------------------------------------------------------------------------------------

    def dataset_range(self, dataset: str, what: str) -> Mapping[str, Any]:
        """First and last moment of a dataset: ``start`` and ``end``, as the vendor writes them."""
        return self._metadata(what, lambda: self._official.metadata.get_dataset_range(dataset), dict)

    def record_count(self, question: Question, what: str) -> int:
        """Return how many records there are. Free."""
        return self._metadata(what, lambda: self._official.metadata.get_record_count(**question.arguments), int)

    def cost(self, question: Question, what: str) -> float:
        """Return what they cost, US dollars. Free to ask."""
        return float(self._metadata(what, lambda: self._official.metadata.get_cost(**question.arguments), (int, float)))

    def resolve(
        self, dataset: str, symbols: list[str], stypes: tuple[str, str], first: date, end: date, what: str
    ) -> Mapping[str, list[dict[str, str]]]:
        """Resolve symbols; a free call.

        The result is symbol -> spans with ``d0`` (inclusive), ``d1`` (exclusive) and ``s``, the resolved symbol.

        :param stypes: the symbology of ``symbols``, and that of the response.
        """
        response = self._metadata(
            what, lambda: self._official.symbology.resolve(dataset, symbols, stypes[0], stypes[1], first, end), dict
        )
        result: Mapping[str, list[dict[str, str]]] = response.get("result", {})
        return result

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
        return tried(attempt, counters=self.counters, attempts=self.attempts, patience=self.patience, sleep=self.sleep)

    def _once(self, what: str, call: Callable[[], T], deadline: float) -> tuple[T, tuple[str, ...]]:
        """Make one paced call; return its result and the vendor's warnings."""
        where = self._where(what)
        try:
            self.pacer.wait()
        except ProviderError as error:
            raise error.at(**where) from None  # a limiter knows neither provider nor request
        self.counters.calls += 1
        for api in (self._official.metadata, self._official.symbology, self._official.timeseries):
            api.TIMEOUT = self.timeout[1]  # type: ignore[assignment]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                response = within(deadline, call)
            except TimeoutError:
                raise NetworkError(f"no whole response in {deadline:g} s", **where) from None
            except BentoHttpError as error:
                raise self._refusal(error, what) from None
            except Exception as error:  # noqa: BLE001 - every secrets backend has errors of its own
                raise self._failure(error, what) from None
        said = [self.plain(str(one.message)) for one in caught if issubclass(one.category, BentoWarning)]
        return response, tuple(dict.fromkeys(said))

    def _decoded(self, what: str, read: Callable[[], T]) -> T:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", BentoWarning)  # of a record that is cut: the count tells
                return read()
        except (BentoError, DBNError, ZstdError) as error:
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
        return NetworkError(f"no response from {urlsplit(self.base_url).netloc} ({cause(error)})", **where)
