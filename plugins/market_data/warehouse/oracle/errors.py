"""The driver's errors as ``OracleError``: which may pass, and which words are free of rows and secrets."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from market_data.core.errors import WarehouseError

if TYPE_CHECKING:
    import oracledb

GONE = "ORA-00942"
# Besides the ones that the driver itself calls recoverable. ORA-00001: a load's keys are proved to be unique, so another process
# has just loaded the same. ORA-16000: for a moment, after a switchover.
# fmt: off
RETRIABLE_ORA = frozenset({
    1, 18, 20, 54, 60, 376, 1012, 1033, 1034, 1089, 1090, 1092, 1115, 1555, 1652, 2049, 2391, 2396, 2399, 3113, 3114, 3135, 4020, 4021,
    4031, 4068, 8177, 12153, 12170, 12514, 12516, 12518, 12519, 12520, 12526, 12527, 12528, 12537, 12541, 12543, 12547, 12560, 12570,
    12571, 12606, 12609, 12757, 12801, 12805, 14411, 14450, 16000, 25408, 30006, 30036,
})
# fmt: on
RETRIABLE_DPY = frozenset({"DPY-1001", "DPY-4005", "DPY-4011", "DPY-4024", "DPY-4033", "DPY-6000", "DPY-6001", "DPY-6005"})
# A wallet or a setting that is wrong comes as one of these too
FINAL = re.compile(r"DPY-2018|DPY-4027|DPY-600[236]|CERTIFICATE|_ALERT_|WRONG_VERSION_NUMBER|ORA-01017")
CODE = re.compile(r"\b(?:ORA-\d{5}|DP[YI]-\d{4})\b")
NAME = re.compile(r'\(("?[\w$#]+"?(?:\."?[\w$#]+"?)+)\)')
CONSTRAINTS = {"ORA-00001", "ORA-01400", "ORA-02290"}
WORDS = {
    "ORA-00001": "a row with this key is there already",
    "ORA-00018": "the database has no session free",
    "ORA-00020": "the database has no process free",
    "ORA-00054": "the table is in use",
    "ORA-00060": "deadlock",
    "ORA-01017": "login or password is wrong",
    "ORA-01031": "the login lacks a privilege for it",
    "ORA-01400": "a value is missing",
    "ORA-01435": "the schema of the connection is no user of the database",
    "ORA-01438": "a number is too large",
    "ORA-01456": "this transaction only reads",
    "ORA-01536": "the owner's quota of the tablespace is used up",
    "ORA-01652": "the temporary tablespace is full",
    "ORA-01653": "the tablespace is full",
    "ORA-01722": "a text is no number",
    "ORA-01950": "the owner has no quota on the tablespace",
    "ORA-02290": "a check of the table refuses a value",
    "ORA-02391": "the login has as many sessions as its profile allows",
    "ORA-12899": "a text is too long",
    "ORA-16000": "the database is open for reading only",
    "ORA-28000": "the account is locked",
    "ORA-12520": "no process of the kind asked for; is DRCP started?",
    "ORA-28001": "the password has expired",
    "ORA-30006": "the lock was not to be had in time",
    "DPY-4011": "the connection was cut",
    "DPY-4024": "the call took longer than extra.call_timeout",
    "DPY-4000": "extra.dsn is an alias that tnsnames.ora lacks",
    "DPY-4017": "extra.dsn is no connect descriptor",
    "DPY-4018": "extra.dsn is no connect string",
    "DPY-4027": "extra.dsn is an alias, which needs TNS_ADMIN in the worker's environment",
    "DPY-6000": "the listener refused",
    "DPY-6001": "the listener knows no such service, or not yet",
    "DPY-6003": "the listener knows no such SID",
    "DPY-6006": "the server's certificate is for another host",
}


class OracleError(WarehouseError):
    """What Oracle or its driver said.

    :param code: e.g. ``ORA-00942``, ``DPY-4011``; of several the first.
    """

    def __init__(self, message: str, *, retriable: bool, code: str) -> None:
        super().__init__(message, retriable=retriable)
        self.code = code


@contextmanager
def errors(kind: str) -> Iterator[None]:
    import oracledb

    try:
        yield
    except (oracledb.Error, OSError) as error:
        code, text, retriable = _driver(error) if isinstance(error, oracledb.Error) else network(error)
        raise OracleError(
            f"oracle: {kind} failed: {text}", retriable=retriable, code=code
        ) from None  # its text can hold rows or a DSN


def network(error: OSError) -> tuple[str, str, bool]:
    """Code, words, retriable of what the driver lets through, as it does when a host's name is not found."""
    gone = isinstance(error, socket.gaierror | ConnectionError | TimeoutError) or error.errno in (
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
    )
    again = gone and not isinstance(error, ssl.SSLError)
    return type(error).__name__, _said(error), again


def _said(error: OSError) -> str:
    why = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return f"{type(error).__name__}: {why}"


def _driver(error: oracledb.Error) -> tuple[str, str, bool]:
    """Code, words, retriable. Oracle's own words only where they speak of SQL: others show rows, the driver's show the DSN."""
    said = error.args[0]
    message = said.message or ""
    codes = list(dict.fromkeys(CODE.findall(f"{said.full_code} {message}"))) or [type(error).__name__]
    words = [*codes, *(WORDS[code] for code in codes if code in WORDS)]
    if codes[0].startswith("ORA-009"):  # the parser's; as our SQL has the names
        line = message.splitlines()[0].removeprefix(f"{codes[0]}: ")
        words.append(re.sub(r'"[^"]*"', lambda name: name[0].lower(), line))
    if codes[0] in CONSTRAINTS and (constraint := NAME.search(message.splitlines()[0])):
        words.append(constraint[0])
    if isinstance(error.__cause__, OSError):
        words.append(_said(error.__cause__))
    if codes[0] == GONE:
        words.append("Has the warehouse been migrated?")
    return codes[0], " ".join(words), _may_work_later(said, f"{message} {error.__cause__}")


def _may_work_later(said: Any, text: str) -> bool:
    if said.isrecoverable or said.is_session_dead or said.code in RETRIABLE_ORA:
        return not FINAL.search(text)
    return said.full_code in RETRIABLE_DPY and not FINAL.search(text)
