"""Market data from provider APIs into a lake and a warehouse.

Importable as ``market_data`` because Airflow puts ``plugins/`` on ``sys.path``. Nothing is imported here: every Airflow
component imports this package, and what it does not need it should not pay for.
"""
