"""The work of a warehouse that is the same for every engine.

An engine (a subclass) supplies a session, a way to run one statement and a way to stage Arrow rows; the order of statements, their
text and what makes a load safe are here. A load is one transaction::

    audit row there already? -> stage -> count what is staged -> lock silver -> compare -> versions into bronze
    -> merge into silver (plain inserts, if no row is known there) -> audit row -> commit

so a retry after a lost acknowledgement finds the audit row and does nothing, and after any failure nothing of the load is there.
A server's load is repeated here a few times where the engine says that it may work then; the task's own retries come after that.
"""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, ClassVar, Self

import pyarrow as pa
import pyarrow.compute as pc
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from market_data.core import calendar
from market_data.core.dates import naive_utc
from market_data.core.errors import ConfigError, WarehouseError
from market_data.core.instruments import CalendarOf, calendar_of
from market_data.core.run import RunInfo
from market_data.datasets.base import Dataset
from market_data.warehouse.action_coverage import whole_lives
from market_data.warehouse.arrow_rows import distinct, reference_rows, to_wire
from market_data.warehouse.arrow_rows import schema as wire_schema
from market_data.warehouse.connection import Connector, WarehouseConnection, number
from market_data.warehouse.dialects import Dialect
from market_data.warehouse.migrations import CREATE_SCHEMA_VERSION, INSERT_VERSION, SELECT_VERSIONS, migrations
from market_data.warehouse.quality_log import LogEntry
from market_data.warehouse.recent_bars_sql import NEW_YORK_HOURS, first_of_previous, folded_bars, last_before, previous_bars
from market_data.warehouse.repeated_keys import delete_copies, delete_equal_rows, delete_equal_versions, repeated_keys, what_to_do
from market_data.warehouse.schema import (
    ACTION_COVERAGE,
    CORPORATE_ACTIONS,
    LOAD_ID,
    MARKET_SESSIONS,
    PRICES,
    QUALITY_LOG,
    SYMBOL_CALENDARS,
    SYMBOL_CHANGES,
    SYMBOL_NAMES,
    Reference,
    Table,
    table,
)
from market_data.warehouse.sessions import changed_calendars, changed_sessions
from market_data.warehouse.symbol_names import CHANGES, symbol_names
from market_data.warehouse.upsert_sql import (
    DAILY_SYMBOLS,
    FOLLOWED,
    INSERT_AUDIT,
    SELECT_AUDIT,
    SPAN,
    begin_again,
    compare,
    count_stage,
    delete_replaced,
    insert_confirmed,
    insert_first_versions,
    insert_new,
    insert_newest,
    insert_versions,
    mark_altered,
    merge,
    merge_reference,
    read_reference,
    remove,
)

PREVIOUS_DAILY, PREVIOUS_INTRADAY = 20, 5
"""Default numbers of sessions of ``previous_bars``."""

