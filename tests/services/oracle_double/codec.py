"""Values of Oracle's types on the wire, to and from Python's."""

from __future__ import annotations

import struct
from datetime import datetime
from decimal import Context, Decimal
from typing import Any

from tests.services.oracle_double.errors import OraError, not_done

VARCHAR, NUMBER, LONG, DATE, BINARY_DOUBLE, TIMESTAMP = 1, 2, 8, 12, 101, 180
NAMES = {
    VARCHAR: "VARCHAR",
    NUMBER: "NUMBER",
    LONG: "LONG",
    DATE: "DATE",
    BINARY_DOUBLE: "BINARY_DOUBLE",
    TIMESTAMP: "TIMESTAMP",
}
EXPONENT_BIAS = 193
NEGATIVE_END = 102
MOST_PAIRS = 20
ROUNDED = Context(prec=2 * MOST_PAIRS - 1)


def encode_number(value: Decimal) -> bytes:
    """Encode an exponent of 100 and digits in pairs; inverted for negative ones, so that bytes sort as numbers do."""
    if not value:
        return b"\x80"
    sign, digits, exponent = ROUNDED.normalize(value).as_tuple()
    point = len(digits) + int(exponent)
    text = "0" * (point % 2) + "".join(map(str, digits))
    text += "0" * (len(text) % 2)
    pairs = [int(text[n : n + 2]) for n in range(0, len(text), 2)]
    first = (point + point % 2) // 2 + EXPONENT_BIAS - 1
    if not 128 <= first <= 255:
        raise OraError(1426, "numeric overflow")
    if not sign:
        return bytes([first, *(pair + 1 for pair in pairs)])
    return bytes([~first & 0xFF, *(101 - pair for pair in pairs), *[NEGATIVE_END] * (len(pairs) < MOST_PAIRS)])


def decode_number(data: bytes) -> Decimal:
    if data == b"\x80":
        return Decimal(0)
    positive = bool(data[0] & 0x80)
    exponent = (data[0] if positive else ~data[0] & 0xFF) - EXPONENT_BIAS
    body = data[1:-1] if not positive and data[-1] == NEGATIVE_END else data[1:]
    units = 0
    for byte in body:
        units = units * 100 + (byte - 1 if positive else 101 - byte)
    return Decimal(f"{'' if positive else '-'}{units}E{2 * (exponent - len(body) + 1)}")


def encode_date(value: datetime, *, fraction: bool) -> bytes:
    """Encode century and year in excess of 100, clock in excess of 1; then nanoseconds, if there are any."""
    clock = [value.hour + 1, value.minute + 1, value.second + 1]
    out = bytes([value.year // 100 + 100, value.year % 100 + 100, value.month, value.day, *clock])
    return out + struct.pack(">I", value.microsecond * 1000) if fraction and value.microsecond else out


def decode_date(data: bytes) -> datetime:
    nanoseconds = struct.unpack(">I", data[7:11])[0] if len(data) >= 11 else 0
    year = (data[0] - 100) * 100 + data[1] - 100
    return datetime(year, data[2], data[3], data[4] - 1, data[5] - 1, data[6] - 1, nanoseconds // 1000)  # noqa: DTZ001


def encode_double(value: float) -> bytes:
    raw = struct.pack(">d", value)
    return bytes(~byte & 0xFF for byte in raw) if raw[0] & 0x80 else bytes([raw[0] | 0x80]) + raw[1:]


def decode_double(data: bytes) -> float:
    raw = bytes([data[0] & 0x7F]) + data[1:] if data[0] & 0x80 else bytes(~byte & 0xFF for byte in data)
    return float(struct.unpack(">d", raw)[0])


def decode(kind: int, data: bytes | None) -> Any:
    """Return a bound value. An empty string comes as null already."""
    if data is None:
        return None
    if kind in (VARCHAR, LONG):
        return data.decode()
    if kind == NUMBER:
        return decode_number(data)
    if kind in (DATE, TIMESTAMP):
        return decode_date(data)
    if kind == BINARY_DOUBLE:
        return decode_double(data)
    raise not_done(f"bind of type {kind}")


def encode(kind: int, value: Any) -> bytes:
    """Return a fetched value; nothing for null."""
    if value is None:
        return b""
    if kind == NUMBER:
        return encode_number(Decimal(value))
    if kind == BINARY_DOUBLE:
        return encode_double(value)
    if kind in (DATE, TIMESTAMP):
        return encode_date(value, fraction=kind == TIMESTAMP)
    return str(value).encode()
