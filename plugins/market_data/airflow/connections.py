"""Airflow connections, read once here and handed to the rooms below."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, Connection

from market_data.config.ticker_files import MAX_FILE_BYTES
from market_data.core import settings
from market_data.core.errors import (
    ConfigError,
    LakeError,
    ParamError,
)
from market_data.core.messages import shown
from market_data.core.urls import credentials_problem

if TYPE_CHECKING:
    from market_data.lake.s3 import S3Access
    from market_data.lake.store import Lake
    from market_data.providers.base import ProviderConfig
    from market_data.warehouse.base import Warehouse


def read_connection(conn_id: str) -> Connection:
    """Return an Airflow connection.

    :raises ConfigError: if the connection does not exist or its extra is not a JSON object.
    """
    try:
        conn = BaseHook.get_connection(conn_id)
    except Exception as error:  # noqa: BLE001 - every secrets backend has errors of its own
        raise ConfigError(f"connection {conn_id!r} cannot be read ({type(error).__name__}); create it, see README") from None
    try:
        found = json.loads(conn.extra or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):  # Airflow would read it as empty
        raise ConfigError(f"connection {conn_id!r}: extra is not a JSON object")
    return conn


def provider_config(conn_id: str) -> ProviderConfig:
    """Return the config that a provider's hook takes, from an Airflow connection.

    :raises ConfigError: if the connection does not exist or its extra is not a JSON object.
    """
    from market_data.airflow.limit_stores import limit_store
    from market_data.providers.base import ProviderConfig

    conn = read_connection(conn_id)
    host = conn.host or ""
    if host and conn.port:
        host = f"{host}:{conn.port}"
    extra = filled(conn.extra_dejson)
    store = limit_store(conn_id, extra, read_connection)
    return ProviderConfig(conn_id, host, conn.login or "", conn.password or "", extra, store)


def filled(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the extra fields with a value. Airflow's form stores empty fields as null or as empty text."""
    return {name: value for name, value in extra.items() if value is not None and value != ""}


def warehouse(conn_id: str = "warehouse_default", **overrides: float) -> Warehouse:
    """Return the warehouse of an Airflow connection.

    :param overrides: extra fields that replace the connection's.
    """
    from market_data.airflow.warehouse_connections import from_airflow, open_with_hooks

    found = from_airflow(read_connection(conn_id))
    return open_with_hooks(replace(found, extra={**filled(found.extra), **overrides}))


def lake_url() -> str:
    """Return the URL of the lake: ``MARKET_DATA_LAKE``, by default ``s3://market-data``."""
    return settings.value("MARKET_DATA_LAKE")


def open_lake() -> Lake:
    """Return the lake at ``lake_url``. Access to S3 is configured by the connection ``aws_default``."""
    from market_data.lake.store import Lake

    url = lake_url()
    return Lake.open(url, s3_access("aws_default") if url.startswith("s3:") else None)


def s3_access(conn_id: str) -> S3Access:
    """Return the settings of an Airflow connection to S3.

    Whatever holds for Airflow's own hook holds for the lake.

    :raises ConfigError: if the connection has a setting that the lake's client lacks, or no credentials follow from it.
    :raises LakeError: if the server that hands out credentials cannot be reached.
    """
    from market_data.lake.s3 import S3Access, read_config

    hook, found, name = _s3(conn_id)
    addressing, timeouts = read_config(found.extra_config.get("config_kwargs") or {}, name)
    verify = (settings.foreign("AWS_CA_BUNDLE") or True) if hook.verify is None else hook.verify
    region = hook.region_name or "us-east-1"
    return S3Access(_endpoint(found, name), region, _s3_session(hook, name), verify, name, addressing, timeouts)


def s3_endpoint(conn_id: str) -> str | None:
    """Return the endpoint of an Airflow connection to S3, None for AWS. Credentials are not looked for.

    :raises ConfigError: if the connection cannot be used.
    """
    _, found, name = _s3(conn_id)
    return _endpoint(found, name)


def _s3(conn_id: str) -> tuple[Any, Any, str]:
    """Return Airflow's hook, its settings and a name for messages."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from botocore.exceptions import BotoCoreError

    hook, name = S3Hook(aws_conn_id=conn_id), f"connection {conn_id!r}"
    try:
        return hook, hook.conn_config, name
    except (TypeError, AttributeError, ValueError, BotoCoreError) as error:  # botocore's, for what it does not know
        raise ConfigError(f"{name}: config_kwargs cannot be used: {shown(str(error), 200)}") from None


def _endpoint(found: Any, name: str) -> str | None:
    endpoint: str | None = found.get_service_endpoint_url("s3")
    if wrong := credentials_problem(f"{name}: endpoint_url", endpoint or "", "the S3 key belongs into login and password"):
        raise ConfigError(wrong)
    return endpoint


def _s3_session(hook: Any, name: str) -> Any:
    from botocore import exceptions

    try:
        return hook.get_session()
    except Exception as error:  # noqa: BLE001 - every way to get credentials has errors of its own, some with secrets in their text
        down = (
            isinstance(error, exceptions.ClientError) and error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500
        )
        if down or isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError):
            raise LakeError(f"{name}: no credentials ({type(error).__name__}); the server that hands them out failed") from None
        raise ConfigError(f"{name}: no credentials ({type(error).__name__}); check role and profile") from None


def open_s3(address: str) -> bytes:
    """Return the object at an ``s3://`` address, read with ``aws_default``.

    Reads at most one byte more than a tickers file may have, so that the caller can reject a larger one.

    :raises ParamError: if it cannot be read, for instance because it does not exist.
    :raises LakeError: if S3 failed.
    """
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

    bucket, _, key = address.removeprefix("s3://").partition("/")
    try:
        found = S3Hook(aws_conn_id="aws_default").get_conn().get_object(Bucket=bucket, Key=key)
        body: bytes = found["Body"].read(MAX_FILE_BYTES + 1)
    except ClientError as error:
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status < 500:
            raise ParamError([f"tickers_path is {shown(address)}; it cannot be read: {code}"]) from None
        raise LakeError(f"{shown(address)} cannot be read: {code}") from None
    except (ParamValidationError, NoCredentialsError) as error:
        raise ParamError([f"tickers_path is {shown(address)}; it cannot be read: {type(error).__name__}"]) from None
    except BotoCoreError as error:
        raise LakeError(f"{shown(address)} cannot be read: {type(error).__name__}") from None
    return body
