"""Convert DBN records to columns: prices to dollars, numbers to names, moments to sessions.

All of it works on arrays, in chunks.

Layouts and null values: https://databento.com/docs/standards-and-conventions/common-fields-enums-types. A price is a whole number of
billionths; the highest number of a field's type means "none".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from databento_dbn import StatType, StatUpdateAction
from numpy.typing import NDArray

from market_data.core.calendar import CMES, at
from market_data.core.dates import EPOCH, microseconds
from market_data.datasets.base import UTC_MICROS, UTC_NANOS
from market_data.datasets.registry import dataset as find_dataset
from market_data.providers.databento.vendor_library import DBNStore
from market_data.providers.spool import Spool, groups_of, taken

CHUNK = 32_768
"""Records that are turned into columns at once."""
MOST_ROWS = 5_000_000
"""Records of one request, which are in memory at once."""
NUMBERED = 100_000
"""Rows that are given ordinals at once, apart from those of a symbol."""
SHOWN = 3

DAY = timedelta(days=1)
DAY_NANOS = 86_400_000_000_000
SCALE = 1e9
SHORTEST = timedelta(seconds=1)

STOCKS_END = time(20)
TRADES = ("trades", "tbbo")
"""Datasets whose rows have to be of the trading day of their session."""

Records = NDArray[np.void]
Ints = NDArray[np.int64]

STAT_TYPES = {int(kind): kind.name.lower() for kind in StatType.variants()}
ACTIONS = {int(action): action.name.lower() for action in StatUpdateAction.variants()}


class NotOfTheQuestionError(Exception):
    """Records that cannot be the response; says which."""


@dataclass(frozen=True)
class Days:
    """The sessions of a request, in order, and the time span of each one's records.

    There are three kinds. The vendor's daily bars use UTC days. Shares use days from midnight to midnight in New York. Futures begin at
    18:00 New York of the session before.

    :param dates: one before the first and one after the last included.
    :param begins: the moment from which on a record belongs to each, UTC.
    :param over: by when all records of each have come, UTC.
    """

    dates: Sequence[date]
    begins: Sequence[datetime]
    over: Sequence[datetime]

    @classmethod
    def utc(cls, first: date, last: date) -> Days:
        dates = _every(first, last)
        return cls(dates, [_utc(day) for day in dates], [_utc(day + DAY) for day in dates])

    @classmethod
    def new_york(cls, first: date, last: date) -> Days:
        dates = _every(first, last)
        return cls(dates, [at(day, time()) for day in dates], [at(day, STOCKS_END) for day in dates])

    @classmethod
    def futures(cls, first: date, last: date) -> Days:
        inside = CMES.sessions(first, last + DAY) or (first,)
        dates = [CMES.previous_session(inside[0]), *inside, CMES.next_session(inside[-1])]
        before = [CMES.previous_session(day) for day in dates]
        return cls(dates, [at(day, CMES.opens) for day in before], [at(day, CMES.closes) for day in dates])

    @property
    def span(self) -> tuple[datetime, datetime]:
        """From the begin of the first requested session (inclusive) to the end of the last one (exclusive)."""
        return self.begins[1], self.begins[-1]

    def first_open(self, moment: datetime) -> date | None:
        """Return the first requested session that is not over at ``moment``; None where all are."""
        return next((day for day, over in zip(self.dates[1:-1], self.over[1:-1], strict=True) if over > moment), None)

    def cut(self, start: datetime, end: datetime) -> datetime | None:
        """Return the moment at which to cut a span: between two sessions, near its middle.

        A span of one session is cut in its middle.

        None where it is too short to be cut.
        """
        middle = start + (end - start) / 2
        between = [begin for begin in self.begins if start < begin < end]
        if between:
            return min(between, key=lambda begin: abs(begin - middle))
        return middle if end - start > SHORTEST else None

    def of(self, moments: Ints) -> NDArray[np.datetime64]:
        """Return the session of each moment (nanoseconds UTC)."""
        begins = np.array([_nanos(begin) for begin in self.begins], np.int64)
        place = np.searchsorted(begins, moments, side="right") - 1
        return np.array(self.dates, "datetime64[D]")[place.clip(0)]


class Symbols:
    """Which symbol an instrument is called by on a date.

    Two symbols can stand for one instrument at a time (``ES.c.0`` and ``ES.v.0``); its records then belong to both. So there may be several
    layers, in each of which an instrument has one symbol at a time.

    :param mappings: of the stream's metadata: symbol -> spans of UTC dates with the instrument's id.
    :param names: symbols as they were sent -> as the caller has them.
    """

    BITS = 22  # for a day number

    def __init__(self, mappings: Mapping[str, Sequence[Mapping[str, Any]]], names: Mapping[str, str]) -> None:
        self.names = list(names.values())
        codes = {sent: code for code, sent in enumerate(names)}
        spans = sorted(
            (int(one["symbol"]), one["start_date"].toordinal(), one["end_date"].toordinal(), codes[sent])
            for sent, found in mappings.items()
            if sent in codes
            for one in found
            if one["symbol"]
        )
        layers: list[list[tuple[int, int, int, int]]] = []
        for span in spans:
            free = (layer for layer in layers if layer[-1][0] != span[0] or layer[-1][2] <= span[1])
            layer = next(free, None)
            if layer is None:
                layers.append([span])
            else:
                layer.append(span)
        self._layers = [np.array(layer, np.int64).T for layer in layers]

    def of(self, instruments: Ints, moments: Ints) -> list[NDArray[np.int64]]:
        """Return per layer the place in ``names`` of each record's symbol, -1 if it has none there.

        :param moments: nanoseconds UTC.
        """
        days = moments // DAY_NANOS + EPOCH.toordinal()
        wanted = (instruments << self.BITS) | days
        found = []
        for ids, starts, ends, codes in self._layers:
            place = (np.searchsorted((ids << self.BITS) | starts, wanted, side="right") - 1).clip(0)
            fits = (ids[place] == instruments) & (starts[place] <= days) & (days < ends[place])
            found.append(np.where(fits, codes[place], -1))
        return found


def every_day(symbols: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the mappings of instrument ids to themselves."""
    return {symbol: [{"start_date": date.min, "end_date": date.max, "symbol": symbol}] for symbol in symbols}


