"""A real api-server over a seeded lake, and a browser: what the tests of pages share.

Only the api-server runs: it serves the pages and Airflow's REST API. Runs that a page triggers stay queued, and can be looked at.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import requests

from sandbox.stack.processes import free_port

PROJECT = Path(__file__).parents[3]
USERS = {"admin": "admin", "trader": "op", "viewer": "viewer"}
"""User -> role; the password is the name."""
PATIENCE = 20_000
"""Milliseconds that a page may take."""


class Site:
    """The server: ``url`` of Airflow, ``pages`` of ours; ``env`` for commands beside it."""

    def __init__(self, folder, port, env):
        self.folder, self.env, self.url = Path(folder), env, f"http://127.0.0.1:{port}"
        self.pages = f"{self.url}/market-data"

    def session(self, user):
        """Return an HTTP session of a user, by the cookie that a browser has."""
        found = requests.Session()
        found.trust_env = False
        token = found.post(f"{self.url}/auth/token", json={"username": user, "password": user}, timeout=30).json()["access_token"]
        found.cookies.set("_token", token)
        found.headers["Origin"] = self.url  # of every POST, as browsers do
        return found

    def run(self, dag_id, conf):
        """Run a DAG without a scheduler; return the id of its run."""
        command = [sys.executable, "-m", "airflow", "dags", "test", dag_id, "-c", json.dumps(conf)]
        with (self.folder / "run.log").open("wb") as output:
            subprocess.run(command, env=self.env, cwd=PROJECT, stdout=output, stderr=output, timeout=180, check=False)
        return self.runs(dag_id)[0]["dag_run_id"]

    def runs(self, dag_id):
        """Return the runs of a DAG, newest first."""
        found = self.session("admin").get(f"{self.url}/api/v2/dags/{dag_id}/dagRuns?order_by=-run_after", timeout=30)
        return found.json()["dag_runs"]


def environment(folder, port, dags=("maintain.py",)):
    """Return the environment of the server: everything in ``folder``, with these files of ``dags/``."""
    home = Path(folder) / "home"
    home.mkdir(parents=True, exist_ok=True)
    passwords = home / "passwords.json"
    passwords.write_text(json.dumps({user: user for user in USERS}))
    (home / "dags").mkdir(exist_ok=True)
    for name in dags:
        shutil.copy(PROJECT / "dags" / name, home / "dags")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MARKET_DATA"))}
    return env | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}?timeout=30",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in USERS.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API__SECRET_KEY": "k" * 40,
        "AIRFLOW__API_AUTH__JWT_SECRET": "j" * 64,
        "AIRFLOW_CONN_MOCK_DEFAULT": json.dumps({"conn_type": "generic"}),
        "AIRFLOW_CONN_WAREHOUSE_DEFAULT": json.dumps({"conn_type": "duckdb", "extra": {"path": f"{folder}/warehouse.duckdb"}}),
        "MARKET_DATA_LAKE": f"file://{folder}/lake",
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "plugins")]),
    }


@contextmanager
def served(folder, dags=("maintain.py",)):
    """Start the api-server over the lake in ``folder``; yield its ``Site``."""
    port = free_port()
    env, log = environment(folder, port, dags), Path(folder, "server.log")
    with log.open("wb") as output:
        given = {"env": env, "cwd": PROJECT, "stdout": output, "stderr": output}
        for command in (("db", "migrate"), ("dags", "reserialize")):
            subprocess.run([sys.executable, "-m", "airflow", *command], check=True, timeout=180, **given)
        server = subprocess.Popen([sys.executable, "-m", "airflow", "api-server"], start_new_session=True, **given)
        try:
            until = time.monotonic() + 120
            while not responds(f"http://127.0.0.1:{port}/api/v2/version"):
                assert server.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < until, log.read_text()[-3000:]
                time.sleep(0.2)
            yield Site(folder, port, given["env"])
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)


def responds(url):
    try:
        return requests.get(url, timeout=5, proxies={"http": ""}).ok
    except requests.RequestException:
        return False


@contextmanager
def browser_of(site):
    """Start Chromium; yield a function that returns a page of a user: ``page(user, theme="light", width=1300)``."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert chromium, "a browser is needed: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])

        def page(user, theme="light", width=1300):
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
            token = site.session(user).cookies["_token"]
            context.add_cookies([{"name": "_token", "value": token, "url": site.url}])
            found = context.new_page()
            found.set_default_timeout(PATIENCE)
            found.problems = []
            found.on("console", lambda message: found.problems.append(message.text) if message.type == "error" else None)
            found.on("pageerror", lambda error: found.problems.append(str(error)))
            found.on("dialog", lambda dialog: found.problems.append(f"dialog: {dialog.message}"))
            found.on(
                "request", lambda one: None if one.url.startswith(site.url) else found.problems.append(f"request to {one.url}")
            )
            return found

        yield page
        browser.close()


def expect(found):
    """Return Playwright's assertions on ``found``; they wait as long as clicks do: a busy machine is no fault."""
    from playwright.sync_api import expect  # a browser's library: not imported where these tests do not run

    expect.set_options(timeout=PATIENCE)
    return expect(found)


def page_checks(open_page, address, ready):
    """Check a page in both themes and on a phone: axe finds nothing, nothing scrolls sideways, no errors, no other hosts.

    :param open_page: from ``browser_of``. ``ready``: waits until a page shows its content.
    """
    from axe_playwright_python.sync_playwright import Axe

    for theme, width in (("light", 1300), ("dark", 390)):
        page = open_page("viewer", theme, width)
        page.goto(address)
        ready(page)
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = Axe().run(page)
        assert not found.violations_count, found.generate_report()
        assert page.problems == []
        page.context.close()
