"""The content of a source of an index: today's constituents, and its list of changes or memberships."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

from market_data.config.universes import Member


@dataclass(frozen=True, slots=True)
class Constituent:
    """A symbol that is a member today.

    :param cik: the company's number at the SEC, ten digits; empty where the source has none.
    :param added: the date on which it joined; None where the source has none.
    """

    symbol: str
    name: str = ""
    cik: str = ""
    added: date | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A row of the list of changes: from ``day`` on, ``added`` is a member and ``removed`` is not.

    Either may be empty.
    """

    day: date
    added: str = ""
    added_name: str = ""
    removed: str = ""
    removed_name: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Found:
    """The content of one source.

    :param constituents: today's members; empty for a source that has memberships only.
    :param changes: in any order.
    :param memberships: with dates, from a source that has them.
    :param warnings: a sentence per row that could not be read.
    """

    constituents: tuple[Constituent, ...] = ()
    changes: tuple[Change, ...] = ()
    memberships: tuple[Member, ...] = ()
    warnings: tuple[str, ...] = field(default=())


class UnusableSource(ValueError):
    """A document is not a list of members. The message follows the source's address."""
