"""Links on the page of a task instance: the run's report, its Data Docs and the lake.

Airflow calls `get_link` in the API server, also for tasks that have not run. It hides a link whose address is empty.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

from market_data.airflow.connections import lake_url, s3_endpoint
from market_data.airflow.web.mount import root
from market_data.airflow.xcoms import value_of
from market_data.core.errors import MarketDataError
from market_data.core.paths import PAGES

if TYPE_CHECKING:
    from airflow.sdk.types import TaskInstanceKey

log = logging.getLogger(__name__)

TAG = "market-data"
CONSOLE = "https://console.aws.amazon.com/s3"


class LakeLink(BaseOperatorLink):
    """The lake as a folder."""

    name = "Lake"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - Airflow's signature
        """Return the address of the lake; empty for DAGs of others, and if no browser opens it."""
        return _address_of("") if is_ours(operator) else ""


class ReportLink(BaseOperatorLink):
    """The report of the run; none before ``publish`` has run."""

    name = "Run report"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Return the address of the report of the run; empty if there is none."""
        return _result_link(operator, ti_key, "publish", "report")


class DataDocsLink(BaseOperatorLink):
    """Great Expectations' pages of the run; none unless the run has the param ``data_docs``."""

    name = "Data Docs"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Return the address of the Data Docs of the run; empty if there are none."""
        return _result_link(operator, ti_key, "check", "data_docs")


class RunPageLink(BaseOperatorLink):
    """The page *Run*: progress, verdict and what to do."""

    name = "Run in Market data"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Return the address of the run's page; empty for DAGs of others."""
        query = f"dag_id={quote(ti_key.dag_id, safe='')}&run_id={quote(ti_key.run_id, safe='')}"
        return f"{root()}{PAGES}/run?{query}" if is_ours(operator) else ""


LINKS = (RunPageLink(), ReportLink(), DataDocsLink(), LakeLink())


def is_ours(operator: Any) -> bool:
    """Return True for a task of this project's DAGs."""
    dag = operator.get_dag()
    return dag is not None and TAG in dag.tags


def object_address(lake: str, key: str, endpoint: str | None) -> str:
    """Return the address at which a browser shows an object, or a folder if ``key`` is empty.

    :param lake: URL of the lake.
    :param endpoint: the S3 server; None: AWS, whose console is linked.
    :return: empty for a lake in a folder, which browsers do not open from a web page.
    """
    if not lake.startswith("s3://"):
        return ""
    bucket, _, prefix = lake.removeprefix("s3://").strip("/").partition("/")
    path = "/".join(filter(None, (prefix, key)))
    if endpoint:
        return "/".join(filter(None, (endpoint.rstrip("/"), bucket, quote(path))))
    kind = "object" if key else "buckets"
    return f"{CONSOLE}/{kind}/{quote(bucket)}?prefix={quote(path if key else f'{path}/' if path else '', safe='')}"


def _address_of(key: str) -> str:
    lake = lake_url()
    try:
        endpoint = s3_endpoint("aws_default") if lake.startswith("s3://") else None
    except MarketDataError as error:  # a task that needs the connection reports it
        log.warning("no link to the lake: %s", error)
        return ""
    return object_address(lake, key, endpoint)


def _result_link(operator: Any, ti_key: TaskInstanceKey, task_id: str, name: str) -> str:
    key = _result(ti_key, task_id).get(name) if is_ours(operator) else None
    return _address_of(key) if key and isinstance(key, str) else ""


def _result(ti_key: TaskInstanceKey, task_id: str) -> dict[str, Any]:
    """Return what a task of the same run has returned; empty if it has not run."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    wanted = select(XComModel.value).where(
        XComModel.dag_id == ti_key.dag_id, XComModel.run_id == ti_key.run_id, XComModel.task_id == task_id,
        XComModel.key == "return_value", XComModel.map_index == -1,
    )  # fmt: skip
    with create_session() as session:
        row = session.execute(wanted).first()
    found = value_of(row) if row else None
    return found if isinstance(found, dict) else {}
