"""Broken objects: keep what cannot be read under ``broken/`` before it is replaced."""

from __future__ import annotations

import hashlib
import logging

from market_data.core.errors import BrokenObject
from market_data.lake.store import Lake

log = logging.getLogger(__name__)

FOLDER = "broken"


def keep_aside(lake: Lake, key: str, body: bytes, error: BrokenObject) -> str:
    """Copy an object that cannot be read to ``broken/`` and log it. The caller replaces the object.

    :param body: the bytes as read.
    :return: a sentence for the run's warnings.
    """
    aside = f"{FOLDER}/{key}"
    if not lake.put_new(aside, body):
        kept = lake.get(aside)
        if kept is None or kept.body != body:
            aside = f"{aside}.{hashlib.sha256(body).hexdigest()[:16]}"
            lake.put_new(aside, body)
    sentence = f"{error}; it is kept as {aside} and replaced"
    log.warning("%s", sentence)
    return sentence
