"""The pages used to do a job from beginning to end: real Airflow, real runs, a browser, Airflow's own frame around each page.

With ``MARKET_DATA_PICTURES`` set to a folder, the pictures of the documentation are written there: `make pictures`.
"""

import os
import re
from pathlib import Path

import pytest

from tests.e2e.conftest import DAG, with_first_run, without_faults

pytestmark = pytest.mark.browser

STOCKS = [
    "AAPL",
    "AXP",
    "BA",
    "CAT",
    "CSCO",
    "CVX",
    "DIS",
    "GS",
    "HD",
    "IBM",
    "INTC",
    "JNJ",
    "JPM",
    "KO",
    "MCD",
    "MMM",
    "MRK",
    "MSFT",
    "NKE",
    "PG",
]
COSTLY = "databento_trades"
REPAIRS, DECISIONS = "maintain_coverage", "maintain_state"
LONG = 240_000
"""Milliseconds that a run on a busy machine may take."""


def expect(found):
    from playwright.sync_api import expect  # a browser's library: not imported where these tests do not run

    expect.set_options(timeout=60_000)
    return expect(found)


COUNT_CLICKS = """addEventListener("click", (event) => {
    if (event.isTrusted && event.detail) sessionStorage.clicks = Number(sessionStorage.clicks || 0) + 1;
}, true)"""


@pytest.fixture(scope="module")
def _own(tmp_path_factory):
    """A stack of its own: the pages list what is here, and nothing of other tests."""
    with with_first_run(tmp_path_factory.mktemp("jobs")) as world:
        yield world


@pytest.fixture
def world(_own):
    return without_faults(_own)


