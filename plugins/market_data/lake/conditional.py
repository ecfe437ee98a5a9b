"""Check that a store honours conditions of a PUT and of a DELETE.

Without them two writers could lose each other's rows, and a delete a newer version of an object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from market_data.core.errors import ConfigError
from market_data.lake.s3 import CONDITIONAL_PUT

if TYPE_CHECKING:
    from market_data.lake.store import Lake

KEY = "metadata/conditional-put"
DELETED_KEY = "metadata/conditional-delete"
_NO_VERSION = '"00000000000000000000000000000000"'


def check_conditional_put(lake: Lake) -> None:
    """Try the two conditional PUTs that every write needs, on an object of one byte.

    Some S3 servers accept the headers and ignore them, so only trying tells. Two calls; a folder needs none.

    :raises ConfigError: if the store ignores or refuses one of them; nothing else was written.
    :raises LakeError: if the store failed.
    """
    if lake.root is not None:
        return
    if lake.put_new(KEY, b"\n") and lake.put_new(KEY, b"\n"):
        raise _unfit(lake, "If-None-Match: *")
    if lake.put_if(KEY, b"\n", _NO_VERSION):
        raise _unfit(lake, "If-Match")


def honours_conditional_delete(lake: Lake) -> bool:
    """Return True if the store deletes an object only in the version that a DELETE names.

    Tried on an object of one byte: two or three calls; a folder needs none.

    :raises LakeError: if the store failed.
    """
    if lake.root is not None:
        return True
    lake.put_new(DELETED_KEY, b"\n")
    try:
        if lake.delete_if(DELETED_KEY, _NO_VERSION):
            return False
    except NotImplementedError:
        return False
    return lake.get(DELETED_KEY) is not None


def _unfit(lake: Lake, header: str) -> ConfigError:
    return ConfigError(f"the store of {lake.url} at {lake.address} ignores the header {header!r} of a PUT; {CONDITIONAL_PUT}")
