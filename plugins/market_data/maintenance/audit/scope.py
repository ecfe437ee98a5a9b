"""The part of a dataset and source that an audit was about, and what it says of earlier findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from market_data.maintenance.findings import BY_READING

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Scope:
    """Symbols and sessions of an audit.

    :param symbols: None: all. ``start``: first session, inclusive; ``end``: last session, inclusive; None: unlimited.
    :param read: symbols of which all objects were read; None: all. Causes ``BY_READING`` of others may have been overlooked.
    :param unjudged: causes that were not looked for.
    """

    symbols: frozenset[str] | None = None
    start: date | None = None
    end: date | None = None
    read: frozenset[str] | None = None
    unjudged: frozenset[str] = frozenset()

    @classmethod
    def of_report(cls, document: Mapping[str, Any]) -> Scope:
        """Return the scope of a gap report in JSON."""
        start, end = (date.fromisoformat(document[name]) if document[name] else None for name in ("start", "end"))
        # The report of an earlier version does not tell which symbols were read.
        read = document.get("read", None if document.get("share", 1) >= 1 else ())
        symbols, read = (None if one is None else frozenset(one) for one in (document["symbols"], read))
        return cls(symbols, start, end, read, frozenset(document.get("unjudged", ())))

    @property
    def whole(self) -> bool:
        """True if it has all symbols and sessions, and overlooked nothing."""
        return self == Scope()

    def outside(self, finding: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Return the parts of a finding that the audit was not about; none if it was about all of it.

        :param finding: with ``cause``, ``symbol``, ``first_session`` and ``last_session`` as in ``FINDINGS``. Without a symbol it is
            outside of an audit of some symbols, and without sessions outside of an audit of some sessions.
        """
        symbol, cause = finding["symbol"], finding["cause"]
        overlooked = self.read is not None and cause in BY_READING and symbol not in self.read
        if cause in self.unjudged or overlooked or (self.symbols is not None and symbol not in self.symbols):
            return [finding]
        if self.start is None and self.end is None:
            return []
        first, last = finding["first_session"], finding["last_session"]
        if first is None or last is None:
            return [finding]
        spans = [(first, min(last, self.start - DAY))] if self.start else []
        spans += [(max(first, self.end + DAY), last)] if self.end else []
        return [{**finding, "first_session": begin, "last_session": end} for begin, end in spans if begin <= end]


NOTHING = Scope(frozenset())
"""The scope of an audit whose report does not tell it."""


def left_by(scopes: Iterable[Scope], findings: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the findings without what later audits were about."""
    left = list(findings)
    for scope in scopes:
        left = [part for finding in left for part in scope.outside(finding)]
    return left
