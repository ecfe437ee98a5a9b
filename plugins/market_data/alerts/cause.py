"""A cause of trouble, and the message on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from market_data.core.paths import PAGES

HEALED = "all-clear: "
"""How the title of the message on a healed cause begins."""


@dataclass(frozen=True)
class Cause:
    """Something that is wrong now.

    :param id: the same as long as it is wrong, and of no other cause: ``session/polygon_ohlcv_1d/2026-11-25``.
    :param feed: DAG id, for the link; empty if it concerns no single feed.
    :param title: one line: where and what.
    :param why: sentences: which symbols and sessions, and the reasons.
    :param todo: one sentence.
    :param event: it happened once and cannot heal, so that there is no all-clear.
    :param hosts: host -> when it last found this of itself (ISO, UTC).
    """

    id: str
    feed: str
    title: str
    why: tuple[str, ...]
    todo: str
    event: bool = False
    hosts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Message:
    """A message for people.

    :param id: of its cause.
    :param link: address of a page; empty if unknown.
    :param healed: the all-clear.
    """

    id: str
    title: str
    text: str
    todo: str = ""
    link: str = ""
    healed: bool = False

    def __str__(self) -> str:
        todo = f"To do: {self.todo}" if self.todo else ""
        return "\n".join(filter(None, [self.title, self.text, todo, self.link]))

    def values(self) -> Mapping[str, Any]:
        """Return the names that the arguments of a notifier may use."""
        return {
            "id": self.id, "title": self.title, "text": self.text, "todo": self.todo, "link": self.link, "healed": self.healed,
            "message": str(self),
        }  # fmt: skip


def message_of(cause: Cause, base_url: str) -> Message:
    """Return the message on a cause.

    :param base_url: of Airflow; empty: no link.
    """
    return Message(cause.id, cause.title, "\n".join(cause.why), cause.todo, link_of(cause.feed, base_url))


def all_clear(cause_id: str, feed: str, title: str, base_url: str) -> Message:
    """Return the message that a cause has healed."""
    return Message(cause_id, f"{HEALED}{title}", "This is no longer the case.", "", link_of(feed, base_url), healed=True)


def link_of(feed: str, base_url: str) -> str:
    """Return the address of the page *Coverage* of a feed, or of *Feeds* for no single feed.

    Empty without ``base_url``.
    """
    base = base_url.rstrip("/")
    return base and f"{base}{PAGES}/" + (f"coverage?feed={quote(feed)}" if feed else "feeds")
