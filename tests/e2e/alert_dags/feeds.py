"""The project's own DAGs, and a `watch_feeds` that looks every five seconds."""

from datetime import timedelta

from market_data.airflow.dag import build_dag
from market_data.airflow.maintain import watch
from market_data.config.feeds import load_feeds

watch.EVERY_FIVE_MINUTES = timedelta(seconds=5)
for dag in [*map(build_dag, load_feeds()), watch.watch_feeds()]:
    globals()[dag.dag_id] = dag
