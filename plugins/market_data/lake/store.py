"""Object operations under one root, in S3 or in a folder of this machine.

Every write is conditional: it creates an object that does not exist, or replaces exactly the version that was read. A ``Lake`` is
opened in the process that uses it (its client does not survive a fork) and may be shared by threads.
"""

from __future__ import annotations

import fcntl
import os
import random
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from market_data.core.errors import ConfigError, LakeError
from market_data.lake.s3 import CONDITIONAL_PUT, S3Access, s3_store
from market_data.lake.s3_delete import S3Deletes

if TYPE_CHECKING:
    from obstore.store import ObjectStore

CONCURRENCY = 64
TRIES = 50
"""Tries of one update. One of the concurrent writers succeeds each time, so many parallel batches need many tries."""

T = TypeVar("T")
R = TypeVar("R")


class Stored(NamedTuple):
    """An object as it was read: its bytes and the version tag that ``put_if`` compares."""

    body: bytes
    etag: str


class Part(NamedTuple):
    """The last bytes of an object, with the version tag and the size of the whole object."""

    body: bytes
    etag: str
    size: int


class Listed(NamedTuple):
    """An object as a listing has it.

    :param modified: when it was written, UTC, by the store's clock.
    """

    key: str
    size: int
    modified: datetime
    etag: str


