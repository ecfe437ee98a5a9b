"""Select a part of the lake: a dataset of one source, some symbols, some sessions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from market_data.config.layouts import layout_of
from market_data.core.errors import ParamError
from market_data.core.messages import shown, suggestion
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
    """Return a selection per feed and source. Everything is checked before the first is returned.

    :param source: one variant; None: every source of the feed that the lake has.
    :param span: first and last session, both inclusive; None: unlimited.
    :param named: the user named the feeds: ``source`` has to be one of each.
    :raises ParamError: if ``source`` is not one of a named feed, or of no feed at all.
    """
    start, end = span[0] or EVER[0], span[1] or EVER[1]
    recorded = [(feed, recorded_sources(lake, feed)) for feed in feeds]
    every = sorted({name for _, names in recorded for name in names})
    if source is not None:
        problems = [_unknown(source, feed.dag_id, names) for feed, names in recorded if named and source not in names]
        problems += [] if problems or source in every else [_unknown(source, "these feeds", every)]
        if problems:
            raise ParamError(problems)
    chosen = tuple(symbols) if symbols else None
    return iter(
        [
            (feed, Selection(dataset(feed.dataset), name, layout_of(feed), chosen, start, end))
            for feed, names in recorded
            for name in ([one for one in names if one == source] if source is not None else names)
        ]
    )


def _unknown(source: str, whose: str, known: Sequence[str]) -> str:
    return f"source is {shown(source)}{suggestion(source, known)}; sources of {whose} in the lake: {', '.join(known) or 'none'}"
