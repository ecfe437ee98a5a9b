"""Register the plugin for Airflow's ``plugins`` folder.

An installed package registers the same plugin; Airflow loads it once.
"""

from market_data.airflow.plugin import MarketDataPlugin

__all__ = ["MarketDataPlugin"]
