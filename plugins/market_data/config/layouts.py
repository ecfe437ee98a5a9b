"""Tell how the lake's keys of a feed look: the environment's raw prefix and the feed's own setting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from market_data.core import settings
from market_data.lake.layout import Layout

if TYPE_CHECKING:
    from market_data.config.feeds import Feed


def default_layout() -> Layout:
    """Return the lake's layout where no feed says otherwise."""
    return Layout(raw_prefix=settings.value("RAW_PREFIX"))


def layout_of(feed: Feed) -> Layout:
    """Return the lake's layout for a feed."""
    return Layout(raw_prefix=settings.value("RAW_PREFIX"), provider_level=feed.provider_level)
