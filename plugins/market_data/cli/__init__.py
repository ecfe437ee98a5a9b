"""The command ``market-data``. It knows no Airflow: ``market_data.airflow.command`` hands the deployment in."""
