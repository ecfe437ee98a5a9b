"""Values of Oracle's types on the wire, to and from Python's."""

from __future__ import annotations

import math
import struct
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from tests.services.oracle_double.errors import OraError, not_done

VARCHAR, NUMBER, BINARY_INTEGER, LONG, DATE, RAW, LONG_RAW, CHAR = 1, 2, 3, 8, 12, 23, 24, 96
BINARY_FLOAT, BINARY_DOUBLE, TIMESTAMP, TIMESTAMP_TZ, TIMESTAMP_LTZ, BOOLEAN = 100, 101, 180, 181, 231, 252
NAMES = {
    VARCHAR: "VARCHAR",
    NUMBER: "NUMBER",
    BINARY_INTEGER: "BINARY_INTEGER",
    LONG: "LONG",
    DATE: "DATE",
    RAW: "RAW",
    LONG_RAW: "LONG RAW",
    CHAR: "CHAR",
    BINARY_FLOAT: "BINARY_FLOAT",
    BINARY_DOUBLE: "BINARY_DOUBLE",
    TIMESTAMP: "TIMESTAMP",
    TIMESTAMP_TZ: "TIMESTAMP_TZ",
    TIMESTAMP_LTZ: "TIMESTAMP_LTZ",
    BOOLEAN: "BOOLEAN",
}
EXPONENT_BIAS = 193
MOST_PAIRS = 20
NEGATIVE_END = 102


def encode_number(value: Decimal) -> bytes:
    """An exponent of 100 and digits in pairs; inverted for negative ones, so that bytes sort as numbers do."""
    if not value:
        return b"\x80"
    sign, digits, exponent = value.normalize().as_tuple()
    pairs, point = _pairs(list(digits), len(digits) + int(exponent))
    if len(pairs) > MOST_PAIRS:
        raise OraError(1426, "numeric overflow")
    first = point // 2 + EXPONENT_BIAS - 1
    if sign:
        out = bytes([~first & 0xFF, *(101 - pair for pair in pairs)])
        return out + bytes([NEGATIVE_END]) if len(pairs) < MOST_PAIRS else out
    return bytes([first & 0xFF, *(pair + 1 for pair in pairs)])


def _pairs(digits: list[int], point: int) -> tuple[list[int], int]:
    if point % 2:
        digits.insert(0, 0)
        point += 1
    if len(digits) % 2:
        digits.append(0)
    return [digits[n] * 10 + digits[n + 1] for n in range(0, len(digits), 2)], point


def decode_number(data: bytes) -> Decimal:
    if data == b"\x80":
        return Decimal(0)
    positive = bool(data[0] & 0x80)
    exponent = (data[0] if positive else ~data[0] & 0xFF) - EXPONENT_BIAS
    body = data[1:-1] if not positive and data[-1] == NEGATIVE_END else data[1:]
    units = 0
    for byte in body:
        units = units * 100 + (byte - 1 if positive else 101 - byte)
    number = Decimal(units).scaleb(2 * (exponent - len(body) + 1))
    return number if positive else -number


def encode_date(value: date, *, fraction: bool) -> bytes:
    """Century and year in excess of 100, clock in excess of 1; then nanoseconds, if there are any."""
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)  # noqa: DTZ001
    clock = [moment.hour + 1, moment.minute + 1, moment.second + 1]
    out = bytes([moment.year // 100 + 100, moment.year % 100 + 100, moment.month, moment.day, *clock])
    return out + struct.pack(">I", moment.microsecond * 1000) if fraction and moment.microsecond else out


def decode_date(data: bytes) -> datetime:
    nanoseconds = struct.unpack(">I", data[7:11])[0] if len(data) >= 11 else 0
    year = (data[0] - 100) * 100 + data[1] - 100
    return datetime(year, data[2], data[3], data[4] - 1, data[5] - 1, data[6] - 1, nanoseconds // 1000)  # noqa: DTZ001


def encode_double(value: float) -> bytes:
    raw = struct.pack(">d", value)
    return bytes(~byte & 0xFF for byte in raw) if raw[0] & 0x80 else bytes([raw[0] | 0x80]) + raw[1:]


def decode_double(data: bytes) -> float:
    raw = bytes([data[0] & 0x7F]) + data[1:] if data[0] & 0x80 else bytes(~byte & 0xFF for byte in data)
    value: float = struct.unpack(">d" if len(raw) == 8 else ">f", raw)[0]
    return value


def decode(kind: int, data: bytes | None) -> Any:
    """A bound value. An empty string comes as null already."""
    if data is None:
        return None
    if kind in (VARCHAR, CHAR, LONG):
        return data.decode()
    if kind in (NUMBER, BINARY_INTEGER):
        return decode_number(data)
    if kind in (DATE, TIMESTAMP, TIMESTAMP_TZ, TIMESTAMP_LTZ):
        return decode_date(data)
    if kind in (BINARY_DOUBLE, BINARY_FLOAT):
        return decode_double(data)
    if kind in (RAW, LONG_RAW):
        return data
    if kind == BOOLEAN:
        return data[-1] == 1
    raise not_done(f"bind of type {kind}")


def encode(kind: int, value: Any) -> bytes:
    """A fetched value; nothing for null."""
    if value is None:
        return b""
    if kind == NUMBER:
        return encode_number(_decimal(value))
    if kind == BINARY_DOUBLE:
        return encode_double(value)
    if kind in (DATE, TIMESTAMP):
        return encode_date(value, fraction=kind == TIMESTAMP)
    if kind == RAW:
        return bytes(value)
    return str(value).encode()


def _decimal(value: Any) -> Decimal:
    """DuckDB divides by zero and takes the logarithm of nothing without an error; Oracle does not."""
    if isinstance(value, float):
        if math.isnan(value):
            raise OraError(1428, "argument is out of range")
        if math.isinf(value):
            raise OraError(1476, "divisor is equal to zero")
        return Decimal(repr(value))
    return Decimal(int(value)) if isinstance(value, bool) else Decimal(value)
