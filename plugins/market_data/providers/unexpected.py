"""Separate rows of something else, and rows that cannot be read, from the requested ones.

A row of another symbol or date is left aside and counted. A row with an unreadable field is quarantined, with its other fields and a
reason. The other rows of the response are kept. Three limits keep this from hiding missing data:

* Rows of something else that are more than half of a response make it the response to another request: an error.
* Unreadable rows that are more than half of a response are another form of the response: `SchemaDrift`.
* If such a row may be the one that a requested symbol lacks, the response is requested once more. If the row comes again, nothing is
  proved of the symbol's cells without rows (``unproved``): they get no state, in particular not ``empty``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.batch import Request
from market_data.core.errors import ServerError
from market_data.core.key_order import texts_of
from market_data.core.messages import shown, some
from market_data.core.request_rows import without_rows
from market_data.providers.responses import drift

SHOWN = 3
LONGEST_VALUE = 60
"""Characters of a value that a reason shows."""
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
MANY = 1_000
"""Odd rows from which a response is refused as soon as they are most of it: the reasons of all would take memory."""
LARGEST_COUNT = 2**63 - 1
S = TypeVar("S", bound=msgspec.Struct)

Problems = dict[int, list[str]]
"""Place of a row in its response -> what is wrong with its fields."""


@dataclass(frozen=True)
class Unexpected:
    """The rows of a response beside the readable ones of the request.

    :param left_aside: number of rows that are not of the request.
    :param named: what they are of, each once.
    :param odd: rows that cannot be read, with ``reasons``; None: there are none.
    :param unproved: symbol -> why its cells without rows are not known to be empty.
    :param anyones: why the same is true of every symbol without rows; empty: it is not.
    """

    left_aside: int = 0
    named: tuple[str, ...] = ()
    odd: pa.Table | None = None
    unproved: Mapping[str, str] = field(default_factory=dict)
    anyones: str = ""

    @classmethod
    def of(cls, parts: Iterable[Unexpected], request: Request, rows: pa.Table, refused: Collection[str] = ()) -> Unexpected:
        """Return the sum over all pages of a response.

        :param rows: the readable rows of all pages. Those between the cells of the request prove nothing of a symbol.
        :param refused: symbols that the provider rejected.
        """
        parts = list(parts)
        tables = [part.odd for part in parts if part.odd is not None]
        unproved = {symbol: why for part in parts for symbol, why in part.unproved.items()}
        if anyones := next((part.anyones for part in parts if part.anyones), ""):
            absent = {symbol for _, symbols in without_rows(rows, request) for symbol in symbols}
            unproved |= dict.fromkeys(sorted(absent - {*unproved, *refused}), anyones)
        return cls(
            sum(part.left_aside for part in parts),
            tuple(dict.fromkeys(name for part in parts for name in part.named)),
            pa.concat_tables(tables) if tables else None,
            unproved,
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence for the user, or nothing."""
        if not self.left_aside:
            return ()
        rows = "1 row that was" if self.left_aside == 1 else f"{self.left_aside:,} rows that were"
        return (f"{rows} not requested came and {'is' if self.left_aside == 1 else 'are'} left aside: {some(self.named, SHOWN)}",)


NOTHING = Unexpected()


