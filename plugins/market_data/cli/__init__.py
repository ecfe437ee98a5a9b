"""The command ``market-data``. It does not import Airflow.

``market_data.airflow.command`` passes the deployment in.
"""
