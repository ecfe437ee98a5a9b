"""The listener: one double, its database and its sessions."""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import Self

from tests.services.oracle_double.database import Database
from tests.services.oracle_double.faults import Faults, Record
from tests.services.oracle_double.packets import Link
from tests.services.oracle_double.session import Session
from tests.services.oracle_double.wallet import Wallet

HOST = "127.0.0.1"
JOIN_SECONDS = 10


class OracleDouble:
    """An Oracle Database as python-oracledb's thin driver sees one, on 127.0.0.1 and a free port, empty at first. A context manager.

    :param user, password: the account that owns what there is; its name is that of its schema.
    :param service_name: the only service.
    :param guests: accounts besides, name -> password: they read and change the rows of ``user``, whose schema they must make theirs for
        it, and own and create nothing.
    :param tls: serve TCPS with these certificates, and let in only who has the client's; None for TCP.

    Leaving it ends all sessions, as a crash of the server would. What went wrong inside the double itself, it raises then.
    """

    def __init__(
        self,
        user: str = "market",
        password: str = "s3cret",
        service_name: str = "FREEPDB1",
        tls: Wallet | None = None,
        guests: Mapping[str, str] | None = None,
    ) -> None:
        self.user, self.password, self.service_name, self.tls = user, password, service_name, tls
        self.passwords = {name.upper(): word for name, word in {**(guests or {}), user: password}.items()}
        self.host, self.port = HOST, 0
        self.faults = Faults()
        self.seen = Record()
        self.database = Database(user.upper())
        self._context = tls.server_context() if tls else None
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._sessions: dict[threading.Thread, Link] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._crashes: list[BaseException] = []

    @property
    def dsn(self) -> str:
        """What ``oracledb.connect`` takes: Easy Connect for TCP, a descriptor for TCPS."""
        if not self.tls:
            return f"{HOST}:{self.port}/{self.service_name}"
        address = f"(ADDRESS=(PROTOCOL=TCPS)(HOST={HOST})(PORT={self.port}))"
        return f"(DESCRIPTION={address}(CONNECT_DATA=(SERVICE_NAME={self.service_name})))"

    @property
    def sessions(self) -> int:
        """How many sessions there are. One that the client has closed takes a moment to go."""
        with self._lock:
            return len(self._sessions)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.stop()
        self.database.close()
        if self._crashes and kind is None:
            raise self._crashes[0]

    def start(self) -> None:
        """Listen; after ``stop`` on the same port again."""
        self._listener = socket.create_server((HOST, self.port))
        self.port = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, args=[self._listener], name="oracle double", daemon=True)
        self._acceptor.start()

    def stop(self) -> None:
        """Listen no more, and end all sessions. What was committed stays."""
        if self._listener and self._acceptor:
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the acceptor, which closing alone does not
            self._acceptor.join(JOIN_SECONDS)
            self._listener.close()
            self._listener = None
        self.end_sessions()

    def end_sessions(self) -> None:
        """Cut all connections; the sessions are over, and rolled back, when this returns."""
        with self._lock:
            sessions = dict(self._sessions)
        for thread, link in sessions.items():
            link.close()
            thread.join(JOIN_SECONDS)
            if thread.is_alive():
                raise RuntimeError("a session of the double does not end")

    def reset(self) -> None:
        """End all sessions; then an empty database, no faults, nothing seen. The port stays."""
        self.end_sessions()
        self.database.close()
        self.database = Database(self.user.upper())
        self.faults.clear()
        self.seen = Record()

    def until_waiting(self, sessions: int = 1, timeout: float = 30) -> None:
        """Come back when as many sessions wait for a lock.

        :raises TimeoutError: they do not within ``timeout`` seconds.
        """
        self.database.until_waiting(sessions, timeout)

    def _accept(self, listener: socket.socket) -> None:
        for number in self._numbers:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # stopped
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context:
                client = self._context.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
            link = Link(client)
            thread = threading.Thread(target=self._serve, args=[link, number], name=f"session {number}", daemon=True)
            with self._lock:
                self._sessions[thread] = link
            thread.start()

    def _serve(self, link: Link, number: int) -> None:
        try:
            with link.sock as client:
                if isinstance(client, ssl.SSLSocket):
                    client.do_handshake()
                Session(self, number, link).run()
        except (ssl.SSLError, ConnectionError) as error:
            self.seen.failed_handshakes.append(getattr(error, "reason", None) or type(error).__name__)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised where the result is waited for
            self._crashes.append(error)
        finally:
            with self._lock:
                self._sessions.pop(threading.current_thread())
