"""Coverage and Quality in a browser against a real api-server: find and repair a gap, decide on a row, and who may not."""

import re
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
import requests

from market_data.config.feeds import load_feeds
from market_data.core.calendar import XNYS
from market_data.core.outcome import State
from market_data.core.run import RunInfo
from market_data.lake import quarantine
from market_data.lake.coverage import CELLS
from market_data.lake.ledger import write_cells
from market_data.lake.store import Lake
from market_data.maintenance.audit.expected import last_due
from market_data.maintenance.chosen_gaps import read_chosen
from tests.airflow.web.site import expect, page_checks, served

pytestmark = pytest.mark.browser


NOW = datetime.now(UTC)
(MOCK,) = (feed for feed in load_feeds() if feed.dag_id == "mock_ohlcv_1d")
# Up to the last session that the page awaits, and one that it may await within this hour.
DAYS = XNYS.recent_sessions(last_due(MOCK, XNYS, NOW + timedelta(hours=1)), 300)
HOLE = DAYS[-6:-3]
SCRIPT = "<script>alert(1)</script>"
FEED = "feed=mock_ohlcv_1d"
MANY = [f"X{number}" for number in range(7)]


def seed(folder):
    """A lake of two symbols and a hostile name: with a hole, a quarantined row and a refused session."""
    lake = Lake.open(f"file://{folder}/lake")
    cells = {(symbol, day) for symbol in ("AAPL", "MSFT") for day in DAYS} - {("MSFT", day) for day in HOLE}
    states = dict.fromkeys(cells, (State.HAVE, ""))
    states["AAPL", DAYS[-1]] = (State.QUARANTINED, "high 1 below low 2")
    states[SCRIPT, DAYS[-2]] = (State.REFUSED, "<img src=x onerror=alert(1)>")
    states |= {(symbol, DAYS[-3]): (State.REFUSED, "too few rows") for symbol in MANY}
    rows = [{"symbol": s, "session": d, "state": str(state), "reason": reason} for (s, d), (state, reason) in states.items()]
    run = RunInfo("mock_ohlcv_1d", "manual__seed", "manual", 0, NOW)
    write_cells(lake, "ohlcv-1d", "mock", run, "b000", pa.Table.from_pylist(rows, schema=CELLS), recorded_at=NOW)
    moment = datetime.combine(DAYS[-1], datetime.min.time(), UTC)
    row = {"symbol": "AAPL", "session": DAYS[-1], "bar_time": moment, "open": 1.5, "high": 1.0, "low": 2.0, "close": 1.5}
    quarantine.write(lake, "ohlcv-1d", "mock", run, "b000", pa.Table.from_pylist([{**row, "reasons": "high 1 below low 2"}]))
    return lake


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    lake = seed(folder)
    with served(folder) as site:
        site.lake = lake
        yield site


def routes():
    """Every route of the app, with its methods."""
    from market_data.airflow.web.app import create_app

    found = [(method, route.path) for route in create_app().routes for method in sorted(route.methods - {"HEAD"})]
    assert len(found) >= 9
    return found


def call(http, site, method, path, **given):
    address = path.replace("{page}", "coverage").replace("{name}", "look.css")
    return http.request(method, f"{site.pages}{address}", timeout=30, allow_redirects=False, **given).status_code


