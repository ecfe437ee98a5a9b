"""The table of environment variables: complete, in the docs, and the only code that reads them."""

import ast
from pathlib import Path

import pytest

from market_data.cli.main import markdown
from market_data.core import settings

PROJECT = Path(__file__).resolve().parents[2]
PLUGINS = PROJECT / "plugins"
GX_TOLD_TO_BE_QUIET = {"quality/great_expectations.py"}
"""Sets a variable of Great Expectations, reads none."""


def environment_users(package):
    """List the files of ``package`` that touch the process's environment."""
    found = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            named = isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"}
            imported = (
                isinstance(node, ast.ImportFrom) and node.module == "os" and {a.name for a in node.names} & {"environ", "getenv"}
            )
            if named or imported:
                found.add(str(path.relative_to(package)))
    return found


def test_nothing_else_reads_the_environment():
    assert environment_users(PLUGINS / "market_data") - GX_TOLD_TO_BE_QUIET == {"core/settings.py"}


@pytest.mark.parametrize("line", ["import os\nos.environ.get('X')", "import os\nos.getenv('X')", "from os import environ as e"])
def test_a_planted_read_is_found(tmp_path, line):
    (tmp_path / "planted.py").write_text(line)
    assert environment_users(tmp_path) == {"planted.py"}


def test_the_page_in_the_docs_is_the_table():
    assert (PROJECT / "docs" / "reference" / "settings.md").read_text() == markdown()


def test_the_stacks_ports_are_the_tables():
    from sandbox.stack.environment import PORT_VARIABLES, Ports

    assert {variable: str(getattr(Ports(), field)) for field, variable in PORT_VARIABLES.items()} == {
        variable: settings.BY_NAME[variable].default for variable in PORT_VARIABLES.values()
    }


def test_unset_and_empty_give_the_default():
    assert settings.value("RAW_PREFIX", {}) == settings.value("RAW_PREFIX", {"RAW_PREFIX": ""}) == "raw"
    assert settings.value("RAW_PREFIX", {"RAW_PREFIX": "other"}) == "other"


def test_variables_outside_the_table_cannot_be_read():
    with pytest.raises(KeyError):
        settings.value("MARKET_DATA_NOPE")
    with pytest.raises(KeyError):
        settings.foreign("MARKET_DATA_LAKE")


def test_secrets_are_never_shown():
    (secret,) = [setting for setting in settings.SETTINGS if setting.secret]
    assert settings.shown(secret, {secret.name: "hunter2"}) == "set"
    assert settings.shown(secret, {}) == ""
