"""Import in the driver what the tasks need, once: the processes that it forks have all of it, and the collector leaves it alone."""

import gc
import os
import pkgutil
from importlib import import_module

import market_data
from market_data.quality import great_expectations

LIBRARIES = (
    *("duckdb", "obstore.store", "psycopg", "oracledb", "boto3", "ib_async", "databento", "multiprocessing.synchronize"),
    *("great_expectations.core.batch", "great_expectations.validator.validator", "great_expectations.expectations.core"),
    *("pyarrow.dataset", "pyarrow.pandas_compat", "pyarrow.parquet"),
    *("airflow.providers.postgres.hooks.postgres", "airflow.providers.oracle.hooks.oracle"),
)
OTHERS = ("airflow", "cli", "views")
"""Rooms that no task of a campaign enters, beyond what the campaign itself imports."""


def preload() -> None:
    """Import them. A child that looked for garbage among a million objects would copy all of their memory first."""
    great_expectations.library()
    for name in LIBRARIES:
        import_module(name)
    for found in pkgutil.walk_packages(market_data.__path__, "market_data."):
        if found.name.split(".")[1] not in OTHERS:
            import_module(found.name)
    os.environ.update(AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b")
    gc.collect()
    gc.freeze()
