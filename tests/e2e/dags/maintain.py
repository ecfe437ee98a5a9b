"""The project's own maintenance DAGs, for Airflow."""

from market_data.airflow.maintain import JOBS

for build in JOBS:
    dag = build()
    globals()[dag.dag_id] = dag
