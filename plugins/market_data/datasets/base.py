"""What a dataset is: its columns, key, rules, lake files, table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

if TYPE_CHECKING:
    from market_data.datasets.rules import Rule

UTC_MICROS = pa.timestamp("us", tz="UTC")
UTC_NANOS = pa.timestamp("ns", tz="UTC")


@dataclass(frozen=True)
class Files:
    """Which rows share a lake file. Rows of one file lie together when sorted by the dataset's key.

    :param year_grain: what a file of a symbol holds with ``file_grain=year``; with ``day`` it is always a session.
    :param date: column of the date that a file is named by: ``session``, or another that no session is earlier than. A file is then
        one of that date, whatever the grain, in a folder ``docdate=``.
    :param kinds: values of the column ``kind``, each a folder ``type=`` above the symbols; none: no such folder.
    :param kind: see ``kinds``.
    """

    year_grain: Literal["day", "month", "year"] = "day"
    date: str = "session"
    kind: str | None = None
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """A kind of market data. Its cells are symbol x session; each may hold no row, one or many.

    :param name: the field's schema name, e.g. ``ohlcv-1d``.
    :param folder: the lake's folder below the raw prefix.
    :param received: columns of what a hook returns: what the provider said, normalised; ``symbol`` and ``session`` among them.
    :param schema: columns of a lake file: ``received`` plus provider and ingest_ts, and timeframe where there is one.
    :param key: columns that identify a row within a provider; in the order that files are sorted by.
    :param values: columns that a restatement can change; equal values mean no change.
    :param table: the warehouse tables are ``bronze_{table}`` and ``silver_{table}``; None: it stays in the lake.
    :param rules: what a received row must be, in the order that reasons are given.
    :param timeframe: of bars: ``1d``, ``5m``, ``1m``; else empty.
    :param files: how the lake lays it out.
    :param settle_sessions: sessions after its own until which vendors still add rows to a session; scheduled runs ask again until then.
    :param grows: a cell that has rows may get more until it is settled.
    :param published: a column of ``values``: the date on which a row was published. Of two rows of a key the one published later stands,
        whenever they were seen.
    :param busy: something of it happens in every session, if only for one symbol: none at all of many symbols is no whole answer.
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
    files: Files = Files()
    busy: bool = False
    settle_sessions: int = 3
    grows: bool = False
    published: str = ""

    @property
    def is_bars(self) -> bool:
        """Whether its rows are bars: a symbol that trades has some in every session."""
        return bool(self.timeframe)

    @property
    def optional(self) -> tuple[str, ...]:
        """Values of bars that not every endpoint of a provider has. A row that lacks one says nothing of it."""
        return tuple(name for name in self.values if self.is_bars and self.schema.field(name).nullable)

    @property
    def follows_trading(self) -> bool:
        """Whether it comes of trades: there is more of a session as long as it is traded, in the evening too."""
        return self.is_bars or self.busy

    @property
    def is_intraday(self) -> bool:
        """Whether its rows are bars within the day."""
        return self.is_bars and self.timeframe != "1d"


def stored(received: pa.Schema, timeframe: str = "") -> pa.Schema:
    """The columns of a lake file: what was received, of which timeframe, from whom, and since when known."""
    fields = list(received)
    if timeframe:
        fields.insert(1, pa.field("timeframe", pa.string(), nullable=False))
    return pa.schema(
        [*fields, pa.field("provider", pa.string(), nullable=False), pa.field("ingest_ts", UTC_MICROS, nullable=False)]
    )


def required(name: str, kind: pa.DataType) -> pa.Field:
    """A column that is never null."""
    return pa.field(name, kind, nullable=False)
