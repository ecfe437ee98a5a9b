"""Several vendors on one server: routing, keys, forms, quotas, faults. The vendor here is made up, and unlike Polygon."""

from datetime import date
from typing import ClassVar

import pytest
import requests

from sandbox.http import SampleApi, Window, server
from sandbox.vendors import VENDORS
from sandbox.vendors.base import BadParameterError, Vendor, basic
from sandbox.vendors.messages import VendorResponse

POLYGON = "/v2/aggs/ticker/SPY/range/1/day/2012-01-03/2012-01-05"


def shouted(response, *, mark="!"):
    return VendorResponse(response.request, response.status, response.body.upper() + mark)


class Teletype(Vendor):
    """Text instead of JSON, a key as the user of Basic, questions as forms."""

    name = "teletype"
    methods = ("GET", "POST")
    routes: ClassVar = {"/close/{date}": "close", "/broken": "broken"}
    words: ClassVar = {401: "who are you", 429: "slow down"}
    no_key = "no name given"
    content_type = "text/plain"
    compresses = False
    faults: ClassVar = {"shouted": shouted, "empty": lambda response: VendorResponse(response.request, 200, "nothing")}

    def __init__(self, market, quota, *, currency="dollars"):
        super().__init__(market, quota)
        self.currency = currency

    def key(self, request):
        found = basic(request)
        return found[0] if found else None

    def error(self, request, status, message):
        return VendorResponse(request, status, f"{status} {message}")

    def subject(self, request, found):
        return request.parameters.get("symbol"), found.get("date")

    def headers(self, response):
        standing = self.quota.standing()
        left = {} if standing is None else {"X-Left": f"{standing.remaining}/{standing.limit}"}
        return super().headers(response) | left

    def close(self, request, found):
        bars = self.market.session(date.fromisoformat(found["date"]))
        closes = [bar.close for bar in bars if bar.symbol == request.parameters.get("symbol")]
        if not closes:
            raise BadParameterError("no such symbol", status=422)
        return VendorResponse(request, 200, f"{closes[0]} {self.currency}\n", source=self.market.source(bars))


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setitem(VENDORS, "teletype", Teletype)
    assert server.VENDORS is VENDORS


@pytest.fixture
def api(known):
    with SampleApi(symbols=("SPY",)) as api:
        yield api


def ask(api, path="/teletype/close/2012-01-03", key="sample", **data):
    return requests.post(api.url + path, data=data or {"symbol": "SPY"}, auth=(key, "") if key else None, timeout=10)


def test_a_vendor_responds_under_its_name_and_polygon_at_the_root(api):
    headers = {"Authorization": "Bearer sample"}
    at_root, named = (requests.get(api.url + prefix + POLYGON, headers=headers, timeout=10).json() for prefix in ("", "/polygon"))
    assert at_root["results"] == named["results"]
    assert ask(api).text == f"{at_root['results'][0]['c']} dollars\n"
    page = requests.get(api.url + "/polygon" + POLYGON, params={"limit": 1}, headers=headers, timeout=10).json()
    assert page["next_url"].startswith(f"{api.url}/polygon/v2/aggs/")
    assert requests.get(page["next_url"], headers=headers, timeout=10).json()["results"] == at_root["results"][1:2]
    assert [call.vendor for call in api.calls] == ["polygon", "polygon", "teletype", "polygon", "polygon"]


def test_another_vendor_can_be_at_the_root_with_its_options(known):
    with SampleApi(symbols=("SPY",), vendor="teletype", currency="cents") as api:
        assert ask(api, "/close/2012-01-03").text.endswith(" cents\n")
        assert requests.get(api.url + "/polygon" + POLYGON, headers={"Authorization": "Bearer sample"}, timeout=10).ok
        api.fault("shouted")
        assert ask(api, "/close/2012-01-03").text.endswith(" CENTS\n!")
    with pytest.raises(ValueError, match="vendor is 'telegraph'; allowed: .*polygon.*, teletype"):
        SampleApi(vendor="telegraph")


