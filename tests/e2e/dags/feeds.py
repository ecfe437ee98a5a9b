"""The project's own Airflow DAGs, one of them with a fallback."""

from dataclasses import replace

from market_data.airflow.dag import build_dag
from market_data.config.feeds import load_feeds

for feed in load_feeds():
    dag = build_dag(replace(feed, fallback="alpaca") if feed.dag_id == "polygon_ohlcv_1m" else feed)
    globals()[dag.dag_id] = dag
