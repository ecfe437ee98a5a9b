"""Bars in files of older tools: other names and types of columns, times in any zone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from market_data.datasets.bars import PRICES
from market_data.datasets.base import UTC_MICROS

if TYPE_CHECKING:
    from market_data.core.calendar import Calendar
    from market_data.datasets.base import Dataset

TIME = (
    "timestamp",
    "datetime",
    "bar_time",
    "ts",
    "time",
    "date",
    "t",
    "window_start",
    "index",
    "__index_level_0__",
    "unnamed:_0",
    "session",
)
NAMES: Mapping[str, tuple[str, ...]] = {
    "symbol": ("symbol", "ticker", "sym"),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "c"),
    "adj_close": ("adj_close", "adjclose", "adjusted_close"),
    "volume": ("volume", "v", "vol"),
    "vwap": ("vwap", "vw"),
    "trade_count": ("trade_count", "trades", "transactions", "num_trades", "n"),
}
IGNORED = {"year", "month", "day", "date", "timeframe", "interval", "provider", "source", "session", "ingest_ts", *TIME}
OPTIONAL = ("adj_close", "volume", "vwap", "trade_count")
OPENS, CLOSES = 4 * 60, 20 * 60
"""Minutes of the day in New York from which, and until which, shares trade."""
REGULAR = (9 * 60 + 30, 16 * 60)
CLEAR = 0.05
"""Two time zones differ clearly if the shares of rows in trading hours differ by more."""
UTC, LOCAL = "UTC", "exchange"


class NotBarsError(ValueError):
    """A file does not hold bars. The message follows its key."""


@dataclass(frozen=True)
class OldRows:
    """Bars of a file.

    :param rows: columns of ``dataset.received``; ``bar_time`` and ``session`` are null where the time cannot be read.
    :param unknown: columns that were left out.
    :param zone: the zone in which times without one were read: ``UTC``, ``exchange``, or empty.
    """

    rows: pa.Table
    unknown: tuple[str, ...] = field(default=())
    zone: str = ""


def convert(table: pa.Table, symbol: str, dataset: Dataset, calendar: Calendar, zone: str = "") -> OldRows:
    """Return the bars of a table.

    :param symbol: for a table without a column of symbols.
    :param zone: how to read times without a zone: ``UTC`` or ``exchange``. Empty: as the hours of trading show.
    :raises NotBarsError: if columns are missing or of a wrong type, or the zone is not clear.
    """
    table = _plain(table)
    places = {"_".join(name.strip().lower().split()): name for name in table.column_names}
    time = next((places[name] for name in TIME if name in places and _may_be_time(table[places[name]].type)), None)
    found = {field: next((places[name] for name in names if name in places), None) for field, names in NAMES.items()}
    missing = [name for name in PRICES if found[name] is None] + ([] if time else ["a time (timestamp, date, datetime, ts)"])
    if missing:
        raise NotBarsError(f"columns are missing: {', '.join(missing)}; it has {', '.join(table.column_names)}"[:300])
    moments, aware = _moments(table[time])
    used = ""
    if dataset.is_intraday and not aware:
        used = zone or _zone_of(moments, calendar)
        moments = moments.cast(UTC_MICROS) if used == UTC else _localised(moments, calendar)
    elif dataset.is_intraday:
        moments = moments.cast(UTC_MICROS)
    session = _sessions(moments, calendar) if dataset.is_intraday else _dates(moments, calendar, aware=aware)
    bar_time = moments if dataset.is_intraday else session.cast(pa.timestamp("us")).cast(UTC_MICROS)
    columns: dict[str, Any] = {"bar_time": bar_time, "session": session}
    for received in dataset.received:
        name = found.get(received.name)
        if received.name == "symbol":
            columns["symbol"] = table[name].cast(pa.string()) if name else pa.repeat(symbol, len(table))
        elif received.name not in columns:
            columns[received.name] = _number(table[name], received) if name else pa.nulls(len(table), received.type)
    known = {name for names in NAMES.values() for name in names} | IGNORED
    unknown = tuple(name for plain, name in places.items() if plain not in known)
    return OldRows(pa.table([columns[name] for name in dataset.received.names], names=dataset.received.names), unknown, used)


def out_of_hours(rows: pa.Table, calendar: Calendar) -> Any:
    """Return a mask of the rows of shares outside 04:00 to 20:00 New York time."""
    if calendar.name != "XNYS":
        return pa.repeat(False, len(rows))
    minutes = _minutes(pc.local_timestamp(rows["bar_time"].cast(pa.timestamp("us", tz=str(calendar.zone)))))
    return pc.fill_null(pc.or_(pc.less(minutes, OPENS), pc.greater_equal(minutes, CLOSES)), False)


def _plain(table: pa.Table) -> pa.Table:
    """Return the table without dictionaries."""
    for place, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type):
            table = table.set_column(place, column.name, table[column.name].cast(column.type.value_type))
    return table


def _may_be_time(kind: pa.DataType) -> bool:
    return pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_integer(kind) or _is_text(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _moments(column: pa.ChunkedArray) -> tuple[Any, bool]:
    """Return times in microseconds, null where unreadable, and whether they had a zone (now UTC)."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        unit = column.cast(pa.timestamp("us", tz=kind.tz), safe=False)
        return (unit.cast(UTC_MICROS), True) if kind.tz else (unit, False)
    if pa.types.is_date(kind):
        return column.cast(pa.date32()).cast(pa.timestamp("us")), False
    if pa.types.is_integer(kind):
        return _of_numbers(column.cast(pa.int64()))
    return _of_texts(column.cast(pa.string()))