class Lake:
    """Objects by key. Keys are relative to the root, parts divided by ``/``.

    Every method raises ``LakeError`` when the store fails, naming operation and key; the object then has its old or its new bytes, never
    a mixture.
    """

    def __init__(self, url: str, store: ObjectStore, root: Path | None = None, access: S3Access | None = None) -> None:
        self.url, self._store, self._root, self._access = url, store, root, access or S3Access()
        parts = urlsplit(url)
        self._deletes = S3Deletes(parts.netloc, parts.path.strip("/"), self._access)

    def __repr__(self) -> str:
        return f"Lake({self.url!r})"

    @classmethod
    def open(cls, url: str, s3: S3Access | None = None) -> Lake:
        """Return the lake at ``url``.

        :param url: ``s3://bucket[/prefix]``, or ``file:///path``, which is created if missing.
        :param s3: how to reach S3; None: by the AWS environment variables (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL`` ...).
        :raises ConfigError: if ``url`` is neither, or there are no credentials.
        """
        parts = urlsplit(url)
        if parts.query or parts.fragment or "@" in parts.netloc:
            parts = parts._replace(scheme="")
        if parts.scheme == "s3" and parts.netloc:
            access = s3 or S3Access.from_environment()
            return cls(url, s3_store(parts.netloc, parts.path.strip("/"), access), access=access)
        if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path.strip("/"):
            root = Path(unquote(parts.path))
            return cls(url, _local(root), root)
        raise ConfigError(
            f"lake is {parts.scheme}://{parts.hostname or ''}{parts.path}; allowed: s3://bucket[/prefix], file:///path"
        )

    @property
    def root(self) -> Path | None:
        """The folder of a lake on this machine; None for S3."""
        return self._root

    @property
    def address(self) -> str:
        """URL of the S3 server."""
        return self._access.address

    @property
    def verify(self) -> bool | str:
        """Check TLS certificates; a path: against the certificates of this file."""
        return self._access.verify

    def get(self, key: str) -> Stored | None:
        """Return the object, or None if it does not exist."""
        import obstore

        with self._errors("get", key):
            try:
                found = obstore.get(self._store, key)
                return Stored(bytes(found.bytes()), str(found.meta["e_tag"]))
            except FileNotFoundError as error:
                _check_bucket(error)
                return None

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Return bytes ``start`` (inclusive) to ``end`` (exclusive) of an existing object."""
        import obstore

        with self._errors("get", key):
            return bytes(obstore.get_range(self._store, key, start=start, end=end))

    def get_tail(self, key: str, size: int) -> Part | None:
        """Return the last ``size`` bytes of the object, all of a smaller one; None if it does not exist."""
        import obstore

        with self._errors("get", key):
            try:
                found = obstore.get(self._store, key, options={"range": {"suffix": size}})
                return Part(bytes(found.bytes()), str(found.meta["e_tag"]), found.meta["size"])
            except FileNotFoundError as error:
                _check_bucket(error)
                return None

    def get_part(self, key: str, start: int, end: int, etag: str) -> bytes | None:
        """Return bytes ``start`` (inclusive) to ``end`` (exclusive) of version ``etag``.

        :return: None if another version or none is stored.
        """
        import obstore
        from obstore.exceptions import PreconditionError

        with self._errors("get", key):
            try:
                return bytes(obstore.get(self._store, key, options={"range": (start, end), "if_match": etag}).bytes())
            except (PreconditionError, FileNotFoundError) as error:
                _check_bucket(error)
                return None

    def modified(self, key: str) -> datetime | None:
        """Return when the object was last written, UTC; None if it does not exist."""
        import obstore

        with self._errors("head", key):
            try:
                found: datetime = obstore.head(self._store, key)["last_modified"]
            except FileNotFoundError as error:
                _check_bucket(error)
                return None
        return found.astimezone(UTC)

    def _version(self, key: str) -> str | None:
        """Return the version tag of the object, or None if it does not exist."""
        import obstore

        with self._errors("get", key):
            try:
                return str(obstore.head(self._store, key)["e_tag"])
            except FileNotFoundError:
                return None

    def put_new(self, key: str, body: bytes) -> bool:
        """Create the object. Return False, without a change, if it exists already."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with self._errors("create", key):
            try:
                obstore.put(self._store, key, body, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
        return True

    def put_if(self, key: str, body: bytes, etag: str) -> bool:
        """Replace version ``etag`` of the object. Return False, without a change, for any other version."""
        import obstore
        from obstore.exceptions import PreconditionError

        with self._errors("replace", key), self._exclusive():
            try:
                if self._root is not None:
                    if obstore.head(self._store, key)["e_tag"] != etag:
                        return False
                    obstore.put(self._store, key, body, use_multipart=False)
                else:
                    obstore.put(self._store, key, body, mode={"e_tag": etag}, use_multipart=False)
            except (PreconditionError, FileNotFoundError) as error:
                _check_bucket(error)
                return False
        return True

    def delete(self, key: str) -> None:
        """Delete the object; nothing happens if it does not exist."""
        import obstore

        with self._errors("delete", key), suppress(FileNotFoundError):
            obstore.delete(self._store, key)

    def delete_if(self, key: str, etag: str) -> bool:
        """Delete version ``etag`` of the object. Return False, without a change, if another version is stored.

        :return: True as well if the object does not exist.
        :raises NotImplementedError: if the store refuses conditions of a DELETE; see ``conditional.honours_conditional_delete``.
        """
        if self._root is None:
            return self._deletes.delete(key, etag) is not False
        import obstore

        with self._errors("delete", key), self._exclusive(), suppress(FileNotFoundError):
            if obstore.head(self._store, key)["e_tag"] != etag:
                return False
            obstore.delete(self._store, key)
            _remove_empty_folders(self._root, key)
        return True

    def folders(self, prefix: str) -> Sequence[str]:
        """Return the keys of the folders right below the folder ``prefix``, without closing slashes, by key."""
        import obstore

        with self._errors("list", prefix):
            return sorted(obstore.list_with_delimiter(self._store, prefix)["common_prefixes"])

    def update(self, key: str, revise: Callable[[bytes | None], bytes | None], *, new: bool = False, confirm: bool = False) -> int:
        """Read, revise and write back; start again if another writer changed the object in the meantime.

        :param revise: takes the stored bytes (None: no object) and returns the new ones, or None for no change. May be called several
            times; the last call counts.
        :param new: expect that no object exists: the first try creates it without reading.
        :param confirm: ``revise`` reads other objects too: no change counts only if the object is still the one that was read.
        :return: bytes written; 0 if nothing was written.
        """
        sent: bytes | None = None
        for attempt in range(TRIES):
            stored = None if new and attempt == 0 else self.get(key)
            if stored is not None and stored.body == sent:
                return len(sent)  # our own write: only its response did not arrive
            sent = revise(stored.body if stored else None)
            if sent is None:
                if not confirm or self._version(key) == (stored.etag if stored else None):
                    return 0
                continue
            if self.put_if(key, sent, stored.etag) if stored else self.put_new(key, sent):
                return len(sent)
            if stored is not None:
                time.sleep(random.uniform(0, min(1.0, 0.02 * 2**attempt)))  # noqa: S311 - jitter, not a secret
        raise LakeError(f"lake replace {key}: other writers changed it first {TRIES} times; try again later")

    def list(self, prefix: str) -> Sequence[tuple[str, int]]:
        """Return key and size in bytes of every object below the folder ``prefix``, by key."""
        import obstore

        with self._errors("list", prefix):
            return sorted((meta["path"], meta["size"]) for chunk in obstore.list(self._store, prefix) for meta in chunk)

    def walk(self, prefix: str, at_a_time: int = 10_000) -> Iterator[Sequence[tuple[str, int]]]:
        """Yield key and size of the objects below the folder ``prefix``, some at a time, in any order."""
        import obstore

        with self._errors("list", prefix):
            for chunk in obstore.list(self._store, prefix, chunk_size=at_a_time):
                yield [(meta["path"], meta["size"]) for meta in chunk]

    def listed(self, prefix: str) -> Iterator[Listed]:
        """Yield every object below the folder ``prefix`` with age and version tag, in no order."""
        import obstore

        with self._errors("list", prefix):
            for chunk in obstore.list(self._store, prefix):
                for meta in chunk:
                    yield Listed(meta["path"], meta["size"], meta["last_modified"], str(meta["e_tag"]))

    def get_many(self, keys: Iterable[str], *, concurrency: int = CONCURRENCY) -> Iterator[Stored | None]:
        """Yield the objects in the order of ``keys``, read ahead by at most twice ``concurrency``."""
        return self.each(self.get, keys, concurrency=concurrency)

    def each(self, operation: Callable[[T], R], items: Iterable[T], *, concurrency: int = CONCURRENCY) -> Iterator[R]:
        """Yield the result of ``operation`` per item, in order, running ``concurrency`` at a time.

        Items are consumed as results are. After a failure, operations that have not started are dropped and the error is raised.

        :param concurrency: 1: in this thread.
        """
        if concurrency == 1:
            yield from map(operation, items)
            return
        # obstore releases the interpreter lock, so threads are as fast as its async calls, and encoding runs in parallel.
        with ThreadPoolExecutor(concurrency) as pool:
            ahead: deque[Future[R]] = deque()
            try:
                for item in items:
                    ahead.append(pool.submit(operation, item))
                    if len(ahead) >= 2 * concurrency:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    @contextmanager
    def _locked(self, root: Path) -> Iterator[None]:
        # obstore's LocalStore cannot compare and replace in one step, so writers of this machine queue here. The lock is on the
        # folder itself and ends with the descriptor, whatever becomes of the process.
        descriptor = os.open(root, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _exclusive(self) -> Any:
        return nullcontext() if self._root is None else self._locked(self._root)

    @contextmanager
    def _errors(self, operation: str, key: str) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError, ValueError, NotImplementedError) as error:
            # Not chained: the store's own text quotes requests, and with them access keys.
            reason = _reason(error)
            if operation in ("create", "replace") and reason.startswith(("NotImplemented", "501")):
                raise ConfigError(f"the store of {self.url} refuses a conditional PUT ({reason}); {CONDITIONAL_PUT}") from None
            raise LakeError(f"lake {operation} {key} in {self.url}: {reason}") from None


def _remove_empty_folders(root: Path, key: str) -> None:
    """Remove the folders of a deleted object that have become empty.

    A writer that needs one of them makes it again.
    """
    for folder in (root / key).parents:
        if folder == root:
            return
        try:
            folder.rmdir()
        except OSError:
            return


def _check_bucket(error: Exception) -> None:
    """Raise the error again if it means that the bucket is missing, not the object."""
    if "NoSuchBucket" in str(error):
        raise error


def _reason(error: Exception) -> str:
    text = str(error)
    if "NoSuchBucket" in text:
        return "the bucket does not exist; create it, or correct MARKET_DATA_LAKE"
    code = re.search(r"<Code>(\w+)</Code>", text) or re.search(r"status code: (\d{3} [A-Za-z ]+)", text)
    if code:
        return code[1]
    first = text.split("\n", maxsplit=1)[0].rsplit(" - ", 1)[-1]
    return f"{type(error).__name__}: {re.sub(r'[a-z0-9]+://[^ ]+', 'the endpoint', first)[:200]}"


def _local(root: Path) -> ObjectStore:
    from obstore.store import LocalStore

    try:
        return LocalStore(root, mkdir=True)
    except OSError as error:
        raise LakeError(f"lake folder {root} cannot be made: {error.strerror}") from None
