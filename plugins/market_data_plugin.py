"""Register the plugin for Airflow's ``plugins`` folder.

An installed package registers the plugin by an entry point. Airflow's home page reports a plugin that is registered twice as an
error, so this file registers it only where the package is not installed.
"""

from importlib.metadata import entry_points

from market_data.airflow import plugin

if not entry_points(group="airflow.plugins", name="market_data"):
    MarketDataPlugin = plugin.MarketDataPlugin
