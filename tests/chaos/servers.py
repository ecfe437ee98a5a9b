"""The servers of a campaign, in one process of their own: vendors, object store, databases. The driver steers it through a pipe."""

import contextlib
import logging
import os
import random
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from multiprocessing.connection import Connection, Pipe
from typing import Any

import oracledb
import psycopg

from sandbox.http import SampleApi
from sandbox.ib_gateway import SampleGateway
from sandbox.s3 import S3Server
from tests.chaos.store_faults import StoreFaults
from tests.chaos.vendor_faults import VendorFaults
from tests.services import oracle_server, postgres_server, redis_server
from tests.services.postgres_proxy import proxy

KEY = "sample-key"
PATIENCE = "SET lock_timeout = '20s'"
BUSY = 54
"""Oracle's number for a lock that somebody else has."""


class Servers:
    """What runs in the servers' process; the driver calls its methods."""

    def __init__(self) -> None:
        self.api: SampleApi | None = None
        self.gateway: SampleGateway | None = None
        self.now: datetime | None = None
        self.store = StoreFaults()
        self.s3: S3Server | None = None
        self.vendor = VendorFaults()
        self._databases = contextlib.ExitStack()
        self._proxy: Any = None
        self._double: Any = None
        self._ordered: list[Any] = []
        self._times_held, self._full = 0, ""
        self._seen: Counter[str] = Counter()
        self.uses_redis = False

    def begin(self, now: datetime, engine: str, limiter: str) -> dict[str, Any]:
        """Start afresh for a campaign; return the addresses.

        :param limiter: where the account's limit is kept: ``file``, ``postgres``, ``redis``.
        """
        self.now = now
        self._databases.close()
        self._databases, self._proxy, self._double = contextlib.ExitStack(), None, None
        self._ordered, self._times_held, self._full, self._seen = [], 0, "", Counter()
        if self.api is None:
            self.api = SampleApi(api_key=KEY, now=lambda: self.now).start()  # type: ignore[arg-type, return-value]
            self.gateway = SampleGateway(now=lambda: self.now).start()  # type: ignore[arg-type, return-value]
            self.s3 = S3Server(wrap=self.store.wrap)
        self.api.forget()
        self.gateway.forget()
        self.store.kinds, self.store.share = (), 0.0
        self.vendor = VendorFaults()
        addresses = {"api": self.api.url, "gateway": self.gateway.address, "s3": self.s3.endpoint}
        return {**addresses, "warehouse": self._database(engine), "limits": self._limits(limiter)}

    def _limits(self, limiter: str) -> Any:
        """Return the settings of the server that keeps the account's limit, which is empty; None for files."""
        if limiter == "redis":
            self.uses_redis = True
            server = redis_server.server()
            server.client().flushall()
            return server.settings
        if limiter == "postgres":
            given = self._given
            return {"host": given.host, "port": given.port, "dbname": given.schema, "user": given.login, "password": given.password}
        return None

    def _database(self, engine: str) -> Any:
        if engine == "postgres":
            given = self._databases.enter_context(postgres_server.empty_database(None))
            self._given = given
            self._proxy = self._databases.enter_context(proxy(given.port))
            return given
        if engine == "oracle":
            self._double = self._databases.enter_context(oracle_server.empty_double())
            return oracle_server.connection_to(self._double)
        return None

    def proxy_port(self) -> int:
        return int(self._proxy.port)

    def set_now(self, now: datetime) -> None:
        self.now = now

    def vendor_faults(self, provider: str, share: float, seed: str, kinds: Sequence[str] = ()) -> None:
        """Let ``share`` of the calls of a provider go wrong from now on; 0: none."""
        self.vendor.order(self.api, self.gateway, provider, share, seed, kinds)

    def store_faults(self, kinds: Sequence[str], share: float, seed: str) -> None:
        self.store.kinds, self.store.share, self.store.draw = kinds, share, random.Random(seed)

    def pause_store_faults(self, paused: bool) -> None:
        self.store.paused = paused

    def struck(self) -> dict[str, int]:
        """Return how many faults of each kind struck here, and forget them."""
        found = {f"vendor {kind}": count for kind, count in self.vendor.struck.items()}
        found |= {f"store {kind}": count for kind, count in self.store.struck.items()}
        found |= self._database_struck()
        self.vendor.struck.clear()
        self.store.struck.clear()
        return found

    def _database_struck(self) -> dict[str, int]:
        """Return how often the database server was held, cut and full since the last look.

        ``held`` counts locks that were taken; whether a task had to wait for one is not known.
        """
        cuts, full = 0, 0
        if self._proxy is not None:
            cuts, times = self._proxy.cuts, "SELECT last_value FROM pg_sequences WHERE sequencename = 'times_full'"
            with contextlib.closing(postgres_server.server().admin(self._given.schema)) as admin:
                full = next((value for (value,) in admin.execute(times) if value), 0)
        elif self._double is not None:
            cuts, full = (sum(fault.struck for fault in self._ordered if (fault.action == "ora") is ora) for ora in (False, True))
        now = Counter(held=self._times_held, cut=cuts, full=full)
        news = now - self._seen
        self._seen = now
        return dict(news)

    def alter(self, symbol: str | None, session: Any, **change: Any) -> None:
        for server in (self.api, self.gateway):
            server.alter(symbol, session, **change) if server is self.api else server.edits.alter(session, _change(symbol, change))

    def restore(self) -> None:
        for server in (self.api, self.gateway):
            server.edits.clear_changes()
            server.edits.clear_hidden()

    def hide(self, session: Any, symbols: Sequence[str]) -> None:
        for server in (self.api, self.gateway):
            server.edits.hide(session, symbols)

    def count(self, provider: str) -> int:
        """Return the number of calls of a provider."""
        return len(self.calls(provider))

    def calls(self, provider: str) -> list[tuple[float, str, str]]:
        """Return moment (monotonic), target and fault of each call of a provider."""
        if provider == "ib":
            return [(call.monotonic, call.kind, call.fault or "") for call in self.gateway.calls]
        return [(call.monotonic, call.target, call.fault or "") for call in self.api.calls if call.vendor == provider]

    def cut_database(self, number: int, after: bool) -> None:
        """Cut the ``number``-th message to the database server from now on, or its response."""
        if self._proxy is not None:
            self._proxy.cut_message(number, "after" if after else "before")
        elif self._double is not None:
            order = self._double.faults.drop_after if after else self._double.faults.drop
            self._ordered.append(order(r"^(?!LOCK .*NOWAIT)[A-Z]", after=number - 1))

    def hold_database(self, seconds: float, table: str) -> None:
        """Let another session hold a table for some seconds: from now on, unless somebody has it already."""
        session = contextlib.ExitStack()
        try:
            session.enter_context(self._holding(table))
        except psycopg.errors.LockNotAvailable:
            session.close()
            return
        except oracledb.DatabaseError as error:
            session.close()
            if error.args[0].code != BUSY:
                raise
            return
        self._times_held += 1

        def release() -> None:
            time.sleep(seconds)
            session.close()

        threading.Thread(target=release, daemon=True).start()

    @contextlib.contextmanager
    def _holding(self, table: str) -> Iterator[None]:
        if self._proxy is not None:
            with contextlib.closing(postgres_server.server().admin(self._given.schema)) as admin, admin.transaction():
                admin.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE NOWAIT")
                yield
        else:
            with oracle_server.session_of(self._double) as other:
                other.cursor().execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE NOWAIT")
                yield

    def fill_database(self, table: str) -> None:
        """Let the server's disk be full, as far as a writer of ``table`` can tell."""
        if self._double is not None:
            self._ordered.append(self._double.faults.ora(rf"^(MERGE|INSERT)\s+INTO\s+{table}\b", 1653, times=1))
        if self._proxy is None:
            return
        self._full = table
        with contextlib.closing(postgres_server.server().admin(self._given.schema)) as admin:
            admin.execute(PATIENCE)
            admin.execute("CREATE SEQUENCE IF NOT EXISTS times_full")  # counts what is rolled back too
            admin.execute(
                "CREATE OR REPLACE FUNCTION disk_is_full() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS "
                "$$ BEGIN PERFORM nextval('times_full'); RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$"
            )
            admin.execute(
                f"CREATE OR REPLACE TRIGGER full_disk BEFORE INSERT OR UPDATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION disk_is_full()"
            )

    def calm(self) -> None:
        """Take back all faults that wait."""
        if self.api is not None and self.gateway is not None:
            self.api.faults.clear()
            self.gateway.faults.clear()
        self.store.kinds, self.store.share = (), 0.0
        if self._double is not None:
            self._double.faults.clear()
        if self._proxy is not None:
            self._proxy.cut_message(0, "before")
            if self._full:  # after a failure a stopped process may have the table, and the database is thrown away
                with (
                    contextlib.closing(postgres_server.server().admin(self._given.schema)) as admin,
                    contextlib.suppress(psycopg.errors.LockNotAvailable),
                ):
                    admin.execute(PATIENCE)
                    admin.execute(f"DROP TRIGGER IF EXISTS full_disk ON {self._full}")

    def end(self) -> None:
        self._databases.close()
        for server in (self.api, self.gateway, self.s3):
            if server is not None:
                server.stop()


