"""Read the finished requests of a run: receipts, and rows from staging or else from the lake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

from market_data.core.errors import BrokenObject
from market_data.pipeline.run_context import RunContext

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.lake.receipts import RequestReceipt


def finished_requests(context: RunContext, prefixes: Sequence[str]) -> list[RequestReceipt]:
    """Return the receipts in the given folders; reads no rows."""
    from market_data.lake import receipts

    return [receipt for prefix in prefixes for receipt in receipts.finished(context.lake, prefix).values()]


def staged_sizes(context: RunContext) -> dict[str, int]:
    """Return key -> size in bytes of everything in staging for the run's dataset and source."""
    from market_data.lake import staging

    return {item.key: item.size for item in staging.waiting(context.lake, context.feed.dataset, context.source)}


def request_rows(context: RunContext, prefixes: Sequence[str], staged: Mapping[str, int]) -> Iterator[pa.Table]:
    """Yield the rows of the requests in the given receipt folders, in each by symbol and date.

    :param staged: from ``staged_sizes``.
    """
    from market_data.lake import receipts, staging
    from market_data.lake.reader import read_request

    for prefix in prefixes:
        found = dict(sorted(receipts.finished(context.lake, prefix).items(), key=lambda item: place(item[1])))
        names = {receipt.staged: request_id for request_id, receipt in found.items()}

        def from_lake(key: str, prefix: str = prefix, names: Mapping[str, str] = names) -> Iterator[pa.Table]:
            stored = receipts.read_one(context.lake, f"{prefix}/{names[key]}.parquet")
            yield from read_request(context.lake, context.layout, context.dataset, context.source, stored)

        keys = [(receipt.staged, staged.get(receipt.staged, 0)) for receipt in found.values()]
        yield from staging.read_rows(context.lake, keys, from_lake)


def place(receipt: RequestReceipt) -> tuple[tuple[str, ...], tuple[date, ...]]:
    """Return the symbols and the first dates of a request, to sort by.

    In the order of their ids, a load's chunk would hold symbols from A and Z, and be compared with all stored rows between them.
    """
    return receipt.request.symbols, tuple(interval.start for interval in receipt.request.intervals)


def staged_rows(context: RunContext, keys: Sequence[str], staged: Mapping[str, int]) -> Iterator[pa.Table]:
    """Yield the rows of staging objects, without those that another run has published and deleted.

    :raises BrokenObject: if one exists and cannot be read.
    """
    from market_data.lake import staging

    def deleted(key: str) -> Iterator[pa.Table]:
        if context.lake.get(key) is not None:
            raise BrokenObject(f"staging object {key} cannot be read; fetch its cells again (force), then delete it")
        yield from ()

    yield from staging.read_rows(context.lake, [(key, staged.get(key, 0)) for key in keys], deleted)
