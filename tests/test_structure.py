"""Who may know whom, and what the parse of a DAG file may cost."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from market_data.feeds import load_feeds

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "plugins" / "market_data"

LAYERS = [
    {"types", "errors", "interval", "notes", "fields"},
    {"datasets", "calendar", "universe", "pacing", "transport"},
    {"plan", "hooks", "lake", "quality", "warehouse", "params", "feeds"},
    {"pipeline"},
    {"operators", "timetables"},
]
MAY_IMPORT_AIRFLOW = {
    "operators.py",
    "notes.py",
    "timetables.py",
    "hooks/base.py",
    "lake/store.py",
    "warehouse/oracle.py",
    "warehouse/postgres.py",
}
APART = [("hooks", "lake"), ("hooks", "warehouse"), ("lake", "hooks"), ("warehouse", "hooks")]
HEAVY = {"pandas", "pyarrow", "duckdb", "great_expectations", "oracledb", "obstore", "numpy", "scipy"}


def modules():
    return sorted(path for path in PACKAGE.rglob("*.py"))


def imports(path, *, typing=False):
    """Every module that a file imports, wherever in it; those under ``if TYPE_CHECKING`` only when asked for."""
    tree = ast.parse(path.read_text())
    hidden = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if not typing and id(node) in hidden:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def part(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def level(name):
    return next(number for number, layer in enumerate(LAYERS) if name in layer)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path):
    name = part(path)
    if name == "__init__":
        return
    known = {i.split(".")[1] for i in imports(path) if i.startswith("market_data.")} - {name}
    known = {other for other in known if (PACKAGE / other).exists() or (PACKAGE / f"{other}.py").exists()}
    assert {other for other in known if level(other) > level(name)} == set()
    assert [(a, b) for a, b in APART if name == a and b in known] == []
    assert not any(i.split(".")[0] == "dags" for i in imports(path))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_airflow_stays_at_the_edge(path):
    uses = any(i.split(".")[0] == "airflow" for i in imports(path, typing=True))
    assert not uses or str(path.relative_to(PACKAGE)) in MAY_IMPORT_AIRFLOW


def test_parsing_the_dags_imports_nothing_heavy():
    script = (
        "import sys; import airflow.sdk, airflow.timetables.base, yaml\n"
        "before = set(sys.modules)\n"
        "import dags.ingest as found\n"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})\n"
        "print(*[name for name in vars(found) if name not in ('dag', 'feed') and hasattr(vars(found)[name], 'dag_id')])\n"
    )
    path = f"{PROJECT}:{PROJECT / 'plugins'}"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded, dags = done.stdout.strip().splitlines()[-2:]
    assert HEAVY & set(loaded.split()) == set()
    assert set(dags.split()) == {feed.dag_id for feed in load_feeds()}


def test_settings_name_every_connection_and_pool_that_feeds_use():
    settings = yaml.safe_load((PROJECT / "airflow_settings.yaml").read_text())["airflow"]
    connections = {item["conn_id"] for item in settings["connections"]}
    pools = {item["pool_name"] for item in settings["pools"]}
    for feed in load_feeds():
        assert feed.conn_id in connections
        assert feed.pool in pools
    assert {"aws_default", "warehouse_default"} <= connections
    assert "warehouse" in pools