def _change(symbol: str | None, change: dict[str, Any]) -> Any:
    from sandbox.market.edits import PRICES, Change

    rest = {name: value for name, value in change.items() if name not in ("multiply", "fields")}
    return Change(symbol, change.get("multiply", 1.0), tuple(change.get("fields", PRICES)), rest)


class Host:
    """The process of the servers, for the driver: ``host.alter(...)`` calls the method there. A context manager."""

    def __enter__(self) -> "Host":
        self._pipe, other = Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._pipe.close()
            _serve(other)
        other.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            self._pipe.send((name, args, named))
            done, value = self._pipe.recv()
            if not done:
                raise RuntimeError(f"servers: {name} failed:\n{value}")
            return value

        return call


def _serve(pipe: Connection) -> None:
    logging.disable(logging.CRITICAL)
    servers = Servers()
    code = 0
    try:
        while True:
            try:
                name, args, named = pipe.recv()
            except EOFError:
                break
            try:
                pipe.send((True, getattr(servers, name)(*args, **named)))
            except Exception:  # noqa: BLE001 - the driver reports it
                pipe.send((False, traceback.format_exc()))
        servers.end()
        if postgres_server.is_running():
            postgres_server.server().stop(keep=False)
        if servers.uses_redis:
            redis_server.server().remove()
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        code = 1
    os._exit(code)
