"""How a session begins: CONNECT, an exchange of versions and types, and the login.

The login is O5LOGON with the 12c verifier: both sides prove that they know the password, and it never travels.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf import pbkdf2

from tests.services.oracle_double import faults, messages
from tests.services.oracle_double.errors import DropConnection, OraError
from tests.services.oracle_double.packets import ACCEPT, SDU, Link, Reader

if TYPE_CHECKING:
    from tests.services.oracle_double.server import OracleDouble

TNS_VERSION = 317
ORACLE_VERSION = (19 << 24) | (22 << 16)
ROUNDS, SESSION_ROUNDS = 4096, 3
VERIFIER_12C = 0x4815
BLOCK = 16
Respond = Callable[[], bytes]
"""What is left to do once a message was read whole. Only then may anything fail: a message says nowhere where it ends."""


class Handshake:
    """A client on its way in.

    :param welcome: called with the user's name, in capitals, once the password is proved.
    """

    def __init__(self, double: OracleDouble, number: int, link: Link, reader: Reader, welcome: Callable[[str], None]) -> None:
        self._double = double
        self._number = number
        self._link = link
        self._reader = reader
        self._let_in = welcome
        self._user = ""
        self._login = Login("")
        self._refused: OraError | None = None
        """What the login is to end in: a listener knows no errors but its own."""

    def connect(self) -> None:
        _, body = self._link.receive()
        size, offset = struct.unpack(">HH", body[16:20])
        text = body[offset - 8 : offset - 8 + size]
        if len(text) < size:  # a long one follows in a packet of its own
            text = self._link.receive()[1][2:]
        descriptor = text.decode()
        self._double.seen.connects.append(descriptor)
        fault = self._double.faults.strike(faults.CONNECT)
        service = re.search(r"SERVICE_NAME=([^)]*)", descriptor, re.IGNORECASE)
        known = service and service[1].upper() == self._double.service_name.upper()
        if not known or (fault and fault.action == "refuse"):
            self._link.refuse(fault.number if known and fault else 12514)
            raise DropConnection("refused")
        try:
            faults.suffer(fault, self._link)
        except OraError as error:
            self._refused = error
        self._link.send(ACCEPT, struct.pack(">HH", TNS_VERSION, 0) + bytes(20) + struct.pack(">I", SDU))
        self._link.wide = True

    def data_types(self) -> Respond:
        self._reader.take(5)
        self._reader.bytes_()
        self._reader.bytes_()
        while any(self._reader.take(2)):
            if any(self._reader.take(2)):
                self._reader.take(4)
        return lambda: bytes((messages.DATA_TYPES, 0, 0))

    def protocol(self) -> Respond:
        self._reader.skip("bb")
        while self._reader.byte():
            pass
        return messages.protocol

    def authenticate(self, *, second: bool) -> Respond:
        self._reader.skip("bnnb")
        count = self._reader.number()
        self._reader.skip("bb")
        user = (self._reader.bytes_() or b"").decode()
        said = {}
        for _ in range(count):
            name, value = self._reader.sized().decode(), self._reader.sized().decode()
            said[name] = value
            self._reader.number()
        return (lambda: self._welcome(said)) if second else (lambda: self._challenge(user.upper()))

    def _challenge(self, user: str) -> bytes:
        if self._refused:
            raise self._refused
        self._user = user
        self._login = Login(self._double.passwords.get(user, secrets.token_hex(16)))  # an unknown user is led on
        return bytes(messages.parameters(self._login.challenge()) + messages.status(in_transaction=False))

    def _welcome(self, said: dict[str, str]) -> bytes:
        try:
            proof = self._login.check(said)
        except OraError:
            self._double.seen.failed_logins.append(self._user)
            raise
        self._let_in(self._user)
        values = {
            "AUTH_VERSION_NO": str(ORACLE_VERSION),
            "AUTH_SESSION_ID": str(self._number),
            "AUTH_SERIAL_NUM": "1",
            "AUTH_SC_DBUNIQUE_NAME": "DOUBLE",
            "AUTH_SC_SERVICE_NAME": self._double.service_name,
            "AUTH_INSTANCENAME": "double",
            "AUTH_MAX_OPEN_CURSORS": "300",
            "AUTH_MAX_IDEN_LENGTH": "128",
            "AUTH_SVR_RESPONSE": proof,
        }
        out = messages.parameters({name: (value, 0) for name, value in values.items()})
        return bytes(out + messages.status(in_transaction=False))


class Login:
    """The server's side of one login."""

    def __init__(self, password: str) -> None:
        self._password = password.encode()
        self._verifier, self._salt, self._part = secrets.token_bytes(16), secrets.token_bytes(16), secrets.token_bytes(32)
        key = _derive(self._password, self._verifier + b"AUTH_PBKDF2_SPEEDY_KEY", 64, ROUNDS)
        self._hash = hashlib.sha512(key + self._verifier).digest()[:32]

    def challenge(self) -> dict[str, tuple[str, int]]:
        """Return what the first response says: values and their flags."""
        return {
            "AUTH_SESSKEY": (_cbc(self._hash, self._part).hex().upper(), 0),
            "AUTH_VFR_DATA": (self._verifier.hex().upper(), VERIFIER_12C),
            "AUTH_PBKDF2_CSK_SALT": (self._salt.hex().upper(), 0),
            "AUTH_PBKDF2_VGEN_COUNT": (str(ROUNDS), 0),
            "AUTH_PBKDF2_SDER_COUNT": (str(SESSION_ROUNDS), 0),
        }

    def check(self, said: dict[str, str]) -> str:
        """Return the proof that this server knows the password, if the client does.

        :raises OraError: 1017, it does not.
        """
        theirs = _cbc(self._hash, bytes.fromhex(said["AUTH_SESSKEY"]), decrypt=True)[:32]
        key = _derive((theirs + self._part).hex().upper().encode(), self._salt, 32, SESSION_ROUNDS)
        plain = _cbc(key, bytes.fromhex(said["AUTH_PASSWORD"]), decrypt=True)
        if plain[BLOCK : -plain[-1]] != self._password:
            raise OraError(1017, "invalid username/password; logon denied")
        return _cbc(key, _pad(secrets.token_bytes(16) + b"SERVER_TO_CLIENT")).hex().upper()


def _derive(secret: bytes, salt: bytes, length: int, rounds: int) -> bytes:
    return pbkdf2.PBKDF2HMAC(algorithm=hashes.SHA512(), length=length, salt=salt, iterations=rounds).derive(secret)


def _cbc(key: bytes, data: bytes, *, decrypt: bool = False) -> bytes:
    cipher = Cipher(algorithms.AES(key), modes.CBC(bytes(BLOCK)))
    worker = cipher.decryptor() if decrypt else cipher.encryptor()
    return worker.update(data) + worker.finalize()


def _pad(data: bytes) -> bytes:
    size = BLOCK - len(data) % BLOCK
    return data + bytes([size]) * size
