"""The companies of an index as of its last update, and the changes of symbols that follow from them.

``metadata/companies/{index}.csv`` has symbol, CIK and name.

A company that has another symbol at the next update, and the same CIK, changed its symbol; it did not leave and join.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date
from typing import TYPE_CHECKING

from market_data.core.errors import ConfigError
from market_data.core.symbol_changes import SymbolChange
from market_data.maintenance.index_sources.found import Constituent

if TYPE_CHECKING:
    from market_data.lake.store import Lake


def key_of_companies(index: str) -> str:
    """Return the lake key of the companies of an index."""
    return f"metadata/companies/{index}.csv"


def read_companies(lake: Lake, index: str) -> dict[str, str]:
    """Return symbol -> CIK as of the last update; empty where there is none or it cannot be read."""
    stored = lake.get(key_of_companies(index))
    try:
        rows = csv.DictReader(io.StringIO(stored.body.decode("utf-8") if stored else ""))
        return {row["symbol"]: row["cik"] for row in rows if row.get("symbol") and row.get("cik")}
    except (UnicodeDecodeError, csv.Error, KeyError):
        return {}


def companies_text(constituents: Iterable[Constituent]) -> str:
    """Return the companies as CSV, those with a CIK, by symbol."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["symbol", "cik", "name"])
    table.writerows(sorted([one.symbol, one.cik, one.name] for one in constituents if one.cik))
    return out.getvalue()


def renames_by_cik(before: Mapping[str, str], constituents: Iterable[Constituent], day: date) -> list[SymbolChange]:
    """Return the changes of symbols since the last update: another symbol with the same CIK.

    :param day: their date, as the true one is not known.

    A company of which several symbols appear or disappear at once, such as its classes of shares, is left out.
    """
    now = {one.symbol: one.cik for one in constituents if one.cik}
    gone, new = defaultdict(list), defaultdict(list)
    for symbol, cik in before.items():
        if symbol not in now:
            gone[cik].append(symbol)
    for symbol, cik in now.items():
        if symbol not in before:
            new[cik].append(symbol)
    return [SymbolChange(day, gone[cik][0], new[cik][0]) for cik in gone if len(gone[cik]) == 1 and len(new.get(cik, ())) == 1]


def key_of_renames(index: str) -> str:
    """Return the lake key of the changes of symbols that only the sources of an index tell."""
    return f"metadata/companies/{index}-renames.csv"


def read_renames(lake: Lake, index: str) -> list[SymbolChange]:
    """Return the changes of symbols that earlier updates found.

    :raises ConfigError: if the file cannot be read.
    """
    stored = lake.get(key_of_renames(index))
    try:
        rows = list(csv.DictReader(io.StringIO(stored.body.decode() if stored else "")))
        return [SymbolChange(date.fromisoformat(row["date"]), row["old"], row["new"]) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{key_of_renames(index)} cannot be read ({type(error).__name__}); correct or delete it") from None


def renames_text(renames: Iterable[SymbolChange]) -> str:
    """Return changes of symbols as CSV."""
    return "date,old,new\n" + "".join(f"{one.day},{one.old},{one.new}\n" for one in sorted(set(renames)))
