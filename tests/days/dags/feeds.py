"""Two Airflow DAGs of the project with few symbols and no retries, for the movable clock."""

from dataclasses import replace

from market_data.airflow.dag import build_dag
from market_data.config.feeds import load_feeds

DAG_IDS = ("polygon_ohlcv_1d", "alpaca_ohlcv_1d")

for feed in load_feeds():
    if feed.dag_id in DAG_IDS:
        dag = build_dag(replace(feed, universe="dow30", params={**feed.params, "max_retries": 0}))
        globals()[dag.dag_id] = dag
