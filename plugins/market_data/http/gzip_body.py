"""Unpack gzip bodies in pieces, within limits: 1 MB of gzip can hold 1 GB."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from zlib_ng import zlib_ng

LARGEST_BODY = 512 * 1024 * 1024
"""Bytes of a response, as sent and decompressed. The largest regular one is a day of minute bars of a whole market."""
MOST_MEMBERS = 64
"""Parts of a gzip body, usually one: the rest is copied for each."""
LARGEST_RATIO, SMALL_BODY = 100, 16 * 1024 * 1024
"""Times that a body may grow when it is decompressed, if it becomes more than ``SMALL_BODY`` bytes. Bars grow 5 to 20 times."""


class TooLargeError(Exception):
    """A body is larger than any regular one."""


def unpacked(body: bytes, piece: int) -> Iterator[bytes]:
    """Yield the content of a gzip body, at most ``piece`` bytes at a time, checked to be all of it.

    :raises TooLargeError: if it grows too much.
    :raises EOFError: if the stream ends early.
    :raises zlib.error: if it is damaged.
    """
    try:
        yield from _unpacked(body, piece)
    except zlib_ng.error as error:  # type: ignore[misc]  # an error of its own, which its stubs call a variable
        raise zlib.error(str(error)) from None


def _unpacked(body: bytes, piece: int) -> Iterator[bytes]:
    most = left = min(LARGEST_BODY, max(SMALL_BODY, LARGEST_RATIO * len(body)))
    view, place = memoryview(body), 0
    members = 0
    while place < len(view):
        if members == MOST_MEMBERS:
            raise TooLargeError(f"more than {MOST_MEMBERS} gzip members")
        members += 1
        stream = zlib_ng.decompressobj(wbits=31)  # gzip; in a third of the time that zlib takes
        while not stream.eof:
            packed: bytes | memoryview = stream.unconsumed_tail
            if not packed:
                packed = view[place : place + piece]
                place += len(packed)
            found = stream.decompress(packed, piece)
            left -= len(found)
            if left < 0:
                raise TooLargeError(f"more than {most:,} bytes after decompression")
            if found:
                yield found
            elif not packed:
                raise EOFError
        place -= len(stream.unused_data)
        while place < len(view) and view[place] == 0:  # padding
            place += 1
