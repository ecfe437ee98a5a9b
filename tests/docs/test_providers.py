"""The providers page names everything that exists and nothing else: compared with registry, hooks, planner and feeds."""

import re
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest

from market_data.airflow.assets import SUFFIX
from market_data.config.feeds import load_feeds
from market_data.config.trigger_form import PARAMS, PER_CALL
from market_data.config.universes import known
from market_data.core.capabilities import Capabilities, Quota
from market_data.datasets.registry import DATASETS
from market_data.pipeline.planner import make_plan
from market_data.providers.base import ProviderConfig
from market_data.providers.registry import provider, providers, serving
from sandbox.stack.environment import Paths, Ports
from sandbox.stack.settings import local_connections
from sandbox.vendors import VENDORS
from tests.docs.pages import DOCS, PROJECT
from tools import error_reference
from tools.feed_table import written

TEXT = DOCS["docs/reference/providers.md"]
README = DOCS["README.md"]
PARAMS_PAGE = DOCS["docs/reference/params.md"]
LOCAL_STACK = DOCS["docs/reference/local-stack.md"]
FEEDS = {feed.dag_id for feed in load_feeds()}
OPTIONS = [(name, option) for name, found in providers().items() for option in found.options]
PLANS = [(name, plan) for name in providers() for plan in provider(name).plans]

DAILY = {
    "`polygon`": ("polygon", ("flatfile",)),
    "`alpaca`": ("alpaca", ()),
    "`fmp` with `ultimate`": ("fmp", ()),
    "`fmp`": ("fmp", "starter"),  # a plan
    "`databento`": ("databento", ()),
    "`ib`": ("ib", ()),
}
MINUTES = {
    "`polygon` with flat files": ("polygon", ()),
    **{name: DAILY[name] for name in ("`polygon`", "`alpaca`", "`databento`", "`ib`")},
}


def section(name):
    """Return the section of one provider, from its heading to the next."""
    (found,) = re.findall(rf"^## [^\n]*\(`{name}`\)\n(.*?)(?=^## )", TEXT, re.MULTILINE | re.DOTALL)
    return found


