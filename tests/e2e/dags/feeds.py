"""The project's own Airflow DAGs, with several runs at once, which the project's do not allow."""

from market_data.feeds import load_feeds
from market_data.operators import build_dag

for feed in load_feeds():
    dag = build_dag(feed)
    dag.max_active_runs = 4
    globals()[dag.dag_id] = dag
