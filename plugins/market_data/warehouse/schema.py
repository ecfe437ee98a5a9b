"""The warehouse's tables: one list of columns each.

All SQL and the Arrow form of a load derive from these lists.

A table ``prices`` is three: ``bronze_prices`` (every version of a bar), ``silver_prices`` (the current bar) and ``stage_prices`` (the
rows of one load, private to its session). All three have the same columns, and silver ``confirmed_ts`` besides. The rules below speak of
bars and hold for the rows of the other tables too.

**Versions.** The lake keeps ``ingest_ts``, the moment a value was first seen, for as long as the value is current. So a version of a bar
is its values *and* the moment they were first seen. Bronze's key is the bar's key with ``ingest_ts`` and ``row_hash``. When a vendor goes
from A to B and back to A, bronze holds A, B and A; the values alone would not show it. ``row_hash`` is in the key because two responses
may carry one ``ingest_ts``; then both are kept.

**The current bar** is the one seen last, in whatever order loads come: a failed load may be repeated after later ones. A version replaces
the bar in silver when its values differ and it is not older. Older is measured against the bar's ``ingest_ts`` and its ``confirmed_ts``,
the latest moment for which equal values were loaded again. Equal values change only that moment. An older version that comes late goes
into bronze alone. If it was seen between the bar and its confirmation, the bar went away and came back, so the confirmed one becomes a
version of its own. A confirmation is forgotten once the bar is replaced: bronze then has the version in between, not the return.
Companies file statements again; the current statement is the one filed last, whenever it was seen.

**Rules of the portable subset** (Oracle's are the strictest): moments are naive UTC, prices exact decimals, no empty string (Oracle
takes it for null), no column named by a reserved word (``session``, ``size``, ``date``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from market_data.core.errors import ConfigError


class Type(StrEnum):
    """Column types; ``sql`` has each engine's word for them, ``wire`` the Arrow type."""

    STRING = "string"  # non-empty, at most ``length`` characters
    TIMESTAMP = "timestamp"  # naive UTC, microseconds
    DATE = "date"
    DECIMAL = "decimal"  # prices and volumes: 20 digits, 8 of them after the point
    AMOUNT = "amount"  # what statements hold, beyond 1e12: 28 digits, 6 of them after the point
    INTEGER = "integer"  # 64 bits
    SMALL = "small"  # 32 bits


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a warehouse table.

    :param source: the dataset's column it comes from; empty where the load makes it.
    :param length: of a string, in characters.
    :param cut: a finer moment is cut to microseconds; elsewhere it is refused.
    :param mark: enters ``row_hash`` only where it is not null: rows from before the column keep their hashes.
    """

    name: str
    type: Type
    source: str = ""
    length: int = 0
    nullable: bool = False
    cut: bool = False
    mark: bool = False


SYMBOL = Column("symbol", Type.STRING, source="symbol", length=32)
# A source's name can be long: databento~XCIS.TRADESBBO~instrument_id has 38 characters.
PROVIDER = Column("provider", Type.STRING, source="provider", length=64)

INGEST_TS = Column("ingest_ts", Type.TIMESTAMP, source="ingest_ts")
CONFIRMED_TS = Column("confirmed_ts", Type.TIMESTAMP, nullable=True)
"""In silver only; null until equal values are seen again later."""
ROW_HASH = Column("row_hash", Type.STRING, length=64)
LOAD_ID = Column("load_id", Type.STRING, length=64)
LOADED_AT = Column("loaded_at", Type.TIMESTAMP)


@dataclass(frozen=True)
class Table:
    """A bronze, a silver and a staging table with the same columns; silver has ``CONFIRMED_TS`` besides.

    :param name: the dataset's ``table``.
    :param key: identifies a row of silver.
    :param values: what a restatement can change; ``row_hash`` is over these, in this order.
    :param published: of ``values``, the date on which a row was published: an older one never replaces a newer one, whenever it was seen.
    :param check: what the database itself insists on; every column in it as in all engines' SQL.
    """

    name: str
    key: tuple[Column, ...]
    values: tuple[Column, ...]
    check: str
    published: Column | None = None

    @property
    def columns(self) -> tuple[Column, ...]:
        return (*self.key, *self.values, ROW_HASH, LOAD_ID, INGEST_TS, LOADED_AT)

    @property
    def version_key(self) -> tuple[Column, ...]:
        """Identifies a row of bronze."""
        return (*self.key, INGEST_TS, ROW_HASH)

    @property
    def moment(self) -> Column:
        """The column of the key that says when: a moment or a date."""
        return next(column for column in self.key if column.type in (Type.TIMESTAMP, Type.DATE))

    @property
    def bronze(self) -> str:
        return f"bronze_{self.name}"

    @property
    def silver(self) -> str:
        return f"silver_{self.name}"

    @property
    def stage(self) -> str:
        return f"stage_{self.name}"


PRICES = Table(
    name="prices",
    key=(
        SYMBOL,
        Column("timeframe", Type.STRING, source="timeframe", length=8),
        PROVIDER,
        Column("bar_time", Type.TIMESTAMP, source="bar_time"),
    ),
    values=(
        Column("open_px", Type.DECIMAL, source="open"),
        Column("high_px", Type.DECIMAL, source="high"),
        Column("low_px", Type.DECIMAL, source="low"),
        Column("close_px", Type.DECIMAL, source="close"),
        Column("adj_close_px", Type.DECIMAL, source="adj_close", nullable=True),
        Column("volume", Type.DECIMAL, source="volume", nullable=True),
        Column("vwap", Type.DECIMAL, source="vwap", nullable=True),
        Column("trade_count", Type.INTEGER, source="trade_count", nullable=True),
    ),
    check="high_px >= low_px AND volume >= 0",  # prices of futures and rates may be negative; the gate knows whose
)

TRADES = Table(
    name="trades",
    key=(
        SYMBOL,
        PROVIDER,
        Column("ts_event", Type.TIMESTAMP, source="ts_event", cut=True),  # ``ordinal`` tells apart what is one microsecond then
        Column("sequence_no", Type.INTEGER, source="sequence"),
        Column("ordinal", Type.SMALL, source="ordinal"),
    ),
    values=(
        Column("trade_px", Type.DECIMAL, source="price"),  # of a spread it may be negative
        Column("trade_size", Type.DECIMAL, source="size"),
        Column("side", Type.STRING, source="side", length=1, nullable=True),
        Column("venue", Type.STRING, source="venue", length=32, nullable=True),
        Column("conditions", Type.STRING, source="conditions", length=128, nullable=True),
    ),
    check="trade_size >= 0 AND ordinal >= 0",
)

FILING_DATE = Column("filing_date", Type.DATE, source="filing_date")
FUNDAMENTALS = Table(
    name="fundamentals",
    key=(
        SYMBOL,
        PROVIDER,
        Column("statement", Type.STRING, source="statement", length=16),
        Column("fiscal_period", Type.STRING, source="period", length=8),
        Column("period_end", Type.DATE, source="period_end"),
        Column("item", Type.STRING, source="item", length=128),
    ),
    values=(
        Column("fiscal_year", Type.SMALL, source="fiscal_year"),
        FILING_DATE,
        Column("accepted_at", Type.TIMESTAMP, source="accepted_at", nullable=True),
        Column("currency", Type.STRING, source="currency", length=16, nullable=True),
        Column("amount", Type.AMOUNT, source="value", nullable=True),
    ),
    check="statement IN ('income', 'balance_sheet', 'cash_flow') AND fiscal_period IN ('FY', 'Q1', 'Q2', 'Q3', 'Q4')",
    published=FILING_DATE,
)

WITHDRAWN = Column("withdrawn", Type.SMALL, source="withdrawn", nullable=True, mark=True)
"""1 where a later whole response no longer held the action, else null."""

CORPORATE_ACTIONS = Table(
    name="corporate_actions",
    key=(
        SYMBOL,
        PROVIDER,
        Column("action_type", Type.STRING, source="action", length=16),
        Column("ex_date", Type.DATE, source="ex_date"),
        Column("action_id", Type.STRING, source="action_id", length=128),
    ),
    values=(
        Column("split_from", Type.DECIMAL, source="split_from", nullable=True),
        Column("split_to", Type.DECIMAL, source="split_to", nullable=True),
        Column("cash_amount", Type.DECIMAL, source="amount", nullable=True),
        Column("currency", Type.STRING, source="currency", length=16, nullable=True),
        Column("declaration_date", Type.DATE, source="declaration_date", nullable=True),
        Column("record_date", Type.DATE, source="record_date", nullable=True),
        Column("pay_date", Type.DATE, source="pay_date", nullable=True),
        Column("action_kind", Type.STRING, source="kind", length=32, nullable=True),
        Column("frequency", Type.SMALL, source="frequency", nullable=True),
        WITHDRAWN,
    ),
    check=(
        "(action_type = 'split' AND split_from IS NOT NULL AND split_to IS NOT NULL AND split_from > 0 AND split_to > 0)"
        " OR (action_type = 'dividend' AND cash_amount IS NOT NULL AND cash_amount >= 0)"
    ),
)

SYMBOL_CHANGES = Table(
    name="symbol_changes",
    key=(
        SYMBOL,
        PROVIDER,
        Column("effective_date", Type.DATE, source="effective_date"),
        Column("old_symbol", Type.STRING, source="old_symbol", length=32),
        Column("new_symbol", Type.STRING, source="new_symbol", length=32),
    ),
    values=(
        Column("issuer", Type.STRING, source="issuer", length=128, nullable=True),
        WITHDRAWN,
    ),
    check="old_symbol <> new_symbol",
)

TABLES = {table.name: table for table in (PRICES, TRADES, FUNDAMENTALS, CORPORATE_ACTIONS, SYMBOL_CHANGES)}
"""The tables of the datasets."""


@dataclass(frozen=True)
class Reference:
    """A table that the warehouse fills by itself, for the views to join.

    Its staging table has the same columns.
    """

    name: str
    key: tuple[Column, ...]
    values: tuple[Column, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        return (*self.key, *self.values)

    @property
    def stage(self) -> str:
        return f"stage_{self.name}"


CALENDAR = Column("calendar", Type.STRING, length=16)
MARKET_SESSIONS = Reference(
    "market_sessions",
    key=(CALENDAR, Column("session_date", Type.DATE)),
    values=(Column("session_no", Type.INTEGER, nullable=True),),
)
"""The sessions of each calendar, counted from 1. A date that is no longer a session keeps its row, without a number."""
ACTION_COVERAGE = Reference(
    "action_coverage",
    key=(SYMBOL, PROVIDER),
    values=(Column("known_from", Type.DATE), Column("known_to", Type.DATE)),
)
"""The dates whose corporate actions are loaded: bars from ``known_from`` to ``known_to`` (both inclusive) can be adjusted."""
SYMBOL_NAMES = Reference(
    "symbol_names",
    key=(SYMBOL, Column("name_from", Type.DATE)),
    values=(Column("name_to", Type.DATE), Column("company", Type.STRING, length=32)),
)
"""The symbols of companies that changed them: from ``name_from`` to ``name_to`` (exclusive) ``symbol`` was that of ``company``, which is
the last one of them."""
SYMBOL_CALENDARS = Reference("symbol_calendars", key=(SYMBOL, PROVIDER), values=(CALENDAR,))
"""The calendar of each symbol with daily bars that has another one than New York's."""

