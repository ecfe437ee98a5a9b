"""The run params of a feed: the fields of the trigger form with the feed's own defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from market_data.config.trigger_form import form
from market_data.datasets.registry import grains_of
from market_data.providers.registry import options_of, serving

if TYPE_CHECKING:
    from market_data.config.feeds import Feed
    from market_data.config.trigger_form import Form


def form_of(feed: Feed) -> Form:
    """Return every run param of a feed in the order of use, with its default and its schema."""
    defaults = {"universe": feed.universe, **feed.params, **feed.options}
    fields = form(options_of(feed.provider, feed.dataset), serving(feed.provider, feed.dataset), grains_of(feed.dataset))
    return {name: (defaults.get(name, default), schema) for name, (default, schema) in fields.items()}
