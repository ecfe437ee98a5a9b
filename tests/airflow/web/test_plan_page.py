"""Plan in a browser against a real api-server: what a run takes while typing, its start, and who may not."""

import json
import re
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
import requests

from market_data.core.calendar import XNYS
from market_data.core.outcome import State
from market_data.core.run import RunInfo
from market_data.lake.coverage import CELLS
from market_data.lake.ledger import write_cells
from market_data.lake.store import Lake
from tests.airflow.web.site import expect, page_checks, served
from tests.views.staged import stage

pytestmark = pytest.mark.browser

FEED = "mock_ohlcv_1d"
NOW = datetime.now(UTC)
DAYS = XNYS.recent_sessions(XNYS.last_completed_session(NOW - timedelta(days=1)), 5)
DATES = {"start_date": DAYS[0].isoformat(), "end_date": DAYS[-1].isoformat()}
DEEP = "&".join(f"p.{name}={value}" for name, value in DATES.items())
PASTE = """(box, text) => {
  const clipboardData = new DataTransfer();
  clipboardData.setData("text/plain", text);
  box.select();
  box.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
}"""
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    lake = Lake.open(f"file://{folder}/lake")
    rows = [{"symbol": "AAPL", "session": day, "state": str(State.HAVE), "reason": ""} for day in DAYS[:3]]
    run = RunInfo(FEED, "manual__seed", "manual", 0, NOW)
    write_cells(lake, "ohlcv-1d", "mock", run, "b000", pa.Table.from_pylist(rows, schema=CELLS), recorded_at=NOW)
    with served(folder, ("ingest.py",)) as site:
        site.lake = lake
        yield site


def figures(page):
    return page.get_by_role("region", name="Plan", exact=True)


def ready(page):
    figures(page).get_by_role("heading", name="What the run takes").wait_for()


def test_the_price_of_a_run_is_two_clicks_from_the_start_page(site, open_page):
    page = open_page("viewer")
    page.goto(f"{site.pages}/")
    page.get_by_role("region", name=FEED, exact=True).get_by_role("link", name="Plan").click()
    last = XNYS.last_completed_session(datetime.now(UTC))
    traded_still = datetime.now(UTC) < XNYS.trading_end(last)  # in the evening after the close
    awaited = rf"Calls0 in 0 batches.*Not available yet.*{last}" if traded_still else "Calls.*in 1 batch"
    expect(figures(page)).to_contain_text(re.compile(awaited))
    page.get_by_role("checkbox", name="Dry run").click()
    expect(page).to_have_url(re.compile(r"plan\?feed=mock_ohlcv_1d&p\.dry_run=true$"))
    expect(figures(page)).to_contain_text("none, the provider does not charge for single requests")
    assert site.runs(FEED) == []
    assert page.problems == []


def test_figures_follow_what_is_typed_and_the_address_shows_them_again(site, open_page):
    page = open_page("viewer")
    page.goto(f"{site.pages}/plan?feed={FEED}&{DEEP}")
    ready(page)
    page.get_by_label("Only these symbols").fill("AAPL\nMSFT")
    sentence = f"2 symbols x 5 sessions, {DAYS[0]} to {DAYS[-1]}: 3 cells covered already, 7 to fetch"
    expect(page.locator("#status")).to_contain_text(sentence)
    expect(figures(page)).to_contain_text("7 to fetch, 3 covered already")
    page.goto(page.url)
    expect(page.locator("#status")).to_contain_text(sentence)
    expect(page.get_by_label("Only these symbols")).to_have_value("AAPL\nMSFT")
    page.get_by_role("checkbox", name="Fetch again").check()
    expect(figures(page)).to_contain_text("10 to fetch, 0 covered already")
    assert page.problems == []


