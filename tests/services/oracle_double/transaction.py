"""One session's transaction on DuckDB, with the manners of Oracle's.

**Read committed.** Oracle's statements each see the newest commits and what their own session did; a DuckDB transaction sees what was
there when it began. So a DuckDB transaction begins at a session's first change to a table, not before, and where others have committed
to what a statement names, it is rolled back and done again on what is there now.

**An error undoes a statement, not the transaction.** DuckDB aborts all of it; then too the rest is done again.

**Doing again** is safe because a session that changes a table keeps others from changing it (``locks.ROWS``): what it wrote, it writes
again. Only what a statement read from *other* tables can have changed meanwhile; if that shows in its row count, the double says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import duckdb

from tests.services.oracle_double.database import Database
from tests.services.oracle_double.errors import OraError, from_duckdb, not_done

Work = Callable[[], list[int]]
"""Makes a change, and gives how many rows it changed for each row of binds."""


@dataclass(frozen=True)
class Done:
    """A change that the open transaction holds: to which table, how to do it again, and what it counted."""

    table: str
    work: Work
    counts: list[int]


class Transaction:
    """A session's transactions, one after another.

    :param cursor: the session's own connection.
    """

    def __init__(self, database: Database, cursor: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        self._cursor = cursor
        self._journal: list[Done] | None = None
        """None while no DuckDB transaction is open."""
        self._seen = 0
        self.read_only = False

    @property
    def is_open(self) -> bool:
        return self._journal is not None

    def start_reading(self) -> None:
        """Begin one that changes nothing and sees what is there now, and nothing newer."""
        self.read_only = True
        self._begin()

    def refresh(self, names: set[str]) -> None:
        """See the newest commits to these tables and views."""
        if self._journal is not None and not self.read_only and self._database.changed_since(names, self._seen):
            self._do_again(self._journal)

    def change(self, table: str, work: Work) -> list[int]:
        """Make a change within the transaction, which begins if need be.

        :raises duckdb.Error, OraError: it failed, and only it is undone.
        """
        begun = self._journal is None
        if begun:
            self._begin()
        try:
            counts = work()
        except (duckdb.Error, OraError):
            if begun:
                self._undo()
            else:
                self.recover()
            raise
        if self._journal is not None:
            self._journal.append(Done(table, work, counts))
        return counts

    def apart(self, work: Work) -> list[int]:
        """Do work that no rollback is to take back, as one."""
        journal = self._journal
        if journal is not None:
            self._undo()
        self._begin()
        try:
            counts = work()
            self._cursor.execute("COMMIT")
        except (duckdb.Error, OraError):
            self._cursor.execute("ROLLBACK")
            raise
        finally:
            self._journal = None
            if journal is not None:
                self._do_again(journal)
        return counts

    def recover(self) -> None:
        """After an error, which has aborted DuckDB's transaction."""
        if self._journal is not None:
            self._do_again(self._journal)

    def commit(self) -> None:
        """Keep what was done."""
        journal, self._journal, self.read_only = self._journal, None, False
        if journal is None:
            return
        try:
            self._cursor.execute("COMMIT")
        except duckdb.Error as error:
            raise from_duckdb(error) from error
        if journal:
            self._database.committed({done.table for done in journal})

    def rollback(self) -> None:
        """Undo what was done."""
        self.read_only = False
        if self._journal is not None:
            self._undo()

    def _begin(self) -> None:
        self._seen = self._database.commits
        self._cursor.execute("BEGIN TRANSACTION")
        self._cursor.execute("SELECT count(*) FROM dual").fetchall()  # the snapshot is of now
        self._journal = []

    def _undo(self) -> None:
        self._cursor.execute("ROLLBACK")
        self._journal = None

    def _do_again(self, journal: list[Done]) -> None:
        if self._journal is not None:
            self._undo()
        self._begin()
        try:
            same = all(done.work() == done.counts for done in journal)
        except duckdb.Error:
            same = False
        if not same:
            self.rollback()
            raise not_done("another session has changed what a statement of this transaction had read")
        self._journal = journal
