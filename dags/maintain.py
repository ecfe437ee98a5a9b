"""The maintenance DAGs: each runs one job on the lake and the warehouse.

They fetch nothing before a person has seen what it costs.
"""

from market_data.airflow.maintain import JOBS

# Airflow parses only files that name both "airflow" and "dag".
for build in JOBS:
    dag = build()
    globals()[dag.dag_id] = dag
