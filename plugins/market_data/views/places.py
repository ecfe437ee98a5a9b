"""The feeds and sources that a page shows, from what a client names."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from market_data.config.feeds import Feed, load_feeds
from market_data.config.layouts import layout_of
from market_data.core.errors import ParamError
from market_data.core.messages import shown, suggestion
from market_data.datasets.registry import dataset
from market_data.pipeline.selection import Selection, recorded_sources
from market_data.providers.registry import known_provider
from market_data.providers.spec import source_of
from market_data.views.ledgers import records_of

if TYPE_CHECKING:
    from market_data.lake.store import Lake
    from market_data.views.records import Records


@dataclass(frozen=True)
class Place:
    """A feed and one of its sources.

    :param sources: all sources of the feed that the lake has, and the feed's own.
    """

    lake: Lake
    feed: Feed
    selection: Selection
    sources: tuple[str, ...]

    @property
    def source(self) -> str:
        return self.selection.source

    def records(self) -> Records:
        """Return the records of the ledger, from the cache of this process."""
        return records_of(self.lake, self.selection.dataset.name, self.source)


def empty_note(lake: Lake) -> tuple[str, ...]:
    """Return a note on a lake in a folder that has nothing: its disk may not be mounted on this machine."""
    if lake.root is None or any(lake.root.iterdir()):
        return ()
    return (
        f"the lake {lake.url} has nothing on this machine ({socket.gethostname()}), where the api-server runs: if a run has ended, the"
        " lake is on another machine or its disk is not mounted here; mount it under the same path, or use s3://",
    )


def own_source(feed: Feed) -> str:
    """Return the source under which a feed's runs store their rows."""
    return source_of(known_provider(feed.provider), dict(feed.options))


def feed_called(feed_id: str, feeds: Sequence[Feed] | None = None) -> Feed:
    """Return the feed that a client names.

    :raises ParamError: if there is none; names those there are.
    """
    known = {feed.dag_id: feed for feed in (load_feeds() if feeds is None else feeds)}
    if feed_id not in known:
        raise ParamError([f"feed is {shown(feed_id)}{suggestion(feed_id, known)}; feeds: {', '.join(known)}"])
    return known[feed_id]


def place_of(lake: Lake, feed_id: str, source: str | None = None, feeds: Sequence[Feed] | None = None) -> Place:
    """Return the place that a client names.

    :param source: None: the feed's own.
    :raises ParamError: if there is no such feed or source; names those there are.
    """
    feed = feed_called(feed_id, feeds)
    own = own_source(feed)
    sources = tuple(sorted({own, *recorded_sources(lake, feed)}))
    if source not in {None, *sources}:
        raise ParamError([f"source is {shown(source)}; sources of {feed_id} in the lake: {', '.join(sources)}"])
    return Place(lake, feed, Selection(dataset(feed.dataset), source or own, layout_of(feed)), sources)