def test_a_form_is_read_and_logged(api):
    response = ask(api)
    assert (response.headers["Content-Type"], response.headers["X-Sample-Source"]) == ("text/plain", "recorded+generated")
    assert "Content-Encoding" not in response.headers
    assert requests.get(api.url + "/teletype/close/2012-01-03?symbol=SPY", auth=("sample", ""), timeout=10).text == response.text
    post, get = api.calls
    assert (post.method, get.method) == ("POST", "GET")
    assert (post.endpoint, post.ticker, post.date, post.target) == ("close", "SPY", "2012-01-03", "/close/2012-01-03?symbol=SPY")
    assert get.target == post.target


def test_refusals_are_in_the_vendors_words(api):
    responses = [ask(api, key=None), ask(api, key="other"), ask(api, symbol="NOSUCH"), ask(api, "/teletype/open")]
    assert [response.text for response in responses] == [
        "401 no name given",
        "401 who are you",
        "422 no such symbol",
        "404 Page not found",
    ]
    api.limits = [Window(1, 60)]
    assert ask(api).text == "429 slow down"  # the calls before count


def test_accounts_have_quotas_of_their_own(api):
    api.limits = [Window(2, 60)]
    headers = {"Authorization": "Bearer sample"}
    statuses = [requests.get(api.url + POLYGON, headers=headers, timeout=10).status_code for _ in range(3)]
    responses = [ask(api) for _ in range(3)]
    assert statuses == [response.status_code for response in responses] == [200, 200, 429]
    assert [response.headers["X-Left"] for response in responses] == ["1/2", "0/2", "0/2"]
    assert 59 < api.vendors["teletype"].quota.standing().reset < 60


def test_faults_are_those_of_one_vendor(api):
    api.fault("throttled", vendor="teletype", retry_after=3)
    api.fault("server_error", vendor="teletype", status=502)
    api.fault("empty", vendor="teletype")
    api.fault("server_error", match="symbol=SPY", vendor="teletype")
    assert requests.get(api.url + POLYGON, headers={"Authorization": "Bearer sample"}, timeout=10).ok
    responses = [ask(api) for _ in range(4)]
    assert responses[0].headers["Retry-After"] == "3"
    assert [response.text for response in responses] == [
        "429 slow down",
        "502 Internal Server Error",
        "nothing",  # its own goes before the one for all
        "500 Internal Server Error",
    ]
    with pytest.raises(ValueError, match="fault is 'page_loop'; allowed: unauthorized, .*, shouted"):
        api.fault("page_loop", vendor="teletype")
    with pytest.raises(ValueError, match="fault is 'shouted'"):
        api.fault("shouted")
    with pytest.raises(ValueError, match="vendor is 'telegraph'"):
        api.fault("reset", vendor="telegraph")


def test_methods_that_a_vendor_does_not_know_are_refused(api):
    assert requests.delete(api.url + "/teletype/close/2012-01-03", timeout=10).status_code == 405
    assert requests.post(api.url + POLYGON, data={"a": 1}, timeout=10).status_code == 405
    assert api.calls == []


def test_a_vendor_without_words_for_a_status_says_its_name(api):
    api.fault("not_found", vendor="teletype")
    api.fault("forbidden", vendor="teletype", status=402)
    assert [ask(api).text for _ in range(2)] == ["404 Not Found", "402 Payment Required"]


def test_what_is_inside_a_session_follows_its_altered_bar(api):
    session = date(2012, 1, 3)
    api.alter("SPY", session, close=12.30, low=12.0)
    (bar,) = api.market.range("SPY", session, date(2012, 1, 4))
    minutes, trades = api.market.minutes([bar]), api.market.trades([bar])
    assert (minutes.close[-1], minutes.low.min(), trades.price[-1], trades.price.min()) == (12.3, 12.0, 12.3, 12.0)
    api.alter("SPY", session, open=None)
    bars = api.market.range("SPY", session, date(2012, 1, 6))
    assert set(api.market.statistics(bars).cell) == {1, 2}  # the one with a blank has nothing inside
    api.hide(date(2012, 1, 4), ["SPY"])
    assert len(api.market.range("SPY", session, date(2012, 1, 6))) == 2


def test_a_defect_of_a_vendor_is_logged_and_no_later_call_suffers(api, caplog):
    assert ask(api, "/teletype/broken").status_code == 500
    assert ask(api).status_code == 200
    (record,) = (record for record in caplog.records if record.name == "uvicorn.error")
    assert "has no attribute 'broken'" in str(record.exc_info)
