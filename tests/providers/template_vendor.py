"""The server of the template provider: the made-up API of `market_data.providers._template`, for the sample server."""

from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from unittest.mock import patch

from sandbox.http import SampleApi
from sandbox.vendors import VENDORS
from sandbox.vendors.base import BadParameterError, Vendor
from sandbox.vendors.messages import VendorResponse


def _with(response, **fields):
    return replace(response, body={**response.body, **fields})


def _with_bars(response, bars):
    return _with(response, bars=bars, count=len(bars))


def _bars(response):
    return response.body["bars"]


def page_loop(response, *, pages_back=0):
    return _with(response, next_page=int(response.request.query["page"]) - pages_back)


def other_symbol(response):
    return _with(response, symbol="ZVZZT")


def out_of_range(response):
    *bars, last = _bars(response)
    return _with_bars(response, [*bars, {**last, "date": f"{date.fromisoformat(last['date']) + timedelta(days=4000)}"}])


def duplicated(response, *, conflicting=False):
    return _with_bars(response, [two for bar in _bars(response) for two in (bar, {**bar, "volume": bar["volume"] + conflicting})])


def miscounted(response, *, by=1):
    return _with(response, count=len(_bars(response)) + by)


def no_bars(response, *, null=False):
    rest = {name: value for name, value in response.body.items() if name != "bars"}
    return replace(response, body={**rest, "bars": None} if null else rest)


def drifted(response):
    return _with_bars(response, [{**bar, "close": f"{bar['close']}"} for bar in _bars(response)])


class TemplateVendor(Vendor):
    name = "template"
    routes = {"/v1/bars": "history"}  # noqa: RUF012
    words = {401: "Unknown API key", 403: "Not in your plan", 404: "Not found", 429: "Too many calls"}  # noqa: RUF012
    no_key = "No API key"
    faults = {  # noqa: RUF012
        kind.__name__: kind for kind in (page_loop, other_symbol, out_of_range, duplicated, miscounted, no_bars, drifted)
    }

    def key(self, request):
        return request.headers.get("x-api-key")

    def error(self, request, status, message):
        return VendorResponse(request, status, {"error": message})

    def history(self, request, _found):
        query = request.query
        try:
            first, last = (date.fromisoformat(query[name]) for name in ("from", "to"))
            page, limit = int(query["page"]), int(query["limit"])
        except (KeyError, ValueError) as error:
            raise BadParameterError(f"bad parameter: {error}") from None
        found = self.market.range(query["symbol"], first, last + timedelta(days=1))
        bars = found[(page - 1) * limit : page * limit]
        names = ("open", "high", "low", "close", "volume")
        body = {
            "symbol": query["symbol"],
            "count": len(bars),
            "bars": [{"date": f"{bar.session}", **{name: getattr(bar, name) for name in names}} for bar in bars],
            "next_page": page + 1 if len(found) > page * limit else None,
        }
        return VendorResponse(request, 200, body, source=self.market.source(bars))


@contextmanager
def template_server(**options):
    """Run a sample server that speaks the template's API at its root."""
    with patch.dict(VENDORS, template=TemplateVendor), SampleApi(vendor="template", **options) as api:
        yield api
