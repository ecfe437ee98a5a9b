"""The PostgreSQL schema behind a double, which all of its sessions share."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from contextlib import closing
from functools import cache
from graphlib import TopologicalSorter
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier
from sqlglot import exp

from tests.services import postgres_server
from tests.services.oracle_double import sql as oracle_sql
from tests.services.oracle_double.errors import OraError, not_done

Connection = psycopg.Connection[Any]
View = tuple[str, set[str]]
"""A view's query, and the tables and views that it reads."""
SYSTEM = """
CREATE SCHEMA oracle;
CREATE TABLE oracle.dual AS SELECT 'X'::text AS dummy;
CREATE FUNCTION oracle.computed(anyelement) RETURNS anyelement LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END';
CREATE FUNCTION oracle.sys_context(text, text) RETURNS text LANGUAGE sql STABLE AS
  'SELECT current_setting(''oracle.'' || lower($2))';
CREATE VIEW oracle.all_tables AS
  SELECT current_setting('oracle.owner') AS owner, upper(relname) AS table_name
    FROM pg_class WHERE relkind = 'r' AND relnamespace = current_setting('oracle.home')::regnamespace;
CREATE VIEW oracle.user_tables AS
  SELECT table_name FROM oracle.all_tables WHERE owner = current_setting('oracle.session_user');
CREATE VIEW oracle.user_views AS
  SELECT upper(viewname) AS view_name FROM pg_views
   WHERE schemaname = current_setting('oracle.home') AND current_setting('oracle.owner') = current_setting('oracle.session_user');
"""
SESSION = {
    "timezone": "UTC",
    "datestyle": "ISO",
    "extra_float_digits": "1",
    "default_transaction_isolation": "read committed",
    "client_min_messages": "error",
}


@cache
def _prepare() -> None:
    """What all doubles of the process share, made once."""
    with closing(postgres_server.server().admin()) as admin:
        admin.execute(SYSTEM)


class Database:
    """Tables and views, none at first.

    :param owner: who owns what there is, in capitals.
    """

    def __init__(self, owner: str) -> None:
        _prepare()
        self.owner = owner
        self.home = f"double_{secrets.token_hex(6)}"
        self.stages: dict[str, int] = {}
        """The global temporary tables, with a number that is another after each change."""
        self._numbers = itertools.count()
        self._views: dict[str, View] = {}
        self._ddl = threading.Lock()
        with closing(self.connect(owner)) as connection:
            connection.execute(SQL("CREATE SCHEMA {}").format(Identifier(self.home)))

    def connect(self, user: str) -> Connection:
        """Open a session of its own, each statement a transaction. Close it."""
        connection = postgres_server.server().admin()
        connection.cursor_factory = psycopg.RawCursor
        connection.prepare_threshold = None
        ours = {"oracle.owner": self.owner, "oracle.home": self.home, "oracle.session_user": user}
        for name, value in {**SESSION, **ours, "application_name": self.home}.items():
            connection.execute("SELECT set_config($1, $2, false)", [name, value])
        return connection

    def define(self, connection: Connection, statement: str) -> None:
        """Run a statement that defines, as a transaction.

        :raises psycopg.Error, OraError: it failed; nothing has changed.
        """
        tree = oracle_sql.parse(statement, self.owner).copy()
        target = tree.find(exp.Table)
        if target is None or not isinstance(tree, exp.Create | exp.Drop | exp.Alter):
            raise not_done(statement)
        temporary = tree.find(exp.TemporaryProperty)
        if temporary:
            tree.set("properties", None)
        target.set("db", exp.to_identifier(self.home))  # not the session's part of a temporary table
        is_view, makes = tree.args.get("kind") == "VIEW", isinstance(tree, exp.Create)
        with self._ddl, connection.transaction():
            views = self._changed_views(tree, target.name) if is_view else self._views
            adds = makes and target.name not in self._views
            for name in () if adds else self._views:  # PostgreSQL changes nothing that a view reads
                connection.execute(f"DROP VIEW IF EXISTS {name} CASCADE")
            if not is_view:
                connection.execute(oracle_sql.text(tree))
            made = {name: view for name, view in views.items() if not adds or name not in self._views}
            for name in TopologicalSorter({name: reads & made.keys() for name, (_, reads) in made.items()}).static_order():
                connection.execute(f"CREATE VIEW {name} AS {made[name][0]}")
            self._views = views
            if temporary or target.name in self.stages:
                self.stages[target.name] = next(self._numbers)
            if isinstance(tree, exp.Drop):
                self.stages.pop(target.name, None)

    def _changed_views(self, tree: exp.Expression, name: str) -> dict[str, View]:
        if isinstance(tree, exp.Create):
            if name in self._views and not tree.args.get("replace"):
                raise OraError(955, "name is already used by an existing object")
            query = tree.expression
            return {**self._views, name: (oracle_sql.text(query), {table.name for table in query.find_all(exp.Table)})}
        if name not in self._views:
            raise OraError(942, "table or view does not exist")
        return {view: query for view, query in self._views.items() if view != name}

    def until_waiting(self, count: int, timeout: float) -> None:
        """Come back when ``count`` sessions wait for a lock.

        :raises TimeoutError: they do not.
        """
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'"
        deadline = time.monotonic() + timeout
        with closing(postgres_server.server().admin()) as admin:
            while (found := admin.execute(waiting, [self.home]).fetchall()[0][0]) < count:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{found} sessions wait for a lock, not {count}")
                time.sleep(0.01)

    def close(self) -> None:
        """Forget it. Sessions are to be over."""
        with closing(postgres_server.server().admin()) as admin:
            admin.execute(SQL("DROP SCHEMA {} CASCADE").format(Identifier(self.home)))