def test_an_answer_that_comes_late_is_dropped(site, open_page):
    page, waiting = open_page("trader"), []
    page.goto(f"{site.pages}/plan?feed={FEED}&{DEEP}&p.symbols=AAPL")
    expect(page.locator("#status")).to_contain_text("1 symbol x 5")

    def hold(route):
        if "NVDA" in route.request.post_data:
            waiting.append(route)
        else:
            route.continue_()

    page.route("**/api/plan/ask", hold)
    with page.expect_request("**/api/plan/ask"):
        page.get_by_label("Only these symbols").fill("AAPL\nMSFT\nNVDA")
    expect(page.get_by_role("button", name="Start")).to_be_disabled()  # the figures shown are those of other params
    page.get_by_label("Only these symbols").fill("AAPL\nMSFT")
    expect(page.locator("#status")).to_contain_text("2 symbols x 5")
    with page.expect_response("**/api/plan/ask"):
        waiting[0].continue_()
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    expect(page.locator("#status")).to_contain_text("2 symbols x 5")
    assert page.problems == []


def test_keys_in_a_row_are_one_question(site, open_page):
    page, asked = open_page("viewer"), []
    page.clock.install()
    page.on("request", lambda one: asked.append(one.post_data) if one.url.endswith("/plan/ask") else None)
    page.goto(f"{site.pages}/plan?feed={FEED}&{DEEP}")
    ready(page)
    page.clock.pause_at(datetime.now(UTC) + timedelta(hours=1))
    asked.clear()
    for key in "AAPL":
        page.get_by_label("Only these symbols").press_sequentially(key)
        page.clock.run_for(200)
    assert asked == []
    page.clock.run_for(300)
    expect(page.locator("#status")).to_contain_text("1 symbol x 5")
    assert [json.loads(one)["params"]["symbols"] for one in asked] == [["AAPL"]]
    assert page.problems == []


def test_symbols_that_do_not_fit_into_the_address_are_planned_all_the_same(site, open_page):
    page = open_page("viewer")
    page.goto(f"{site.pages}/plan?feed={FEED}&{DEEP}&p.symbols=AAPL")
    ready(page)
    symbols = page.get_by_label("Only these symbols")
    symbols.evaluate(PASTE, "\n".join(f"X{number}" for number in range(2000)))
    expect(page.locator("#status")).to_contain_text("2,000 symbols x 5")
    expect(page.locator("#hint")).to_contain_text("they are too many")
    expect(page).to_have_url(f"{site.pages}/plan?feed={FEED}&{DEEP}")
    symbols.fill("MSFT")
    expect(page.locator("#hint")).to_be_empty()
    expect(page).to_have_url(re.compile("p.symbols=MSFT"))
    assert page.problems == []


def test_wrong_values_are_named_beside_their_fields_and_are_text(site, open_page):
    page = open_page("trader")
    page.goto(f"{site.pages}/plan?feed={FEED}&p.start_date=soon")
    ready_text = "start_date is 'soon'; a date such as 2026-11-02 is needed"
    first = page.get_by_label("First session")
    expect(first).to_have_accessible_description(re.compile(re.escape(ready_text)))
    expect(first).to_have_value("soon")
    first.fill(DATES["start_date"])
    symbols = page.get_by_label("Only these symbols")
    symbols.fill(SCRIPT)
    expect(symbols).to_have_accessible_description(re.compile(rf"symbols: item 1: '{re.escape(SCRIPT)}' is not a symbol"))
    expect(symbols).to_have_attribute("aria-invalid", "true")
    expect(first).not_to_have_attribute("aria-invalid", "true")
    expect(page.get_by_role("button", name="Start")).to_have_count(0)
    page.goto(page.url)
    expect(symbols).to_have_value(SCRIPT)
    symbols.fill("AAPL")
    page.get_by_text("Tuning").click()
    page.get_by_label("Retries").fill("eleven")
    expect(page.get_by_label("Retries")).to_have_accessible_description(
        re.compile("max_retries is 'eleven'; a whole number from 0")
    )
    assert page.problems == []