def _of_numbers(column: pa.ChunkedArray) -> tuple[Any, bool]:
    """Return the times of epochs in s, ms, us or ns, or of numbers such as 20240915."""
    largest = pc.max(pc.abs(column)).as_py() or 0
    if 19_000_101 <= largest <= 21_001_231:
        return _of_texts(column.cast(pa.string()))
    unit = next(unit for unit, most in (("s", 10**11), ("ms", 10**14), ("us", 10**17), ("ns", 2**63)) if largest < most)
    return column.cast(pa.timestamp(unit)).cast(pa.timestamp("us"), safe=False).cast(UTC_MICROS), True


def _of_texts(column: pa.ChunkedArray) -> tuple[Any, bool]:
    text = pc.utf8_trim_whitespace(column)
    text = pc.replace_substring_regex(text, r"^(\d{4})(\d{2})(\d{2})$", r"\1-\2-\3")
    text = pc.replace_substring_regex(text, r"([+-]\d{2})(\d{2})$", r"\1:\2")
    good = pc.fill_null(
        pc.match_substring_regex(
            text,
            r"^\d{4}-(0[1-9]|1[0-2])-([0-2]\d|3[01])([ T]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2})?)?$",
        ),
        False,
    )
    zoned = pc.fill_null(pc.match_substring_regex(text, r"[ T].*(Z|[+-]\d{2}:\d{2})$"), False)
    aware = bool(pc.any(zoned).as_py())
    kept = pc.if_else(pc.and_(good, pc.equal(zoned, aware)), text, None)
    kind = UTC_MICROS if aware else pa.timestamp("us")
    try:
        return kept.cast(kind), aware
    except pa.ArrowInvalid:  # 31 June: find the odd ones out
        values = [_one(value, kind) for value in kept.to_pylist()]
        return pa.chunked_array([pa.array(values, kind)]), aware


def _one(text: str | None, kind: pa.DataType) -> Any:
    try:
        return pa.scalar(text).cast(kind).as_py() if text else None
    except pa.ArrowInvalid:
        return None


def _minutes(local: Any) -> Any:
    return pc.add(pc.multiply(pc.hour(local), 60), pc.minute(local))


def _localised(moments: Any, calendar: Calendar) -> Any:
    """Return times of the exchange's clock in UTC.

    Those that the clock skips or repeats are at night, outside any session.
    """
    zoned = pc.assume_timezone(moments, str(calendar.zone), ambiguous="earliest", nonexistent="earliest")
    return zoned.cast(UTC_MICROS)


def _zone_of(moments: Any, calendar: Calendar) -> str:
    """Return the zone in which more of the times are in trading hours.

    :raises NotBarsError: if both are as likely.
    """
    as_local = _hours(_minutes(moments))
    as_utc = _hours(_minutes(pc.local_timestamp(moments.cast(UTC_MICROS).cast(pa.timestamp("us", tz=str(calendar.zone))))))
    for one, other in zip(as_utc, as_local, strict=True):
        if abs(one - other) > CLEAR:
            return UTC if one > other else LOCAL
    raise NotBarsError("times have no zone, and the hours do not tell which it is; say it (UTC or exchange)")


def _hours(minutes: Any) -> tuple[float, float]:
    """Return the shares of times in extended and in regular hours."""
    return tuple(  # type: ignore[return-value]
        pc.mean(pc.and_(pc.greater_equal(minutes, start), pc.less(minutes, end)).cast(pa.float64())).as_py() or 0.0
        for start, end in ((OPENS, CLOSES), REGULAR)
    )


def _dates(moments: Any, calendar: Calendar, *, aware: bool) -> Any:
    """Return the sessions of daily bars.

    Vendors stamp midnight or the close, in UTC or in the exchange's zone.
    """
    if not aware:
        return moments.cast(pa.date32(), safe=False)
    midnight = pc.all(pc.equal(pc.floor_temporal(moments, unit="day"), moments)).as_py()
    local = moments if midnight else moments.cast(pa.timestamp("us", tz=str(calendar.zone)))
    return pc.local_timestamp(local).cast(pa.date32(), safe=False)


def _sessions(moments: Any, calendar: Calendar) -> Any:
    """Return the sessions of intraday bars."""
    if calendar.name == "XNYS":
        return pc.local_timestamp(moments.cast(pa.timestamp("us", tz=str(calendar.zone)))).cast(pa.date32(), safe=False)
    hours = pc.floor_temporal(moments, unit="minute", multiple=30)
    distinct = pc.unique(hours)
    days = pa.array([calendar.session_of(moment) if moment else None for moment in distinct.to_pylist()], pa.date32())
    return days.take(pc.index_in(hours, distinct).combine_chunks())


def _number(column: pa.ChunkedArray, received: pa.Field) -> Any:
    """Return a column of numbers; NaN, which pandas writes for none, becomes null in optional ones.

    :raises NotBarsError: if it holds something else.
    """
    try:
        values = column.cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise NotBarsError(f"column {received.name} is {column.type} and holds something else than numbers") from None
    if received.name in OPTIONAL:
        values = pc.if_else(pc.is_nan(values), None, values)
    if pa.types.is_integer(received.type):
        values = pc.round(values)
    return values.cast(received.type)
