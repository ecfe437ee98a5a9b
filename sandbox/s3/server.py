"""moto's S3 server with persistence: changes are written to a folder, which is read at the start."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from sandbox.s3.folder import Folder

REGION = "us-east-1"
CHANGES = {"PUT", "POST", "DELETE"}
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def application(folder: Path | None = None) -> Application:
    """Return the WSGI application of the server.

    :param folder: keeps the objects; None: in memory only.
    """
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    class Dispatcher(DomainDispatcherApplication):
        def get_backend_for_host(self, host: str | None) -> Any:
            # moto lists its folders and tries the addresses of all services, for every request: a third of its time.
            return "s3" if host and host.startswith("s3.") else super().get_backend_for_host(host)

    inner = _Serialized(Dispatcher(create_backend_app))
    return inner if folder is None else _Persistent(inner, Folder(folder))


class S3Server:
    """A server in a thread of this process, on a free port.

    :param host: the address that it listens on.
    :param wrap: takes the WSGI application and returns the one to serve, for instance to count requests.
    """

    def __init__(
        self, folder: Path | None = None, wrap: Callable[[Application], Application] | None = None, host: str = "127.0.0.1"
    ) -> None:
        from moto.moto_server.werkzeug_app import MotoRequestHandler
        from werkzeug.serving import make_server

        served = application(folder)
        served = wrap(served) if wrap else served
        self._server = make_server(host, 0, served, threaded=True, request_handler=MotoRequestHandler)
        self.endpoint = f"http://{host}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port and end the thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Serialized:
    """The application in front of moto's that lets one change in at a time.

    moto checks ``If-Match`` and stores the object in two steps, so two conditional PUTs at once could both succeed. S3 never does that.
    """

    def __init__(self, inner: Application) -> None:
        self._inner, self._lock = inner, threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in CHANGES:
            return self._inner(environ, start_response)
        with self._lock:
            return list(self._inner(environ, start_response))


class _Persistent:
    """The application in front of moto's that copies what a request changed before the response leaves."""

    def __init__(self, inner: Application, folder: Folder) -> None:
        self._inner, self._folder = inner, folder
        self._lock = threading.Lock()
        self._saved: dict[str, set[str]] = {}
        backend = _backend()
        for bucket in folder.buckets():
            if bucket not in backend.buckets:
                backend.create_bucket(bucket, REGION)
            self._saved[bucket] = set()
            for key, file, written in folder.objects(bucket):
                restored = backend.put_object(bucket, key, file.read_bytes(), disable_notification=True)
                restored.last_modified = written.replace(tzinfo=None)
                self._saved[bucket].add(key)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in CHANGES:
            return self._inner(environ, start_response)
        body = list(self._inner(environ, start_response))
        path = environ["PATH_INFO"].encode("latin-1").decode(errors="replace").lstrip("/")
        bucket, _, key = path.partition("/")
        if bucket and "partNumber" not in parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True):
            with self._lock:
                self._copy(bucket, key)
        return body

    def _copy(self, bucket: str, key: str) -> None:
        """Copy a changed object to the folder, or remove deleted ones.

        A request that names only a bucket may have deleted any of its objects, so all are compared.
        """
        backend = _backend()
        if bucket not in backend.buckets:
            return
        stored = backend.buckets[bucket].keys
        if bucket not in self._saved:
            self._folder.add_bucket(bucket)
            self._saved[bucket] = set()
        saved = self._saved[bucket]
        for name in [key] if key else list(saved):
            found = stored.get(name)
            if not hasattr(found, "value"):  # absent, or a delete marker
                self._folder.delete(bucket, name)
                saved.discard(name)
            elif key:
                self._folder.write(bucket, name, found.value)
                saved.add(name)


def _backend() -> Any:
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
