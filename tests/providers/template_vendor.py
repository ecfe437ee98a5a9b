"""The server of the template provider: the made-up API of `market_data.providers._template`, for the sample server."""

from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from unittest.mock import patch

from sandbox.http import SampleApi
from sandbox.http.messages import Answer
from sandbox.vendors import VENDORS
from sandbox.vendors.base import BadParameterError, Vendor


def _with(answer, **fields):
    return replace(answer, body={**answer.body, **fields})


def _with_bars(answer, bars):
    return _with(answer, bars=bars, count=len(bars))


def _bars(answer):
    return answer.body["bars"]


def page_loop(answer, *, pages_back=0):
    return _with(answer, next_page=int(answer.request.query["page"]) - pages_back)


def other_symbol(answer):
    return _with(answer, symbol="ZVZZT")


def out_of_range(answer):
    *bars, last = _bars(answer)
    return _with_bars(answer, [*bars, {**last, "date": f"{date.fromisoformat(last['date']) + timedelta(days=4000)}"}])


def duplicated(answer, *, conflicting=False):
    return _with_bars(answer, [two for bar in _bars(answer) for two in (bar, {**bar, "volume": bar["volume"] + conflicting})])


def miscounted(answer, *, by=1):
    return _with(answer, count=len(_bars(answer)) + by)


def no_bars(answer, *, null=False):
    rest = {name: value for name, value in answer.body.items() if name != "bars"}
    return replace(answer, body={**rest, "bars": None} if null else rest)


def drifted(answer):
    return _with_bars(answer, [{**bar, "close": f"{bar['close']}"} for bar in _bars(answer)])


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
        return Answer(request, status, {"error": message})

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
        return Answer(request, 200, body, source=self.market.source(bars))


@contextmanager
def template_server(**options):
    """Run a sample server that speaks the template's API at its root."""
    with patch.dict(VENDORS, template=TemplateVendor), SampleApi(vendor="template", **options) as api:
        yield api
