"""Hypothesis strategies of response bodies: any bytes, damaged good ones, deep nesting, huge numbers, text that is not UTF-8."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

SPLINTERS = (
    *(b"", b"\xff", b"\xc3", b"\x00", b"\xef\xbb\xbf", b"\n", b",", b":", b'"', b"{", b"}", b"[", b"]", b"\\ud800", b"\r\n"),
    *(b"null", b"true", b"NaN", b"Infinity", b"-1", b"1.5", b"1e400", b"-0.0", b"9223372036854775808", b"9" * 400),
    *(b"{}", b"[]", b'"text"', b"[" * 2_000, b'{"a":' * 2_000, b"2012-13-45", b"0001-01-01", b"9999-12-31T23:59:59Z"),
)
"""Bytes that are put into a good body, or in place of some of its own."""


@st.composite
def mutated(draw: st.DrawFn, good: Sequence[bytes]) -> bytes:
    """One of ``good`` with up to four changes: bytes replaced, cut out, repeated or put in."""
    body = draw(st.sampled_from(good))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(body)))
        end = min(len(body), start + draw(st.integers(0, 12)))
        body = body[:start] + draw(st.sampled_from(SPLINTERS) | st.binary(max_size=6)) + body[end:]
    return body[: draw(st.none() | st.integers(0, len(body)))]


def bodies(good: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Bodies that a server may send in place of ``good`` ones."""
    return mutated(good) | st.binary(max_size=200) | st.sampled_from(SPLINTERS)
