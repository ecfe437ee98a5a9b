"""The trigger form in a real browser."""

import re
import shutil
import time

import pytest

from tests.e2e.conftest import DAG

pytestmark = pytest.mark.browser


@pytest.fixture
def page(world):
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert chromium, "a browser is needed: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 1600})
        page.set_default_timeout(60_000)
        page.goto(world.airflow.url)
        page.fill("input[name=username]", "admin")
        page.fill("input[name=password]", world.airflow.password)
        page.keyboard.press("Enter")
        page.get_by_role("link", name="Dags", exact=True).first.wait_for()
        yield page
        browser.close()


def test_someone_triggers_a_run_with_params_in_the_ui(world, page):
    page.goto(f"{world.airflow.url}/dags/{DAG}")
    page.get_by_role("button", name="Trigger").first.click()
    page.get_by_text("Run Parameters").wait_for()
    for label in ("Universe", "Only these symbols", "Tickers file", "First session", "Last session", "File grain", "Dry run"):
        page.get_by_text(re.compile(f"^{label}")).first.wait_for()
    assert not page.get_by_text("Circuit breaker").is_visible()
    page.get_by_placeholder("Enter each string on a new line").fill("AAPL\nIBM")
    first, last = page.locator("input[type=date]").all()
    first.fill("2011-10-03")
    last.fill("2011-10-04")
    page.get_by_role("button", name="Advanced", exact=True).click()
    page.get_by_text("Circuit breaker").wait_for()
    before = {run["dag_run_id"] for run in world.airflow._all(f"/dags/{DAG}/dagRuns", "dag_runs")}
    page.get_by_role("button", name="Trigger").last.click()
    until = time.time() + 60
    while not (new := [run for run in world.airflow._all(f"/dags/{DAG}/dagRuns", "dag_runs") if run["dag_run_id"] not in before]):
        assert time.time() < until, page.content()[-3000:]
        time.sleep(0.5)
    run = world.wait(new[0])
    assert run["state"] == "success", world.why(run)
    assert (run["conf"]["symbols"], run["conf"]["start_date"], run["conf"]["end_date"]) == (
        ["AAPL", "IBM"],
        "2011-10-03",
        "2011-10-04",
    )
    assert world.count("bar_time BETWEEN TIMESTAMP '2011-10-03' AND TIMESTAMP '2011-10-04'") == 4
    assert run["run_type"] == "manual"
