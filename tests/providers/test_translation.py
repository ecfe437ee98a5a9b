"""A hook behind the translation sees the vendor's names only, and the caller the requested symbols only."""

from datetime import date
from types import SimpleNamespace

import pyarrow as pa
import pytest

from market_data.core.batch import Block, Request
from market_data.core.errors import UnknownSymbol
from market_data.core.intervals import closed
from market_data.core.outcome import Evidence
from market_data.core.spelling import SpellingError
from market_data.datasets.registry import dataset
from market_data.providers.base import Fetched
from market_data.providers.translation import in_vendor_spelling, of_known_spelling, vendor_names

DAY = date(2024, 1, 2)
NAMES = {"BAC.PRK": "BACpK", "BACpK": "BACpK", "IBM": "IBM", "AACT.WS": "AACT+"}
EVIDENCE = Evidence(calls=1, retries=0, pages=1, bytes=0, rows_received=0, rows_declared=None, last_page_seen=True)


class Hook:
    provider = "acme"

    def __init__(self, error=None):
        self.error, self.requests = error, []

    def vendor_symbol(self, symbol):
        if symbol not in NAMES:
            raise SpellingError("is not known here")
        return NAMES[symbol]

    def evidence_without_calls(self):
        return EVIDENCE

    def respond(self, request):
        self.requests.append(request.symbols)
        if self.error:
            raise self.error
        schema = dataset(request.dataset).received
        rows = [{"symbol": symbol, "session": DAY} for symbol in reversed(request.symbols)]
        return Fetched(
            pa.Table.from_pylist(rows, schema=pa.schema([f.with_nullable(True) for f in schema])),
            EVIDENCE,
            refused={request.symbols[0]: "why"},
        )

    fetch = in_vendor_spelling(respond)
    filtered = of_known_spelling(respond)


def ask(*symbols):
    return Request("ohlcv-1d", "bars", symbols, (closed(DAY, DAY),))


def test_rows_and_refused_symbols_have_the_requested_spelling():
    hook = Hook()
    fetched = hook.fetch(ask("BAC.PRK", "X?", "IBM", "BACpK", "AACT.WS"))
    assert hook.requests == [("BACpK", "IBM", "AACT+")]
    assert fetched.table["symbol"].to_pylist() == ["AACT.WS", "IBM", "BAC.PRK"]
    assert fetched.refused == {
        "X?": "X? is not known here",
        "BACpK": "acme calls BACpK and BAC.PRK both BACpK: request one of them",
        "BAC.PRK": "why",
    }


def test_a_hook_that_translates_itself_gets_the_requested_symbols_that_have_a_name():
    hook = Hook()
    fetched = hook.filtered(ask("BAC.PRK", "X?", "BACpK"))
    assert hook.requests == [("BAC.PRK",)]
    assert list(fetched.refused) == ["X?", "BACpK", "BAC.PRK"]


@pytest.mark.parametrize("fetch", ["fetch", "filtered"])
def test_without_a_name_there_is_no_request(fetch):
    hook = Hook()
    fetched = getattr(hook, fetch)(ask("X?"))
    assert (hook.requests, len(fetched.table), fetched.refused) == ([], 0, {"X?": "X? is not known here"})


def test_an_unknown_symbol_is_named_as_it_was_requested():
    hook = Hook(UnknownSymbol("no such thing", symbols=("BACpK",), provider="acme"))
    with pytest.raises(UnknownSymbol) as caught:
        hook.fetch(ask("BAC.PRK"))
    assert caught.value.symbols == ("BAC.PRK",)


def test_names_of_symbols_are_told_apart():
    found = vendor_names(SimpleNamespace(vendor_symbol=NAMES.__getitem__, provider="acme"), ["IBM", "BACpK", "BAC.PRK"])
    assert found.symbols == {"IBM": "IBM", "BACpK": "BACpK"}
    assert (found.unknown, list(found.shared)) == ({}, ["BAC.PRK"])


def test_the_parts_of_a_request_have_the_vendors_spelling_too():
    hook, kept = Hook(), []
    fetch = in_vendor_spelling(lambda self, request: kept.append(request) or self.respond(request))
    blocks = [Block(("BAC.PRK",), (closed(DAY, DAY),)), Block(("IBM", "AACT.WS"), (closed(DAY, DAY),))]
    fetch(hook, Request.of("ohlcv-1d", "bars", blocks))
    assert [part.symbols for part in kept[0].parts] == [("BACpK",), ("IBM", "AACT+")]
