"""Read a run report from the lake."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import requests

from sandbox.stack.environment import LocalError, Ports, lake_is_local_s3, lake_of


def read(key: str, environ: Mapping[str, str], ports: Ports) -> dict[str, Any]:
    """Return the report at ``key``.

    :raises LocalError: it is not there or cannot be read.
    """
    lake = lake_of(environ)
    try:
        if lake.startswith("file://"):
            body = Path(unquote(urlparse(lake).path), key).read_text()
        elif lake_is_local_s3(environ):
            with requests.Session() as http:
                http.trust_env = False
                response = http.get(f"{ports.s3_url}/{lake.removeprefix('s3://').rstrip('/')}/{key}", timeout=30)
            response.raise_for_status()
            body = response.text
        else:
            body = _read_s3(lake, key, environ)
        report: dict[str, Any] = json.loads(body)
    except Exception as error:  # noqa: BLE001  boto3 raises many kinds; the run is over, and only its summary gets shorter
        raise LocalError(f"the run report {key} in {lake} cannot be read: {type(error).__name__}") from None
    return report


def _read_s3(lake: str, key: str, environ: Mapping[str, str]) -> str:
    """Return an object of an S3 elsewhere, with the credentials of ``AIRFLOW_CONN_AWS_DEFAULT`` or those that boto3 finds."""
    import boto3
    from airflow.models.connection import Connection

    text = environ.get("AIRFLOW_CONN_AWS_DEFAULT", "")
    connection = Connection.from_json(text) if text.lstrip().startswith("{") else Connection(uri=text or "aws://")
    extra = connection.extra_dejson
    client = boto3.client(
        "s3",
        endpoint_url=extra.get("endpoint_url"),
        region_name=extra.get("region_name"),
        aws_access_key_id=connection.login or extra.get("aws_access_key_id"),
        aws_secret_access_key=connection.password or extra.get("aws_secret_access_key"),
    )
    bucket, _, prefix = lake.removeprefix("s3://").rstrip("/").partition("/")
    return str(client.get_object(Bucket=bucket, Key=f"{prefix}/{key}".lstrip("/"))["Body"].read().decode())
