"""The terms that describe datasets: `Dataset`, its lake files (`Files`) and its rules.

The rules use `Rule`, `Check` and `Received`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from market_data.core.batch import Request
from market_data.core.dates import dates_of
from market_data.core.instruments import kind_of
from market_data.core.key_order import is_ascending, run_starts, texts_of
from market_data.core.run import Grain

UTC_MICROS = pa.timestamp("us", tz="UTC")
UTC_NANOS = pa.timestamp("ns", tz="UTC")

Mask = Any
"""pa.ChunkedArray or pa.Array of bool, one per row; null counts as false."""


@dataclass(frozen=True)
class Files:
    """Which rows share a lake file. Rows of one file are adjacent when sorted by the dataset's key.

    :param year_grain: the span of one symbol's file with ``file_grain=year``; with ``day`` it is always a session.
    :param date: column of the date that names a file: ``session``, or another column that is never later than ``session``. In that
        case each date has a file of its own, whatever the grain, in a folder ``docdate=``.
    :param kind: column whose values are folders ``type=`` above the symbols; None: no such folder.
    :param kinds: the values of the column ``kind``.
    :param grains: the values of ``file_grain`` that the dataset may have.
    """

    year_grain: Literal["day", "month", "year"] = "day"
    date: str = "session"
    kind: str | None = None
    kinds: tuple[str, ...] = ()
    grains: tuple[Grain, ...] = ("day", "year")


@dataclass(frozen=True)
class Dataset:
    """A kind of market data. Its cells are symbol x session; a cell may hold no row, one or many.

    :param name: the field's schema name, e.g. ``ohlcv-1d``.
    :param folder: the lake's folder below the raw prefix.
    :param received: columns that a provider's hook returns, normalised; ``symbol`` and ``session`` among them.
    :param schema: columns of a lake file: ``received`` plus provider and ingest_ts, and timeframe for bars.
    :param key: columns that identify a row within a provider, in the sort order of files.
    :param values: columns that a restatement can change; equal values mean no change.
    :param table: the warehouse tables are ``bronze_{table}`` and ``silver_{table}``; None: the dataset stays in the lake.
    :param rules: what a received row must satisfy, in the order that reasons are given.
    :param timeframe: ``1d``, ``5m`` or ``1m`` for bars; else empty.
    :param placeholders: values that mean "none"; the gate makes them null.
    :param files: how the lake stores it.
    :param settle_sessions: sessions after its own during which vendors still add rows; scheduled runs fetch it again until then.
    :param grows: a cell that has rows may get more until it is final.
    :param published: a column of ``values``: the date on which a row was published. If two rows have the same key, the one published
        later is current, whenever each was first seen.
    :param withdrawn: a column of ``values`` that marks a row which a later whole response no longer held; empty: a stored row
        that a response lacks is kept.
    :param identify: returns rows, received or stored, with the part of their key that is made of their values, each row once. Stored rows
        of an earlier version pass through it whenever they are read.
    :param contradictions: returns a sentence per group of rows that cannot all be true.
    :param busy: at least one symbol has rows in every session. An empty response for many symbols is treated as truncated.
    """

    name: str
    folder: str
    received: pa.Schema
    schema: pa.Schema
    key: tuple[str, ...]
    values: tuple[str, ...]
    table: str | None
    rules: tuple[Rule, ...]
    timeframe: str = ""
    placeholders: tuple[Placeholder, ...] = ()
    files: Files = Files()
    busy: bool = False
    settle_sessions: int = 3
    grows: bool = False
    published: str = ""
    withdrawn: str = ""
    identify: Callable[[pa.Table], pa.Table] | None = None
    contradictions: Callable[[pa.Table], list[str]] | None = None

    def identified(self, rows: pa.Table) -> pa.Table:
        """Return ``rows`` after `identify`, if the dataset has one."""
        return rows if self.identify is None else self.identify(rows)

    @property
    def is_bars(self) -> bool:
        """True if its rows are bars: a symbol that trades has some in every session."""
        return bool(self.timeframe)

    @property
    def optional(self) -> tuple[str, ...]:
        """Values of bars that not every endpoint returns. A null there does not replace a stored value."""
        return tuple(name for name in self.values if self.is_bars and self.schema.field(name).nullable)

    @property
    def follows_trading(self) -> bool:
        """True if its rows come from trades.

        Then a session gains rows as long as it is traded, in the evening too.
        """
        return self.is_bars or self.busy

    @property
    def is_intraday(self) -> bool:
        """True if its rows are bars within the day."""
        return self.is_bars and self.timeframe != "1d"

    @property
    def has_session_files(self) -> bool:
        """True if a file may hold all symbols of a session: ``file_grain=session``."""
        return "session" in self.files.grains


def stored(received: pa.Schema, timeframe: str = "") -> pa.Schema:
    """Return the columns of a lake file.

    These are the received ones, ``timeframe`` for bars, ``provider`` and ``ingest_ts``.
    """
    fields = list(received)
    if timeframe:
        fields.insert(1, pa.field("timeframe", pa.string(), nullable=False))
    return pa.schema(
        [*fields, pa.field("provider", pa.string(), nullable=False), pa.field("ingest_ts", UTC_MICROS, nullable=False)]
    )


def required(name: str, kind: pa.DataType) -> pa.Field:
    """Return a column that is never null."""
    return pa.field(name, kind, nullable=False)


# -- checks: the part of a rule that stored rows satisfy too ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NotNull:
    """``column`` has a value: neither null nor NaN."""

    column: str


@dataclass(frozen=True, slots=True)
class InRange:
    """``low <= column < high``, or null; a bound of None does not apply."""

    column: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class OneOf:
    """The value is one of ``values``, or null."""

    column: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AtLeast:
    """``above`` is at least ``below``, or one of them is null."""

    above: str
    below: str


@dataclass(frozen=True, slots=True)
class PositivePrice:
    """``column`` is at least ``low``, or null, or the symbol is of a kind whose prices may be negative."""

    column: str
    low: float


Check = NotNull | InRange | OneOf | AtLeast | PositivePrice

Signed = Callable[[str], bool]
"""Tells if the prices of a symbol may be zero or negative."""


def signed_by_spelling(symbol: str) -> bool:
    """Return True if the spelling of ``symbol`` is that of a kind whose prices may be zero or negative."""
    return kind_of(symbol).signed_prices


def unsigned(symbols: pa.ChunkedArray, signed: Signed) -> Mask:
    """Return a mask of the rows whose symbols have positive prices only."""
    known = pc.unique(symbols).to_pylist()
    positive = [symbol for symbol in known if symbol is None or not signed(symbol)]
    return pc.is_in(symbols, pa.array(positive, pa.string())) if len(positive) < len(known) else pa.repeat(True, len(symbols))


# -- rules ------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """A requirement on received rows.

    :param name: name in documents, the same as in the checkpoint where both have the rule.
    :param demand: the requirement in words.
    :param broken: returns the rows that break it.
    :param reason: the message for such a row; ``{field}`` is replaced by the row's value.
    :param check: the requirement on stored rows, which the checkpoint verifies on its own; None: only the gate can see it.
    :param kept: returns True if no row breaks it, at a small part of the cost of ``broken``; False also where that is not known.
    """

    name: str
    demand: str
    broken: Callable[[Received], Mask]
    reason: str
    check: Check | None = None
    kept: Callable[[Received], bool] = lambda _: False


@dataclass(frozen=True)
class Placeholder:
    """Values of a column by which vendors say "none".

    :param column: nullable.
    :param found: returns the rows that have such a value.
    :param demand: the values, in words.
    :param absent: as ``Rule.kept``: returns True if no row has such a value.
    """

    column: str
    found: Callable[[Received], Mask]
    demand: str
    absent: Callable[[Received], bool]


@dataclass(frozen=True)
class Received:
    """The rows of one response, with what they are judged against.

    :param rows: columns of ``dataset.received``.
    :param sessions: the exchange's sessions, at least those inside the request.
    :param signed: tells if the prices of a symbol may be zero or negative; a provider's spellings may mean something of their own.
    """

    dataset: Dataset
    rows: pa.Table
    request: Request
    sessions: Sequence[date]
    signed: Signed = signed_by_spelling

    def __getitem__(self, field: str) -> pa.ChunkedArray:
        return self._columns[field]

    @cached_property
    def _columns(self) -> dict[str, pa.ChunkedArray]:
        return dict(zip(self.rows.column_names, self.rows.columns, strict=True))

    def extent(self, field: str) -> tuple[float, float] | None:
        """Return the lowest and the highest value of a column of numbers; None if one is not a finite number.

        Nulls are left aside. Without any value, the lowest is infinity and the highest minus infinity.
        """
        if field not in self._extents:
            column = self[field]
            values = (column.drop_null() if column.null_count else column).to_numpy()
            low, high = (values.min(), values.max()) if len(values) else (np.inf, -np.inf)
            self._extents[field] = (low, high) if not len(values) or (np.isfinite(low) and np.isfinite(high)) else None
        return self._extents[field]

    @cached_property
    def _extents(self) -> dict[str, tuple[float, float] | None]:
        return {}

    def within(self, field: str, low: float, high: float = np.inf) -> bool:
        """Return True if all values of a column are finite, at least ``low`` and below ``high``.

        Nulls are left aside.
        """
        extent = self.extent(field)
        return extent is not None and extent[0] >= low and extent[1] < high

    def in_order(self, low: str, high: str) -> bool:
        """Return True if no row has more in the column ``low`` than in ``high``.

        False also if a value is null.
        """
        if self[low].null_count or self[high].null_count:
            return False
        return not (self[low].to_numpy() > self[high].to_numpy()).any()

    @cached_property
    def symbols(self) -> frozenset[str | None]:
        """The symbols of the rows."""
        return frozenset(texts_of(self["symbol"]))

    def requested(self, session: date) -> bool:
        """Return True if ``session`` is inside the request's intervals."""
        intervals = self.request.intervals
        place = bisect_right(intervals, session, key=lambda interval: interval.start) - 1
        return place >= 0 and session in intervals[place]

    @cached_property
    def unsigned(self) -> Mask:
        """Rows whose symbols have positive prices only."""
        return unsigned(self["symbol"], self.signed)

    @cached_property
    def are_ascending(self) -> bool:
        """True if each row is after the row before it by the dataset's key; False also if that is not known."""
        return is_ascending(self.rows, self._key)

    @property
    def _key(self) -> list[str]:
        return [name for name in self.dataset.key if name in self.rows.column_names]

    @cached_property
    def session_starts(self) -> NDArray[np.int64] | None:
        """The first row of each run of rows of one session; None if a row has none."""
        return run_starts(self.rows, ["session"])

    @cached_property
    def unexpected_sessions(self) -> tuple[list[date], list[date]]:
        """Sessions of the rows that are outside the request, and dates inside it without a session."""
        known = set(self.sessions)
        regular = known.intersection(self.request.sessions)
        starts = self.session_starts
        sessions = self["session"].drop_null() if starts is None else self["session"].take(starts)
        days = [day for day in dates_of(pc.unique(sessions)) if day not in regular]
        unexpected = [day for day in days if day not in known or not self.requested(day)]
        return [day for day in unexpected if not self.requested(day)], [day for day in unexpected if self.requested(day)]

    @cached_property
    def copies(self) -> tuple[Mask, Mask]:
        """Rows that repeat an earlier row in every value, and rows whose key has other values elsewhere."""
        key = self._key
        if self.are_ascending:
            none = pa.repeat(False, len(self.rows))
            return none, none
        places = _repeated([self[name] for name in key])
        again, conflicting = np.zeros(len(self.rows), dtype=bool), np.zeros(len(self.rows), dtype=bool)
        if len(places):  # rare; grouping all rows would take more memory than the rows themselves
            rows = self.rows.take(pa.array(places)).append_column("row", pa.array(places))
            distinct = rows.group_by(self.rows.column_names).aggregate([("row", "min")])
            variants = distinct.group_by(key).aggregate([("row_min", "count")])
            disputed = variants.filter(pc.greater(variants["row_min_count"], 1)).select(key)
            again[places], again[distinct["row_min"].to_numpy()] = True, False
            conflicting[rows.select([*key, "row"]).join(disputed, key, join_type="left semi")["row"].to_numpy()] = True
            again &= ~conflicting
        return pa.array(again), pa.array(conflicting)


def _repeated(columns: Sequence[pa.ChunkedArray]) -> NDArray[np.int64]:
    """Return the places of the rows that equal another row in all ``columns``, ascending. Nulls are equal."""
    codes = [_codes(column) for column in columns]
    order = np.lexsort(codes[::-1])
    shared = np.zeros(len(order), dtype=bool)
    if len(order):
        equal = np.logical_and.reduce([np.diff(code[order]) == 0 for code in codes])
        shared[1:] |= equal
        shared[:-1] |= equal
    return np.sort(order[shared])


def _codes(column: pa.ChunkedArray) -> NDArray[Any]:
    """Return integers that are equal where the values are."""
    if pa.types.is_string(column.type):
        return pc.index_in(column, pc.unique(column)).to_numpy()
    whole = column.cast(pa.int32()) if pa.types.is_date(column.type) else column
    return pc.fill_null(whole.cast(pa.int64()), np.iinfo(np.int64).min).to_numpy()
