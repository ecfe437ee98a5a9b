"""Large runs through the whole DAG of a real Airflow: exact rows, calls, objects, and peak memory."""
