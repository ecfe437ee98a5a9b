"""The one HTTP session: pacing, time-outs, retries by error class, whole bodies, redaction, counters.

Official vendor clients are not used: they return fewer rows, without an error, when a page is cut or is not JSON. For the same reason
bodies are decompressed here: the HTTP libraries take a gzip stream that ends early for a whole one.
"""

from __future__ import annotations

import codecs
import logging
import random
import re
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Thread
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3
from requests.structures import CaseInsensitiveDict
from tenacity import RetryCallState, Retrying, retry_all, retry_if_exception_type, stop_after_attempt

from market_data.core.errors import NetworkError, ProviderError, RetriableError, ServerError, Throttled, TruncatedResponse
from market_data.core.retry_policy import USUAL, RetryPolicy
from market_data.core.urls import shown_url
from market_data.http.gzip_body import LARGEST_BODY, TooLargeError, unpacked

if TYPE_CHECKING:
    from market_data.http.limiter import Permit
    from market_data.http.rate_limit import Pacer

T = TypeVar("T")
log = logging.getLogger(__name__)

CHUNK = 65_536
PIECE = 1 << 20
REQUEST_TIMEOUT = 408
LEAST_SECRET = 12
"""Characters of a key that is hidden wherever it occurs in a response. The vendors' keys have 20 and more."""
REDIRECT = "the response is a redirect (status %d); redirects are not followed"
LONGEST_RETRY_AFTER = 86_400.0
"""Seconds. No quota is renewed later than after a day; a wrong Retry-After must not stop an account for longer."""
LONGEST_WORDS = 200
"""Characters of a provider's own words that enter a message."""
LONGEST_ADDRESS = 16_384
"""Characters of the address of a next page."""
LONGEST_MARKUP = 8_192
"""Characters that are searched for tags and secrets."""
_MARKUP = re.compile(r"</?[a-z!][^<>]*>?", re.IGNORECASE)
_SCRIPT = re.compile(r"<(script|style)\b", re.IGNORECASE)
_END_OF = {name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in ("script", "style")}


