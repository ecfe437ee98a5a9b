"""The provider account of a feed, as its connection describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from market_data.airflow.connections import provider_config
from market_data.core.errors import ConfigError
from market_data.core.messages import dollars
from market_data.providers.registry import provider
from market_data.views.feeds import daily_limit, quota_text

if TYPE_CHECKING:
    from market_data.config.feeds import Feed


def account(feed: Feed) -> dict[str, Any]:
    """Return quota and cap of a feed's connection, or what is wrong with it; never a secret.

    ``shared``: False where each host keeps limits of its own.

    No call is made, and no client is opened.
    """
    head = {
        "connection": feed.conn_id,
        "problem": "",
        "quota": "",
        "daily_limit": None,
        "charges": False,
        "cap": "",
        "shared": True,
        "longest_window": 0.0,
    }
    try:
        kind, config = provider(feed.provider), provider_config(feed.conn_id)
        hook = kind(config, options=feed.options, connections=provider_config, retry=feed.retry)
        hook.validate_config()
        cap = hook.option("max_cost_usd") if "max_cost_usd" in hook.known_options else None
        quota = {
            "quota": quota_text(hook.quota),
            "daily_limit": daily_limit(hook.quota),
            "longest_window": hook.quota.longest_window,
        }
    except ConfigError as error:
        return {**head, "problem": str(error)}
    shared = config.limit_store is not None
    return {**head, **quota, "charges": hook.spec.charges, "cap": "" if cap is None else dollars(cap), "shared": shared}
