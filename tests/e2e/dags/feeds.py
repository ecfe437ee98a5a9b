"""The project's own Airflow DAGs, with several runs at once, which the project's do not allow, and one with a fallback."""

from dataclasses import replace

from market_data.airflow.dag import build_dag
from market_data.config.feeds import load_feeds

for feed in load_feeds():
    dag = build_dag(replace(feed, fallback="alpaca") if feed.dag_id == "polygon_ohlcv_1m" else feed)
    dag.max_active_runs = 4
    globals()[dag.dag_id] = dag