def separated(
    table: pa.Table, problems: Problems, request: Request, where: Mapping[str, str], *, market: bool = False
) -> tuple[pa.Table, Unexpected]:
    """Return the readable rows of a request, and what else a page holds.

    :param table: all rows, in the columns of ``dataset.received``. ``bar_time`` is null where it cannot be read, ``session`` there and
        outside the request's dates, ``symbol`` where it cannot be read.
    :param problems: of the rows that cannot be read.
    :param market: the page regularly holds every symbol of the market.
    :raises ServerError: if more than half of the rows are not of the request.
    """
    symbols = table["symbol"]
    outside = pc.and_(pc.is_null(table["session"]), pc.is_valid(table["bar_time"]))
    usual = not problems and not pc.any(outside).as_py()
    if usual and texts_of(symbols) <= {*request.symbols, None}:
        return table, NOTHING
    named = pc.or_(pc.is_null(symbols), pc.is_in(symbols, pa.array(request.symbols, pa.string())))
    if usual and market:
        return table.filter(named), NOTHING
    odd = pa.array(np.isin(np.arange(len(table)), list(problems)))
    placed = pc.and_(named, pc.invert(outside))
    strays = table.filter(outside if market else pc.invert(placed))
    unexpected = [] if market else pc.unique(table.filter(pc.invert(named))["symbol"]).to_pylist()
    moments = pc.unique(table.filter(outside)["bar_time"]).slice(0, 100).to_pylist()
    of = tuple(dict.fromkeys([*map(shown_name, unexpected[:100]), *(f"{moment:%Y-%m-%d}" for moment in moments)]))
    said = f"rows of {some(of, SHOWN)} came"
    if 2 * len(strays) > len(table):
        raise ServerError(said, **where)
    kept = table.filter(pc.and_(placed, pc.invert(odd)))
    places = pc.indices_nonzero(pc.and_(placed, odd)).to_pylist()
    lost = dict.fromkeys(pc.unique(table.filter(pc.and_(named, outside))["symbol"].drop_null()).to_pylist(), said)
    if market:  # every row is of the one session
        dated = pc.if_else(pc.is_null(table["bar_time"]), pa.scalar(request.start, pa.date32()), table["session"])
        table = table.set_column(table.schema.get_field_index("session"), "session", dated)
    rejected = odd_rows(table, problems, places)
    anyones = said if unexpected else ""
    if rejected is not None:
        undated = rejected.filter(pc.is_null(rejected["session"]))
        lost |= {symbol: "a row came whose date cannot be read" for symbol in undated["symbol"].to_pylist() if symbol is not None}
        if rejected["symbol"].null_count:
            anyones = "a row came whose symbol cannot be read"
    present = set(pc.unique(kept["symbol"]).to_pylist()) if market else set()
    unproved = {symbol: why for symbol, why in lost.items() if symbol not in present}
    return kept, Unexpected(len(strays), of, rejected, unproved, anyones)


def shown_name(symbol: str) -> str:
    """Return a symbol that was not requested, fit for a message."""
    return symbol if symbol.isascii() and symbol.isprintable() and len(symbol) <= 32 else shown(symbol, 32)


def read_rows(rows: Sequence[Any], kind: type[S], where: Mapping[str, str]) -> tuple[list[S], Problems]:
    """Return the rows of a page, and what is wrong with some: their unreadable fields are None.

    :param rows: of ``kind``, or all `msgspec.Raw`.
    :raises SchemaDrift: if more than half of them cannot be read.
    """
    if not any(isinstance(row, msgspec.Raw) for row in rows[:1]):
        return list(rows), {}
    found: list[S] = []
    problems: Problems = {}
    others = [row for row in rows if memoryview(row)[0] != ord("{")]
    if 2 * len(others) > len(rows) > 1:  # known without reading them: the reasons of so many would take memory
        raise drift(
            where, f"the row is {raw_text(others[0])}, not an object, and {len(others):,} of {len(rows):,} rows are like that"
        )
    for place, row in enumerate(rows):
        known, wrong = read_row(row, kind)
        found.append(known)
        if wrong:
            problems[place] = wrong
            if len(problems) > MANY:
                checked(problems, len(rows), where)
    return found, checked(problems, len(rows), where)


def read_row(row: Any, kind: type[S]) -> tuple[S, list[str]]:
    """Return a row, and what is wrong with it: its unreadable fields are None.

    :param row: of ``kind``, or `msgspec.Raw`.
    """
    if not isinstance(row, msgspec.Raw):
        return row, []
    try:
        return msgspec.json.decode(row, type=kind), []
    except UNREADABLE:
        return _salvaged(row, kind)


