"""A wallet as Oracle gives one out, and the server's side of it: an authority and certificates made on the spot."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Wallet:
    """Certificates in a folder.

    :param location: the client's: has ``ewallet.pem``, with the authority, the client's certificate and its encrypted key.
    :param password: of that key.
    """

    location: Path
    password: str = field(repr=False)

    def server_context(self) -> ssl.SSLContext:
        """For a server that shows its certificate and asks for the client's."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # a refused client learns of it in the handshake, not after
        context.load_cert_chain(self.location / "server" / "server.pem")
        context.load_verify_locations(self.location / "server" / "authority.pem")
        context.verify_mode = ssl.CERT_REQUIRED
        return context


def make_wallet(folder: Path, password: str) -> Wallet:
    """A wallet in ``folder``, which is made; the server's part is in ``server`` below it."""
    (folder / "server").mkdir(parents=True)
    authority_key, server_key, client_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    authority = _certificate("Test Authority", authority_key, "Test Authority", authority_key, authority=True)
    server = _certificate("127.0.0.1", server_key, "Test Authority", authority_key)
    client = _certificate("Test Client", client_key, "Test Authority", authority_key)
    (folder / "server" / "authority.pem").write_bytes(_pem(authority))
    (folder / "server" / "server.pem").write_bytes(_key(server_key, None) + _pem(server))
    (folder / "ewallet.pem").write_bytes(_key(client_key, password) + _pem(client) + _pem(authority))
    return Wallet(folder, password)


def _certificate(name: str, key: Key, issuer: str, signer: Key, *, authority: bool = False) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if authority:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    else:
        names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key(key: Key, password: str | None) -> bytes:
    locked: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        locked = serialization.BestAvailableEncryption(password.encode())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
