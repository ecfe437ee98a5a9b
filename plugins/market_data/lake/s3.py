"""How to reach S3: the settings of a connection, and the client that follows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from market_data.core import settings
from market_data.core.errors import ConfigError
from market_data.core.messages import shown

if TYPE_CHECKING:
    from obstore.store import ObjectStore

Addressing = Literal["auto", "path", "virtual"]
ADDRESSING = ("auto", "path", "virtual")
CONDITIONAL_PUT = (
    "the lake needs a store with conditional PUT (If-None-Match: * and If-Match), as Amazon S3 has it. "
    "Update the store or use another one, or a folder (file:///path) on one machine"
)


@dataclass(frozen=True, slots=True)
class S3Access:
    """How to reach S3.

    :param endpoint: URL of an S3 server other than AWS; None: AWS.
    :param session: boto3 session that has the credentials; None: AWS environment variables, or the role of the machine.
    :param verify: check TLS certificates; a path: against the certificates of this file (PEM).
    :param name: where the settings come from, for messages.
    :param addressing: the bucket is part of the URL's path or of its host (virtual); auto: path for servers other than AWS.
    :param timeouts: seconds until connected, and seconds for a response; None: the client's own.
    """

    endpoint: str | None = None
    region: str = "us-east-1"
    session: Any = field(default=None, repr=False)
    verify: bool | str = True
    name: str = "the environment"
    addressing: Addressing = "auto"
    timeouts: tuple[float | None, float | None] = (None, None)

    @classmethod
    def from_environment(cls) -> S3Access:
        """Return the access that the AWS environment variables describe."""
        endpoint = settings.foreign("AWS_ENDPOINT_URL_S3") or settings.foreign("AWS_ENDPOINT_URL") or None
        region = settings.foreign("AWS_REGION") or settings.foreign("AWS_DEFAULT_REGION") or "us-east-1"
        return cls(endpoint, region, verify=settings.foreign("AWS_CA_BUNDLE") or True)

    @property
    def address(self) -> str:
        """URL of the S3 server."""
        return self.endpoint or f"https://s3.{self.region}.amazonaws.com"


def read_config(config: Mapping[str, Any], name: str) -> tuple[Addressing, tuple[float | None, float | None]]:
    """Return addressing style and time-outs from a connection's ``config_kwargs``, as botocore names them.

    :raises ConfigError: naming each setting that the lake's client does not have: to leave it out would be to ignore it.
    """
    if not isinstance(config, Mapping):
        raise ConfigError(f"{name}: config_kwargs is {shown(config)}; an object is needed")
    inner = config.get("s3") or {}
    style = inner.get("addressing_style", "auto") if isinstance(inner, Mapping) else None
    known = {"s3", "connect_timeout", "read_timeout", "signature_version"}
    unknown = [key for key in config if key not in known]
    unknown += [f"s3.{key}" for key in inner if key != "addressing_style"] if isinstance(inner, Mapping) else []
    problems = [f"config_kwargs.{key} is not supported by the lake; supported: {_SUPPORTED}" for key in unknown]
    if style not in ADDRESSING:
        problems.append(f"config_kwargs.s3.addressing_style is {shown(style)}; {', '.join(ADDRESSING)} are allowed")
    if config.get("signature_version", "s3v4") not in ("s3v4", "v4"):
        problems.append("config_kwargs.signature_version must be 's3v4'; the lake signs no other way")
    timeouts = [config.get(key) for key in ("connect_timeout", "read_timeout")]
    problems += [
        f"config_kwargs.{key} is {shown(value)}; a number of seconds above 0 is needed"
        for key, value in zip(("connect_timeout", "read_timeout"), timeouts, strict=True)
        if value is not None and not (isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 86_400)
    ]
    if problems:
        raise ConfigError(f"{name}: {'; '.join(problems)}")
    return style or "auto", (timeouts[0], timeouts[1])


_SUPPORTED = "s3.addressing_style, connect_timeout, read_timeout"


def s3_store(bucket: str, prefix: str, access: S3Access) -> ObjectStore:
    """Return the client of a bucket.

    :raises ConfigError: without credentials, or with a certificate file that cannot be read.
    """
    from obstore.store import S3Store

    where: dict[str, Any] = {"region": access.region, **_endpoint(bucket, access)}
    client: dict[str, Any] = {"allow_invalid_certificates": access.verify is False}
    if isinstance(access.verify, str) and access.address.startswith("https://"):
        client["root_certificate"] = _certificates(access.verify, access.name)
    if access.endpoint:
        client["allow_http"] = access.endpoint.startswith("http://")
    connecting, reading = access.timeouts
    client |= {"connect_timeout": f"{connecting:g}s"} if connecting else {}
    client |= {"timeout": f"{reading:g}s"} if reading else {}
    if access.session is not None:
        from obstore.auth.boto3 import Boto3CredentialProvider

        try:
            where["credential_provider"] = Boto3CredentialProvider(access.session)
        except ValueError:
            raise ConfigError(f"{access.name} has no AWS credentials: login (key id), password (secret), or a role") from None
    where |= {"client_options": client, "retry_config": {"max_retries": 5}}
    return S3Store(bucket, prefix=prefix or None, **where)


def _endpoint(bucket: str, access: S3Access) -> dict[str, Any]:
    """Return the client's endpoint. With virtual addressing it must name the bucket itself."""
    if access.endpoint is None:
        return {"virtual_hosted_style_request": access.addressing == "virtual"} if access.addressing != "auto" else {}
    if access.addressing != "virtual":
        return {"endpoint": access.endpoint, "virtual_hosted_style_request": False}
    parts = urlsplit(access.endpoint)
    return {"endpoint": parts._replace(netloc=f"{bucket}.{parts.netloc}").geturl(), "virtual_hosted_style_request": True}


def _certificates(path: str, name: str) -> bytes:
    try:
        found = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{name}: verify is {path!r}, which cannot be read: {error.strerror}") from None
    if b"-----BEGIN CERTIFICATE-----" not in found:
        raise ConfigError(f"{name}: verify is {path!r}, which has no certificate; a file in PEM format is needed")
    return found
