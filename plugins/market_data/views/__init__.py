"""What the pages show, as plain values: read from lake, ledger, configuration and reports, without Airflow."""