def checked(problems: Problems, rows: int, where: Mapping[str, str]) -> Problems:
    """Return ``problems``.

    :raises SchemaDrift: if they are of more than half of several rows.
    """
    if rows > 1 and 2 * len(problems) > rows:
        common, _ = Counter(text.partition(" is ")[0] for texts in problems.values() for text in texts).most_common(1)[0]
        example = next(text for texts in problems.values() for text in texts if text.startswith(common))
        raise drift(where, f"{example}, and {len(problems):,} of {rows:,} rows are like that")
    return problems


def whole_numbers(values: Sequence[float | None], name: str, problems: Problems) -> pa.Array:
    """Return a field of all rows as 64-bit whole numbers, null where it is not one.

    The places of other values are added to ``problems``.

    :param name: the vendor's name of the field, for the reasons.
    """
    with suppress(OverflowError):
        if set(map(type, values)) <= {int, type(None)}:  # the usual case, in columns
            found = pa.array(values, pa.int64())
            if (pc.min(found).as_py() or 0) >= -LARGEST_COUNT:
                return found
    whole: list[int | None] = []
    for place, value in enumerate(values):
        if value is None:
            whole.append(None)
        elif (isinstance(value, float) and not (math.isfinite(value) and value.is_integer())) or abs(value) > LARGEST_COUNT:
            problems.setdefault(place, []).append(f"{name} is {shown(value)}, not a whole number below 2^63")
            whole.append(None)
        else:
            whole.append(int(value))
    return pa.array(whole, pa.int64())


def odd_rows(table: pa.Table, problems: Mapping[int, Sequence[str]], places: Sequence[int]) -> pa.Table | None:
    """Return the rows at ``places`` with a column ``reasons``, or None if there are none.

    :param table: all rows of the response, in the columns of ``dataset.received``; unreadable fields are null.
    """
    if not places:
        return None
    columns = table.take(pa.array(places, pa.int64()))
    rows = pa.table(columns.columns, names=columns.column_names)  # nullable, and without the schema's promise
    return rows.append_column("reasons", pa.array(["; ".join(problems[place]) for place in places], pa.string()))


class OnceMore:
    """Raise the error of an unexpected row when it comes first, so that the response is requested again."""

    def __init__(self) -> None:
        self._seen = False

    def check(self, found: Unexpected, where: Mapping[str, str]) -> Unexpected:
        """Return ``found``.

        :raises ServerError: the first time that it makes cells unproved; it is retried.
        """
        why = found.anyones or next(iter(found.unproved.values()), "")
        if why and not self._seen:
            self._seen = True
            raise ServerError(why, **where)
        return found


def _salvaged(row: Any, kind: type[S]) -> tuple[S, list[str]]:
    """Return a row whose unreadable fields are None, and what is wrong with them."""
    fields = msgspec.structs.fields(kind)
    known: dict[str, Any] = {one.name: None for one in fields}
    try:
        values = msgspec.json.decode(row, type=dict[str, msgspec.Raw])
    except UNREADABLE:
        return kind(**known), [f"the row is {raw_text(row)}, not an object"]
    problems: list[str] = []
    for one in fields:
        name = one.encode_name
        if name not in values:
            problems += [f"{name} is missing"] * one.required
            continue
        try:
            known[one.name] = msgspec.json.decode(values[name], type=one.type)
        except UNREADABLE as error:
            why = "" if isinstance(error, UnicodeDecodeError | RecursionError) else f": {str(error).partition(' - at')[0].lower()}"
            problems.append(f"{name} is {raw_text(values[name])}{why}")
    return kind(**known), problems


def raw_text(raw: Any) -> str:
    """Return JSON as it came, fit for a message."""
    text = bytes(memoryview(raw)[: LONGEST_VALUE + 1]).decode(errors="replace")
    return text if text.isascii() and text.isprintable() and len(text) <= LONGEST_VALUE else shown(text)
