"""Read ahead when the api-server starts, so that the first page need not wait."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from market_data.airflow.web import deployment

if TYPE_CHECKING:
    from market_data.lake.store import Lake


def read_ahead() -> None:
    """Import the pages and read the ledgers of all feeds in the background."""
    from market_data.views.ledgers import warm

    warm(deployment.lake, _places)


def _places(opened: Lake) -> Iterable[tuple[str, str]]:
    """Return dataset and source of each feed whose ledger the lake has."""
    import market_data.airflow.web.app  # noqa: F401
    from market_data.config.feeds import load_feeds
    from market_data.views.places import own_source

    feeds = load_feeds()
    recorded = {(feed.dataset, own_source(feed)) for feed in feeds}
    folders = {folder for name in {feed.dataset for feed in feeds} for folder in opened.folders(f"manifest/{name}")}
    return sorted(one for one in recorded if f"manifest/{one[0]}/provider={one[1]}" in folders)
