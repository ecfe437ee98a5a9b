"""Feeds and Run in a browser against a real api-server, over the lake and the runs of the mock feed."""

import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

import pytest

from market_data.core.calendar import XNYS
from tests.airflow.web.site import expect, page_checks, served

pytestmark = pytest.mark.browser

FEED = "mock_ohlcv_1d"
LAST = XNYS.last_completed_session(datetime.now(UTC) - timedelta(days=1))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with served(tmp_path_factory.mktemp("site"), ("ingest.py",)) as site:
        dates = {"start_date": XNYS.previous_session(LAST).isoformat(), "end_date": LAST.isoformat()}
        site.done = site.run(FEED, {"symbols": ["AAPL", "MSFT", "NVDA"], "batch_size": 2, "endpoint": "symbol", **dates})
        yield site


def run_page(site, run_id, dag_id=FEED):
    return f"{site.pages}/run?{urlencode({'dag_id': dag_id, 'run_id': run_id})}"


def test_the_start_page_tells_how_each_feed_stands(site, open_page):
    page = open_page("viewer")
    page.goto(f"{site.pages}/")
    expect(page).to_have_url(f"{site.pages}/feeds")
    card = page.get_by_role("region", name=FEED, exact=True)
    expect(card.get_by_role("listitem")).to_have_count(2)  # as many sessions as it ever had
    expect(card).to_contain_text("paused")
    expect(card).to_contain_text("mock_default: ready")
    expect(card).to_contain_text(re.compile(r"Next run.*20:30 New York"))
    expect(page.get_by_role("region", name="fmp_fundamentals")).to_contain_text("connection 'fmp_default' cannot be read")
    card.get_by_role("link", name="Coverage").click()
    expect(page).to_have_url(re.compile(f"/coverage\\?feed={FEED}"))
    page.go_back()
    card.get_by_role("link", name="Prices").click()
    expect(page).to_have_url(re.compile(f"/prices\\?feed={FEED}"))
    page.get_by_role("link", name="All feeds").click()
    expect(page).to_have_url(re.compile("/feeds"))
    expect(page.get_by_role("region", name="fmp_fundamentals").get_by_role("link", name="Prices")).to_have_count(0)
    assert page.problems == []


def test_a_run_that_ended_shows_its_verdict_and_report_by_its_deep_link(site, open_page):
    page = open_page("viewer")
    page.goto(f"{site.pages}/run/{FEED}/{quote(site.done, safe='')}")
    expect(page.get_by_role("status")).to_contain_text("success")
    main = page.get_by_role("main")
    expect(main).to_contain_text("2 of 2 ended, 0 failed")
    expect(main).to_contain_text("3 ok, 0 failed, 0 pending")
    expect(main).to_contain_text("6 fetched")
    expect(page.get_by_role("region", name="Report", exact=True)).to_contain_text("logs/ingest/date=")
    expect(page.get_by_role("region", name="Verdict").get_by_role("listitem").first).to_contain_text("3 symbols, 6 bars")
    assert page.problems == []


@pytest.mark.parametrize(
    ("dag_id", "run_id", "words"),
    [("maintain_state", "x", "not the DAG of a feed"), (FEED, "<script>alert(1)</script>", "has no run")],
)
def test_a_run_that_is_none_of_a_feed_is_told_in_a_sentence(site, open_page, dag_id, run_id, words):
    page = open_page("viewer")
    page.goto(run_page(site, run_id, dag_id))
    expect(page.get_by_role("status")).to_contain_text(words)
    assert page.problems == []


@pytest.mark.parametrize("name", ["feeds", "run"])
def test_a_page_is_accessible_in_both_themes_and_on_a_phone(site, open_page, name):
    ready = {
        "feeds": lambda page: expect(page.get_by_role("status")).to_contain_text("feeds"),
        "run": lambda page: page.get_by_role("table").first.wait_for(),
    }
    page_checks(open_page, f"{site.pages}/feeds" if name == "feeds" else run_page(site, site.done), ready[name])


def test_a_batch_is_cleared_by_a_user_who_may_and_by_no_other(site, open_page):
    viewer = open_page("viewer")
    viewer.goto(run_page(site, site.done))
    viewer.get_by_role("button", name="Clear batch b001").click()
    dialog = viewer.get_by_role("dialog")
    expect(dialog.get_by_role("status")).to_contain_text(re.compile("forbidden", re.IGNORECASE))
    expect(dialog.get_by_role("button", name="Clear", exact=True)).to_be_disabled()
    page = open_page("trader")
    page.goto(run_page(site, site.done))
    page.get_by_role("button", name="Clear batch b001").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("fetch [1]")
    expect(dialog).not_to_contain_text("fetch [0]")
    expect(dialog).to_contain_text("verdict")
    dialog.get_by_label("Unpause").check()
    dialog.get_by_role("button", name="Clear", exact=True).click()
    expect(dialog).to_have_count(0)
    expect(page.locator("#status")).to_contain_text("queued")
    expect(page.get_by_role("main")).to_contain_text("1 of 2 ended")
    expect(page.get_by_role("main")).to_contain_text("2 ok, 0 failed, 1 pending (NVDA)")
    assert page.problems == []


def test_a_run_is_followed_until_it_ends_and_no_longer(site, open_page):
    admin, address = site.session("admin"), f"{site.url}/api/v2/dags/{FEED}/dagRuns/{quote(site.done, safe='')}"
    page = open_page("viewer")
    reads = []
    page.on("request", lambda one: reads.append(one.url) if "/api/run?" in one.url else None)
    page.goto(run_page(site, site.done))
    main, status = page.get_by_role("main"), page.get_by_role("status")
    expect(main).to_contain_text("1 of 2 ended")  # the test above has cleared the other
    assert admin.patch(f"{address}/taskInstances/fetch/1?update_mask=new_state", json={"new_state": "failed"}, timeout=30).ok
    expect(main).to_contain_text("2 of 2 ended, 1 failed")
    expect(page.get_by_role("region", name="Failed symbols")).to_contain_text("NVDA")
    assert admin.patch(f"{address}?update_mask=state", json={"state": "failed"}, timeout=30).ok
    expect(status).to_contain_text("failed")
    count = len(reads)
    page.wait_for_timeout(3000)
    assert (len(reads), page.problems) == (count, [])


def test_feeds_whose_tasks_run_on_hosts_with_limits_of_their_own_are_told_so(site, open_page):
    page = open_page("viewer")
    page.goto(f"{site.pages}/feeds")
    card = page.get_by_role("region", name=FEED, exact=True)
    expect(card).to_contain_text("mock_default: ready")
    expect(card).not_to_contain_text("hosts")
    now = datetime.now(UTC)
    spans = [(f"worker-{place}", str(now - timedelta(hours=1)), str(now), place) for place in (0, 1)]
    with closing(sqlite3.connect(site.folder / "home" / "airflow.db", timeout=30)) as database, database:
        database.execute("DELETE FROM task_instance_history")  # tries of this host, which a test above cleared
        changed = database.executemany(
            "UPDATE task_instance SET hostname = ?, start_date = ?, end_date = ? WHERE task_id = 'fetch' AND map_index = ?", spans
        )
        assert changed.rowcount == 2
    page.reload()
    expect(card).to_contain_text("tasks ran on 2 hosts (worker-0, worker-1), and each host knows its own calls only")
    expect(card).to_contain_text("set MARKET_DATA_LIMITER_CONN_ID")
    assert page.problems == []