def test_routes_need_a_login_and_do_not_act_for_a_viewer(site):
    anonymous, viewer, trader = requests.Session(), site.session("viewer"), site.session("trader")
    anonymous.trust_env = False
    body = {"feed": "mock_ohlcv_1d", "ids": ["x"], "calls": 1, "cost_usd": 0, "params": {"symbols": ["no good"]}}
    for method, path in routes():
        assert call(anonymous, site, method, path, json=body) == 401, path
        if method == "POST":
            reads = path == "/api/plan/ask"  # it acts on nothing
            answers = path in ("/api/plan/ask", "/api/plan/price")  # what is wrong with the params is the answer
            assert call(viewer, site, method, path, json=body) == (200 if reads else 403), path
            assert call(trader, site, method, path, data="feed=mock_ohlcv_1d") == 415, path
            for headers in (
                {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://evil.example"}, {"Origin": None},
                {"Host": "internal:8080", "Origin": "http://evil.example"},
            ):  # fmt: skip
                assert call(trader, site, method, path, json=body, headers=headers) == 403, (path, headers)
            for headers in ({}, {"Host": "internal:8080"}, {"Host": "internal:8080", "Sec-Fetch-Site": "same-origin"}):
                assert call(trader, site, method, path, json=body, headers=headers) == (200 if answers else 400), (path, headers)
    found = viewer.get(f"{site.pages}/coverage", timeout=30)
    assert "default-src 'self'" in found.headers["Content-Security-Policy"]
    assert "unsafe" not in found.headers["Content-Security-Policy"]
    for wrong in ("/static/..%2Fapp.py", "/static/app.py", "/nothing"):
        assert viewer.get(f"{site.pages}{wrong}", timeout=30).status_code == 404
    for wrong in ("feed=../x", f"{FEED}&source=../../etc", "feed=x'--"):
        assert viewer.get(f"{site.pages}/api/coverage?{wrong}", timeout=30).status_code == 400


def test_a_seeded_gap_is_found_and_its_repair_started_in_four_clicks(site, open_page):
    page = open_page("trader")
    page.goto(f"{site.pages}/coverage?{FEED}")
    page.get_by_label("Choose MSFT").click()
    page.get_by_role("button", name="Plan the repair of 1").click()
    expect(page.locator("#plan")).to_contain_text("3 cells in 1 call")
    page.get_by_label("Unpause").click()
    page.get_by_role("button", name="Repair", exact=True).click()
    expect(page.locator("#plan")).to_contain_text("queued")
    (run,) = site.runs("maintain_coverage")
    assert (run["conf"]["repair"], run["conf"]["dry_run"], run["conf"]["max_calls"]) == (True, False, 1)
    assert run["triggering_user_name"] == "trader"
    (row,) = read_chosen(site.lake, run["conf"]["report"]).findings.to_pylist()
    assert (row["symbol"], row["first_session"], row["last_session"]) == ("MSFT", HOLE[0], HOLE[-1])
    assert page.problems == []


def test_a_repair_that_costs_more_than_was_agreed_is_not_started(site):
    trader = site.session("trader")
    gaps = trader.get(f"{site.pages}/api/coverage/gaps?{FEED}", timeout=30).json()["gaps"]
    body = {"feed": "mock_ohlcv_1d", "ids": [gap["id"] for gap in gaps if gap["symbol"] == "MSFT"], "calls": 0, "cost_usd": 0}
    before = site.lake.list("audits")
    refused = trader.post(f"{site.pages}/api/coverage/repair", json=body, timeout=30)
    assert refused.status_code == 400
    assert "1 call and 0.00 US dollars now; agreed: 0 calls" in str(refused.json()["problems"])
    assert site.lake.list("audits") == before
    agreed = trader.post(f"{site.pages}/api/coverage/repair", json=body | {"calls": 5, "cost_usd": 2}, timeout=30)
    assert (agreed.json()["conf"]["max_calls"], agreed.json()["conf"]["max_cost_usd"]) == (5, 2)


def test_the_keyboard_reaches_a_cell_and_its_address_shows_it_again(site, open_page):
    page = open_page("viewer")
    page.goto(f"{site.pages}/coverage?{FEED}&zoom=months&symbol=MSFT")
    page.get_by_role("application").focus()
    page.keyboard.press("Enter")  # from its last month to its days
    expect(page.get_by_label("Days")).to_be_checked()
    expect(page.locator("#here")).to_have_text(f"MSFT, {DAYS[-1]}: loaded")
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    expect(page.locator("#here")).to_have_text(f"MSFT, {HOLE[-1]}: missing")
    page.keyboard.press("Enter")
    cell = page.get_by_label("Chosen cell")
    expect(cell).to_contain_text("No run has recorded it")
    page.goto(page.url)
    expect(cell).to_contain_text(f"MSFT, {HOLE[-1]}: missing")
    page.get_by_text("The visible part as a table").click()
    expect(page.get_by_role("cell", name="missing").first).to_be_visible()
    page.get_by_label("Only symbols with something open").check()
    page.get_by_role("application").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#here")).to_contain_text(f"MSFT, {HOLE[-2]}")  # on its symbol still, although rows are hidden
    page.get_by_label("Only symbols with something open").uncheck()
    expect(page.get_by_role("cell", name=SCRIPT).first).to_be_visible()
    assert page.problems == []


def test_a_decision_needs_a_reason_and_starts_a_run_in_the_name_of_its_user(site, open_page):
    page = open_page("trader")
    page.goto(f"{site.pages}/quality?{FEED}")
    expect(page.get_by_role("cell", name=SCRIPT)).to_be_visible()
    page.get_by_role("row", name="AAPL").get_by_role("button", name="Release").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Unpause").click()
    dialog.get_by_label("Reason").fill("  ")
    dialog.get_by_role("button", name="Release").click()
    expect(dialog).to_contain_text("A reason is needed")
    dialog.get_by_label("Reason").fill("the vendor confirmed it")
    dialog.get_by_role("button", name="Release").click()
    expect(dialog).to_contain_text("queued")
    (run,) = site.runs("maintain_state")
    day = DAYS[-1].isoformat()
    assert run["triggering_user_name"] == "trader"
    assert run["conf"] == {
        "action": "release", "feeds": ["mock_ohlcv_1d"], "source": "mock", "symbols": ["AAPL"], "start_date": day, "end_date": day,
        "reason": "the vendor confirmed it", "dry_run": False,
    }  # fmt: skip
    page.goto(page.url)
    row = page.get_by_role("row", name="too few rows")
    expect(row).to_contain_text("X0, X1, X2, X3, X4 ... (7 symbols)")
    row.get_by_role("button", name="Confirm wrong").click()
    expect(dialog).to_contain_text("7 cells")
    dialog.get_by_label("Reason").fill("typo")
    dialog.get_by_role("button", name="Confirm wrong").click()
    expect(dialog).to_contain_text("queued")
    conf = site.runs("maintain_state")[0]["conf"]
    assert (conf["action"], conf["symbols"], conf["start_date"], "only" in conf) == ("confirm", MANY, DAYS[-3].isoformat(), False)
    assert page.problems == []


def test_exactly_the_listed_gaps_are_chosen(site, open_page):
    def gap(number):
        own = {"id": str(number), "symbol": f"S{number}", "repair": "fetch" if number else "decide", "repairable": number > 0}
        return {**own, "first_session": "2024-01-02", "last_session": "2024-01-02", "key": None, "cause": "missing", "detail": "x"}

    page = open_page("trader")
    found = {"gaps": [gap(number) for number in range(2_000)], "left_out": 7, "causes": {"missing": 2_007}, "audited": None}
    page.route("**/api/coverage/gaps?*", lambda route: route.fulfill(json=found))
    page.goto(f"{site.pages}/coverage?{FEED}")
    panel = page.get_by_role("region", name="Gaps", exact=True)
    expect(panel).to_contain_text("2,007 gaps. No audit was made yet")
    expect(panel).to_contain_text("The latest 500 gaps of 2,007 are listed")
    page.get_by_role("button", name="Choose all listed").click()
    page.get_by_role("button", name="Plan the repair of 499").wait_for()
    assert page.get_by_role("checkbox", checked=True).count() == 499
    assert page.problems == []


@pytest.mark.parametrize("name", ["feeds", "coverage", "quality", "prices"])
def test_a_user_who_may_see_no_feed_is_told_so(site, open_page, name):
    page = open_page("viewer")
    page.route(re.compile(r"/api/(prices/)?feeds\?"), lambda route: route.fulfill(json=[]))
    page.goto(f"{site.pages}/{name}")
    expect(page.locator("#status")).to_contain_text("You may see the runs of no feed")
    assert page.problems == []


def test_a_missing_or_wrong_parameter_is_a_sentence(site):
    viewer = site.session("viewer")
    for query, words in (("coverage", "feed: Field required"), (f"coverage/cell?{FEED}&symbol=A&session=x", "session: ")):
        found = viewer.get(f"{site.pages}/api/{query}", timeout=30)
        assert found.status_code == 422
        assert found.json()["problems"][0].startswith(words)


def test_a_viewer_reads_and_cannot_act(site, open_page):
    page = open_page("viewer")
    page.goto(f"{site.pages}/coverage?{FEED}")
    page.get_by_label("Choose MSFT").click()
    page.get_by_role("button", name="Plan the repair of 1").click()
    expect(page.locator("#plan")).to_contain_text("you lack the permission to trigger maintain_coverage")


@pytest.mark.parametrize("name", ["coverage", "quality"])
def test_a_page_is_accessible_in_both_themes_and_on_a_phone(site, open_page, name):
    page_checks(open_page, f"{site.pages}/{name}?{FEED}", lambda page: page.get_by_role("table").first.wait_for())