def rows(text, head):
    """Return the rows, lists of cells, of the table whose header begins with ``head``, or none."""
    found = re.search(rf"^\| {re.escape(head)} \|[^\n]*\n\|[-|]+\|\n((?:\|[^\n]*\n)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()] if found else []


def quoted(text):
    return re.findall(r"`([^`]+)`", text)


def hook(name, plan):
    return provider(name)(config=ProviderConfig("a_connection", "", extra={"plan": plan}))


# -- registry ------------------------------------------------------------------------------------------------------------------


def test_sections_are_those_of_the_providers():
    assert sorted(re.findall(r"^## .*\(`(\w+)`\)$", TEXT, re.MULTILINE)) == sorted(providers())


def test_first_table_shows_who_serves_which_dataset():
    head, *lines = re.search(r"^\| \| `ohlcv-1d`.*?\n\n", TEXT, re.MULTILINE | re.DOTALL)[0].strip().splitlines()
    assert quoted(head) == list(DATASETS)
    found = {}
    for line in lines[1:]:
        first, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        found[quoted(first)[0]] = dict(zip(DATASETS, cells, strict=True))
    assert found == {
        name: {
            dataset: "yes" if dataset in served.serves else ""  # a new feed is a stanza: the README lists the DAGs
            for dataset in DATASETS
        }
        for name, served in providers().items()
    }


@pytest.mark.parametrize("name", providers())
def test_connection_table_matches_hook(name):
    kind, cells = provider(name), dict(rows(section(name), "connection"))
    assert quoted(cells["type"]) == [f"market_data_{name}", kind.conn_type]
    assert kind.default_base_url in quoted(cells.get("host") or cells["host, port"])
    assert {*kind.known_extra} <= set(quoted(cells["extra"]))
    assert cells["extra"] == "none of its own" or kind.known_extra


@pytest.mark.parametrize(("name", "plan"), PLANS)
def test_plan_table_matches_quotas(name, plan):
    there, asked = {quoted(row[0])[0]: row for row in rows(section(name), "plan")}, hook(name, plan)
    assert set(there) == set(asked.plans)
    first, slot, account, history, moment = there[plan]
    quota, start = asked.quota, asked.capabilities(next(iter(providers()[name].serves))).history_start
    assert first.endswith("(default)") == (plan == asked.default_plan)
    assert slot == f"{quota.calls_per_minute_per_slot:.0f}"
    assert account == ("; ".join(f"{window.calls} in {window.seconds:,g} s" for window in quota.limits) or "none")
    years = asked.plan.history_years
    assert history == (f"{years} years" if years else f"from {start}" if start else "all")
    minutes = round(asked.plan.available_after / 60)
    clock = f"{minutes // 60 % 24:02}:{minutes % 60:02} UTC{' the next day' if minutes >= 1440 else ''}"
    assert moment == (clock if minutes else "when it is over")


@pytest.mark.parametrize("name", providers())
def test_endpoint_table_matches_registry(name):
    found = {(dataset, quoted(row[1])[0], row[2]) for row in rows(section(name), "dataset") for dataset in quoted(row[0])}
    served = providers()[name].serves
    assert found == {(dataset, e.name, PER_CALL[e.shape]) for dataset, endpoints in served.items() for e in endpoints}


@pytest.mark.parametrize("name", providers())
def test_option_table_names_registered_options_only(name):
    assert [quoted(row[0])[0] for row in rows(section(name), "option")] == list(providers()[name].options)


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_option_values_match_registry(name, option):
    of, text = providers()[name].options[option], section(name)
    (row,) = [row for row in rows(text, "option") if quoted(row[0]) == [option]]
    _, values, default, apart = row
    if "enum" in of.schema:
        assert quoted(values) == of.schema["enum"]
    elif "examples" in of.schema:
        assert {of.default, *of.schema["examples"]} - {"auto"} <= {*quoted(values)}
    else:
        assert values == f"{of.schema['minimum']} to {of.schema['maximum']:,}, or empty"
    assert default.split(";")[0] == (f"`{of.default}`" if of.default else "empty")
    assert apart.startswith("yes") == of.variant
    assert all(source.startswith(f"{name}~") for source in quoted(apart))
    assert all(f"`{value}`" in text for value in of.refused)


def test_extra_keys_of_all_providers_are_documented():
    names = [quoted(row[0])[0] for row in rows(TEXT, "extra")]
    extra = dict.fromkeys(names, "?") | {"another": 1}
    (problem,) = [p for p in provider("mock")(config=ProviderConfig("c", "", extra=extra))._connection_problems() if "unknown" in p]
    assert problem.split("known keys: ")[1].split(", ") == sorted([*names, "seed"])


# -- calls -------------------------------------------------------------------------------------------------------------------------


def calls(where, dataset, symbols, sessions):
    name, without = where
    if isinstance(without, str):
        endpoints = hook(name, without).capabilities(dataset).endpoints
    else:
        endpoints = tuple(e for e in serving(name, dataset) if e.name not in without)
    capabilities = Capabilities(endpoints, Quota(200))
    days = [date(2000, 1, 3) + timedelta(days=2 * n) for n in range(sessions)]
    missing = {f"S{n}": (1 << sessions) - 1 for n in range(symbols)}
    return f"{make_plan(dataset, missing, days, capabilities, batch_size=1000).calls:,}"


def test_call_counts_match_the_planner():
    daily = {row[0]: row[1:] for row in rows(TEXT, "daily bars of 523 symbols")}
    assert daily == {name: [calls(where, "ohlcv-1d", 523, n) for n in (1, 504, 2516)] for name, where in DAILY.items()}
    minutes = {row[0]: row[1] for row in rows(TEXT, "a year of minutes of 500 symbols, 252 sessions")}
    assert minutes == {name: calls(where, "ohlcv-1m", 500, 252) for name, where in MINUTES.items()}


def test_bulk_statements_begin_at_the_documented_number_of_symbols():
    (row,) = [row for row in rows(section("fmp"), "dataset") if quoted(row[1]) == ["statements"]]
    most = int(re.search(r"up to (\d+) symbols", row[3])[1])
    capabilities, used = hook("fmp", "ultimate").capabilities("fundamentals"), {}
    for n in (most, most + 1):
        plan = make_plan("fundamentals", dict.fromkeys(map(str, range(n)), 1), [date(2024, 1, 31)], capabilities)
        used[n] = {batch.endpoint for batch in plan.batches}
    assert used == {most: {"statements"}, most + 1: {"bulk"}}
    assert f"counted as {plan.calls} calls" in section("fmp")


# -- names -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DOCS)
def test_named_dags_exist(name):
    endings = "|".join(dataset.replace("-", "_") for dataset in DATASETS)
    named = set(re.findall(rf"\b([a-z]+_(?:{endings}|ohlcv_\w+))\b", DOCS[name])) | set(re.findall(r"\bDAG=([a-z]\w*)", DOCS[name]))
    tables = {found for found in named if found.split("_")[0] in ("landed", "bronze", "silver", "gold", "lake")}
    assert {name.removesuffix(SUFFIX) for name in named - tables} <= FEEDS


def test_table_of_feeds_is_that_of_the_settings():
    assert written(README) == README, "run tools/feed_table.py"
    assert re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE) == [feed.dag_id for feed in load_feeds()]


