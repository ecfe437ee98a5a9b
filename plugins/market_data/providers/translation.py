"""Requests in the vendor's spelling of symbols, and responses under the requested symbols."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import wraps
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.batch import Request
from market_data.core.errors import UnknownSymbol
from market_data.core.spelling import SpellingError
from market_data.datasets.registry import dataset as find_dataset
from market_data.providers.base import Fetched, ProviderHook

HookT = TypeVar("HookT", bound=ProviderHook)


class VendorNames(NamedTuple):
    """The symbols of a request or run as a vendor has them.

    :param symbols: the vendor's name -> the symbol.
    :param unknown: symbol -> why the vendor has no name for it.
    :param shared: symbol -> the symbol before it that has the same name, in words.
    """

    symbols: dict[str, str]
    unknown: dict[str, str]
    shared: dict[str, str]

    @property
    def refused(self) -> dict[str, str]:
        """All symbols that are not requested -> why."""
        return {**self.unknown, **self.shared}


def vendor_names(hook: ProviderHook, symbols: Sequence[str]) -> VendorNames:
    """Return the symbols in the vendor's spelling, and those that cannot be requested."""
    found = VendorNames({}, {}, {})
    for symbol in symbols:
        try:
            name = hook.vendor_symbol(symbol)
        except SpellingError as error:
            found.unknown[symbol] = f"{symbol} {error}"
            continue
        if name in found.symbols:
            found.shared[symbol] = f"{hook.provider} calls {symbol} and {found.symbols[name]} both {name}: request one of them"
        else:
            found.symbols[name] = symbol
    return found


def in_vendor_spelling(fetch: Callable[[HookT, Request], Fetched]) -> Callable[[HookT, Request], Fetched]:
    """Make a hook's ``fetch`` see the vendor's names only.

    The rows that it returns, and the symbols that it reports, get the requested symbols back. Symbols that the vendor has no name for
    are reported as refused without a call.
    """

    @wraps(fetch)
    def translated(hook: HookT, request: Request) -> Fetched:
        found = vendor_names(hook, request.symbols)
        names, refused = found.symbols, found.refused
        if not names:
            return _without_calls(hook, request, refused)
        try:
            fetched = fetch(hook, request.renamed({symbol: name for name, symbol in names.items()}))
        except UnknownSymbol as error:
            error.symbols = tuple(names.get(name, name) for name in error.symbols)
            raise
        renamed = {field.name: _renamed(getattr(fetched, field.name), names) for field in fields(fetched)}
        return replace(fetched, **{**renamed, "refused": {**refused, **renamed["refused"]}})

    return translated


def of_known_spelling(fetch: Callable[[HookT, Request], Fetched]) -> Callable[[HookT, Request], Fetched]:
    """Make a hook's ``fetch`` see only symbols that the vendor has a name for.

    It sees each name once, and translates the symbols itself.
    """

    @wraps(fetch)
    def filtered(hook: HookT, request: Request) -> Fetched:
        found = vendor_names(hook, request.symbols)
        if not found.symbols:
            return _without_calls(hook, request, found.refused)
        fetched = fetch(hook, request.renamed({symbol: symbol for symbol in found.symbols.values()}))
        return replace(fetched, refused={**found.refused, **fetched.refused})

    return filtered


def _without_calls(hook: ProviderHook, request: Request, refused: Mapping[str, str]) -> Fetched:
    nothing = find_dataset(request.dataset).received.empty_table()
    return Fetched(nothing, hook.evidence_without_calls(), refused=refused)


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Return a table, or a mapping of symbols, with the requested symbols in place of the vendor's names.

    Other values are returned as they are.
    """
    if isinstance(value, Mapping):
        return {names.get(name, name): item for name, item in value.items()}
    return _renamed_rows(value, names) if isinstance(value, pa.Table) else value


def _renamed_rows(table: pa.Table, names: Mapping[str, str]) -> pa.Table:
    changed = {name: symbol for name, symbol in names.items() if name != symbol}
    if not changed:
        return table
    found = pc.index_in(table["symbol"], value_set=pa.array(list(changed), pa.string()))
    symbols = pc.coalesce(pa.array(list(changed.values()), pa.string()).take(found), table["symbol"])
    place = table.schema.get_field_index("symbol")
    return table.set_column(place, table.schema.field(place), symbols)
