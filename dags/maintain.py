"""The maintenance DAGs: each runs one job on the lake and the warehouse.

They fetch nothing before a person has seen what it costs.
"""

from airflow.sdk import get_parsing_context

from market_data.airflow.maintain import JOBS

# A task's process makes its own DAG only. Airflow parses only files that name both "airflow" and "dag".
own = get_parsing_context().dag_id
for name, build in JOBS.items():
    if own in (None, name):
        globals()[name] = build()
