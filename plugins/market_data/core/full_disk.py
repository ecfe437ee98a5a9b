"""A worker's full disk, as an error of the project: what is full, and what to do."""

from __future__ import annotations

import errno
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from market_data.core.errors import LakeError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space, no quota left, or more than a file may have."""

NO_FOLDER = "No usable temporary directory"
"""Python's message, with another number, if the disk is full before the process has written a temporary file."""


@contextmanager
def full_disk_named() -> Iterator[None]:
    """Raise the error of a disk that is full as one that names it.

    :raises LakeError: no temporary file can be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL and NO_FOLDER not in str(error):
            raise
        raise LakeError(
            f"host {socket.gethostname()} cannot write temporary files in {_folder()}: {error.strerror or error}. "
            "Free space there, or set TMPDIR to a folder on a larger disk"
        ) from error


def _folder() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        return "any folder"