def test_start_runs_exactly_what_was_planned_and_a_paused_dag_stays_paused(site, open_page):
    page = open_page("trader")
    page.goto(f"{site.pages}/plan?feed={FEED}&{DEEP}&p.symbols=AAPL,MSFT&p.batch_size=7&p.tolerate=%7B%22pending%22%3A0.5%7D")
    page.get_by_role("button", name="Start").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name=f"Start {FEED}")
    expect(dialog).to_contain_text("3 cells covered already, 7 to fetch")
    expect(dialog).to_contain_text(f"{FEED} is paused and stays paused: the run waits until the DAG is unpaused.")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert site.runs(FEED) == []
    page.get_by_role("button", name="Start").click()
    dialog.get_by_role("button", name="Start the run").click()
    expect(page.locator("#started")).to_contain_text("is queued: mock_ohlcv_1d is paused, so it waits until the DAG is unpaused.")
    (run,) = site.runs(FEED)
    assert run["conf"] == {"symbols": ["AAPL", "MSFT"], "batch_size": 7, "tolerate": {"pending": 0.5}, **DATES}
    assert (run["triggering_user_name"], run["state"]) == ("trader", "queued")
    assert site.session("admin").get(f"{site.url}/api/v2/dags/{FEED}", timeout=30).json()["is_paused"]
    stage(site.lake, run["dag_run_id"], "MSFT", DAYS, NOW)
    asked = {"feed": FEED, "params": run["conf"]}
    notes = site.session("viewer").post(f"{site.pages}/api/plan/ask", json=asked, timeout=30).json()["notes"]
    assert notes == [f"Fetched by active runs, which load them: {run['dag_run_id']} (5 cells)"]
    page.get_by_role("link", name="Its progress").click()
    expect(page.locator("#status")).to_contain_text(run["dag_run_id"])
    assert page.problems == []


def test_a_viewer_reads_the_plan_and_cannot_start_it(site, open_page):
    page = open_page("viewer")
    page.goto(f"{site.pages}/plan?feed={FEED}&{DEEP}")
    ready(page)
    expect(page.get_by_role("button", name="Start")).to_be_disabled()
    expect(figures(page)).to_contain_text(f"You lack the permission to trigger {FEED}")
    viewer, body = site.session("viewer"), {"feed": FEED, "params": {}, "calls": 1000}
    for path, params, status in (
        ("start", {}, 403),
        ("ask", {}, 200),
        ("ask", {"tickers_path": "include/universes/dow30.csv"}, 403),
    ):
        found = viewer.post(f"{site.pages}/api/plan/{path}", json={**body, "params": params}, timeout=30)
        assert found.status_code == status, (path, found.text)
    file = {**body, "params": {"tickers_path": "include/universes/dow30.csv"}}
    assert site.session("trader").post(f"{site.pages}/api/plan/ask", json=file, timeout=30).json()["totals"]["symbols"] == 30


def test_a_start_needs_the_agreement_to_its_calls(site):
    trader, body = site.session("trader"), {"feed": FEED, "params": {"symbols": ["TSLA"], **DATES}, "calls": 0}
    before = site.runs(FEED)
    found = trader.post(f"{site.pages}/api/plan/start", json=body, timeout=30)
    assert found.status_code == 400
    assert "agreed: 0 calls" in str(found.json()["problems"])
    wrong = trader.post(f"{site.pages}/api/plan/start", json={**body, "params": {"symbols": ["no good"]}}, timeout=30)
    assert wrong.status_code == 400
    assert site.runs(FEED) == before
    agreed = trader.post(f"{site.pages}/api/plan/start", json={**body, "calls": 5}, timeout=30).json()
    assert agreed == {"dag_id": FEED, "conf": body["params"], "paused": True}


def test_feeds_that_cannot_be_planned_say_why(site):
    trader = site.session("trader")
    found = trader.post(f"{site.pages}/api/plan/ask", json={"feed": "fmp_fundamentals", "params": {}}, timeout=30).json()
    assert "connection 'fmp_default' cannot be read" in found["problems"][0]["text"]
    unknown = trader.post(f"{site.pages}/api/plan/ask", json={"feed": "fmp_nothing", "params": {}}, timeout=30)
    assert unknown.status_code == 400
    assert "feed is 'fmp_nothing'" in json.dumps(unknown.json())
    assert requests.post(f"{site.pages}/api/plan/ask", json={"feed": FEED, "params": {}}, timeout=30).status_code == 401


def test_the_page_is_accessible_in_both_themes_and_on_a_phone(site, open_page):
    page_checks(
        open_page,
        f"{site.pages}/plan?feed={FEED}&{DEEP}&p.batch_size=0",
        lambda page: page.get_by_text("batch_size is 0").first.wait_for(),
    )
    page_checks(open_page, f"{site.pages}/plan?feed={FEED}&{DEEP}&p.max_retries=3", ready)
