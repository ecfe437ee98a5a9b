"""Build and parse the keys of lake objects.

Pure functions without access to the store. Symbols are escaped, so that a key cannot leave its prefix or equal another symbol's key.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

from market_data.core.errors import ConfigError, ParamError
from market_data.core.run import Grain

if TYPE_CHECKING:
    from market_data.datasets.base import Dataset

ALL_SYMBOLS = ""
"""In place of a symbol: an object that holds all symbols of a session. No symbol is empty."""

MAX_SYMBOL = 64
MAX_ESCAPED = 3 * MAX_SYMBOL  # a key contains it twice; S3 allows 1,024 bytes per key, file systems 255 per name

_SESSION_KEY = re.compile(
    r"(?P<folder>[^/]+)(?:/provider=(?P<provider>[^/]+))?/year=(?P<year>[0-9]{4})/month=(?P<month>[0-9]{2})/"
    r"session-(?P<session>(?P=year)-(?P=month)-[0-9]{2})\.parquet"
)
_PLAIN_SYMBOL = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]*")
_KEY = re.compile(
    r"(?P<folder>[^/]+)(?:/provider=(?P<provider>[^/]+))?(?:/type=(?P<kind>[^/]+))?/symbol=(?P<symbol>[^/]+)/year=(?P<year>[0-9]{4})/"
    r"(?:(?P=symbol)-(?P=year)"
    r"|month=(?P<month>[0-9]{2})/(?:data|(?P=symbol)-(?P<session>(?P=year)-(?P=month)-[0-9]{2}))"
    r"|docdate=(?P<docdate>(?P=year)-[0-9]{2}-[0-9]{2})/(?P=symbol)-(?P=docdate))"
    r"\.parquet"
)


def escape(symbol: str) -> str:
    """Return ``symbol`` in the form that keys contain.

    Plain symbols (``BRK.B``) do not change. In all others, every character except letters, digits, ``_`` and ``-`` becomes ``%XX``
    per UTF-8 byte (``../x`` -> ``%2E%2E%2Fx``). Distinct symbols (in Unicode NFC) have distinct escapes.

    :raises ParamError: if the symbol is empty, too long, or holds control, format or unassigned characters.
    """
    text = unicodedata.normalize("NFC", symbol)
    if not 1 <= len(text) <= MAX_SYMBOL:
        raise ParamError([f"symbol is {symbol[: MAX_SYMBOL + 1]!r}, {len(text)} characters; allowed: 1 to {MAX_SYMBOL}"])
    if any(unicodedata.category(c)[0] == "C" or unicodedata.category(c) in {"Zl", "Zp"} for c in text):
        raise ParamError([f"symbol is {symbol!r}; control, format and unassigned characters are not allowed"])
    if _PLAIN_SYMBOL.fullmatch(text):
        return text
    escaped = "".join(c if re.fullmatch(r"[A-Za-z0-9_-]", c) else "".join(f"%{byte:02X}" for byte in c.encode()) for c in text)
    if len(escaped) > MAX_ESCAPED:
        raise ParamError([f"symbol is {symbol!r}, {len(escaped)} bytes when escaped; allowed: at most {MAX_ESCAPED}"])
    return escaped


def unescape(escaped: str) -> str:
    """Return the symbol that ``escape`` turned into ``escaped``."""
    return unquote(escaped)


def symbol_of_folder(key: str) -> str | None:
    """Return the symbol whose folder ``key`` is (``.../symbol=AAPL``), or None for another folder."""
    name = key.rpartition("/")[2]
    symbol = unescape(name.removeprefix("symbol="))
    try:
        return symbol if name == f"symbol={escape(symbol)}" else None
    except ParamError:
        return None


@dataclass(frozen=True, slots=True)
class ParsedKey:
    """The parts of a key in the raw area.

    :param folder: the dataset's folder, e.g. ``prices``.
    :param provider: None if the layout has no provider level.
    :param symbol: ``ALL_SYMBOLS`` for a session file.
    :param session: the exchange date of a day file or a session file, else None.
    :param month: None for a year file, and for a file that is not named by session.
    :param grain: ``day``: one session, or one ``docdate``; ``session``: one session of all symbols; ``year``: a year, or a month of bars
        within the day.
    :param docdate: the date of a file that is not named by session, e.g. the end of the period for fundamentals.
    :param kind: the value of the dataset's ``Files.kind`` column, if it has one, e.g. ``income``.
    """

    folder: str
    provider: str | None
    symbol: str
    session: date | None
    year: int
    month: int | None
    grain: Grain
    docdate: date | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """Keys of the raw area.

    :param raw_prefix: first part of every key.
    :param provider_level: whether keys have the ``provider=`` part.
    :raises ConfigError: if ``raw_prefix`` is not made of plain names.
    """

    raw_prefix: str = "raw"
    provider_level: bool = True

    def __post_init__(self) -> None:
        _named("raw prefix", *self.raw_prefix.split("/"))

    def root(self, dataset: Dataset, provider: str) -> str:
        """Return the folder of a dataset and a provider, without a closing slash.

        :raises ConfigError: if ``provider`` is not a plain name.
        """
        level = f"/provider={_named('provider', provider)}" if self.provider_level else ""
        return f"{self.raw_prefix}/{dataset.folder}{level}"

    def symbol_prefix(self, dataset: Dataset, provider: str, symbol: str, kind: str | None = None) -> str:
        """Return the folder of all rows of a symbol in a dataset, without a closing slash.

        :param kind: see ``object_key``.
        :raises ConfigError: if ``provider`` is not a plain name, or ``kind`` is not one of the dataset's.
        :raises ParamError: if the symbol cannot be a key; see ``escape``.
        """
        if kind not in (dataset.files.kinds or (None,)):
            raise ConfigError(f"type is {kind!r}; of {dataset.name} allowed: {', '.join(dataset.files.kinds) or 'none'}")
        level = f"/type={kind}" if kind else ""
        return f"{self.root(dataset, provider)}{level}/symbol={escape(symbol)}"

    def session_key(self, dataset: Dataset, provider: str, session: date) -> str:
        """Return the key of the object that holds all symbols of ``session``.

        :raises ConfigError: if ``provider`` is not a plain name.
        """
        month = f"{self.root(dataset, provider)}/year={session.year:04d}/month={session.month:02d}"
        return f"{month}/session-{session.isoformat()}.parquet"

    def object_key(self, dataset: Dataset, provider: str, symbol: str, day: date, grain: Grain, kind: str | None = None) -> str:
        """Return the key of the object that holds the rows of ``day``.

        :param day: the session, or the value of the date column that ``dataset.files`` names.
        :param grain: ``day`` for a file per session; ``session`` for a file with all symbols; ``year`` for the period that
            ``dataset.files`` defines.
        :param kind: the kind of row, for datasets with a folder per kind, e.g. ``income``.
        :raises ConfigError: if ``provider`` is not a plain name, or ``grain`` or ``kind`` is unknown.
        :raises ParamError: if the symbol cannot be a key; see ``escape``.
        """
        if grain not in dataset.files.grains:
            raise ConfigError(f"file_grain is {grain!r}; for {dataset.name} allowed: {', '.join(dataset.files.grains)}")
        if grain == "session":
            escape(symbol)  # a symbol that cannot be a key is wrong here too: another grain may hold it later
            return self.session_key(dataset, provider, day)
        year = f"{self.symbol_prefix(dataset, provider, symbol, kind)}/year={day.year:04d}"
        if dataset.files.date != "session":
            return f"{year}/docdate={day.isoformat()}/{escape(symbol)}-{day.isoformat()}.parquet"
        holds = file_period(dataset, grain)
        if holds == "year":
            return f"{year}/{escape(symbol)}-{day.year:04d}.parquet"
        month = f"{year}/month={day.month:02d}"
        return f"{month}/data.parquet" if holds == "month" else f"{month}/{escape(symbol)}-{day.isoformat()}.parquet"

    def parse(self, key: str) -> ParsedKey | None:
        """Return the parts of ``key``, or None for an object that is not of this layout."""
        below = key.removeprefix(f"{self.raw_prefix}/")
        found = _KEY.fullmatch(below) or _SESSION_KEY.fullmatch(below)
        if not key.startswith(f"{self.raw_prefix}/") or not found or (found["provider"] is not None) != self.provider_level:
            return None
        if found.re is _SESSION_KEY:
            return _parsed_session(found)
        symbol, year, month = unescape(found["symbol"]), int(found["year"]), int(found["month"] or 1)
        try:
            session = date.fromisoformat(found["session"]) if found["session"] else None
            docdate = date.fromisoformat(found["docdate"]) if found["docdate"] else None
            if escape(symbol) != found["symbol"] or not date(year, month, 1):
                return None
        except (ValueError, ParamError):
            return None
        grain: Grain = "day" if session or docdate else "year"
        month_or_none = month if found["month"] else None
        return ParsedKey(found["folder"], found["provider"], symbol, session, year, month_or_none, grain, docdate, found["kind"])


def _parsed_session(found: re.Match[str]) -> ParsedKey | None:
    try:
        session = date.fromisoformat(found["session"])
    except ValueError:
        return None
    return ParsedKey(found["folder"], found["provider"], ALL_SYMBOLS, session, session.year, session.month, "session")


def file_period(dataset: Dataset, grain: Grain) -> Literal["day", "month", "year"]:
    """Return the period that one file covers."""
    return "day" if grain != "year" else dataset.files.year_grain


def manifest_prefix(dataset: str, provider: str) -> str:
    """Return the folder of the coverage ledger of a dataset (by name) and a provider."""
    return f"manifest/{_named('dataset', dataset)}/provider={_named('provider', provider)}"


def recorded_source(key: str) -> str:
    """Return the provider (its name in the lake) from a ledger key; empty for any other key."""
    folder, _, rest = key.removeprefix("manifest/").partition("/provider=")
    return rest.partition("/")[0] if folder and key.startswith("manifest/") else ""


def receipts_prefix(dataset: str, provider: str, run_key: str, spec_hash: str) -> str:
    """Return the folder of the receipts of one batch in one attempt of a run."""
    return f"receipts/{_named('dataset', dataset)}/provider={_named('provider', provider)}/run={run_key}/{spec_hash}"


def staging_prefix(dataset: str, provider: str) -> str:
    """Return the folder of the rows of a dataset and a provider that are not loaded yet."""
    return f"staging/{_named('dataset', dataset)}/provider={_named('provider', provider)}"


def compactions_prefix(dataset: str, provider: str) -> str:
    """Return the folder of the records of what compaction has written."""
    return f"compactions/{_named('dataset', dataset)}/provider={_named('provider', provider)}"


def decisions_prefix(dataset: str, provider: str) -> str:
    """Return the folder of what people decided on cells of a dataset and a provider."""
    return f"decisions/{_named('dataset', dataset)}/provider={_named('provider', provider)}"


def quarantine_prefix(dataset: str, provider: str, session: date) -> str:
    """Return the folder of the rows of a session that the gate quarantined."""
    return quarantine_key(dataset, provider, session, "x").rpartition("/")[0]


def failures_key(dataset: str, provider: str, run_key: str) -> str:
    """Return the key of the failures of one attempt of a run."""
    return f"failures/{_named('dataset', dataset)}/provider={_named('provider', provider)}/run={run_key}.json"


def remembered_prefix(dataset: str, provider: str, run_key: str) -> str:
    """Return the folder of what the tasks of one attempt of a run remember for each other."""
    return f"remembered/{_named('dataset', dataset)}/provider={_named('provider', provider)}/run={run_key}"


def quarantine_key(dataset: str, provider: str, session: date | None, batch_id: str) -> str:
    """Return the key of the rows that the gate quarantined for one batch and session.

    :param session: None for rows without a session.
    """
    name = f"date={session.isoformat() if session else 'none'}/{_named('batch id', batch_id)}.parquet"
    return f"quarantine/{_named('dataset', dataset)}/provider={_named('provider', provider)}/{name}"


def _named(what: str, *names: str) -> str:
    for name in names:
        if not _PLAIN_NAME.fullmatch(name) or ".." in name:
            allowed = "letters, digits and . _ ~ -, a letter or digit first"
            raise ConfigError(f"{what} is {'/'.join(names)!r}; allowed: {allowed}")
    return "/".join(names)
