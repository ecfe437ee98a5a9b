"""The trigger form in a real browser."""

import re
import time

import pytest

from tests.e2e.conftest import DAG

pytestmark = pytest.mark.browser
COSTLY = "databento_trades"


def test_someone_triggers_a_run_with_params_in_the_ui(world, page):
    page.goto(f"{world.airflow.url}/dags/{DAG}")
    page.get_by_role("button", name="Trigger").first.click()
    page.get_by_text("Run Parameters").wait_for()
    for label in ("What: Universe", "What: Only these symbols", "When: First session", "How: Dry run", "This provider: Adjustment"):
        page.get_by_text(re.compile(f"^{label}")).first.wait_for()
    assert not page.get_by_text("Circuit breaker").is_visible()
    page.get_by_placeholder("Enter each string on a new line").fill("AAPL\nIBM")
    first, last = [field for field in page.locator("input[type=date]").all() if field.is_visible()]  # as_of is folded away
    first.fill("2011-10-03")
    last.fill("2011-10-04")
    page.get_by_role("button", name="Tuning", exact=True).click()
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


def test_fields_are_in_the_order_of_use_with_the_cost_limit_in_view_and_the_universe_as_a_list(world, page, tmp_path):
    page.goto(f"{world.airflow.url}/dags/{COSTLY}")
    page.get_by_role("button", name="Trigger").first.click()
    page.get_by_text("This provider: Maximum cost (US dollars)").wait_for()
    groups = ("What", "When", "How", "This provider")
    shown = [text for text in page.locator("label").all_inner_texts() if text.startswith(groups)]
    order = [groups.index(text.partition(": ")[0]) for text in shown]
    assert order == sorted(order)
    assert set(order) == set(range(len(groups)))
    limit = page.locator("[name=element_max_cost_usd]")
    assert limit.is_visible()
    page.screenshot(path=tmp_path / "form.png", full_page=True)
    assert (tmp_path / "form.png").stat().st_size > 20_000
    page.locator("#element_universe").get_by_role("combobox").click()
    listed = page.get_by_role("option").all_inner_texts()
    assert {"dow30", "sp500_etf", "index:sp500 (kept in the lake by maintain_universes)"} <= set(listed)
    page.get_by_role("option", name="dow30", exact=True).click()
    page.get_by_role("button", name="Tuning", exact=True).click()
    page.get_by_text("Circuit breaker").wait_for()
    limit.wait_for(state="hidden")  # Airflow has one section open at a time: why everyday fields have none
