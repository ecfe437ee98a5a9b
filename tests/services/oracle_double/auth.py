"""Login by O5LOGON with the 12c verifier: both sides prove that they know the password, and it never travels."""

from __future__ import annotations

import hashlib
import secrets

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf import pbkdf2

from tests.services.oracle_double.errors import OraError

ROUNDS, SESSION_ROUNDS = 4096, 3
VERIFIER_12C = 0x4815
BLOCK = 16


class Login:
    """The server's side of one login.

    :param password: None if there is no such user: the client is led on as for a wrong password.
    """

    def __init__(self, password: str | None) -> None:
        self._password = password if password is not None else secrets.token_hex(16)
        self._verifier = secrets.token_bytes(16)
        self._salt = secrets.token_bytes(16)
        self._part = secrets.token_bytes(32)
        key = _derive(self._password.encode(), self._verifier + b"AUTH_PBKDF2_SPEEDY_KEY", 64, ROUNDS)
        self._hash = hashlib.sha512(key + self._verifier).digest()[:32]

    def challenge(self) -> dict[str, tuple[str, int]]:
        """What the first answer says: values and their flags."""
        return {
            "AUTH_SESSKEY": (_cbc(self._hash, self._part).hex().upper(), 0),
            "AUTH_VFR_DATA": (self._verifier.hex().upper(), VERIFIER_12C),
            "AUTH_PBKDF2_CSK_SALT": (self._salt.hex().upper(), 0),
            "AUTH_PBKDF2_VGEN_COUNT": (str(ROUNDS), 0),
            "AUTH_PBKDF2_SDER_COUNT": (str(SESSION_ROUNDS), 0),
        }

    def check(self, answer: dict[str, str]) -> str:
        """The proof that this server knows the password, if the client does.

        :raises OraError: 1017, it does not.
        """
        theirs = _cbc(self._hash, bytes.fromhex(answer["AUTH_SESSKEY"]), decrypt=True)[:32]
        key = _derive((theirs + self._part).hex().upper().encode(), self._salt, 32, SESSION_ROUNDS)
        plain = _cbc(key, bytes.fromhex(answer["AUTH_PASSWORD"]), decrypt=True)
        if plain[BLOCK : -plain[-1]] != self._password.encode():
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
