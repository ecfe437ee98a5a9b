"""The gate: separate received rows into good and bad ones, with reasons.

Only good rows may be written to the lake. The rules are the dataset's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce
from string import Formatter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.batch import Request
from market_data.core.errors import SchemaDrift
from market_data.datasets.base import Dataset, Mask, Received, Rule


@dataclass(frozen=True)
class Gated:
    """The rows of one response, separated.

    Each received row is in exactly one of the two tables, in the order received.

    :param good: columns of ``dataset.received``.
    :param bad: the same columns as received, and ``reasons``: every rule the row breaks, joined by ``; ``.
    """

    good: pa.Table
    bad: pa.Table


def gate(dataset: Dataset, rows: pa.Table, request: Request, sessions: Sequence[date]) -> Gated:
    """Separate good rows from bad ones.

    :param rows: the rows that the hook returned, with the columns of ``dataset.received``; others are ignored.
    :param request: only its symbols and half-open intervals are allowed.
    :param sessions: the exchange's sessions, at least those inside the request.
    :raises SchemaDrift: if a column is missing or of another type; names all such columns.
    """
    received = Received(dataset, conform(rows, dataset), request, sessions)
    rows = received.rows
    broken: dict[Rule, Mask] = {}
    for rule in dataset.rules:
        mask = pc.fill_null(rule.broken(received), False)
        if pc.any(mask).as_py():
            broken[rule] = mask
    if not broken:
        return Gated(_declared(rows, dataset), rows.slice(0, 0).append_column("reasons", pa.array([], pa.string())))
    bad = reduce(pc.or_, broken.values())
    bad_rows = rows.filter(bad)
    texts = [pc.if_else(pc.filter(mask, bad), render(rule.reason, bad_rows), None) for rule, mask in broken.items()]
    reasons = pc.binary_join_element_wise(*texts, "; ", null_handling="skip")
    return Gated(_declared(rows.filter(pc.invert(bad)), dataset), bad_rows.append_column("reasons", reasons))


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