BEFORE_ALL = datetime(1900, 1, 1)  # noqa: DTZ001 - the tables have naive UTC
"""A moment before that of any row."""
NEW_YORK = timedelta(hours=NEW_YORK_HOURS)
CHUNK_ROWS = 250_000
log = logging.getLogger(__name__)
SELECT = re.compile(r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/|\()*(?:SELECT|WITH)\b", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of a load.

    :param rows_in: rows given.
    :param rows_changed: bars of silver that are new or have other values now.
    :param already: the load had been committed before; the counts are those of then.
    """

    rows_in: int
    rows_changed: int
    already: bool = False


class Warehouse(ABC):
    """Bronze, silver and gold tables in one database. A context manager; leaving it closes the connection.

    :param connection: ``extra``: ``chunk_rows``, rows of one load transaction at most; the rest is the engine's.
    :raises ConfigError: if a setting is wrong.

    Every method raises ``WarehouseError`` when the engine fails; ``retriable`` says whether the same call may work later, and the
    message names the kind of statement, never the data.
    """

    dialect: ClassVar[Dialect]
    attempts: ClassVar[int] = 1
    """How often a load is tried."""
    usual_chunk_rows: ClassVar[int] = CHUNK_ROWS
    _exact = False

    def __init__(self, connection: WarehouseConnection, connect: Connector | None = None) -> None:  # noqa: ARG002  for servers
        self.chunk_rows = int(number(connection, "chunk_rows", self.usual_chunk_rows, 1))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def exists(self) -> bool:
        """Return False if no warehouse was ever made here. It has no rows then. A server has one always."""
        return True

    def migrate(self) -> list[str]:
        """Bring tables and views to this version, and sessions to those of ``core.calendar``; idempotent.

        :returns: the migrations applied now, in order, e.g. ``0003_silver_prices``.
        """
        applied: list[str] = []
        with self._transaction():
            if not self._scalar("look for schema_version", self.dialect.table_exists, ["schema_version"]):
                self._define("create schema_version", CREATE_SCHEMA_VERSION.statement(self.dialect))
            known = set(self._fetch("read schema_version", SELECT_VERSIONS)["version"].to_pylist())
            for migration in migrations(self.dialect):
                if migration.version not in known:
                    self._define(f"migration {migration}", migration.statement(self.dialect))
                    now = naive_utc(datetime.now(UTC))
                    self._execute("insert schema_version", INSERT_VERSION, [migration.version, migration.name, now])
                    applied.append(str(migration))
            if any(name.endswith(f"_{SYMBOL_CALENDARS.name}") for name in applied):
                self._name_calendars(self._fetch("read symbols", DAILY_SYMBOLS), calendar_of)
            self._count_sessions()
        return applied

    def load(
        self, dataset: Dataset, rows: pa.Table, load_id: str, run: RunInfo | None = None, calendar_of: CalendarOf = calendar_of
    ) -> Loaded:
        """Load ``rows`` in one transaction: all of them or nothing.

        Values equal to the current ones change only ``confirmed_ts``. Other values replace them, unless their ``ingest_ts`` is older than
        the last one seen. Bronze keeps every version.

        :param rows: has the columns of ``dataset.schema``; each key once.
        :param load_id: names this load, 1 to 64 characters. A second load of the same id does nothing.
        :param run: the run that loads, for ``load_audit``; None for a load by hand. Corporate actions count as all there are of
            their symbols, and prices of these are adjusted, until `know_actions` says which dates are loaded, as it does for each run.
        :param calendar_of: returns the calendar of a symbol of these rows, where a provider's spellings mean something of their own.
        :raises DataError: the rows do not fit the tables; raised before the database is touched.
        """
        target = table(dataset.table)
        if not 1 <= len(load_id) <= LOAD_ID.length:
            raise ConfigError(f"load_id has {len(load_id)} characters; 1 to {LOAD_ID.length} are allowed")
        now = datetime.now(UTC)
        if dataset.identify:
            rows = dataset.identify(distinct(target, rows))
        wire = to_wire(target, rows, load_id=load_id, loaded_at=now)
        del rows
        pa.default_memory_pool().release_unused()  # many times the rows: the database needs it now
        return self._tries()(self._load, target, wire, load_id, now, run, calendar_of)

    def restore(
        self, dataset: Dataset, rows: pa.Table, load_id: str, run: RunInfo | None = None, calendar_of: CalendarOf = calendar_of
    ) -> Loaded:
        """Load ``rows``, and make the current rows of their keys equal to them, whenever either was seen.

        For values of silver that were altered outside a load: these keep hash and moment, so that `load` takes them for confirmed or
        for newer ones. Bronze is not altered; it gets versions that it lacks.
        """
        with self._exactly():
            return self.load(dataset, rows, load_id, run, calendar_of)

    @contextmanager
    def _exactly(self) -> Iterator[None]:
        self._exact = True
        try:
            yield
        finally:
            self._exact = False

    def remove(self, dataset: Dataset, rows: pa.Table, load_id: str) -> int:
        """Delete rows from silver that no load wrote, all of them or nothing, and return their number.

        :param rows: of silver, as ``checksums.never_loaded_between`` selects them. Those of which bronze has a version by now stay.
        :param load_id: names the removal in ``load_audit``.
        """
        return self._tries()(self._remove, table(dataset.table), rows, load_id)

    def _remove(self, target: Table, rows: pa.Table, load_id: str) -> int:
        with self._transaction():
            self._stage(target, rows.select([column.name for column in target.columns]).cast(wire_schema(target.columns)))
            if self.dialect.lock:
                self._execute(f"lock {target.silver}", self.dialect.lock.format(table=target.silver))
            removed = self._execute(f"remove rows of {target.silver}", remove(target))
            audit_row = [load_id, target.silver, rows.num_rows, removed, naive_utc(datetime.now(UTC)), None, None]
            self._execute("insert audit row", INSERT_AUDIT, audit_row)
        return removed

    def know_actions(self, spans: Sequence[tuple[str, str, date, date]]) -> None:
        """Note the dates whose corporate actions are loaded: only there are prices adjusted.

        :param spans: symbol, provider, first and last session (both inclusive) whose bars can be adjusted.
        """
        if spans:
            self._tries()(self._know_actions, spans)

    def log_quality(self, entries: Sequence[LogEntry]) -> None:
        """Write entries of ``quality_log``. Entries that are there already change nothing."""
        if entries:
            rows = {entry.id: entry.row() for entry in entries}
            self._tries()(self._log_quality, list(rows.values()))

    def _log_quality(self, rows: Sequence[tuple[Any, ...]]) -> None:
        with self._transaction():
            self._put(QUALITY_LOG, rows)

    def _know_actions(self, spans: Sequence[tuple[str, str, date, date]]) -> None:
        with self._transaction():
            self._put(ACTION_COVERAGE, spans)

    def _tries(self) -> Retrying:
        again = retry_if_exception(lambda error: isinstance(error, WarehouseError) and error.retriable)
        return Retrying(retry=again, stop=stop_after_attempt(self.attempts), wait=wait_random_exponential(0.2, 10), reraise=True)

    def _load(
        self, target: Table, wire: pa.Table, load_id: str, now: datetime, run: RunInfo | None, calendar_of: CalendarOf
    ) -> Loaded:
        of_run = [run.dag_id, run.run_id] if run else [None, None]
        with self._transaction():
            audit = self._fetch("read audit row", SELECT_AUDIT, [load_id]).to_pylist()
            if audit:
                return Loaded(int(audit[0]["rows_in"]), int(audit[0]["rows_changed"]), already=True)
            changed = self._merge(target, wire)
            if target == CORPORATE_ACTIONS:
                self._vouch(wire, of_run=run is not None)
            if target == SYMBOL_CHANGES:
                stored = self._fetch("read names", read_reference(SYMBOL_NAMES)).to_pylist()
                self._put(SYMBOL_NAMES, symbol_names(self._fetch("read changes", CHANGES).to_pylist(), stored))
            if target == PRICES:
                daily = wire.select(["symbol", "provider"]).filter(pc.equal(wire["timeframe"], "1d"))
                if self._name_calendars(daily, calendar_of):
                    self._count_sessions()
            audit_row = [load_id, target.silver, wire.num_rows, changed, naive_utc(now), *of_run]
            self._execute("insert audit row", INSERT_AUDIT, audit_row)
        return Loaded(wire.num_rows, changed)

    def _merge(self, target: Table, wire: pa.Table) -> int:
        self._stage(target, wire)
        (counted,) = self._fetch("count staged rows", count_stage(target)).to_pylist()
        staged = int(counted["staged"])
        if staged != wire.num_rows:
            raise WarehouseError(f"staged {staged} of {wire.num_rows} rows; the load was rolled back", retriable=True)
        if not wire.num_rows:
            return 0
        if self.dialect.lock:
            self._execute(f"lock {target.silver}", self.dialect.lock.format(table=target.silver))
        span = [counted[name] for name in SPAN]
        if self._exact:
            if self.dialect.keys_in_memory:
                self._execute(f"repeated rows of {target.silver}", delete_copies(target), [*span, *span])
                self._execute(f"repeated rows of {target.bronze}", delete_equal_versions(target), [*span, *span])
            self._execute(f"update {target.silver}", mark_altered(target), [BEFORE_ALL, *span])
        found = self._compare(target, wire, span)
        if not found["known"]:
            self._execute(f"insert into {target.bronze}", insert_first_versions(target), span)
            return self._execute(f"insert into {target.silver}", insert_new(target))
        if found["versions"]:
            self._execute(f"insert into {target.bronze}", insert_versions(target), [*span, *span])
        if found["overtaking"]:
            self._execute(f"insert into {target.bronze}", insert_confirmed(target), span)
            self._execute(f"update {target.silver}", begin_again(target), span)
        if not found["newer"]:
            return 0
        return self._replace(target, span) - int(found["confirmed"])

    def _compare(self, target: Table, wire: pa.Table, span: Sequence[Any]) -> dict[str, Any]:
        """Return the result of ``compare``, each staged row counted once.

        A key that something else wrote to silver twice would multiply rows in the joins of the other statements.

        :raises WarehouseError: if it has different rows, of which nothing here tells the right one.
        """
        found: dict[str, Any]
        (found,) = self._fetch("compare", compare(target), span).to_pylist()
        if found["compared"] <= wire.num_rows:
            return found
        removed = self._execute(f"repeated rows of {target.silver}", delete_equal_rows(target), [*span, *span])
        (found,) = self._fetch("compare", compare(target), span).to_pylist()
        if found["compared"] > wire.num_rows:
            repeated = self._fetch("find repeated keys", repeated_keys(target), span)
            raise WarehouseError(what_to_do(target, repeated), retriable=False)
        log.warning("%s had %d copies of rows, which no load wrote: they are removed", target.silver, removed)
        return found

    def _replace(self, target: Table, span: Sequence[Any]) -> int:
        """Bring silver to the newest of its rows and the staged ones, and return the number of rows written."""
        kind = f"merge into {target.silver}"
        if not self.dialect.updates_in_memory:
            return self._execute(kind, merge(target), [*span, *span])
        written = self._execute(kind, insert_newest(target), span)
        self._execute(f"delete replaced rows of {target.silver}", delete_replaced(target), span)
        return written

    def _vouch(self, wire: pa.Table, *, of_run: bool) -> None:
        """Count the loaded actions as all there are of their symbols.

        After a run's load: until `know_actions` says better.
        """
        known = {(row["symbol"], row["provider"]) for row in self._known_actions()} if of_run else set()
        self._put(ACTION_COVERAGE, [span for span in whole_lives(wire) if span[:2] not in known])

    def _known_actions(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._fetch("read known actions", read_reference(ACTION_COVERAGE)).to_pylist()
        return rows

    def _count_sessions(self) -> None:
        """Bring the sessions to what they are now: an extra closure moves the numbers of all that follow."""
        followed = self._fetch("read calendars", FOLLOWED)["calendar"].to_pylist()
        self._put(MARKET_SESSIONS, changed_sessions(self._fetch("read sessions", read_reference(MARKET_SESSIONS)), followed))

    def _name_calendars(self, rows: pa.Table, calendar_of: CalendarOf) -> bool:
        """Note the calendars of symbols that have another than New York's; True if there was one to note.

        :param rows: has their symbols and providers.
        """
        stored = self._fetch("read calendars", read_reference(SYMBOL_CALENDARS))
        changed = changed_calendars(stored, rows, calendar_of)
        self._put(SYMBOL_CALENDARS, changed)
        return bool(changed)

    def _put(self, target: Reference, rows: Sequence[tuple[Any, ...]]) -> None:
        """Upsert ``rows``, which have the columns of ``target`` in order."""
        if rows:
            self._stage(target, reference_rows(target, rows))
            self._execute(f"merge into {target.name}", merge_reference(target))

    def query(self, statement: str, params: Sequence[Any] = ()) -> pa.Table:
        """Return the result of one SELECT. Reads only.

        :param statement: begins with SELECT or WITH, and may end in a semicolon; with ``?`` for each of ``params``, on every engine.
        :raises WarehouseError: if it is something else.
        """
        if not SELECT.match(statement):
            raise WarehouseError(f"query begins with {statement.strip()[:20]!r}; a SELECT is needed", retriable=False)
        with self._session(write=False):
            return self._fetch("query", statement.rstrip().removesuffix(";"), params)

    def previous_bars(
        self, dataset: Dataset, provider: str, before: date, sessions: int | None = None, symbols: Sequence[str] | None = None
    ) -> pa.Table:
        """Return a bar per symbol and session for the last sessions before ``before`` in silver.

        Bars within the day are folded: the session's last close, the sum of its volumes. A futures' session is approximated: its
        evening, from 18:00 New York, counts with the date it falls on, and not at all where that is not a session.

        :param dataset: of bars.
        :param before: session date, exclusive.
        :param sessions: at least 1; None: 20 of daily bars, 5 within the day. Counted over all symbols: a symbol without a bar in
            them has no row. Daily bars: sessions that silver has; within the day: those of the exchange up to the last it has.
        :param symbols: only these; None for all.
        :returns: symbol (string), session (date32), close, volume (float64; volume nullable), bars (int64: how many bars it is of; 1 of
            daily ones), by symbol and session.
        :raises ConfigError: the dataset is not of bars, or ``sessions`` is below 1.
        """
        if sessions is None:
            sessions = PREVIOUS_INTRADAY if dataset.is_intraday else PREVIOUS_DAILY
        if not dataset.is_bars or sessions < 1:
            raise ConfigError(f"previous_bars: dataset {dataset.name!r}, sessions {sessions}; allowed: bars, at least 1")
        with self._session(write=False):
            bars = (self._folded if dataset.is_intraday else self._daily)(dataset, provider, before, sessions)
        found = pa.table(
            {
                "symbol": bars["symbol"].cast(pa.string()),
                "session": bars["bar_time"].cast(pa.date32()),
                "close": bars["close_px"].cast(pa.float64()),
                "volume": bars["volume"].cast(pa.float64()),
                "bars": bars["bars"].cast(pa.int64()),
            }
        )
        return found if symbols is None else found.filter(pc.is_in(found["symbol"], pa.array(symbols, pa.string())))

    def _daily(self, dataset: Dataset, provider: str, before: date, sessions: int) -> pa.Table:
        name, of, end = table(dataset.table).silver, [dataset.timeframe, provider], datetime.combine(before, time())
        start = self._scalar("find previous sessions", first_of_previous(name, sessions), [*of, end])
        return self._fetch("read previous bars", previous_bars(name), [*of, start or end, end])

    def _folded(self, dataset: Dataset, provider: str, before: date, sessions: int) -> pa.Table:
        name, of, end = table(dataset.table).silver, [dataset.timeframe, provider], datetime.combine(before, time()) + NEW_YORK
        last = self._scalar("find previous sessions", last_before(name), [*of, end]) or end
        first = (last - NEW_YORK).date() + timedelta(days=1)
        for _ in range(sessions):
            first = calendar.previous_session(first)
        start = datetime.combine(first, time()) + NEW_YORK
        bars = self._fetch("fold previous bars", folded_bars(name), [*of, start, end, *of])
        days = pc.subtract(bars["bar_time"].cast(pa.timestamp("us")), pa.scalar(NEW_YORK)).cast(pa.date32(), safe=False)
        bars = bars.set_column(bars.column_names.index("bar_time"), "bar_time", days)
        return bars.filter(pc.is_in(days, pa.array(calendar.sessions(first, before), pa.date32())))

    def close(self) -> None:  # noqa: B027  an engine without a lasting connection has nothing to do
        """Give up the connection, if there is one. May be called twice."""

    # An engine supplies the rest. Inside a session, statements run on one connection; every error comes out as WarehouseError.

    @abstractmethod
    def _session(self, *, write: bool) -> AbstractContextManager[None]:
        """Open a connection for the statements inside; without ``write``, none of them can change anything."""

    @abstractmethod
    def _execute(self, kind: str, statement: str, params: Sequence[Any] = ()) -> int:
        """Run a statement with ``?`` binds; the number of rows it changed, for DML."""

    def _define(self, kind: str, statement: str) -> None:
        """Run a statement of a migration."""
        self._execute(kind, statement)

    @abstractmethod
    def _fetch(self, kind: str, statement: str, params: Sequence[Any] = ()) -> pa.Table:
        """The result of a SELECT with ``?`` binds, column names in lower case."""

    @abstractmethod
    def _stage(self, target: Table | Reference, wire: pa.Table) -> None:
        """Put ``wire`` into the session's empty staging table of ``target``."""

    @abstractmethod
    def _begin(self) -> None:
        """Start a transaction, where that takes a statement."""

    @abstractmethod
    def _commit(self) -> None: ...

    @abstractmethod
    def _rollback(self) -> None: ...

    def _scalar(self, kind: str, statement: str, params: Sequence[Any] = ()) -> Any:
        return self._fetch(kind, statement, params).column(0)[0].as_py()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._session(write=True):
            self._begin()
            try:
                yield
                self._commit()
            except BaseException:
                with suppress(WarehouseError):  # the first error is the one to tell; a dead session has rolled back by itself
                    self._rollback()
                raise
