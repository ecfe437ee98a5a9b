"""Who may know whom, and what the parse of a DAG file may cost."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from market_data.config.feeds import load_feeds

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "plugins" / "market_data"

BELOW = {
    "core": set(),
    "http": {"core"},
    "datasets": {"core"},
    **{room: {"core", "http", "datasets"} for room in ("providers", "lake", "quality", "warehouse")},
    "config": {"core", "http", "datasets", "providers", "lake", "quality", "warehouse"},
    "pipeline": {"core", "http", "datasets", "providers", "lake", "quality", "warehouse", "config"},
    "maintenance": {"core", "http", "datasets", "providers", "lake", "quality", "warehouse", "config", "pipeline"},
    "alerts": {"core", "http", "datasets", "providers", "lake", "quality", "warehouse", "config", "pipeline", "maintenance"},
    "api": {"core", "http", "datasets", "providers", "lake", "quality", "warehouse", "config", "pipeline", "maintenance"},
    "cli": {
        *("core", "http", "datasets", "providers", "lake", "quality", "warehouse", "config", "pipeline", "maintenance"),
        *("alerts", "api"),
    },
    "views": {"core", "http", "datasets", "providers", "lake", "quality", "warehouse", "config", "pipeline", "maintenance", "api"},
    "airflow": {
        *(
            "core",
            "http",
            "datasets",
            "providers",
            "lake",
            "quality",
            "warehouse",
            "config",
            "pipeline",
            "maintenance",
            "alerts",
            "api",
            "cli",
            "views",
        )
    },
}
"""Room -> the rooms that it may import, itself apart. There are no exceptions."""
SANDBOX_MAY_IMPORT = {"core", "datasets"}
HEAVY = {"pandas", "pyarrow", "duckdb", "great_expectations", "oracledb", "obstore", "numpy", "scipy"}


def imports(tree):
    """Yield every module that a file imports, wherever in it, those under ``if TYPE_CHECKING`` included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def module_of(path, package):
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def broken_arrows(package, sandbox=None):
    """List the imports of ``package`` (and of ``sandbox``) that no arrow allows, as ``file: module``."""
    found = []
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package)
        room = name.parts[0].removesuffix(".py")
        for module in set(imports(ast.parse(path.read_text()))):
            top, _, rest = module.partition(".")
            other = rest.partition(".")[0]
            outside = top in {"dags", "sandbox", "tests", "include"} or (top == "airflow" and room != "airflow")
            if outside or (top == package.name and other in BELOW and room in BELOW and other not in {room, *BELOW[room]}):
                found.append(f"{name}: {module}")
    for path in sorted(sandbox.rglob("*.py")) if sandbox else ():
        for module in set(imports(ast.parse(path.read_text()))):
            top, _, rest = module.partition(".")
            if top in {"dags", "tests"} or (top == package.name and rest and rest.partition(".")[0] not in SANDBOX_MAY_IMPORT):
                found.append(f"{path.relative_to(sandbox.parent)}: {module}")
    return found


def circles(package):
    """List the import circles between modules, hidden ones (in functions, under TYPE_CHECKING) included."""
    modules = {module_of(path, package): path for path in package.rglob("*.py")}
    graph = {
        name: {found for found in imports(ast.parse(path.read_text())) if found in modules and found != name}
        for name, path in modules.items()
    }
    return [sorted(part) for part in strongly_connected(graph) if len(part) > 1]


def strongly_connected(graph):
    """Yield the strongly connected parts of a graph (Tarjan, without recursion into depth beyond the graph's size)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            part = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            found.append(part)

    for node in graph:
        if node not in index:
            visit(node)
    return found


def test_every_room_has_its_place():
    rooms = {
        path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.name not in {"__init__.py", "__pycache__", "py.typed"}
    }
    assert rooms <= set(BELOW)


def test_imports_go_down_only():
    assert broken_arrows(PACKAGE, PROJECT / "sandbox") == []


def test_there_is_no_circle():
    assert circles(PACKAGE) == []


@pytest.mark.parametrize(
    ("room", "other"), [(room, other) for room in BELOW for other in BELOW if other not in {room, *BELOW[room]}]
)
def test_a_planted_import_against_an_arrow_is_found(tmp_path, room, other):
    package = tmp_path / "market_data"
    (package / room).mkdir(parents=True)
    (package / room / "planted.py").write_text(f"def f():\n    from market_data.{other}.x import y\n")
    assert {found.split(": ")[0] for found in broken_arrows(package)} == {f"{room}/planted.py"}


@pytest.mark.parametrize("room", [room for room in BELOW if room != "airflow"])
def test_a_planted_import_of_airflow_is_found(tmp_path, room):
    package = tmp_path / "market_data"
    (package / room).mkdir(parents=True)
    (package / room / "planted.py").write_text("import airflow.sdk\n")
    assert broken_arrows(package) == [f"{room}/planted.py: airflow.sdk"]


def test_a_planted_circle_under_type_checking_is_found(tmp_path):
    package = tmp_path / "market_data"
    package.mkdir()
    (package / "a.py").write_text("from market_data.b import y\n")
    (package / "b.py").write_text("if TYPE_CHECKING:\n    from market_data.a import x\n")
    assert circles(package) == [["market_data.a", "market_data.b"]]


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
