"""A folder that holds the objects of an S3 server, one file per object, below ``{bucket}/``.

Only current objects are kept: earlier versions and metadata end with the server. Path segments are percent-encoded, so no key
leaves its bucket's folder. An object named like another's folder (``a`` beside ``a/b``) cannot be stored.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, unquote

_SAFE = "=+,@ "
_DRAFT, _EMPTY = "%draft", "%0"  # no encoded key contains them


class Folder:
    """Objects in files. Writes are atomic: after a kill each object has its old or its new content."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def buckets(self) -> list[str]:
        """Return the names of the stored buckets."""
        return sorted(path.name for path in self.root.iterdir() if path.is_dir())

    def add_bucket(self, bucket: str) -> None:
        """Store a bucket. Repeating it changes nothing."""
        (self.root / bucket).mkdir(exist_ok=True)

    def objects(self, bucket: str) -> Iterator[tuple[str, Path, datetime]]:
        """Yield key, file and time of the last write (UTC) of every object of a bucket."""
        root = self.root / bucket
        for folder, _, names in os.walk(root):
            for name in names:
                file = Path(folder, name)
                if not name.endswith(_DRAFT):
                    key = "/".join("" if part == _EMPTY else unquote(part) for part in file.relative_to(root).parts)
                    yield key, file, datetime.fromtimestamp(file.stat().st_mtime, UTC)

    def write(self, bucket: str, key: str, body: bytes) -> None:
        """Store an object, or replace it."""
        file = self._file(bucket, key)
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(file.name + _DRAFT)
        draft.write_bytes(body)
        draft.replace(file)

    def delete(self, bucket: str, key: str) -> None:
        """Remove an object; one that is not stored is ignored."""
        self._file(bucket, key).unlink(missing_ok=True)

    def _file(self, bucket: str, key: str) -> Path:
        return self.root.joinpath(bucket, *(_segment(part) for part in key.split("/")))


def _segment(part: str) -> str:
    return _EMPTY if not part else part.replace(".", "%2E") if part in {".", ".."} else quote(part, safe=_SAFE)