@dataclass(frozen=True)
class Response:
    """One HTTP response, its body whole, decompressed and without a byte order mark."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __post_init__(self) -> None:
        object.__setattr__(self, "body", without_bom(self.body))


@dataclass
class Counters:
    """Calls, retries and bytes of a session so far.

    :param throttled: calls that were rate limited (429).
    :param waited: seconds spent waiting for the pace.
    """

    calls: int = 0
    retries: int = 0
    bytes: int = 0
    throttled: int = 0
    waited: float = 0.0


@dataclass
class Transport:
    """An HTTP session with one provider account.

    :param base_url: scheme, host and perhaps a path; every call goes there, whatever host a ``next_url`` names, so that the key
        never leaves for another one.
    :param headers: sent with every call; this is where the key is.
    :param classify: the typed error of a response that is not a success, or None.
    :param secrets: what :meth:`plain` takes out of a provider's words.
    :param retry: how often and when a call is repeated.
    :param patience: longest wait in seconds inside the task; a longer one is left to the task's retry, which frees the slot.
    :param timeout: seconds until connected, and seconds between two bytes of a response.
    :param deadline: seconds for one whole call, from looking the name up to the last byte.
    :param largest: bytes of a body, as sent and decompressed, at most.
    """

    provider: str
    base_url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    pacer: Pacer
    classify: Callable[[Response, str], ProviderError | None]
    secrets: Sequence[str] = field(default=(), repr=False)
    retry: RetryPolicy = USUAL
    patience: float = 60.0
    timeout: tuple[float, float] = (5.0, 60.0)
    deadline: float = 180.0
    largest: int = LARGEST_BODY
    sleep: Callable[[float], None] = time.sleep
    counters: Counters = field(default_factory=Counters)

    def __post_init__(self) -> None:
        self._session = requests.Session()
        self._session.headers.update({"Accept-Encoding": "gzip", **self.headers})
        # The settings of this host, such as its proxy, once: reading them takes a third of a call's time, and all calls are to one host.
        # Nothing is read from ~/.netrc, which would replace the key's header.
        with suppress(ValueError):  # not an address: the first call says so
            settings = self._session.merge_environment_settings(self.base_url, {}, None, None, None)
            self._session.proxies.update(settings["proxies"])
            self._session.verify = settings["verify"]
        self._session.trust_env = False

    def close(self) -> None:
        self._session.close()
        self.pacer.close()

    def get(self, path: str, params: Mapping[str, str | int], what: str, parse: Callable[[Response], T]) -> T:
        """Make a call and return the result of ``parse``. Repeat both while the error is retriable.

        :param path: path below the base URL, or a whole URL of which path and query are used.
        :param what: the request in words, for messages.
        :param parse: converts the response; raises a ProviderError if the body is truncated or not the API's.
        :raises ProviderError: the last error, once retries are used up or useless.
        """
        return tried(
            lambda: parse(self._call(path, params, what)),
            counters=self.counters,
            retry=self.retry,
            patience=self.patience,
            sleep=self.sleep,
        )

    def plain(self, text: str) -> str:
        """Return a provider's words, fit for a message: on one line, short, without markup and secrets."""
        return plain(text, self.secrets)

    def _call(self, path: str, params: Mapping[str, str | int], what: str) -> Response:
        where = {"provider": self.provider, "request": what}
        try:
            url = self._url(path)
        except ValueError:
            raise ServerError("the address of the next page is not a URL", **where) from None
        try:
            permit = self.pacer.wait()
        except ProviderError as error:
            raise error.at(**where) from None  # a limiter knows neither provider nor request
        self.counters.calls += 1
        response = self._response(url, params, where, permit)
        self.counters.bytes += len(response.body)
        if response.status == REQUEST_TIMEOUT:
            raise ServerError("HTTP status 408: the request took too long", **where)
        if 300 <= response.status < 400:
            raise ServerError(REDIRECT % response.status, **where)
        failure = self.classify(response, what)
        if isinstance(failure, Throttled):
            self.counters.throttled += 1
            self.pacer.penalise(failure.retry_after or 1.0)
        if failure is not None:
            raise failure
        return response

    def _response(self, url: str, params: Mapping[str, str | int], where: Mapping[str, str], permit: Permit) -> Response:
        """Make one call and return the whole response, or raise the error that says why there is none.

        ``from None``: what the libraries say holds the URL and adds nothing that a user can act on.
        """
        connecting, reading = self.timeout
        try:
            status, headers, body = within(self.deadline, lambda: self._read(url, params, permit), permit)
            body = _decompressed(headers.get("Content-Encoding", ""), body, self.largest)
            return Response(status, headers_without(headers, self.secrets), without(body, self.secrets))
        except TooLargeError as error:
            raise ServerError(f"the response is too large: {error}", **where) from None
        except TimeoutError:
            raise NetworkError(f"no whole response in {self.deadline:g} s", **where) from None
        except requests.exceptions.Timeout as error:
            raise NetworkError(f"no response in {connecting:g} s + {reading:g} s ({type(error).__name__})", **where) from None
        except requests.exceptions.RequestException as error:
            raise NetworkError(f"no response from {shown_url(self.base_url)} ({cause(error)})", **where) from None
        except urllib3.exceptions.ReadTimeoutError:
            raise NetworkError(f"the response stopped for {reading:g} s in its middle", **where) from None
        except (urllib3.exceptions.HTTPError, EOFError) as error:
            raise TruncatedResponse(f"the body ended early ({type(error).__name__})", **where) from None
        except zlib.error as error:
            raise ServerError(f"the body cannot be decompressed ({type(error).__name__})", **where) from None

    def _read(self, url: str, params: Mapping[str, str | int], permit: Permit) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and the body as sent."""
        until = time.monotonic() + self.deadline
        with self._session.get(url, params=dict(params), timeout=self.timeout, allow_redirects=False, stream=True) as response:
            permit.arrived()
            body = bytearray()
            while piece := response.raw.read1(CHUNK, decode_content=False):
                body += piece
                if len(body) > self.largest:
                    raise TooLargeError(f"more than {self.largest:,} bytes")
                if time.monotonic() > until:
                    raise TimeoutError
            return response.status_code, response.headers, bytes(body)

    def _url(self, path: str) -> str:
        """Return the address of ``path``, or of a whole URL's path and query, on our host.

        Behind a gateway the base URL has a path of its own, which the provider's own links may lack.

        :raises ValueError: if it is neither: appended to the base URL it could name another host.
        """
        base = self.base_url.rstrip("/")
        if path.startswith(("http://", "https://")):
            parts, prefix = urlsplit(path), urlsplit(base).path
            below = parts.path.removeprefix(prefix) if parts.path.startswith(f"{prefix}/") else parts.path
            query = "&".join(one for one in parts.query.split("&") if not one.endswith("=***"))  # the key, as `without` left it
            path = below + (f"?{query}" if query else "")
        if not path.startswith("/") or len(path) > LONGEST_ADDRESS:
            raise ValueError(path[:LONGEST_ADDRESS])
        return base + path


def tried(call: Callable[[], T], *, counters: Counters, retry: RetryPolicy, patience: float, sleep: Callable[[float], None]) -> T:
    """Return what ``call`` gives, repeated while its error is one that may pass.

    :param counters: every repeated try counts there as a retry.
    :param retry: how often and when. ``patience``: longest wait in seconds that is sat out; ``sleep`` does it.
    :raises ProviderError: the last one, when retrying is over or useless.
    """
    tries = 0

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, Throttled) and error.retry_after is not None:
            return error.retry_after
        return retry.delay(state.attempt_number, waits[state.attempt_number])

    def worth_waiting(state: RetryCallState) -> bool:
        return wait(state) <= patience

    # One number for each wait, which is computed twice: first to see if it is short enough.
    waits: dict[int, float] = defaultdict(random.random)

    def attempt() -> T:
        nonlocal tries
        tries += 1
        counters.retries += tries > 1
        return call()

    retrying = Retrying(
        retry=retry_all(retry_if_exception_type(RetriableError), worth_waiting),
        stop=stop_after_attempt(retry.attempts),
        wait=wait,
        sleep=sleep,
        before_sleep=_log_retry,
        reraise=True,
    )
    return retrying(attempt)


def plain(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a provider's words, fit for a message: on one line, short, without markup and secrets.

    Only the beginning is read. If it is cut, so much of its end is left out that no part of a secret remains.
    """
    hidden = sorted(filter(None, secrets), key=len, reverse=True)
    longest = len(hidden[0]) if hidden else 0
    cut = len(text) > LONGEST_MARKUP + longest
    text = text[: LONGEST_MARKUP + longest]
    for secret in hidden:
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
    text = text[: max(0, len(text) - longest)] if cut else text
    words = " ".join(_MARKUP.sub(" ", _without_scripts(text[:LONGEST_MARKUP])).split())
    return words if len(words) <= LONGEST_WORDS else f"{words[: LONGEST_WORDS - 3]}..."


