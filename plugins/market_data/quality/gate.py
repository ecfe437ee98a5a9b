"""The gate: separate received rows into good and bad ones, with reasons.

Only good rows may be written to the lake. The rules are the dataset's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import reduce
from string import Formatter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.batch import Request
from market_data.core.errors import SchemaDrift
from market_data.datasets.base import Dataset, Mask, Received, Rule, Signed, signed_by_spelling


@dataclass(frozen=True)
class Gated:
    """The rows of one response, separated.

    Each received row is in exactly one of the two tables, in the order received.

    :param good: columns of ``dataset.received``.
    :param bad: the same columns as received, and ``reasons``: every rule the row breaks, joined by ``; ``.
    :param cleared: column -> number of values made null, because the vendor means "none" by them: `Dataset.placeholders`. Rows in ``bad``
        keep theirs.
    """

    good: pa.Table
    bad: pa.Table
    cleared: Mapping[str, int]


def gate(
    dataset: Dataset, rows: pa.Table, request: Request, sessions: Sequence[date], signed: Signed = signed_by_spelling
) -> Gated:
    """Separate good rows from bad ones.

    :param rows: the rows that the hook returned, with the columns of ``dataset.received``; others are ignored.
    :param request: only its symbols and half-open intervals are allowed.
    :param sessions: the exchange's sessions, at least those inside the request.
    :param signed: tells if the prices of a symbol may be zero or negative.
    :raises SchemaDrift: if a column is missing or of another type; names all such columns.
    """
    received = Received(dataset, conform(rows, dataset), request, sessions, signed)
    as_received = received.rows
    received, cleared = _cleared(received)
    rows = received.rows
    broken: dict[Rule, Mask] = {}
    for rule in dataset.rules:
        if rule.kept(received):
            continue
        mask = pc.fill_null(rule.broken(received), False)
        if pc.any(mask).as_py():
            broken[rule] = mask
    if not broken:
        # Not a slice, which would keep all rows in memory.
        nothing = as_received.schema.empty_table().append_column("reasons", pa.array([], pa.string()))
        return Gated(_declared(rows, dataset), nothing, cleared)
    bad = reduce(pc.or_, broken.values())
    bad_rows = as_received.filter(bad)
    texts = [pc.if_else(pc.filter(mask, bad), render(rule.reason, bad_rows), None) for rule, mask in broken.items()]
    reasons = pc.binary_join_element_wise(*texts, "; ", null_handling="skip")
    return Gated(_declared(rows.filter(pc.invert(bad)), dataset), bad_rows.append_column("reasons", reasons), cleared)


def released(
    dataset: Dataset, rows: pa.Table, request: Request, sessions: Sequence[date], signed: Signed = signed_by_spelling
) -> pa.Table:
    """Return rejected rows as good ones, with null for values that mean "none".

    :param rows: as in ``Gated.bad``.
    :raises SchemaDrift: if a value is missing that must be there.
    """
    received, _ = _cleared(Received(dataset, conform(rows, dataset), request, sessions, signed))
    lacking = [field.name for field in dataset.received if not field.nullable and received.rows[field.name].null_count]
    if lacking:
        raise SchemaDrift(f"{dataset.name}: {', '.join(lacking)} must have a value")
    return _declared(received.rows, dataset)


def _cleared(received: Received) -> tuple[Received, Mapping[str, int]]:
    """Return the rows with null for values that mean "none", and how many there were by column."""
    rows, counts = received.rows, {}
    for placeholder in received.dataset.placeholders:
        if placeholder.absent(received):
            continue
        mask = pc.fill_null(placeholder.found(received), False)
        if count := pc.sum(mask).as_py():
            column, place = rows[placeholder.column], rows.column_names.index(placeholder.column)
            rows = rows.set_column(place, placeholder.column, pc.if_else(mask, pa.scalar(None, column.type), column))
            counts[placeholder.column] = count
    return replace(received, rows=rows) if counts else received, counts


def conform(rows: pa.Table, dataset: Dataset) -> pa.Table:
    """Return the columns of ``dataset.received``, in order, nullable: the rules report null values.

    :raises SchemaDrift: if a column is missing, duplicated, or of another type; names all such columns.
    """
    problems = []
    for field in dataset.received:
        found = rows.schema.get_all_field_indices(field.name)
        if len(found) != 1:
            problems.append(f"column {field.name} is " + ("there more than once" if found else "missing"))
        elif rows.schema.field(found[0]).type != field.type:
            problems.append(f"column {field.name} is {rows.schema.field(found[0]).type}, {field.type} needed")
    if problems:
        raise SchemaDrift(f"{dataset.name} as received: {'; '.join(problems)}; columns needed: {', '.join(dataset.received.names)}")
    names = dataset.received.names
    return pa.table([rows[name] for name in names], names=names)


def render(template: str, rows: pa.Table) -> pa.Array:
    """Fill in ``template`` for each row: ``{field}`` becomes the row's value."""
    parts: list[Any] = [pa.repeat("", rows.num_rows)]
    for literal, field, _, _ in Formatter().parse(template):
        parts.append(literal)
        if field is not None:
            parts.append(_text(rows[field]))
    return pc.binary_join_element_wise(*parts, "")


def _text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    text = pc.strftime(values, format="%Y-%m-%dT%H:%M:%SZ") if pa.types.is_timestamp(values.type) else values.cast(pa.string())
    return pc.fill_null(text, "null")


def _declared(rows: pa.Table, dataset: Dataset) -> pa.Table:
    return pa.table(rows.columns, schema=dataset.received)
