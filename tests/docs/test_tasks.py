"""The task pages show what works: run configurations, stanzas, commands and names exist in the code."""

import json
import re
import shlex
from datetime import date

import pandas as pd
import pyarrow as pa
import pytest
import yaml

from market_data.config.feeds import load_feeds
from market_data.config.param_checks import check_params
from market_data.config.universes import read_members
from market_data.core import errors
from market_data.providers.registry import options_of, serving
from tests.docs.pages import DOCS, PROJECT

FENCE = re.compile(r"^ *```(\w+)[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(name, language, text) for name, page in DOCS.items() for language, text in FENCE.findall(page)]
TASKS = {name: text for name, text in DOCS.items() if name.startswith("docs/tasks/")}
SHELL = [(name, line.strip()) for name, language, text in BLOCKS if language == "sh" for line in text.splitlines() if line.strip()]
"""Commands of this version that the pages describe before the code has them."""
TARGETS = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
CONFIGURATIONS = [
    *[(name, text) for name, language, text in BLOCKS if name in TASKS and language == "json"],
    *[
        (name, word.removeprefix("CONF="))
        for name, line in SHELL
        for word in shlex.split(line, comments=True)
        if word[:5] == "CONF="
    ],
]


@pytest.mark.parametrize(("name", "text"), CONFIGURATIONS)
def test_run_configurations_are_valid(name, text):
    given, (feed, *_) = json.loads(text), load_feeds()
    _, problems = check_params(
        given,
        options=options_of(feed.provider, feed.dataset),
        endpoints=serving(feed.provider, feed.dataset),
        today=date(2024, 6, 3),
    )
    assert not problems
    assert given


def test_run_configurations_are_found():
    assert len(CONFIGURATIONS) >= 4


@pytest.mark.parametrize(("name", "line"), [(name, line) for name, line in SHELL if re.search(r"(^|' )make ", line)])
def test_make_targets_exist(name, line):
    words = shlex.split(line, comments=True)
    (target,) = [word for word in words[words.index("make") + 1 :] if "=" not in word]
    assert target in TARGETS


def test_commands_are_in_the_table_of_commands():
    table = set(re.findall(r"^\| `market-data ([\w-]+)` \|", DOCS["docs/reference/commands.md"], re.MULTILINE))
    named = {word for text in DOCS.values() for word in re.findall(r"\bmarket-data ([a-z][\w-]+)[`\n \"]", text)}
    shown = {word for text in DOCS.values() for word in re.findall(r"`market-data ([a-z][\w-]+)", text)}
    run = {line.split()[1] for _, line in SHELL if line.startswith("market-data ")}
    assert shown | run <= table
    assert table <= named


@pytest.mark.parametrize("line", [line for _, line in SHELL if line.startswith("airflow ")])
def test_airflow_takes_its_commands(line):
    from airflow.cli import cli_parser

    program, *words = shlex.split(line)
    assert program == "airflow"
    assert cli_parser.get_parser().parse_args(words).dag_id in {feed.dag_id for feed in load_feeds()}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, language, text in BLOCKS if language == "yaml"])
def test_stanzas_have_known_keys(name, text):
    documented = set(re.findall(r"^#   (\w+) ", (PROJECT / "include" / "feeds.yaml").read_text(), re.MULTILINE))
    assert all(set(stanza) <= documented for stanza in yaml.safe_load(text))


def test_ticker_list_is_a_universe():
    (text,) = [text for name, language, text in BLOCKS if language == "csv"]
    rows = read_members(text, source="my_list.csv")
    members = {day: [row.symbol for row in rows if row.on(day)] for day in (date(2022, 6, 8), date(2022, 6, 9))}
    assert members == {date(2022, 6, 8): ["AAPL", "BRK.B", "FB"], date(2022, 6, 9): ["AAPL", "BRK.B", "META"]}
    assert len(rows) == 4


def test_errors_named_in_the_pages_exist():
    named = {word for text in DOCS.values() for word in re.findall(r"`([A-Z]\w+Error|Throttled|CircuitOpen)`", text)}
    table = re.findall(r"^\|[^|]*\| ([^|]*) \|", DOCS["docs/reference/errors.md"].split("## Retries")[0], re.MULTILINE)
    named |= {word for cell in table for word in re.findall(r"`(\w+)`", cell)}
    assert len(named) > 10
    assert all(hasattr(errors, name) for name in named)


@pytest.mark.parametrize("name", sorted(DOCS))
def test_every_page_can_be_reached_from_the_readme(name):
    linking = {link for page, text in DOCS.items() if page != name for link in re.findall(r"\]\(([^)#]+)", text)}
    named = any(f"`{name}`" in text for text in DOCS.values())
    assert name == "README.md" or named or any(link.endswith(name.rpartition("/")[2]) for link in linking)


@pytest.mark.parametrize("name", [name for name in DOCS if re.match(r"docs/adr/\d", name)])
def test_decisions_say_what_violates_them(name):
    parts = [DOCS[name].find(part) for part in ("**Decision.**", "**Why.**", "**A change violates this decision when**\n\n* ")]
    assert parts == sorted(parts)
    assert parts[0] > 0
    assert name.rpartition("/")[2] in DOCS["docs/adr/README.md"]


def test_readme_is_short():
    assert len(DOCS["README.md"].splitlines()) < 120


@pytest.mark.parametrize("name", ["README.md", "docs/tasks/read-the-lake.md"])
def test_python_reads_the_lake(name, folder_lake, monkeypatch):
    root, closes = folder_lake
    monkeypatch.setenv("MARKET_DATA_LAKE", f"file://{root}")
    (code,) = [text for page, language, text in BLOCKS if (page, language) == (name, "python")]
    namespace = {}
    exec(compile(code, name, "exec"), namespace)
    bars = pd.DataFrame(namespace["bars"].to_pandas() if isinstance(namespace["bars"], pa.Table) else namespace["bars"])
    found = bars[(bars["symbol"] == "AAPL") & (bars["session"].astype(str) > "2024-01-01")]
    assert sorted(found["close"]) == sorted(closes.values())


def test_commands_shown_are_those_of_the_program():
    main = pytest.importorskip("market_data.cli.main")
    (commands,) = [action for action in main.parser()._actions if action.choices and action.required]
    table = re.findall(r"^\| `market-data ([\w-]+)` \|", DOCS["docs/reference/commands.md"], re.MULTILINE)
    assert set(commands.choices) == set(table)
    for line in [line for _, line in SHELL if line.startswith("market-data ")]:
        if line.split()[1] in commands.choices:
            assert main.parser().parse_args(shlex.split(line)[1:]).run, line


def test_oracle_container_has_the_user_of_the_commands():
    lines = [shlex.split(line) for name, line in SHELL if "docker" in line or "ORACLE_TEST" in line]
    (file,) = {words[words.index("-f") + 1] for words in lines if words[:2] == ["docker", "compose"]}
    service = yaml.safe_load((PROJECT / file).read_text())["services"]["oracle"]
    users = [
        dict(word.split("=", 1) for word in words if word.startswith("ORACLE_TEST_")) for words in lines if words[0] != "docker"
    ]
    assert len(users) == 2
    for user in users:
        assert user["ORACLE_TEST_USER"] == service["environment"]["APP_USER"]
        assert user["ORACLE_TEST_PASSWORD"] == service["environment"]["APP_USER_PASSWORD"]
        assert f"127.0.0.1:{user['ORACLE_TEST_DSN'].split(':')[1].split('/')[0]}:1521" in service["ports"]