def without(body: bytes, secrets: Iterable[str]) -> bytes:
    """Return a body without the secrets that a vendor repeats in it.

    Shorter ones than LEAST_SECRET are left, as they may be a symbol or a word; `plain` takes them out of messages.
    """
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= LEAST_SECRET and (found := secret.encode()) in body:
            body = body.replace(found, b"***")
    return body


def headers_without(headers: Mapping[str, str], secrets: Sequence[str]) -> Mapping[str, str]:
    """Return headers without the secrets that a vendor repeats in them."""
    cleaned = {name: without(value.encode(), secrets).decode() for name, value in headers.items()}
    return headers if all(cleaned[name] == value for name, value in headers.items()) else CaseInsensitiveDict(cleaned)


def without_bom(body: bytes) -> bytes:
    """Return a body without the UTF-8 byte order mark at its start, which parsers of JSON refuse."""
    return body.removeprefix(codecs.BOM_UTF8)


def _without_scripts(text: str) -> str:
    """Return HTML without its scripts and styles, in time proportional to its length."""
    parts: list[str] = []
    place = 0
    while (opened := _SCRIPT.search(text, place)) is not None:
        parts.append(text[place : opened.start()])
        closed = _END_OF[opened[1].lower()].search(text, opened.end())
        if closed is None:  # all the rest is script
            return " ".join(parts)
        place = closed.end()
    return " ".join([*parts, text[place:]])


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a Retry-After header, in either of its forms (RFC 9110, 10.2.3).

    None if it is absent or unreadable.

    Never more than ``LONGEST_RETRY_AFTER``.
    """
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (TypeError, ValueError, OverflowError):
            return None
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER)


def within(seconds: float, call: Callable[[], T], permit: Permit | None = None) -> T:
    """Return what ``call`` returns or raises.

    A socket's time-out is between two bytes, and looking a name up has none: this bounds the whole. The thread of a call that is
    late is left to end by itself.

    :param permit: of the call. A call that is given up may still leave, so its permit ends only when its thread does.
    :raises TimeoutError: after ``seconds``.
    """
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised where the result is waited for
            done.set_exception(error)

    if permit is None:
        Thread(target=run, name="market-data-call", daemon=True).start()
        return done.result(seconds)
    permit.keep()
    Thread(target=run, name="market-data-call", daemon=True).start()
    try:
        return done.result(seconds)
    finally:
        done.add_done_callback(lambda _: permit.done())  # at once where the call has ended, else in its thread


def _decompressed(encoding: str, body: bytes, largest: int = LARGEST_BODY) -> bytes:
    """Return the body before it was encoded, checked to be all of it.

    :raises TooLargeError: if it grows too much.
    :raises EOFError: if the stream ends early.
    :raises zlib.error: if it is damaged, or of an encoding that was not requested.
    """
    if encoding.lower() in ("", "identity"):
        return body
    if encoding.lower() not in ("gzip", "x-gzip"):
        raise zlib.error(encoding)
    pieces: list[bytes] = []
    left = largest
    for piece in unpacked(body, PIECE):
        pieces.append(piece)
        left -= len(piece)
        if left < 0:
            raise TooLargeError(f"more than {largest:,} bytes after decompression")
    return b"".join(pieces)


def cause(error: BaseException) -> str:
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return type(error).__name__


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    pause = state.next_action.sleep if state.next_action else 0.0
    if isinstance(error, ProviderError):
        what = f"{error.provider}: {error.request}: {error.said}"
        log.warning("%s: %s; try %d in %.1f s", type(error).__name__, what, state.attempt_number + 1, pause)