@pytest.mark.parametrize("name", sorted({*PARAMS, *(option for _, option in OPTIONS), *known()}))
def test_params_page_names_every_param_and_universe(name):
    assert f"`{name}`" in PARAMS_PAGE


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_is_documented(name):
    assert f"`{name}`" in TEXT
    assert f"`{name}`" in DOCS["docs/reference/lake.md"]


def test_sample_servers_are_where_the_page_says():
    found = {quoted(row[0])[0]: quoted(row[2]) for row in rows(LOCAL_STACK, "provider")}
    connections = local_connections(Paths(Path(), Path()), Ports())
    hosts = {name: connections.get(f"{name}_default") for name in providers()}
    assert found == {
        name: [f"{at['conn_host']}:{at['conn_port']}" if at.get("conn_port") else at["conn_host"]] if at else []
        for name, at in hosts.items()
    }
    assert set(VENDORS) == set(found) - {"ib", "mock"}
    assert all(f"`{port}`" in LOCAL_STACK for port in (Ports().airflow, Ports().s3, Ports().sample_api, Ports().gateway))


def test_every_type_of_error_has_an_anchor():
    page = DOCS["docs/reference/errors.md"]
    assert error_reference.written(page) == page, "run tools/error_reference.py"
    named = re.findall(r"^### (\w+)$", page, re.MULTILINE)
    assert {"AuthError", "SchemaDrift", "RunTimeout"} <= set(named)
    assert page.count("**To do**: ") == len(named)


def test_links_resolve():
    for name, text in DOCS.items():
        folder = (PROJECT / name).parent
        for path, anchor in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]+))?\)", text):
            target = folder / path if path else PROJECT / name
            assert target.exists(), f"{name}: {path}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
                assert anchor in [re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings], (
                    f"{name}: {anchor}"
                )


def test_query_prefers_the_first_provider():
    (sql,) = re.findall(r"^```sql\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE silver_prices (symbol TEXT, timeframe TEXT, bar_time TIMESTAMP, close_px DECIMAL, provider TEXT)"
        )
        connection.execute(
            "INSERT INTO silver_prices VALUES ('A', '1d', '2024-01-30', 1, 'alpaca'), ('A', '1d', '2024-01-30', 2, 'polygon'),"
            " ('A', '1d', '2024-01-31', 3, 'alpaca'), ('A', '1m', '2024-01-31', 4, 'polygon')"
        )
        assert sorted(int(row[2]) for row in connection.execute(sql).fetchall()) == [2, 3]
