"""Read a run report from the lake."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from sandbox.stack.environment import LocalError, Ports, lake_is_local_s3, lake_of


def read(key: str, environ: Mapping[str, str], ports: Ports) -> dict[str, Any]:
    """Return the report at ``key``.

    :raises LocalError: it is not there or cannot be read.
    """
    lake = lake_of(environ)
    try:
        if lake.startswith("file://"):
            body = Path(unquote(urlparse(lake).path), key).read_text()
        else:
            body = _read_s3(lake, key, _access(environ, ports))
        report: dict[str, Any] = json.loads(body)
    except Exception as error:  # noqa: BLE001  boto3 raises many kinds; the run is over, and only its summary gets shorter
        raise LocalError(f"the run report {key} in {lake} cannot be read: {type(error).__name__}") from None
    return report


def _access(environ: Mapping[str, str], ports: Ports) -> dict[str, Any]:
    """Return boto3's arguments for the local server or for ``AIRFLOW_CONN_AWS_DEFAULT``.

    boto3 looks up None values itself.
    """
    if lake_is_local_s3(environ):
        local = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
        return {"endpoint_url": ports.s3_url, "region_name": "us-east-1", **local}
    from airflow.models.connection import Connection

    text = environ["AIRFLOW_CONN_AWS_DEFAULT"]
    connection = Connection.from_json(text) if text.lstrip().startswith("{") else Connection(uri=text)
    extra = connection.extra_dejson
    return {
        "endpoint_url": extra.get("endpoint_url"),
        "region_name": extra.get("region_name"),
        "aws_access_key_id": connection.login or extra.get("aws_access_key_id"),
        "aws_secret_access_key": connection.password or extra.get("aws_secret_access_key"),
    }


def _read_s3(lake: str, key: str, access: Mapping[str, Any]) -> str:
    import boto3
    from botocore.config import Config

    client = boto3.client("s3", config=Config(proxies={}), **access)
    bucket, _, prefix = lake.removeprefix("s3://").rstrip("/").partition("/")
    return str(client.get_object(Bucket=bucket, Key=f"{prefix}/{key}".lstrip("/"))["Body"].read().decode())
