"""Load runs: large runs through the whole DAG of a real Airflow, with exact rows, calls, objects and peak memory."""
