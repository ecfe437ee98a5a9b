"""The one HTTP session: pacing before every call, time-outs, retries by class of error, whole bodies, redaction, counters.

Official vendor clients are not used: they return fewer rows, without an error, when a page is cut or is not JSON.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import requests
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from market_data.errors import NetworkError, ProviderError, RetriableError, ServerError, Throttled, TruncatedResponse

if TYPE_CHECKING:
    from market_data.pacing import Pacer

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """One HTTP answer, its body whole and decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Counters:
    """What the session did so far."""

    calls: int = 0
    retries: int = 0
    bytes: int = 0


@dataclass
class Transport:
    """An HTTP session with one provider account.

    :param base_url: scheme, host and perhaps a path; every call goes there, whatever host a ``next_url`` names, so that the key
        never leaves for another one.
    :param headers: sent with every call; this is where the key is.
    :param classify: the typed error of an answer that is not a success, or None.
    :param attempts: tries of one call, the first included.
    :param patience: longest wait in seconds inside the task; a longer one is left to the task's retry, which frees the slot.
    """

    provider: str
    base_url: str
    headers: Mapping[str, str]
    pacer: Pacer
    classify: Callable[[Answer, str], ProviderError | None]
    attempts: int = 5
    patience: float = 60.0
    timeout: tuple[float, float] = (5.0, 60.0)
    sleep: Callable[[float], None] = time.sleep
    counters: Counters = field(default_factory=Counters)

    def __post_init__(self) -> None:
        self._session = requests.Session()
        self._session.headers.update({"Accept-Encoding": "gzip", **self.headers})

    def close(self) -> None:
        self._session.close()

    def get(self, path: str, params: Mapping[str, str | int], what: str, parse: Callable[[Answer], T]) -> T:
        """Ask, and read the answer with ``parse``; both are repeated while the error is one that may pass.

        :param path: path below the base URL, or a whole URL of which path and query are used.
        :param what: the request in words, for messages.
        :param parse: turns the answer into what is wanted; raises a ProviderError where the body is not whole or not the API's.
        :raises ProviderError: the last one, when retrying is over or useless.
        """
        tries = 0

        def attempt() -> T:
            nonlocal tries
            tries += 1
            self.counters.retries += tries > 1
            return parse(self._call(path, params, what))

        retrying = Retrying(
            retry=retry_if_exception_type(RetriableError) & _worth_waiting(self.patience),
            stop=stop_after_attempt(self.attempts),
            wait=_wait,
            sleep=self.sleep,
            before_sleep=_log_retry,
            reraise=True,
        )
        return retrying(attempt)

    def _call(self, path: str, params: Mapping[str, str | int], what: str) -> Answer:
        self.pacer.wait()
        self.counters.calls += 1
        where = {"provider": self.provider, "request": what}
        try:
            with self._session.get(
                self._url(path), params=dict(params), timeout=self.timeout, allow_redirects=False, stream=True
            ) as response:
                answer = Answer(response.status_code, response.headers, response.content)
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError) as error:
            raise TruncatedResponse(f"the body ended early ({type(error).__name__})", **where) from None
        except requests.exceptions.Timeout as error:
            raise NetworkError(
                f"no answer in {self.timeout[0]:.0f} s + {self.timeout[1]:.0f} s ({type(error).__name__})", **where
            ) from None
        except requests.exceptions.RequestException as error:
            # ``from None``: what urllib3 says holds the URL and adds nothing that a user can act on
            raise NetworkError(f"no answer from {urlsplit(self.base_url).netloc} ({_cause(error)})", **where) from None
        self.counters.bytes += len(answer.body)
        failure = self.classify(answer, what)
        if isinstance(failure, Throttled):
            self.pacer.penalise(failure.retry_after or 1.0)
        if failure is not None:
            raise failure
        if 300 <= answer.status < 400:
            raise ServerError(f"the answer is a redirect (status {answer.status}); redirects are not followed", **where)
        return answer

    def _url(self, path: str) -> str:
        if path.startswith(("http://", "https://")):
            parts = urlsplit(path)
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            base = urlsplit(self.base_url)
            return f"{base.scheme}://{base.netloc}{path}"
        return self.base_url.rstrip("/") + path


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds a Retry-After header asks for, in either of its forms (RFC 9110, 10.2.3); None where absent or unreadable."""
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass  # not a number of seconds: a date, then
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _cause(error: BaseException) -> str:
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return type(error).__name__


def _wait(state: RetryCallState) -> float:
    """Retry-After where the provider said so, else 1, 2, 4 ... seconds; a fifth of jitter, so that tasks do not come back together."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, Throttled) and error.retry_after is not None:
        return error.retry_after
    seconds: float = min(2.0 ** (state.attempt_number - 1), 20.0)
    return seconds * random.uniform(0.9, 1.1)  # noqa: S311


class _worth_waiting:  # noqa: N801
    """Whether the wait an error asks for is one to sit out inside the task."""

    def __init__(self, patience: float) -> None:
        self.patience = patience

    def __call__(self, state: RetryCallState) -> bool:
        return _wait(state) <= self.patience


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    pause = state.next_action.sleep if state.next_action else 0.0
    log.warning("%s: %s; try %d in %.1f s", type(error).__name__, error, state.attempt_number + 1, pause)