@pytest.fixture
def desk(page, world, tmp_path):
    """A person at Airflow's home page; ``clicks()`` counts what they have clicked since, ``picture(name)`` takes one."""
    page.set_viewport_size({"width": 1300, "height": 900})
    folder = Path(os.environ.get("MARKET_DATA_PICTURES", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)

    def picture(name):
        page.screenshot(path=folder / f"{name}.png")
        assert (folder / f"{name}.png").stat().st_size > 20_000

    page.add_init_script(COUNT_CLICKS)
    page.goto(world.airflow.url)
    page.evaluate("sessionStorage.clicks = 0")
    page.clicks = lambda: int(page.evaluate("sessionStorage.clicks"))
    page.picture = picture
    page.inside = page.frame_locator("iframe")
    return page


def open_pages(desk, dag_id=DAG):
    """Click on the navigation's entry; return the card of a feed on page Feeds."""
    desk.get_by_role("link", name="Market data").first.click()
    return desk.inside.get_by_role("region", name=dag_id, exact=True)


def count(world, first, last, symbol):
    where = f"symbol = '{symbol}' AND bar_time BETWEEN TIMESTAMP '{first}' AND TIMESTAMP '{last}'"
    return world.count(where)


def test_a_run_is_followed_from_its_first_batch_to_its_verdict(world, desk):
    world.control("POST", "faults", kind="slow", match="range", seconds=2, times=None)
    run = world.trigger(symbols=STOCKS, start_date="2010-03-01", end_date="2010-03-31", endpoint="range", batch_size=4)
    desk.goto(f"{world.airflow.url}/dags/{DAG}/runs/{run['dag_run_id']}")
    desk.get_by_title("Market data").click()
    main, status = desk.inside.get_by_role("main"), desk.inside.locator("#status")
    expect(status).to_contain_text("running", timeout=LONG)
    expect(main).to_contain_text(re.compile(r"[1-4] of 5 ended"), timeout=LONG)
    expect(main).to_contain_text(re.compile(r"[1-9]\d* ok, 0 failed, [1-9]\d* pending"))
    expect(main).to_contain_text("about")
    assert world.airflow.run(DAG, run["dag_run_id"])["state"] == "running"
    desk.picture("run-in-progress")
    expect(status).to_contain_text("success", timeout=LONG)
    expect(desk.inside.get_by_role("region", name="Verdict")).to_contain_text("20 symbols, 460 bars, 460 loaded, 20 calls")
    expect(main).to_contain_text("20 by batches that ended, 20 planned")
    desk.picture("run")


def test_a_gap_is_found_and_repaired_in_five_clicks(world, desk):
    first, hole, last = "2010-04-12", "2010-04-14", "2010-04-16"
    for start, end in ((first, "2010-04-13"), ("2010-04-15", last)):  # nothing ran on the day between
        run = world.run(symbols=STOCKS, endpoint="grouped", start_date=start, end_date=end)
        assert run["state"] == "success", world.why(run)
    for dag_id in (DAG, REPAIRS):
        world.airflow.unpause(dag_id)
    world.forget_calls()

    open_pages(desk).get_by_role("link", name="Coverage").click()
    desk.inside.get_by_label(f"Choose MSFT {hole}").click()
    desk.inside.get_by_role("button", name="Plan the repair of 1").click()
    expect(desk.inside.locator("#plan")).to_contain_text("1 call")
    assert world.calls() == []
    desk.picture("repair")
    desk.inside.get_by_role("button", name="Repair", exact=True).click()
    assert desk.clicks() == 5
    expect(desk.inside.locator("#status")).to_contain_text("Repaired", timeout=LONG)
    expect(desk.inside.get_by_label(f"Choose MSFT {hole}")).to_have_count(0)
    assert len(world.calls()) == 1
    assert [count(world, first, last, symbol) for symbol in ("AAPL", "MSFT")] == [4, 5]


def test_a_quarantined_row_is_released_and_loaded(world, desk):
    world.control("POST", "prices", session="2010-05-12", symbol="KO", replace={"close": 5000.0})
    run = world.run(symbols=STOCKS, start_date="2010-05-03", end_date="2010-05-28", endpoint="range")
    assert world.report(run)["quarantined"]
    assert count(world, "2010-05-12", "2010-05-12", "KO") == 0
    for dag_id in (DAG, DECISIONS):
        world.airflow.unpause(dag_id)
    world.forget_calls()

    open_pages(desk).get_by_role("link", name="Quality").click()
    row = desk.inside.get_by_role("row", name="KO")
    expect(row).to_contain_text("close 5000")
    desk.picture("quality")
    row.get_by_role("button", name="Release").click()
    dialog = desk.inside.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("the exchange's own list has this close")
    dialog.get_by_role("button", name="Release").click()
    expect(dialog).to_have_count(0, timeout=LONG)
    expect(desk.inside.get_by_role("row", name="KO")).to_have_count(0)
    assert world.calls() == []
    where = "symbol = 'KO' AND bar_time = TIMESTAMP '2010-05-12' AND provider = 'polygon'"
    (loaded,) = world.query(f"SELECT close_px FROM silver_prices WHERE {where}")
    assert float(loaded["close_px"]) == 5000.0


def test_the_charge_of_a_run_is_three_clicks_away_without_a_run(world, desk):
    before = world.runs(COSTLY)
    open_pages(desk, COSTLY).get_by_role("link", name="Plan").click()
    plan = desk.inside.get_by_role("region", name="Plan", exact=True)
    expect(plan).to_contain_text("known at the start of the run")
    desk.inside.get_by_role("button", name="Request the charge").click()
    expect(plan).to_contain_text(re.compile(r"Charge\s*0\.\d+ US dollars"))
    assert desk.clicks() == 3
    desk.picture("plan")
    assert world.runs(COSTLY) == before


def test_every_page_has_a_picture(world, desk):
    """After the tests above: the pages have something to show."""
    expect(open_pages(desk)).to_contain_text("polygon_default: ready")
    expect(desk.inside.locator("#status")).not_to_contain_text("Loading")
    desk.picture("feeds")
    where = f"{world.airflow.url}/market-data"
    desk.goto(f"{where}/coverage?feed={DAG}&zoom=days&symbol=KO&session=2010-05-12")
    expect(desk.get_by_label("Chosen cell")).to_contain_text("released")
    desk.get_by_label("Only symbols with something open").check()
    desk.get_by_label("Chosen cell").scroll_into_view_if_needed()
    desk.picture("coverage")
    desk.goto(f"{where}/prices?feed={DAG}&symbol=KO&from=2010-03-01&to=2010-05-28")
    expect(desk.locator("#status")).to_contain_text("bars of 1d")
    desk.picture("prices")
