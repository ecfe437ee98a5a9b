"""Read JSON objects of the lake once.

The digest of each is kept in one object, with the version that it was made from.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from market_data.core.errors import OTHER_FORM

if TYPE_CHECKING:
    from market_data.lake.store import Lake, Stored

log = logging.getLogger(__name__)

Digest = Mapping[str, Any]
T = TypeVar("T")


def days(first: date, last: date) -> list[str]:
    """Return the folder names ``date=YYYY-MM-DD`` from ``first`` to ``last``, both inclusive."""
    return [f"date={first + timedelta(days=n)}" for n in range((last - first).days + 1)]


def digests(
    lake: Lake,
    folders: Iterable[str],
    cache: str,
    digest: Callable[[Mapping[str, Any]], Digest],
    build: Callable[[str, Digest], T],
) -> list[T]:
    """Return what ``build`` makes of each readable JSON object below ``folders``, by key.

    Objects that ``digest`` or ``build`` fails for are logged and left out. They are read again the next time.

    :param cache: key of the object that keeps digests; objects in it whose version is the same are not read. It has the version of the
        digests: give it another one when their fields or meaning change.
    :param digest: takes a document and returns what is kept of it; JSON values only.
    :param build: takes key and digest.
    """
    listed = {one.key: one.etag for folder in folders for one in lake.listed(folder) if one.key.endswith(".json")}
    known = _cached(lake, cache)
    kept = {key: known[key] for key, etag in listed.items() if known.get(key, {}).get("etag") == etag}
    built = {key: _attempt(partial(_built, build, key, kept[key]), key) for key in kept}
    new = [key for key in listed if built.get(key) is None]
    for key, stored in zip(new, lake.get_many(new), strict=True):
        kept.pop(key, None)
        built[key] = None
        if stored is None or (entry := _attempt(partial(_entry, digest, stored), key)) is None:
            continue
        built[key] = _attempt(partial(_built, build, key, entry), key)
        if built[key] is not None:
            kept[key] = entry
    if kept != known:
        body = json.dumps(kept, sort_keys=True).encode()
        lake.update(cache, lambda _: body)
    return [one for key in sorted(built) if (one := built[key]) is not None]


def _entry(digest: Callable[[Mapping[str, Any]], Digest], stored: Stored) -> dict[str, Any]:
    return {"etag": stored.etag, "digest": digest(json.loads(stored.body))}


def _built(build: Callable[[str, Digest], T], key: str, entry: Mapping[str, Any]) -> T:
    return build(key, entry["digest"])


def _attempt(step: Callable[[], T], key: str) -> T | None:
    """Return the result of ``step``; None, which is logged, if an object's content is wrong."""
    try:
        return step()
    except OTHER_FORM as error:
        log.warning("lake object %s cannot be read and is left out: %s", key, type(error).__name__)
        return None


def _cached(lake: Lake, key: str) -> dict[str, Any]:
    stored = lake.get(key)
    try:
        found = json.loads(stored.body) if stored else {}
    except OTHER_FORM:
        return {}  # everything is read again, and the object is replaced
    return {key: one for key, one in found.items() if isinstance(one, dict)} if isinstance(found, dict) else {}
