"""The list of providers: built-in ones, those of installed packages, and what may be imported before a provider is used."""

import os
import re
import shutil
import subprocess
import sys
import time
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from market_data.core.errors import ConfigError
from market_data.providers import registry
from market_data.providers.registry import BUILT_IN, GROUP, installed, known_provider, provider, providers
from market_data.providers.spec import source_of

PROJECT = Path(__file__).parents[2]
PACKAGE = PROJECT / "plugins" / "market_data"
FEEDS = """
feeds:
  - {provider: acme, dataset: ohlcv-1d, universe: dow30, start_date: 2012-01-03, options: {session_kind: extended}}
"""
RUN = """
import sys
from datetime import date
from pathlib import Path

from market_data.airflow.dag import build_dag
from market_data.config.feeds import load_feeds
from market_data.core import calendar
from market_data.pipeline.planner import make_plan
from market_data.providers.base import ProviderConfig
from market_data.providers.registry import known_provider, provider
from market_data.providers.spec import source_of
from tests.providers.template_vendor import template_server

(feed,) = load_feeds(Path(sys.argv[1]))
assert build_dag(feed).dag_id == "acme_ohlcv_1d" and feed.conn_id == "acme_default" and feed.pool == "acme_api"
assert source_of(known_provider("acme"), feed.options) == "acme~extended"
sessions = calendar.sessions(date(2013, 1, 7), date(2013, 1, 19))
missing = {symbol: (1 << len(sessions)) - 1 for symbol in ("AAPL", "IBM")}
with template_server(api_key="k") as server:
    config = ProviderConfig(feed.conn_id, server.url, password="k", extra={"calls_per_minute_per_slot": 60000})
    with provider("acme")(config, options=feed.options) as hook:
        plan = make_plan(feed.dataset, missing, sessions, hook.capabilities(feed.dataset))
        fetched = [hook.fetch(request) for batch in plan.batches for request in batch.requests(sessions)]
print(sum(len(found.table) for found in fetched), len(plan.batches))
"""
NO_CLIENT = """
import sys
from datetime import UTC, datetime
from types import SimpleNamespace

from market_data.airflow import tasks
from market_data.config.feeds import load_feeds

run = SimpleNamespace(dag_id="d", run_id="r", run_type="manual", clear_number=0, start_date=datetime.now(UTC))
for feed in load_feeds():
    params = tasks.read_params(dict(feed.params), **tasks.allowed(feed))
    run_context = tasks._run_context(feed, params, {"dag_run": run})
    assert run_context.source.partition("~")[0] == feed.provider
import market_data.pipeline.check, market_data.pipeline.load, market_data.pipeline.publish, market_data.pipeline.report
print(*sorted(sys.modules))
"""


def run(script, *arguments, path=(), **environ):
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, path), str(PROJECT / "plugins"), str(PROJECT)]), **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


# -- built-in ----------------------------------------------------------------------------------------------------------------------


def test_every_package_here_is_in_the_list_and_has_the_same_files():
    packages = {
        path.parent.name: {file.name for file in path.parent.glob("*.py")} for path in PACKAGE.glob("providers/*/__init__.py")
    }
    files = packages.pop("_template")
    assert files == {"__init__.py", "spec.py", "hook.py", "client.py", "parse.py"}
    assert set(packages) == set(BUILT_IN)
    packages.pop("mock")  # it has no network, so neither client nor responses
    assert [name for name, found in packages.items() if not files <= found] == []


def test_no_two_classes_of_providers_and_transport_share_a_name():
    files = [*PACKAGE.glob("providers/**/*.py"), *PACKAGE.glob("http/*.py")]
    names = [name for file in files for name in re.findall(r"^class (\w+)", file.read_text(), re.MULTILINE)]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_an_unknown_provider_is_a_config_error_with_the_known_ones():
    with pytest.raises(ConfigError, match="provider is 'yahoo'; known providers: alpaca, databento, fmp, ib, mock, polygon"):
        known_provider("yahoo")


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_source_needs_no_hook(name):
    assert source_of(known_provider(name), {}) == name


