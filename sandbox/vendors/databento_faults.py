"""Faults in Databento's responses: valid DBN with wrong content, and wrong counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import databento_dbn as dbn
import numpy as np
import zstandard
from numpy.typing import NDArray

from sandbox.http.messages import Answer

DAY = 86_400_000_000_000  # in nanoseconds
VERSION = 3  # the place of a stream's version


def miscounted(answer: Answer, *, by: int = 0, factor: int = 1) -> Answer:
    """Multiply the record count by ``factor``, then add ``by``."""
    return replace(answer, body=answer.body * factor + by) if isinstance(answer.body, int) else answer


def duplicated(answer: Answer, *, conflicting: bool = False) -> Answer:
    """Send every record twice without changing the counts.

    :param conflicting: the second record has another volume (size, quantity).
    """
    if not isinstance(answer.body, bytes):
        return answer
    head, records = opened(answer.body)
    copies = records.copy()
    if conflicting:
        name = next(name for name in ("volume", "size", "quantity") if name in (records.dtype.names or ()))
        copies[name] += 1
    both = np.stack([records, copies], axis=1).ravel()
    return replace(answer, body=closed(head, both))


def refused(answer: Answer, *, status: int, case: str, message: str = "", payload: Mapping[str, str] | None = None) -> Answer:
    """Refuse a request with the error code ``case``."""
    detail = {"case": case, "message": message, "status_code": status, "docs": "", "payload": payload}
    return Answer(answer.request, status, {"detail": detail})


def no_records(answer: Answer) -> Answer:
    """Send the stream's header without records."""
    return _with_records(answer, lambda records: records[:0])


def other_symbol(answer: Answer, *, instrument: int = 999) -> Answer:
    """Give the last record an instrument that belongs to no symbol."""
    return _with_last(answer, "instrument_id", lambda _: instrument)


def out_of_range(answer: Answer, *, days: int = 4000) -> Answer:
    """Move the last record ``days`` into the future."""
    later = _with_last(answer, "ts_event", lambda moment: moment + days * DAY)
    return _with_last(later, "ts_recv", lambda moment: moment + days * DAY)


def other_schema(answer: Answer, *, schema: str = "status") -> Answer:
    """Declare another schema in the stream's header."""
    if not isinstance(answer.body, bytes):
        return answer
    head, records = opened(answer.body)
    known = dbn.Metadata.decode(head)
    changed = dbn.Metadata(
        known.dataset, known.start, known.stype_in, known.stype_out, dbn.Schema.from_str(schema), list(known.symbols), end=known.end
    )
    return replace(answer, body=closed(changed.encode(), records))


def drifted(answer: Answer, *, version: int = 99) -> Answer:
    """Send a stream of an unknown version, or a count as an object."""
    if not isinstance(answer.body, bytes):
        return replace(answer, body={"record_count": answer.body})
    head, records = opened(answer.body)
    return replace(answer, body=closed(head[:VERSION] + bytes([version]) + head[VERSION + 1 :], records))


KINDS: Mapping[str, Callable[..., Answer]] = {
    function.__name__: function
    for function in (refused, miscounted, duplicated, no_records, other_symbol, out_of_range, other_schema, drifted)
}


def opened(body: bytes) -> tuple[bytes, NDArray[np.void]]:
    """Return the header and the records of a compressed stream."""
    stream = zstandard.ZstdDecompressor().stream_reader(body).read()
    length = 8 + int.from_bytes(stream[4:8], "little")
    schema = str(dbn.Metadata.decode(stream[:length]).schema)
    kinds = {"trades": dbn.TradeMsg, "tbbo": dbn.MBP1Msg, "statistics": dbn.StatMsg}
    layout = kinds.get(schema, dbn.OHLCVMsg)._dtypes  # noqa: SLF001 - the package's own word for it
    return stream[:length], np.frombuffer(stream[length:], layout)


def closed(head: bytes, records: NDArray[np.void]) -> bytes:
    """Return header and records as a compressed stream."""
    return zstandard.ZstdCompressor(level=1).compress(head + records.tobytes())


def _with_records(answer: Answer, change: Callable[[NDArray[np.void]], NDArray[np.void]]) -> Answer:
    if not isinstance(answer.body, bytes):
        return answer
    head, records = opened(answer.body)
    return replace(answer, body=closed(head, change(records)))


def _with_last(answer: Answer, field: str, change: Callable[[int], int]) -> Answer:
    def changed(records: NDArray[np.void]) -> NDArray[np.void]:
        rows = records.copy()
        if len(rows) and field in (rows.dtype.names or ()):
            rows[field][-1] = change(int(rows[field][-1]))
        return rows

    return _with_records(answer, changed)
