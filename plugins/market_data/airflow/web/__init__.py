"""The pages inside Airflow: a FastAPI app that the api-server mounts at ``/market-data``."""
