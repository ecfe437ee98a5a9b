"""Count the stored rows that break each row rule, per partition. Great Expectations judges the counts.

The rules are the `Check` declarations of the dataset and its schema, not the functions that the gate runs, so an error in the gate's
code cannot hide here. Rows stream through once, table by table: memory holds counts per partition and a few examples, never the rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.errors import QualityError
from market_data.core.run import Grain
from market_data.datasets.base import (
    AtLeast,
    Check,
    Dataset,
    InRange,
    Mask,
    NotNull,
    OneOf,
    PositivePrice,
    Signed,
    signed_by_spelling,
    unsigned,
)
from market_data.quality.verdicts import year_partitions

EXAMPLES = 20
"""Values of broken rows that are kept per rule."""
NAMED = 3
"""Symbols, or sessions, that a reason names."""


@dataclass(frozen=True, slots=True)
class RowRule:
    """A requirement on stored rows.

    :param columns: the columns it reads; the values of broken rows are shown from them.
    :param demand: the requirement in words.
    :param broken: returns the rows of a table that break it.
    """

    name: str
    columns: tuple[str, ...]
    demand: str
    broken: Callable[[pa.Table], Mask]


@dataclass(slots=True)
class BrokenRows:
    """The rows of one partition that break one rule.

    :param examples: symbols where the partition is a session, sessions where it is a symbol-year; one more than a reason names.
    """

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        named = ", ".join(self.examples[:NAMED]) + (", ..." if len(self.examples) > NAMED else "")
        return f"{self.count} {'row' if self.count == 1 else 'rows'} ({named})"


class RowCounts:
    """Counts of rows checked and broken, per partition and rule.

    :param rules: see `row_rules`.
    :param grain: ``day``: partitions are sessions. ``year``: symbol-years; a row without a symbol counts for its session.
    """

    def __init__(self, dataset: Dataset, rules: Sequence[RowRule], grain: Grain = "day") -> None:
        self.rules = tuple(rules)
        self.rows = 0
        self.values: dict[str, list[Any]] = defaultdict(list)
        """Rule -> values of some broken rows."""
        self._columns = set(dataset.schema.names)
        self._grain = grain
        self._checked: dict[str, int] = defaultdict(int)
        self._broken: dict[tuple[str, str], BrokenRows] = defaultdict(BrokenRows)  # (rule, partition)

    @property
    def partitions(self) -> list[str]:
        """The partitions that have rows, in order."""
        return sorted(self._checked)

    def broken(self, rule: str, partition: str) -> BrokenRows:
        """Return the rows of ``partition`` that break ``rule``."""
        return self._broken.get((rule, partition)) or BrokenRows()

    def broken_partitions(self, rule: str) -> list[str]:
        """Return the partitions with rows that break ``rule``, in order."""
        return sorted(partition for name, partition in self._broken if name == rule)

    def add(self, table: pa.Table) -> None:
        """Check the rows of ``table``.

        :raises QualityError: if columns are missing or unexpected, a rule cannot be evaluated, or a row has no session, in which case
            nobody can say which partition it belongs to.
        """
        self._require_columns(table)
        if missing := table["session"].null_count:
            raise QualityError(f"rule session_present: {missing} stored rows have no session")
        self.rows += len(table)
        for partition, count in self._rows_of(table):
            self._checked[partition] += count
        for rule in self.rules:
            try:
                mask = rule.broken(table)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
                raise QualityError(f"rule {rule.name} could not be evaluated: {str(error).splitlines()[0]}") from error
            if pc.any(mask).as_py():
                self._add_broken(rule, table.filter(mask))

    def table(self) -> pa.Table:
        """Return the counts: a row per partition, ``partition``, ``rows_checked`` and a column per rule."""
        partitions = self.partitions
        columns: dict[str, pa.Array] = {
            "partition": pa.array(partitions, pa.string()),
            "rows_checked": pa.array([self._checked[name] for name in partitions], pa.int64()),
        }
        for rule in self.rules:
            found = (self._broken.get((rule.name, name)) for name in partitions)
            columns[rule.name] = pa.array([broken.count if broken else 0 for broken in found], pa.int64())
        return pa.table(columns)

    def _require_columns(self, table: pa.Table) -> None:
        found = table.column_names
        missing, unexpected = sorted(self._columns.difference(found)), sorted(set(found) - self._columns)
        if missing or unexpected or len(set(found)) != len(found):
            raise QualityError(f"rule columns is broken: missing columns {missing}, unexpected columns {unexpected}, found {found}")

    def _rows_of(self, table: pa.Table) -> list[tuple[str, int]]:
        """Return the partitions in ``table`` with their numbers of rows."""
        session = table["session"]
        if self._grain == "year":  # any session of a year will do, except for rows without a symbol
            of_year = pc.floor_temporal(session, unit="year")
            session = pc.if_else(pc.is_valid(table["symbol"]), of_year, session)
        keys = ["symbol", "session"] if self._grain == "year" else ["session"]
        groups = pa.table({"symbol": table["symbol"], "session": session}).group_by(keys).aggregate([([], "count_all")])
        return list(zip(self._names(groups).to_pylist(), groups["count_all"].to_pylist(), strict=True))

    def _names(self, rows: pa.Table) -> pa.ChunkedArray:
        session = rows["session"].cast(pa.string())
        return session if self._grain == "day" else pc.coalesce(year_partitions(rows), session)

    def _add_broken(self, rule: RowRule, rows: pa.Table) -> None:
        values = self.values[rule.name]
        if len(values) < EXAMPLES:
            shown = rows.slice(0, EXAMPLES - len(values)).select(rule.columns).to_pylist()
            values += [row[rule.columns[0]] if len(row) == 1 else row for row in shown]
        example = rows["symbol"]
        if self._grain == "year":
            example = pc.if_else(pc.is_valid(rows["symbol"]), rows["session"].cast(pa.string()), None)
        named = pa.table({"partition": self._names(rows), "example": example}).append_column("n", pa.array(np.arange(len(rows))))
        # One entry per partition and example, in order of appearance: few, even where every row is broken.
        groups = named.group_by(["partition", "example"]).aggregate([("n", "min"), ([], "count_all")]).sort_by("n_min")
        for partition, name, count in zip(*(groups[c].to_pylist() for c in ("partition", "example", "count_all")), strict=True):
            broken = self._broken[rule.name, partition]
            broken.count += count
            if len(broken.examples) <= NAMED and str(name) not in broken.examples:
                broken.examples.append(str(name))


# -- rules ------------------------------------------------------------------------------------------------------------------------


def row_rules(dataset: Dataset, provider: str, signed: Signed = signed_by_spelling) -> tuple[RowRule, ...]:
    """Return the rules of stored rows: unique keys, required values, the dataset's checks, one provider.

    :param provider: the one provider that every row must have.
    :param signed: tells if the prices of a symbol may be zero or negative.
    """
    key = RowRule("unique_key", dataset.key, f"the key ({', '.join(dataset.key)}) occurs once", _repeated_keys(dataset.key))
    return (key, *(_row_rule(name, check, signed) for name, check in _checks(dataset, provider).items()))


def _checks(dataset: Dataset, provider: str) -> dict[str, Check]:
    """Return the checks by name, required values first."""
    checks = {rule.name: rule.check for rule in dataset.rules if rule.check is not None}
    present = {check.column for check in checks.values() if isinstance(check, NotNull)}
    needed = [field.name for field in dataset.schema if not field.nullable or field.name in present]
    one_value = {"provider": provider} | ({"timeframe": dataset.timeframe} if dataset.timeframe else {})
    return {
        **{f"{column}_present": NotNull(column) for column in needed},
        **{name: check for name, check in checks.items() if isinstance(check, AtLeast)},
        **_narrowest([(name, check) for name, check in checks.items() if isinstance(check, InRange)]),
        **{name: check for name, check in checks.items() if isinstance(check, PositivePrice)},
        **{name: check for name, check in checks.items() if isinstance(check, OneOf)},
        **{column: OneOf(column, (value,)) for column, value in one_value.items()},
    }


def _narrowest(checks: Sequence[tuple[str, InRange]]) -> dict[str, InRange]:
    """Return one range per column, named after its last check, so that one wrong value is reported once."""
    ranges: dict[str, tuple[str, InRange]] = {}
    for name, one in checks:
        _, other = ranges.get(one.column, ("", InRange(one.column)))
        low = max((low for low in (one.low, other.low) if low is not None), default=None)
        high = min((high for high in (one.high, other.high) if high is not None), default=None)
        ranges[one.column] = (name, InRange(one.column, low, high))
    return dict(ranges.values())


def _row_rule(name: str, check: Check, signed: Signed) -> RowRule:
    match check:
        case NotNull(column):
            return RowRule(name, (column,), f"{column} has a value", lambda t: pc.is_null(t[column], nan_is_null=True))
        case OneOf(column, values):
            allowed = f"one of {', '.join(values)}" if len(values) > 1 else values[0]
            return RowRule(name, (column,), f"{column}, where present, is {allowed}", _outside_set(column, values))
        case InRange(column, low, high):
            bounds = " and ".join(
                [*([f"at least {low:g}"] if low is not None else []), *([f"below {high:g}"] if high is not None else [])]
            )
            return RowRule(name, (column,), f"{column}, where present, is {bounds}", _outside_range(column, low, high))
        case PositivePrice(column, low):
            demand = (
                f"{column}, where present, is at least {low:g}, unless the instrument is of a kind whose prices may be negative"
            )
            return RowRule(name, (column,), demand, _not_positive(column, low, signed))
        case AtLeast(above, below):
            demand = f"{above} is at least {below}, where both are present"
            return RowRule(name, (above, below), demand, lambda t: pc.fill_null(pc.less(t[above], t[below]), False))


def _not_positive(column: str, low: float, signed: Signed) -> Callable[[pa.Table], Mask]:
    def broken(table: pa.Table) -> Mask:
        below = pc.fill_null(pc.less(table[column], low), False)
        return pc.and_(below, unsigned(table["symbol"], signed)) if pc.any(below).as_py() else below

    return broken


def _outside_set(column: str, values: Sequence[str]) -> Callable[[pa.Table], Mask]:
    return lambda t: pc.and_not(pc.is_valid(t[column]), pc.is_in(t[column], pa.array(values, pa.string())))


def _outside_range(column: str, low: float | None, high: float | None) -> Callable[[pa.Table], Mask]:
    def broken(table: pa.Table) -> Mask:
        below = pc.less(table[column], low) if low is not None else False
        above = pc.greater_equal(table[column], high) if high is not None else False
        return pc.fill_null(pc.or_(below, above), False)

    return broken


def _repeated_keys(key: tuple[str, ...]) -> Callable[[pa.Table], Mask]:
    """Return the rows of a table that share their key with another one; null is equal to null."""

    def broken(table: pa.Table) -> Mask:
        keys = table.select(key)
        groups = keys.group_by(list(key)).aggregate([([], "count_all")])
        if len(groups) == len(keys):
            return pa.repeat(False, len(keys))
        numbered = keys.append_column("row", pa.array(np.arange(len(keys))))
        places = numbered.group_by(list(key)).aggregate([("row", "list"), ([], "count_all")])
        places = places.filter(pc.greater(places["count_all"], 1))
        return pc.is_in(numbered["row"], pc.list_flatten(places["row_list"]).combine_chunks())

    return broken
