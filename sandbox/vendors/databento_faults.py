"""Faults in Databento's responses: valid DBN with wrong content, and wrong counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import databento_dbn as dbn
import numpy as np
import zstandard
from numpy.typing import NDArray

from sandbox.vendors.messages import VendorResponse

DAY = 86_400_000_000_000  # in nanoseconds
VERSION = 3  # the place of a stream's version


def miscounted(response: VendorResponse, *, by: int = 0, factor: int = 1) -> VendorResponse:
    """Multiply the record count by ``factor``, then add ``by``."""
    return replace(response, body=response.body * factor + by) if isinstance(response.body, int) else response


def duplicated(response: VendorResponse, *, conflicting: bool = False) -> VendorResponse:
    """Send every record twice without changing the counts.

    :param conflicting: the second record has another volume (size, quantity).
    """
    if not isinstance(response.body, bytes):
        return response
    head, records = opened(response.body)
    copies = records.copy()
    if conflicting:
        name = next(name for name in ("volume", "size", "quantity") if name in (records.dtype.names or ()))
        copies[name] += 1
    both = np.stack([records, copies], axis=1).ravel()
    return replace(response, body=closed(head, both))


def refused(
    response: VendorResponse, *, status: int, case: str, message: str = "", payload: Mapping[str, str] | None = None
) -> VendorResponse:
    """Refuse a request with the error code ``case``."""
    detail = {"case": case, "message": message, "status_code": status, "docs": "", "payload": payload}
    return VendorResponse(response.request, status, {"detail": detail})


def no_records(response: VendorResponse) -> VendorResponse:
    """Send the stream's header without records."""
    return _with_records(response, lambda records: records[:0])


def other_symbol(response: VendorResponse, *, instrument: int = 999) -> VendorResponse:
    """Give the last record an instrument that belongs to no symbol."""
    return _with_last(response, "instrument_id", lambda _: instrument)


def out_of_range(response: VendorResponse, *, days: int = 4000) -> VendorResponse:
    """Move the last record ``days`` into the future."""
    later = _with_last(response, "ts_event", lambda moment: moment + days * DAY)
    return _with_last(later, "ts_recv", lambda moment: moment + days * DAY)


def other_schema(response: VendorResponse, *, schema: str = "status") -> VendorResponse:
    """Declare another schema in the stream's header."""
    if not isinstance(response.body, bytes):
        return response
    head, records = opened(response.body)
    known = dbn.Metadata.decode(head)
    changed = dbn.Metadata(
        known.dataset, known.start, known.stype_in, known.stype_out, dbn.Schema.from_str(schema), list(known.symbols), end=known.end
    )
    return replace(response, body=closed(changed.encode(), records))


def drifted(response: VendorResponse, *, version: int = 99) -> VendorResponse:
    """Send a stream of an unknown version, or a count as an object."""
    if not isinstance(response.body, bytes):
        return replace(response, body={"record_count": response.body})
    head, records = opened(response.body)
    return replace(response, body=closed(head[:VERSION] + bytes([version]) + head[VERSION + 1 :], records))


KINDS: Mapping[str, Callable[..., VendorResponse]] = {
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


def _with_records(response: VendorResponse, change: Callable[[NDArray[np.void]], NDArray[np.void]]) -> VendorResponse:
    if not isinstance(response.body, bytes):
        return response
    head, records = opened(response.body)
    return replace(response, body=closed(head, change(records)))


def _with_last(response: VendorResponse, field: str, change: Callable[[int], int]) -> VendorResponse:
    def changed(records: NDArray[np.void]) -> NDArray[np.void]:
        rows = records.copy()
        if len(rows) and field in (rows.dtype.names or ()):
            rows[field][-1] = change(int(rows[field][-1]))
        return rows

    return _with_records(response, changed)
