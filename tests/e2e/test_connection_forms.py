"""The connection types' forms and their Test button in a real browser."""

import re
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.browser
FIELDS = ("description", "host", "login", "password", "schema", "port")
PLAN = ["Subscription plan*", "Calls per minute per pool slot", "Account limits"]


class Form(NamedTuple):
    """What the form of a type shows: labels and placeholders of the standard fields, and labels of the extra fields."""

    standard: dict[str, tuple[str, str]]
    extra: list[str]
    values: dict[str, str]
    success: str

    @property
    def standard_values(self):
        return {name: value for name, value in self.values.items() if name in FIELDS}

    @property
    def extra_values(self):
        return {name: value for name, value in self.values.items() if name not in FIELDS}


def form(values, success, extra, **standard):
    return Form(standard, extra, values, success)


def forms(world):
    api, ports = world.sample, world.stack.ports
    key, port, no_port = ("API key", ""), ("Port", "4002"), ("Port (enter 0)", "0")
    flat_files = ["Connection of the flat files (S3)", "Bucket of the flat files"]
    gateway = ["Client ID", "Seconds between identical requests"]
    return {
        "Polygon / Massive": form(
            {"host": api, "port": "0", "password": "sample-key", "element_calls_per_minute_per_slot": "600"},
            "responded", [*PLAN, *flat_files],
            host=("Host", "https://api.massive.com"), port=no_port, password=key,
        ),
        "Alpaca Market Data": form(
            {"host": f"{api}/alpaca", "port": "0", "login": "sample", "password": "sample-key"}, "responded", PLAN,
            host=("Host", "https://data.alpaca.markets"), port=no_port, login=("Key ID", ""), password=("Secret key", ""),
        ),
        "Financial Modeling Prep": form(
            {"host": f"{api}/fmp", "port": "0", "password": "sample-key"}, "responded", PLAN,
            host=("Host", "https://financialmodelingprep.com"), port=no_port, password=key,
        ),
        "Databento Historical": form(
            {"host": f"{api}/databento", "port": "0", "password": "db-sample-key"}, "EQUS.SUMMARY", PLAN,
            host=("Host", "https://hist.databento.com"), port=no_port, password=key,
        ),
        "Interactive Brokers": form(
            {"host": "127.0.0.1", "port": str(ports.gateway)}, "protocol version", [*PLAN, *gateway],
            host=("Host", "127.0.0.1"), port=port,
        ),
        "Mock (generated bars)": form({"port": "0"}, "seed 0", [*PLAN, "Seed"], port=no_port),
        "DuckDB": form(
            {"port": "0", "element_path": str(world.stack.paths.warehouse)}, "the warehouse opens",
            ["File*", "Seconds to wait for the file", "Rows per load transaction"], port=no_port,
        ),
    }  # fmt: skip


def labels(dialog):
    """Return label and placeholder of each standard field that is shown."""
    found = {}
    for name in FIELDS:
        field = dialog.locator(f"[name={name}]")
        if field.count() and field.is_visible():
            label = field.locator("xpath=ancestor::div[.//label][1]//label").first.inner_text()
            found[name] = (label, field.get_attribute("placeholder") or "")
    return found


def open_form(page, world, label):
    page.goto(f"{world.airflow.url}/connections")
    page.get_by_role("button", name="Add Connection").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("combobox").first.click()
    page.keyboard.type(label[:10])
    page.get_by_role("option", name=label, exact=True).click()
    dialog.locator("[name=description]").wait_for()
    return dialog


def press_test(page, conn_id):
    """Press the Test button of a stored connection; return the response and what the page shows."""
    row = page.locator("tr", has=page.get_by_text(conn_id, exact=True))
    with page.expect_response(lambda found: found.url.endswith("/connections/test")) as response:
        row.get_by_role("button", name=re.compile("^Test")).click()
    return response.value.json()


def fill(dialog, values):
    for name, value in values.items():
        dialog.locator(f"[name={name}]").fill(value)


def save(page, dialog, conn_id):
    dialog.get_by_role("button", name="Save").click()
    page.locator("tr", has=page.get_by_text(conn_id, exact=True)).wait_for()


def delete(world, conn_id):
    assert world.airflow._request("DELETE", f"/connections/{conn_id}", None).ok


def test_each_form_shows_its_fields_and_its_connection_can_be_tested(world, page):
    for number, (label, expected) in enumerate(forms(world).items()):
        dialog, conn_id = open_form(page, world, label), f"form-{number}"
        standard = labels(dialog)
        standard.pop("description")
        assert (label, standard) == (label, expected.standard)
        fill(dialog, {"connection_id": conn_id, **expected.standard_values})
        dialog.get_by_text("Extra Fields", exact=True).click()
        dialog.get_by_text(expected.extra[-1].rstrip("*"), exact=True).wait_for()
        shown = [text.replace("\n", "") for text in dialog.locator("label").all_inner_texts()]
        assert (label, [text for text in shown if text in expected.extra]) == (label, expected.extra), shown
        fill(dialog, expected.extra_values)
        save(page, dialog, conn_id)
        found = press_test(page, conn_id)
        assert (label, found.get("status")) == (label, True), found
        assert expected.success in found["message"]
        delete(world, conn_id)


def test_a_wrong_key_fails_the_test_and_is_not_shown(world, page):
    dialog = open_form(page, world, "Polygon / Massive")
    fill(dialog, {"connection_id": "wrong-key", "host": world.sample, "port": "0", "password": "hush-hush-key"})
    dialog.get_by_text("Extra Fields", exact=True).click()
    dialog.get_by_text("Calls per minute per pool slot", exact=True).wait_for()
    fill(dialog, {"element_calls_per_minute_per_slot": "600"})
    save(page, dialog, "wrong-key")
    found = press_test(page, "wrong-key")
    delete(world, "wrong-key")
    assert (found["status"], "hush" in found["message"]) == (False, False)
    assert "key" in found["message"]


def test_the_stacks_own_connections_can_be_tested(world, page):
    page.goto(f"{world.airflow.url}/connections")
    for conn_id in ("alpaca_default", "fmp_default", "databento_default", "ib_default", "mock_default", "warehouse_default"):
        found = press_test(page, conn_id)
        assert (conn_id, found.get("status")) == (conn_id, True), found


def test_the_home_page_shows_no_error(world):
    """The plugin is registered once, although the folder and the installed package both have it."""
    assert world.api("GET", "/plugins/importErrors")["import_errors"] == []
    assert {name: part["status"] for name, part in world.api("GET", "/monitor/health").items()} == dict.fromkeys(
        ("metadatabase", "scheduler", "triggerer", "dag_processor"), "healthy"
    )