@dataclass
class Strays:
    """Records that were left aside: of moments or instruments that were not requested.

    :param named: what they are of.
    """

    count: int = 0
    named: dict[str, None] = field(default_factory=dict)


def read(
    store: DBNStore,
    dataset: str,
    symbols: Symbols,
    days: Days,
    span: tuple[datetime, datetime],
    strays: Strays | None = None,
    spool: Spool | None = None,
) -> tuple[pa.Table, int]:
    """Return all records of a stream as a table of ``dataset.received``, and the number of records.

    Ordinals are all 0: see `numbered`.

    :param spool: takes the rows; None: one of its own.
    :param span: what was requested; the records are in it by the moment at which the vendor got them, where they have one.
    :param strays: takes what is left aside; None: no record may be.
    :raises NotOfTheQuestionError: if most records are of other moments or instruments, and the stream is sound to its end.
    :raises BentoError, DBNError, ZstdError: where the stream is damaged.
    """
    schema, columns = find_dataset(dataset).received, COLUMNS[dataset]
    begin, end = (_nanos(moment) for moment in span)
    kept = Spool(schema) if spool is None else spool
    found = Strays() if strays is None else strays
    before, count = found.count, 0

    def add(records: NDArray[Any]) -> None:
        moments, got = _moments(records)
        outside = (got < begin) | (got >= end)
        layers = symbols.of(records["instrument_id"].astype(np.int64), got)
        known = np.any([codes >= 0 for codes in layers], axis=0) if layers else np.zeros(len(records), bool)
        if (strange := outside | ~known).any():
            found.count += int(strange.sum())
            for moment in got[outside][:SHOWN].astype("datetime64[ns]").astype("datetime64[s]"):
                found.named[f"records of {moment} UTC came"] = None
            for number in records["instrument_id"][~known & ~outside][:SHOWN]:
                found.named[f"the response has a record of the instrument {number}, to which no symbol resolves"] = None
        for codes in layers:
            mine = (codes >= 0) & ~outside
            rows, when, whose = (records, moments, codes) if mine.all() else (records[mine], moments[mine], codes[mine])
            placed = days.of(_possible(when, got[mine], days) if dataset in TRADES else when)
            common = {"symbol": _labels(whose, symbols.names.__getitem__), "session": pa.array(placed, pa.date32())}
            kept.add(_table(schema, {**common, **columns(rows, when)}, len(rows)))

    for records in store.to_ndarray(count=CHUNK):
        count += len(records)
        if count > MOST_ROWS:
            raise NotOfTheQuestionError(f"more than {MOST_ROWS:,} records came")
        add(records)
        del records  # before the next ones are decoded
    aside = found.count - before
    if 2 * aside > count or (aside and strays is None):
        raise NotOfTheQuestionError("; ".join([*found.named][:SHOWN]))
    return kept.table(), count


def of_sessions(table: pa.Table, days: Days) -> pa.Table:
    """Return the rows of futures whose date is a session."""
    sessions = CMES.sessions(days.dates[0], days.dates[-1] + DAY)
    return table.filter(pc.is_in(table["session"], pa.array(sessions, pa.date32())))


def numbered(table: pa.Table) -> pa.Table:
    """Return all rows of a request, with ordinals if the dataset has them.

    Rows are numbered over all streams, as equal keys may come from two of them.
    """
    if "ordinal" not in table.schema.names:
        return table
    numbers = np.zeros(len(table), np.int32)
    groups = groups_of(table, "symbol", NUMBERED) if len(table) > NUMBERED else None
    for pieces in groups or [[(0, len(table))]]:
        found = _ordinals_of(taken(table.select(["symbol", "ts_event", "sequence"]), pieces))
        for begin, end in pieces:
            numbers[begin:end], found = found[: end - begin], found[end - begin :]
    place = table.schema.get_field_index("ordinal")
    return table.set_column(place, table.schema.field(place), pa.array(numbers))


