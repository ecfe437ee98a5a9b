"""Run the steps after ``plan`` in this process: fetch batch by batch, check, load, publish."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from market_data.core.errors import MarketDataError
from market_data.core.outcome import Receipt
from market_data.pipeline.check import check_run
from market_data.pipeline.fetch import fetch_batch
from market_data.pipeline.leftovers import has_leftovers
from market_data.pipeline.load import load_run
from market_data.pipeline.planned import Planned
from market_data.pipeline.publish import publish_run
from market_data.pipeline.run_context import RunContext
from market_data.pipeline.run_result import RunResult

if TYPE_CHECKING:
    from market_data.providers.base import ProviderHook
    from market_data.warehouse.base import Warehouse

log = logging.getLogger(__name__)


def run_in_process(
    context: RunContext,
    hook: ProviderHook,
    planned: Planned,
    warehouse: Callable[[], AbstractContextManager[Warehouse]],
    now: Callable[[], datetime],
) -> Mapping[str, Any] | None:
    """Fetch, check, load and publish a plan as the tasks of a feed do. The hook's rate limits hold.

    A batch that fails is reported as failed; the rest continue.

    :param warehouse: opens the warehouse; it is closed while batches are fetched.
    :return: as ``publish_run``; None where nothing was planned and nothing waits in staging.
    """
    batches, receipts, errors = list(planned.plan.batches), list[Receipt](), dict[str, str]()
    for number, batch in enumerate(batches):
        try:
            receipts.append(fetch_batch(context, hook, batch, now))
            log.info("batch %d of %d: %s", number + 1, len(batches), batch.label)
        except MarketDataError as error:
            errors[batch.id] = f"{type(error).__name__}: {error}"
            log.warning("batch %s failed: %s", batch.label, error)
    if not batches and not has_leftovers(context, batches):
        return None
    checked = loaded = None
    if receipts or has_leftovers(context, batches):
        with warehouse() as opened:
            checked = check_run(context, batches, receipts, opened)
            log.info("%s", checked["table"])
            loaded = load_run(context, checked, opened)
    return publish_run(context, RunResult(batches, receipts, errors, checked, loaded, planned.summary), now())
