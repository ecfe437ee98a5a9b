"""TTC messages: what an EXECUTE says, and the responses. Of field version 13 (19.1), which spares both sides much that came later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tests.services.oracle_double import codec
from tests.services.oracle_double.engine import ResultColumn
from tests.services.oracle_double.errors import OraError
from tests.services.oracle_double.packets import Reader, Writer

PROTOCOL, DATA_TYPES, FUNCTION, ERROR, ROW_HEADER, ROW, PARAMETERS, STATUS, DESCRIBE, PIGGYBACK = 1, 2, 3, 4, 6, 7, 8, 9, 16, 17
FIELD_VERSION = 13
UTF8 = 873
LONGEST_STRING = 4000
IN_TRANSACTION = 2
NO_DATA = 1403
PARSE, FETCH = 0x1, 0x40


class BindType(NamedTuple):
    """A bind's type and the bytes that the client reserved for it."""

    kind: int
    size: int


class Execute(NamedTuple):
    """An EXECUTE message; ``sql`` is None to run what the cursor has."""

    options: int
    cursor: int
    sql: str | None
    prefetch: int
    binds: list[BindType] | None
    values: list[list[bytes | None]]


def read_execute(reader: Reader) -> Execute:
    options, cursor = reader.number(), reader.number()
    reader.skip("bnbnbbn")
    prefetch = reader.number()
    reader.skip("nb")
    bound = reader.number()
    reader.skip("bbbbbbnnbbbnbnnbnbbnbnbbn")
    sql = (reader.bytes_() or b"").decode() if options & PARSE else None
    reader.number()
    executions = reader.number()
    reader.skip("nnnnn")
    query = bool(reader.number())
    reader.skip("nnnnn")
    binds = read_bind_types(reader, bound) if bound else None
    values = read_values(reader, binds, 1 if query else max(executions, 1)) if binds else [[]]
    return Execute(options, cursor, sql, prefetch, binds, values)


def read_bind_types(reader: Reader, count: int) -> list[BindType]:
    binds = []
    for _ in range(count):
        kind = reader.byte()
        reader.skip("bbb")
        size = reader.number()
        reader.skip("nnsnnbnn")
        binds.append(BindType(kind, size))
    return binds


def read_values(reader: Reader, binds: list[BindType], rows: int) -> list[list[bytes | None]]:
    """Values of the binds; those that may be long come last in each row."""
    order = sorted(range(len(binds)), key=lambda n: binds[n].size > LONGEST_STRING)
    found = []
    for _ in range(rows):
        reader.byte()  # says that a row follows
        row: list[bytes | None] = [None] * len(binds)
        for n in order:
            row[n] = reader.bytes_()
        found.append(row)
    return found


def protocol() -> bytes:
    """Who we are, and what we can: no more than 19c."""
    capabilities, run_time = bytearray(45), bytearray(13)
    capabilities[7] = FIELD_VERSION
    out = Writer().bytes1(PROTOCOL, 6, 0)
    out += b"Linux x86_64 (test double)\0" + UTF8.to_bytes(2, "little") + b"\0\0\0"
    character_sets = bytes(9) + (2000).to_bytes(2, "big")
    out += len(character_sets).to_bytes(2, "big") + character_sets
    return bytes(out.bytes_(bytes(capabilities)).bytes_(bytes(run_time)))


def parameters(values: dict[str, tuple[str, int]]) -> Writer:
    """Names with values and flags."""
    out = Writer().bytes1(PARAMETERS).numbers(len(values))
    for name, (value, flags) in values.items():
        out.text(name).text(value).numbers(flags)
    return out


def status(*, in_transaction: bool) -> Writer:
    """The end of a call that gives nothing else."""
    return Writer().bytes1(STATUS).numbers(IN_TRANSACTION if in_transaction else 0, 0)


def end(*, in_transaction: bool, cursor: int = 0, rows: int = 0, error: OraError | None = None) -> Writer:
    """Return the end of an execution or fetch: rows so far and an error, if there is one."""
    number = error.number if error else 0
    out = Writer().bytes1(ERROR).numbers(IN_TRANSACTION if in_transaction else 0, 0, 0, min(number, 65535), 0, 0, cursor, 0)
    out += bytes(20)  # the row's address, and warnings
    out.numbers(number, rows)
    return out.bytes_(f"{error}\n".encode()) if error else out


def description(columns: list[ResultColumn]) -> Writer:
    """A query's columns."""
    out = Writer().bytes1(DESCRIBE, 1, 0).numbers(0, len(columns))
    if columns:
        out.bytes1(0)
    for n, column in enumerate(columns):
        text = column.kind == codec.VARCHAR
        out.bytes1(column.kind, 0, column.precision, column.scale).numbers(column.size, 0, 0, 0, 0)
        out.numbers(UTF8 if text else 0).bytes1(1 if text else 0).numbers(column.size if text else 0, 0).bytes1(1, 0)
        out.text(column.name).numbers(0, 0, n + 1, 0)
    return out.numbers(0, 0, 0, 0, 0, 0)


def rows(columns: list[ResultColumn], values: Sequence[tuple[Any, ...]]) -> Writer:
    """Rows of a result."""
    out = Writer()
    if values:
        out.bytes1(ROW_HEADER, 0).numbers(0, 0, 0, 0, 0, 0)
    kinds = [column.kind for column in columns]
    for row in values:
        out.bytes1(ROW)
        for kind, value in zip(kinds, row, strict=True):
            out.bytes_(codec.encode(kind, value))
    return out
