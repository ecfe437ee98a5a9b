"""The project's own maintenance DAGs, for Airflow."""

from market_data.airflow.maintain import JOBS

for name, build in JOBS.items():
    globals()[name] = build()
