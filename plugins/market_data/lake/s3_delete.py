"""Delete an object of S3 only in the version that was read.

The lake's own client has no conditional DELETE, so this uses boto3.
"""

from __future__ import annotations

import threading
from typing import Any

from market_data.core.errors import LakeError
from market_data.lake.s3 import S3Access

CONNECTIONS = 64
REFUSED = ("PreconditionFailed", "412", "ConditionalRequestConflict", "409")
GONE = ("NoSuchKey", "NotFound", "404")
UNKNOWN = ("NotImplemented", "501", "InvalidArgument", "InvalidRequest")


class S3Deletes:
    """The conditional DELETE of a bucket. May be shared by threads.

    :param prefix: of every key, without slashes around it.
    """

    def __init__(self, bucket: str, prefix: str, access: S3Access) -> None:
        self._bucket, self._prefix, self._access = bucket, f"{prefix}/" if prefix else "", access
        self._lock, self._made = threading.Lock(), None

    def delete(self, key: str, etag: str) -> bool | None:
        """Delete version ``etag`` of the object.

        :return: True if it was deleted; False if another version is stored; None without an object.
        :raises NotImplementedError: if the store refuses conditions of a DELETE.
        :raises LakeError: if the store fails; the object may be deleted.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client().delete_object(Bucket=self._bucket, Key=f"{self._prefix}{key}", IfMatch=etag)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in GONE:
                return None
            if code in REFUSED:
                return False
            if code in UNKNOWN:
                raise NotImplementedError(code) from None
            raise LakeError(f"lake delete {key}: {code or type(error).__name__}") from None
        except BotoCoreError as error:  # its text may quote the request, and with it access keys
            raise LakeError(f"lake delete {key}: {type(error).__name__}") from None
        return True

    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                self._made = _client(self._access)
            return self._made


def _client(access: S3Access) -> Any:
    import boto3
    from botocore.config import Config

    connecting, reading = access.timeouts
    config: dict[str, Any] = {"max_pool_connections": CONNECTIONS, "retries": {"max_attempts": 5}}
    config |= {"connect_timeout": connecting} if connecting else {}
    config |= {"read_timeout": reading} if reading else {}
    style = "path" if access.endpoint and access.addressing == "auto" else access.addressing
    session = access.session or boto3.Session()
    return session.client(
        "s3", region_name=access.region, endpoint_url=access.endpoint, verify=access.verify,
        config=Config(**config, s3={"addressing_style": style}),
    )  # fmt: skip
