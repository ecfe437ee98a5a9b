"""Read JSON objects of the lake once.

The digest of each is kept in one object, with the version that it was made from.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from market_data.lake.store import Lake

log = logging.getLogger(__name__)

Digest = Mapping[str, Any]


def days(first: date, last: date) -> list[str]:
    """Return the folder names ``date=YYYY-MM-DD`` from ``first`` to ``last``, both inclusive."""
    return [f"date={first + timedelta(days=n)}" for n in range((last - first).days + 1)]


def digests(lake: Lake, folders: Iterable[str], cache: str, digest: Callable[[Mapping[str, Any]], Digest]) -> dict[str, Digest]:
    """Return the digest of each readable JSON object below ``folders``, by key.

    :param cache: key of the object that keeps digests; objects in it whose version is the same are not read.
    :param digest: takes a document and returns what is kept of it; JSON values only.
    """
    listed = {one.key: one.etag for folder in folders for one in lake.listed(folder) if one.key.endswith(".json")}
    known = _cached(lake, cache)
    kept = {key: known[key] for key, etag in listed.items() if known.get(key, {}).get("etag") == etag}
    new = [key for key in listed if key not in kept]
    for key, stored in zip(new, lake.get_many(new), strict=True):
        if stored is None:
            continue
        try:
            kept[key] = {"etag": stored.etag, "digest": digest(json.loads(stored.body))}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            log.warning("lake object %s cannot be read and is left out: %s", key, type(error).__name__)
    if kept != known:
        body = json.dumps(kept, sort_keys=True).encode()
        lake.update(cache, lambda _: body)
    return {key: kept[key]["digest"] for key in sorted(kept)}


def _cached(lake: Lake, key: str) -> dict[str, Any]:
    stored = lake.get(key)
    try:
        found = json.loads(stored.body) if stored else {}
    except ValueError:
        return {}  # everything is read again, and the object is replaced
    return found if isinstance(found, dict) else {}
