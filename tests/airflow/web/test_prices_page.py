"""Prices in a browser against a real api-server: candles, marks, another source, features, keyboard, hostile names."""

import re
from datetime import timedelta

import pytest

from tests.airflow.web.site import expect, page_checks, served
from tests.views.price_world import DAYS, HELD, SCRIPT, seed

pytestmark = pytest.mark.browser

FEED = "feed=polygon_ohlcv_1d"
MARKS = "Splits, dividends, and bars that were held back or restated"
PIXELS = """names => {
  const style = getComputedStyle(document.documentElement);
  const wanted = names.map((name) => [1, 3, 5].map((at) => parseInt(style.getPropertyValue(name).trim().slice(at, at + 2), 16)));
  const counts = names.map(() => 0);
  for (const canvas of document.querySelectorAll(".chart canvas")) {
    const found = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    for (let at = 0; at < found.length; at += 4)
      wanted.forEach((color, n) => { if (color.every((part, place) => Math.abs(part - found[at + place]) < 12)) counts[n] += 1; });
  }
  return counts;
}"""
"""Counts the pixels of the chart that have a colour of the theme."""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    seed(folder)
    with served(folder) as site:
        yield site


def drawn(page, *names):
    """Return the pixels of each colour once the chart is drawn."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.evaluate(PIXELS, names)


def opened(site, open_page, query=""):
    page = open_page("viewer")
    page.goto(f"{site.pages}/prices?{FEED}&symbol=AAPL{query}")
    expect(page.locator("#status")).to_contain_text("AAPL, polygon: 92 bars of 1d, 2024-07-01 to 2024-11-08")
    expect(page.get_by_role("region", name=MARKS)).to_contain_text("by run nightly")  # the warehouse has been read
    return page


def test_candles_and_marks_are_drawn_and_listed(site, open_page):
    page = opened(site, open_page)
    up, down, other = drawn(page, "--up", "--down", "--line-1")
    assert up > 100
    assert down > 100
    assert other == 0
    marks = page.get_by_role("region", name=MARKS)
    expect(marks.get_by_role("row")).to_have_count(1 + 6)
    for kind, text in (
        ("Split", "4 for 1"), ("Dividend", "reported by fmp, polygon"), ("Quarantined", "high 1 below low 2"), ("Refused", "no reason"),
    ):  # fmt: skip
        expect(marks.get_by_role("row").filter(has=page.get_by_role("cell", name=kind, exact=True))).to_contain_text(text)
    expect(marks.get_by_role("row").filter(has_text=HELD.isoformat())).to_contain_text("Quarantined")
    expect(marks.get_by_role("row").filter(has_text=DAYS[5].isoformat())).to_contain_text("close 405 to 406")
    expect(page.get_by_role("link", name="https://www.tradingview.com/")).to_be_visible()
    assert page.problems == []


def test_closes_of_another_source_and_features_are_lines_that_an_address_shows_again(site, open_page):
    page = opened(site, open_page)
    page.get_by_role("checkbox", name="fmp").check()
    page.get_by_role("checkbox", name="Mean of 20 closes").check()
    expect(page.get_by_label("Legend")).to_contain_text("Close of fmp")
    page.goto(page.url)
    expect(page.get_by_label("Legend")).to_contain_text("Mean of 20 closes")
    page.get_by_text("The visible bars as a table").click()
    row = page.get_by_role("row").filter(has=page.get_by_role("cell", name=DAYS[-3].isoformat(), exact=True)).first
    expect(row.get_by_role("cell")).to_have_text([DAYS[-3].isoformat(), "191", "192", "188", "190", "1,000", "190.5", "180.55"])
    assert min(drawn(page, "--line-1", "--line-2")) > 30
    page.get_by_role("combobox", name="Prices").select_option("splits")
    first = page.get_by_role("row").filter(has=page.get_by_role("cell", name=DAYS[0].isoformat(), exact=True)).first
    expect(first.get_by_role("cell").nth(4)).to_have_text("100")
    expect(page.get_by_role("main")).to_contain_text("fmp: 39 bars cannot be adjusted")
    expect(page.get_by_label("Legend")).not_to_contain_text("Mean of 20 closes")
    assert page.problems == []


def test_the_keyboard_moves_by_bars_and_zooms(site, open_page):
    page = opened(site, open_page)
    page.get_by_text("The visible bars as a table").click()
    rows = page.get_by_role("region", name="Visible bars").get_by_role("row")
    expect(rows).to_have_count(1 + 92)
    page.mouse.move(0, 0)  # the chart scrolls into view: a mouse that rests over it would move the cursor
    page.get_by_role("application").focus()
    page.keyboard.press("Home")
    expect(page.locator("#here")).to_contain_text("2024-07-01: open 399, high 402, low 398, close 400, volume 1,000")
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#here")).to_contain_text(f"{DAYS[-3]}: open 191")
    expect(page.locator("#here")).to_contain_text("Refused: no reason is recorded")
    expect(page.get_by_role("link", name=f"Coverage of AAPL, {DAYS[-3]}")).to_be_visible()
    for _ in range(8):
        page.keyboard.press("+")
    expect(rows.nth(30)).to_have_count(0)
    expect(page.get_by_role("cell", name=DAYS[-3].isoformat(), exact=True).first).to_be_visible()
    page.keyboard.press("PageUp")
    page.keyboard.press("PageUp")
    expect(page.get_by_role("region", name="Visible bars")).not_to_contain_text(DAYS[-3].isoformat())
    assert page.problems == []


def test_a_cell_leads_to_the_chart_around_its_session_and_a_bar_leads_back(site, open_page):
    page = open_page("viewer")
    page.goto(f"{site.pages}/coverage?{FEED}&zoom=days&symbol=AAPL&session={DAYS[40]}")
    page.get_by_role("link", name="Prices around it").click()
    first, last = DAYS[40] - timedelta(days=45), DAYS[40] + timedelta(days=45)
    expect(page).to_have_url(re.compile(f"/prices\\?{FEED}&source=polygon&symbol=AAPL&from={first}&to={last}"))
    expect(page.locator("#status")).to_contain_text("bars of 1d")
    page.get_by_role("application").focus()
    page.keyboard.press("End")
    page.get_by_role("link", name="Coverage of AAPL, ").click()
    expect(page.get_by_label("Days")).to_be_checked()
    expect(page.get_by_label("Chosen cell")).to_contain_text("AAPL, 2024-")
    assert page.problems == []


def test_names_are_text_and_what_is_wrong_is_a_sentence(site, open_page):
    page = opened(site, open_page)
    symbol, show, status = (
        page.get_by_role("combobox", name="Symbol"),
        page.get_by_role("button", name="Show"),
        page.locator("#status"),
    )
    symbol.fill(SCRIPT)
    show.click()
    expect(status).to_contain_text(f"{SCRIPT}, polygon: there is no bar from")
    assert page.problems == []
    symbol.fill("<img src=x>")
    show.click()
    expect(status).to_contain_text("symbol '<img src=x>' is not")
    expect(page.get_by_role("region", name=MARKS)).to_have_count(0)
    symbol.fill("AAPL")
    page.get_by_label("From", exact=True).fill("2024-11-06")
    page.get_by_label("To", exact=True).fill("2024-11-08")
    show.click()
    expect(status).to_contain_text("2 bars of 1d, 2024-11-06 to 2024-11-08")
    page.get_by_role("button", name="Earlier").click()
    expect(status).to_contain_text("2 bars of 1d, 2024-11-04 to 2024-11-05")
    assert [text for text in page.problems if "400 (Bad Request)" not in text] == []


def test_the_page_is_accessible_in_both_themes_and_on_a_phone(site, open_page):
    address = f"{site.pages}/prices?{FEED}&symbol=AAPL&over=fmp&features=ma_20"
    page_checks(open_page, address, lambda page: expect(page.get_by_label("Legend")).to_contain_text("Mean of 20 closes"))
