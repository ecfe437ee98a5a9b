"""Symbols, dates and CIKs as people write them in tables."""

from __future__ import annotations

import re
from datetime import date, datetime

from market_data.config.symbols import symbol_problem
from market_data.core.spelling import canonical

INVISIBLE = dict.fromkeys([0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065), 0xFEFF])
"""Soft hyphen, zero-width and direction characters: copied along with a symbol, and never seen."""
_NOTE = re.compile(r"\[[^\[\]]{0,40}\]")
_EXCHANGE = re.compile(
    r"(?:\b(?:NYSE(?: American| Arca)?|NASDAQ(?: GS)?|Nasdaq|CBOE|Cboe(?: BZX)?|BATS|Bats|AMEX)\s*:\s*)", re.ASCII
)
_APART = re.compile(r"\s+and\s+|\s*[,;&\n]\s*|\s+/\s*|\s*/\s+|(?<=[A-Z0-9]{2})/(?=[A-Z]{2})|\s+")
_CLASS = re.compile(r"([A-Z]{1,5})[-/ ]([A-C])", re.ASCII)
NONE = {"", "-", "\u2013", "\u2014", "n/a", "none", "tbd", "tba", "?"}
_ISO = re.compile(r"\b(\d{4})-(\d{1,2})-(\d{1,2})\b", re.ASCII)
_MONTH_FIRST = re.compile(r"\b([A-Z][a-z]{2,8})\.?\s+(\d{1,2})(?:st|[nr]d|th)?\s*,?\s+(\d{4})\b", re.ASCII)
_DAY_FIRST = re.compile(r"\b(\d{1,2})(?:st|[nr]d|th)?\s+([A-Z][a-z]{2,8})\.?\s*,?\s+(\d{4})\b", re.ASCII)
_SLASHES = re.compile(r"\b(\d{1,2})/(\d{1,2})/(\d{4})\b", re.ASCII)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
LONGEST = 2_000
"""Characters of a cell that are read."""


def plain(text: str) -> str:
    """Return the text of a cell without invisible characters and notes. Its lines stay apart."""
    shown = _NOTE.sub("", text[:LONGEST].translate(INVISIBLE).replace("\xa0", " ").replace("\u202f", " "))
    return "\n".join(filter(None, (" ".join(line.split()) for line in shown.replace("\r", "\n").split("\n"))))


def symbols(text: str) -> tuple[list[str], list[str]]:
    """Return the symbols in a cell, canonical and each once, and the words that are not symbols.

    A cell may hold several: ``GOOG / GOOGL``, ``FOX, FOXA``, one per line. ``BRK/B`` and ``BF-B`` are one each.
    """
    found: dict[str, None] = {}
    odd = []
    words = _EXCHANGE.sub("\n", plain(text)).strip()
    for part in [words] if _CLASS.fullmatch(words) else _APART.split(words):
        word = part.strip("()*†‡. ")
        if word.lower() in NONE:
            continue
        # An index has common stock only: a dash and a letter are a class, not a series of preferred stock.
        name = _CLASS.sub(r"\1.\2", word) if _CLASS.fullmatch(word) else canonical(word)
        if symbol_problem(name) or name != name.upper():
            odd.append(word)
        else:
            found[name] = None
    return list(found), odd


def day_of(text: str) -> date | None:
    """Return the first date in a cell; None without one, or where only a month or a year is named.

    :raises ValueError: if it looks like a date and is not one, e.g. 31 June.
    """
    words = plain(text)
    if found := _ISO.search(words):
        return date(int(found[1]), int(found[2]), int(found[3]))
    if found := _MONTH_FIRST.search(words):
        return date(int(found[3]), _month(found[1]), int(found[2]))
    if found := _DAY_FIRST.search(words):
        return date(int(found[3]), _month(found[2]), int(found[1]))
    if found := _SLASHES.search(words):  # American order, as the exchanges write
        return datetime(int(found[3]), int(found[1]), int(found[2])).date()  # noqa: DTZ001  a date, without a zone
    return None


def _month(name: str) -> int:
    return _MONTHS.index(name[:3].lower()) + 1


def cik_of(text: str) -> str:
    """Return a CIK with its ten digits; empty where there is none. Some files have lost the leading zeros."""
    digits = plain(text).removesuffix(".0")
    return digits.zfill(10) if digits.isascii() and digits.isdigit() and len(digits) <= 10 and int(digits) else ""
