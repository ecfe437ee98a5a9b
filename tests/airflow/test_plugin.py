"""The plugin is registered once: by the plugins folder alone, by the installed package alone, or by both."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SCRIPT = """
import importlib.metadata
import importlib_metadata  # read by Airflow on Python 3.11

def only_the_tests(find):  # not the project that the environment may have installed
    return lambda **given: (each for each in find(**given) if each.name != "airflow-market-data" or each.version == "0")

for metadata in (importlib.metadata, importlib_metadata):
    metadata.distributions = only_the_tests(metadata.distributions)
from airflow import plugins_manager
plugins, errors = plugins_manager._get_plugins()
print([plugin.name for plugin in plugins], [error for error in errors.values() if "market_data" in error])
"""
ENTRY_POINTS = "[airflow.plugins]\nmarket_data = market_data.airflow.plugin:MarketDataPlugin\n"


@pytest.mark.parametrize(("folder", "installed"), [(True, False), (False, True), (True, True)])
def test_the_plugin_is_registered_once(tmp_path, folder, installed):
    info = tmp_path / "site" / "airflow_market_data-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: airflow-market-data\nVersion: 0\n")
    if installed:
        (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "plugins").mkdir()
    environ = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins" if folder else tmp_path / "plugins"),
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(PROJECT / "plugins"), str(PROJECT)]),
    }
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environ, capture_output=True, text=True, check=False)
    assert done.stdout.strip().splitlines()[-1:] == ["['market_data'] []"], done.stdout + done.stderr