def _ordinals_of(rows: pa.Table) -> NDArray[np.int32]:
    symbols = pc.index_in(rows["symbol"], pc.unique(rows["symbol"])).to_numpy()
    return ordinals(symbols, rows["ts_event"].cast(pa.int64()).to_numpy() // 1000, rows["sequence"].to_numpy())


def ordinals(*keys: NDArray[Any]) -> NDArray[np.int32]:
    """Count rows of equal keys 0, 1, 2 ... in the order given."""
    order = np.lexsort(keys)  # which keeps the order of equals
    new = np.zeros(len(order), bool)
    new[:1] = True
    for ranked in (key[order] for key in keys):
        new[1:] |= ranked[1:] != ranked[:-1]
    places = np.arange(len(order), dtype=np.int32)
    result = np.empty(len(order), np.int32)
    result[order] = places - np.maximum.accumulate(np.where(new, places, 0))
    return result


# -- the columns of each dataset ---------------------------------------------------------------------------------------------------

Columns = dict[str, pa.Array]


def _bars(records: Records, moments: Ints) -> Columns:
    return {
        "bar_time": pa.array(moments // 1000).cast(UTC_MICROS),
        **{name: _price(records[name]) for name in ("open", "high", "low", "close")},
        "volume": _amount(records["volume"]),
    }


def _trades(records: Records, moments: Ints) -> Columns:
    return {
        **_event(records, moments),
        "price": _price(records["price"]),
        "size": _amount(records["size"]),
        "side": _labels(records["side"].view(np.uint8), lambda code: chr(code) if code else None),
    }


def _tbbo(records: Records, moments: Ints) -> Columns:
    quotes = {f"{side}_px": _price(records[f"{side}_px_00"]) for side in ("bid", "ask")}
    sizes = {f"{side}_sz": _amount(records[f"{side}_sz_00"]) for side in ("bid", "ask")}
    counts = {f"{side}_ct": pa.array(records[f"{side}_ct_00"].astype(np.int64)) for side in ("bid", "ask")}
    return {**_trades(records, moments), **quotes, **sizes, **counts}


def _statistics(records: Records, moments: Ints) -> Columns:
    return {
        **_event(records, moments),
        "stat_type": _labels(records["stat_type"], lambda code: STAT_TYPES.get(code, str(code))),
        "ts_ref": _masked(records["ts_ref"], records["ts_ref"].astype(np.int64)).cast(UTC_NANOS),
        "price": _price(records["price"]),
        "quantity": _amount(records["quantity"]),
        "update_action": _labels(records["update_action"], lambda code: ACTIONS.get(code, str(code))),
    }


def _event(records: Records, moments: Ints) -> Columns:
    return {
        "ts_event": pa.array(moments).cast(UTC_NANOS),
        "sequence": pa.array(records["sequence"].astype(np.int64)),
        "ordinal": pa.array(np.zeros(len(records), np.int32)),  # see `numbered`
        "venue": _labels(records["publisher_id"], str),
    }


COLUMNS: Mapping[str, Callable[[Records, Ints], Columns]] = {
    "ohlcv-1d": _bars,
    "ohlcv-1m": _bars,
    "trades": _trades,
    "tbbo": _tbbo,
    "statistics": _statistics,
}


def _table(schema: pa.Schema, columns: Columns, rows: int) -> pa.Table:
    """Columns that the vendor does not have are null."""
    return pa.table([columns.get(field.name, pa.nulls(rows, field.type)) for field in schema], schema=schema)


def _moments(records: Records) -> tuple[Ints, Ints]:
    """Return when each record happened and when the vendor received it, in nanoseconds UTC.

    Both are equal if only one is known.
    """
    event = records["ts_event"]
    got = records["ts_recv"] if "ts_recv" in (records.dtype.names or ()) else event
    return np.where(event == np.iinfo(event.dtype).max, got, event).astype(np.int64), got.astype(np.int64)


def _possible(moments: Ints, got: Ints, days: Days) -> Ints:
    """Return when each record happened, or was received if that is long before or after the request.

    The gate rejects such a record: it is then found under the session that it is missing from.
    """
    first, last = _nanos(days.begins[0]), _nanos(days.begins[-1] + DAY)
    return np.where((moments < first) | (moments >= last), got, moments)


def _price(values: NDArray[Any]) -> pa.Array:
    return _masked(values, values / SCALE)


def _amount(values: NDArray[Any]) -> pa.Array:
    return _masked(values, values.astype(np.float64))


def _masked(raw: NDArray[Any], values: NDArray[Any]) -> pa.Array:
    """``values``, null where ``raw`` is its type's highest number."""
    return pa.array(values, mask=raw == np.iinfo(raw.dtype).max)


def _labels(codes: NDArray[Any], label: Callable[[int], str | None]) -> pa.Array:
    """Return the name of each number; few of them are different."""
    known, places = np.unique(codes, return_inverse=True)
    return pa.array([label(int(code)) for code in known], pa.string()).take(pa.array(places))


def _every(first: date, last: date) -> list[date]:
    return [first + n * DAY for n in range(-1, (last - first).days + 2)]


def _utc(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _nanos(moment: datetime) -> int:
    return microseconds(moment) * 1000