def test_tasks_that_fetch_nothing_import_no_client(tmp_path):
    loaded = set(run(NO_CLIENT, MARKET_DATA_LAKE=f"file://{tmp_path}").split())
    assert {"market_data.pipeline.publish", "market_data.providers.databento.spec"} <= loaded
    assert loaded.isdisjoint({"databento", "ib_async", "market_data.http.client", "market_data.providers.base"})
    assert [name for name in loaded if re.fullmatch(r"market_data\.providers\.\w+\.(hook|client|parse)", name)] == []


# -- installed ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with an installed package of its own, made from the template."""
    site = tmp_path_factory.mktemp("site")
    package, info = site / "acme_market_data", site / "acme_market_data-1.0.dist-info"
    shutil.copytree(PACKAGE / "providers" / "_template", package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in package.glob("*.py"):
        text = file.read_text().replace("market_data.providers._template", "acme_market_data")
        file.write_text(text.replace("template", "acme").replace("Template", "Acme"))
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-market-data\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\nacme = acme_market_data.spec:SPEC\n")
    return site


def test_a_private_vendor_is_a_feed_with_no_change_here(site, tmp_path):
    feeds = tmp_path / "feeds.yaml"
    feeds.write_text(FEEDS)
    assert run(RUN, feeds, path=[site], MARKET_DATA_LIMITS=str(tmp_path)) == "20 1"  # rows, batches: ten sessions of two symbols


@pytest.mark.slow
def test_a_private_vendor_passes_the_contract_suite(site, tmp_path):
    text = (PROJECT / "tests" / "providers" / "test_template.py").read_text()
    text = text.replace("market_data.providers._template", "acme_market_data").replace('"template"', '"acme"')
    text = text.replace("template_default", "acme_default").replace("TemplateHook", "AcmeHook")
    suite = tmp_path / "test_acme.py"
    shutil.copy(PROJECT / "tests" / "conftest.py", tmp_path)
    suite.write_text(text[: text.index("def test_the_template_is_not")])
    script = f"import sys, pytest; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', {str(suite)!r}, '--rootdir', {str(PROJECT)!r}]))"
    assert re.search(r"\b1\d\d passed", run(script, path=[site]))


def test_reading_the_entry_points_is_cheap_and_done_once():
    registry.providers.cache_clear()
    began = time.process_time()
    first = providers()
    assert time.process_time() - began < 1
    assert providers() is first


class Distribution:
    name = "acme-market-data"


def entry(name, value):
    found = EntryPoint(name, value, GROUP)
    vars(found)["dist"] = Distribution()
    return found


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("acme", "no_such_package.spec:SPEC", "it cannot be loaded: ModuleNotFoundError: No module named 'no_such_package'"),
        ("acme", "json:no_such_name", "it cannot be loaded: AttributeError"),
        ("acme", "json:dumps", "it is of type function; a market_data.providers.spec.ProviderSpec is expected"),
        ("acme", "market_data.providers._template.spec:SPEC", "its spec is named 'template'; both names must be equal"),
        ("polygon", "market_data.providers._template.spec:SPEC", "'polygon' is a built-in provider; choose another name"),
        ("Acme Data", "market_data.providers._template.spec:SPEC", "the name may have a-z, 0-9 and _, the first a letter"),
    ],
)
def test_an_entry_point_that_cannot_be_used_is_named(name, value, text):
    with pytest.raises(ConfigError) as caught:
        installed([entry("template", "market_data.providers._template.spec:SPEC"), entry(name, value)])
    assert str(caught.value).startswith(f"entry point {name!r} ({value}) of acme-market-data in group {GROUP}: {text}")


def test_two_packages_cannot_take_one_name():
    good, other = entry("template", "market_data.providers._template.spec:SPEC"), entry("template", "json:dumps")
    assert list(installed([good, good])) == ["template"]  # one package twice on the path
    with pytest.raises(ConfigError, match="the name 'template' is already taken by market_data.providers._template.spec:SPEC"):
        installed([good, other])


def test_a_broken_package_is_named_where_feeds_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry("acme", "no_such_package.spec:SPEC")])
    registry.providers.cache_clear()
    try:
        with pytest.raises(ConfigError, match="entry point 'acme' .* of acme-market-data"):
            provider("mock")
    finally:
        registry.providers.cache_clear()
