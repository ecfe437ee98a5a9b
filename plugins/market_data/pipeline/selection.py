"""Select a part of the lake: a dataset of one source, some symbols, some sessions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from market_data.config.layouts import layout_of
from market_data.core.errors import ParamError
from market_data.datasets.registry import dataset
from market_data.lake.layout import Layout

if TYPE_CHECKING:
    from market_data.config.feeds import Feed
    from market_data.datasets.base import Dataset
    from market_data.lake.store import Lake

EVER = (date(1, 1, 1), date(9999, 12, 31))


@dataclass(frozen=True)
class Selection:
    """A part of the lake.

    :param source: the provider's name in the lake, e.g. ``polygon`` or ``alpaca~iex``.
    :param symbols: None: all that the lake has.
    :param start: first session, inclusive; ``end``: last session, inclusive.
    """

    dataset: Dataset
    source: str
    layout: Layout
    symbols: tuple[str, ...] | None = None
    start: date = EVER[0]
    end: date = EVER[1]


def recorded_sources(lake: Lake, feed: Feed) -> list[str]:
    """Return the sources of a feed that the lake has, e.g. ``alpaca``, ``alpaca~iex``.

    The ledger, receipts and objects tell them: each may be lost.
    """
    layout, name = layout_of(feed), dataset(feed.dataset)
    parents = [f"manifest/{name.name}", f"receipts/{name.name}"]
    parents += [f"{layout.raw_prefix}/{name.folder}"] if layout.provider_level else []
    folders = [folder for parent in parents for folder in lake.folders(parent)]
    found = {folder.rpartition("/provider=")[2] for folder in folders if "/provider=" in folder}
    return sorted(source for source in found if source.partition("~")[0] == feed.provider)


def selections(
    lake: Lake,
    feeds: Sequence[Feed],
    source: str | None = None,
    symbols: Sequence[str] | None = None,
    span: tuple[date | None, date | None] = (None, None),
    *,
    named: bool = True,
) -> Iterator[tuple[Feed, Selection]]:
    """Yield a selection per feed and source.

    :param source: one variant; None: every source of the feed that the lake has.
    :param span: first and last session, both inclusive; None: unlimited.
    :param named: the user named the feeds: ``source`` has to be one of each.
    :raises ParamError: if ``source`` is not one of a named feed.
    """
    start, end = span[0] or EVER[0], span[1] or EVER[1]
    for feed in feeds:
        recorded = recorded_sources(lake, feed)
        if source is not None and source not in recorded:
            if not named:
                continue
            raise ParamError([f"source is {source!r}; sources of {feed.dag_id} in the lake: {', '.join(recorded) or 'none'}"])
        for name in [source] if source else recorded:
            yield feed, Selection(dataset(feed.dataset), name, layout_of(feed), tuple(symbols) if symbols else None, start, end)
