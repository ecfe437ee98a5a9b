"""Fetch the documents of an index, from the first of its addresses that serves one.

Addresses are ``https://``, ``http://`` (a mirror of one's own) or ``file://``. Every request carries a User-Agent: the encyclopedia refuses
others.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import market_data
from market_data.core.capabilities import Quota
from market_data.core.errors import ConfigError, ProviderError, RetriableError, ServerError, TerminalError, Throttled
from market_data.core.messages import shown
from market_data.core.retry_policy import RetryPolicy
from market_data.core.urls import holds_credentials
from market_data.http.client import Response, Transport, plain, retry_after
from market_data.http.limiter import Limiter
from market_data.http.rate_limit import Pacer
from market_data.maintenance.index_sources.csv_lists import read_csv
from market_data.maintenance.index_sources.found import Found, UnusableSource
from market_data.maintenance.index_sources.pages import read_page
from market_data.providers.base import file_store

log = logging.getLogger(__name__)

LARGEST = 24 * 1024 * 1024
"""Bytes of a document. The largest page has about 1.5 MB."""
RETRY = RetryPolicy(attempts=3)
CALLS_PER_MINUTE = 120


class SourceRefused(TerminalError):
    """A source refuses the request, or serves another document."""

    to_do = "open the address in a browser; name one that works, e.g. a mirror of your own, in the setting"


class SourcesFailed(RetriableError):
    """No source of an index could be read."""

    to_do = "check the network of the workers, or name the address of a mirror in the setting"


@dataclass(frozen=True)
class Download:
    """A source that was read.

    :param failed: a sentence per address before it that failed.
    """

    address: str
    found: Found
    failed: tuple[str, ...] = ()


def user_agent() -> str:
    """Return the User-Agent of every request."""
    return f"airflow-market-data/{market_data.__version__} (index membership; python-requests)"


def first_usable(index: str, addresses: Sequence[str], setting: str, *, retry: RetryPolicy = RETRY) -> Download:
    """Return the content of the first address that serves a list of members.

    :param setting: name of the environment variable that holds the addresses, for messages.
    :raises ConfigError: if there is no address, or one is not valid.
    :raises SourcesFailed: if none serves a list, and one of them may later; names every address.
    :raises SourceRefused: if none serves a list, and none will.
    """
    if not addresses:
        raise ConfigError(f"{setting} is empty; the address of a page or CSV file with the members of {index} is needed")
    failed: list[str] = []
    later = False
    for address in addresses:
        try:
            return Download(address, read(address, setting, retry=retry), tuple(failed))
        except ProviderError as error:
            log.warning("index %s: %s", index, error)
            failed.append(f"{address}: {error.said}")
            later = later or isinstance(error, RetriableError)
    kind = SourcesFailed if later else SourceRefused
    raise kind(f"no source can be read (setting {setting}): {'; '.join(failed)}", provider=f"index {index}")


def read(address: str, setting: str, *, retry: RetryPolicy = RETRY) -> Found:
    """Return the content of a document.

    :raises ConfigError: if the address is not valid.
    :raises ProviderError: if it cannot be fetched, or is not a list of members; typed by what to do.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https", "file") or (parts.scheme != "file" and not parts.hostname) or "@" in parts.netloc:
        raise ConfigError(
            f"{setting} holds {shown(parts.path, 80)}; addresses that begin with https://, http:// or file:// are needed"
        )

    def parsed(body: bytes) -> Found:
        try:
            if body.lstrip()[:1] == b"<":
                return read_page(body)
            return read_csv(body.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise SourceRefused(f"is not UTF-8 text: byte {error.start + 1}") from None
        except UnusableSource as error:
            # A page that was cut off, or an error page with status 200, may be whole the next time.
            raise ServerError(str(error)) from None

    if parts.scheme == "file":
        return parsed(_local(Path(unquote(parts.path)), address))
    base = f"{parts.scheme}://{parts.netloc}"
    transport = _transport(base, retry, address)
    try:
        path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        return transport.get(path, {}, address, lambda response: parsed(response.body))
    finally:
        transport.close()


def _transport(base: str, retry: RetryPolicy, address: str) -> Transport:
    def classify(response: Response, what: str) -> ProviderError | None:
        if response.status < 400:
            return None
        words = plain(response.body[:2000].decode("utf-8", "replace"))
        text = f"HTTP status {response.status}{': ' + words if words else ''}"
        if response.status == 429:
            return Throttled(text, retry_after=retry_after(response.headers), request=what)
        if response.status >= 500:
            return ServerError(text, request=what)
        return SourceRefused(text, request=what)

    if holds_credentials(address.partition("?")[0].partition("#")[0]):
        raise ConfigError("the address of a source holds a user name or a password, which is not shown here; leave it out")
    host = urlsplit(base).netloc.replace(":", "-")
    pacer = Pacer(Quota(CALLS_PER_MINUTE), Limiter(file_store(f"index-source-{host}")))
    return Transport(
        "index source", base, {"User-Agent": user_agent()}, pacer, classify, retry=retry, deadline=120.0, largest=LARGEST
    )


def _local(path: Path, address: str) -> bytes:
    try:
        with path.open("rb") as stream:
            body = stream.read(LARGEST + 1)
    except OSError as error:
        raise SourceRefused(f"cannot be read: {error.strerror}", request=address) from None
    if len(body) > LARGEST:
        raise SourceRefused(f"has more than {LARGEST:,} bytes, the most allowed", request=address)
    return body
