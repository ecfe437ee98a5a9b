"""Look after lake and warehouse, without Airflow: audit, repair, reset, release, compact, adopt.

Each job is a function that shows first (``dry_run``) and then acts. A DAG of ``dags/maintain.py`` and a command of ``market-data`` call the
same function. The journal keeps every decision of a person and everything that a job deletes or overrules.
"""
