"""Read what tasks returned, in a process with Airflow's database: the api-server."""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger(__name__)


def value_of(row: Any) -> Any:
    """Return the value of an XCom, read by ``[core] xcom_backend`` where that keeps it elsewhere.

    A value that the backend cannot read is returned as the database has it, such as the path of an object.

    :param row: a row of Airflow's table with the column ``value``.
    """
    from airflow.models.xcom import XComModel
    from airflow.sdk.bases.xcom import BaseXCom
    from airflow.sdk.execution_time.xcom import XCom

    found = XComModel.deserialize_value(row)
    if XCom is BaseXCom or not isinstance(found, str):
        return found
    try:
        return XCom.deserialize_value(row)
    except Exception as error:  # noqa: BLE001 - every backend and store has errors of its own
        log.warning("an XCom cannot be read from where [core] xcom_backend keeps it: %s", type(error).__name__)
        return found
