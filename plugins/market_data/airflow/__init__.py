"""The edge to Airflow: the only room that imports it."""