QUALITY_LOG = Reference(
    "quality_log",
    key=(Column("entry_id", Type.STRING, length=64),),
    values=(
        Column("logged_at", Type.TIMESTAMP),
        Column("event", Type.STRING, length=16),
        Column("dataset", Type.STRING, length=32),
        PROVIDER,
        Column("symbol", Type.STRING, length=64, nullable=True),
        Column("first_session", Type.DATE),
        Column("last_session", Type.DATE),
        Column("cells", Type.INTEGER),
        Column("decided_by", Type.STRING, length=500, nullable=True),
        Column("run_id", Type.STRING, length=250, nullable=True),
        Column("reason", Type.STRING, length=1000),
    ),
)
"""Refusals and quarantined cells, by run and reason, and decisions of people; ``symbol`` is null where several are meant."""

LOAD_AUDIT = (
    LOAD_ID,
    Column("table_name", Type.STRING, length=64),
    Column("rows_in", Type.INTEGER),
    Column("rows_changed", Type.INTEGER),
    LOADED_AT,
)
DAG_ID, RUN_ID = (Column(name, Type.STRING, length=250, nullable=True) for name in ("dag_id", "run_id"))
"""The run that a load is of, as Airflow has it; added to ``load_audit`` later, so null of older loads, and of those by hand."""

SCHEMA_VERSION = (
    Column("version", Type.INTEGER),
    Column("name", Type.STRING, length=64),
    Column("applied_at", Type.TIMESTAMP),
)


def table(name: str | None) -> Table:
    """Return the tables called ``name``: a dataset's ``table``.

    :raises ConfigError: if there are none, as for a dataset that stays in the lake (None); says which there are.
    """
    if name not in TABLES:
        raise ConfigError(f"warehouse table is {name!r}; known tables: {', '.join(sorted(TABLES))}")
    return TABLES[name]
