"""``market-data check-config`` and ``market-data bootstrap``: check and prepare a deployment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from market_data.cli.deployment import Deployment, Item, Registry
from market_data.config.feeds import Feed, load_alerts, load_feeds
from market_data.config.yaml_file import read_yaml
from market_data.core import calendar, settings
from market_data.core.errors import ConfigError, MarketDataError
from market_data.core.paths import settings_file
from market_data.http.call_state import Rules
from market_data.http.limiter import apart

if TYPE_CHECKING:
    from market_data.providers.base import ProviderHook

WAREHOUSE, S3 = "warehouse_default", "aws_default"
POOL = "warehouse"


@dataclass(frozen=True)
class Finding:
    """One line of ``check-config``.

    :param fix: what to do; empty where nothing is wrong.
    """

    what: str
    state: str
    fix: str = ""

    @property
    def ok(self) -> bool:
        return not self.fix


def wanted() -> dict[str, dict[str, Item]]:
    """Return the ``connections`` and ``pools`` of ``airflow_settings.yaml`` by name.

    :raises ConfigError: the file cannot be read.
    """
    path = settings_file()
    try:
        found = read_yaml(path)["airflow"]
        return {
            "connections": {item["conn_id"]: item for item in found["connections"] or ()},
            "pools": {item["pool_name"]: item for item in found["pools"] or ()},
        }
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {type(error).__name__}: {error}") from None


def bootstrap(registry: Registry) -> list[str]:
    """Create the pools and connections that are missing; what exists stays as it is.

    :return: what was created, e.g. ``pool polygon_api``.
    """
    entries, created = wanted(), []
    pools, connections = set(registry.pools()), set(registry.connections())
    for name, item in entries["pools"].items():
        if name not in pools:
            registry.add_pool(item)
            created.append(f"pool {name}")
    for name, item in entries["connections"].items():
        if name not in connections:
            registry.add_connection(item)
            created.append(f"connection {name}")
    return created


def check(deployment: Deployment, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield a finding per environment variable that is set, feed, connection and pool. Makes no API calls."""
    yield from _environment(environ)
    try:
        feeds = load_feeds()
    except MarketDataError as error:
        yield Finding("feeds", str(error), "correct feeds.yaml")
        return
    yield Finding("feeds", f"{len(feeds)} enabled")
    try:
        registry = deployment.registry()
        pools, connections = set(registry.pools()), set(registry.connections())
    except MarketDataError as error:
        yield Finding("airflow", str(error), "run the command where Airflow runs, or set its database in the environment")
        return
    for pool in dict.fromkeys([*(feed.pool for feed in feeds), POOL]):
        yield Finding(f"pool {pool}", "exists") if pool in pools else Finding(f"pool {pool}", "missing", BOOTSTRAP)
    needed = [S3] if settings.value("MARKET_DATA_LAKE", environ).startswith("s3://") else []
    for conn_id in [WAREHOUSE, *needed]:
        if conn_id not in connections:
            yield Finding(f"connection {conn_id}", "missing", BOOTSTRAP)
    if WAREHOUSE in connections:
        yield _attempt(f"connection {WAREHOUSE}", deployment.warehouse)
    for feed in feeds:
        yield _feed(feed, deployment, connections)
    present = [feed for feed in feeds if feed.conn_id in connections]
    yield from _limits(present, deployment)
    yield from _hosts(present, deployment)
    for notifier in load_alerts().notifiers:
        what = f"notifier {notifier.name}"
        if notifier.connection and notifier.connection not in connections:
            yield Finding(what, f"connection {notifier.connection} is missing", "create it in Admin > Connections")
        else:
            yield _attempt(what, partial(deployment.check_notifier, notifier), "correct alerts.notifiers in feeds.yaml")


BOOTSTRAP = "market-data bootstrap creates it"


def _feed(feed: Feed, deployment: Deployment, connections: set[str]) -> Finding:
    what = f"feed {feed.dag_id}"
    if feed.conn_id not in connections:
        return Finding(what, f"connection {feed.conn_id} is missing", BOOTSTRAP)
    return _attempt(what, lambda: deployment.hook(feed.provider, feed.conn_id, feed.options).validate_config())


def _limits(feeds: Sequence[Feed], deployment: Deployment) -> Iterator[Finding]:
    """Yield a finding per connection whose limits are on a server: they are read once."""
    for conn_id, feed in {feed.conn_id: feed for feed in feeds}.items():
        try:
            config = deployment.hook(feed.provider, conn_id, feed.options).config
            limiter = config.limiter(conn_id, Rules())
        except MarketDataError:  # the feed's own line says it
            continue
        if config.limit_store is not None:
            yield _attempt(
                f"rate limits of connection {conn_id}", limiter.store.read, "correct the limiter's connection, see its server"
            )
            config.close()


def _hosts(feeds: Sequence[Feed], deployment: Deployment) -> Iterator[Finding]:
    """Yield a finding per pool that several hosts share, each with limits of its own."""
    for pool in dict.fromkeys(feed.pool for feed in feeds):
        try:
            hooks = {feed.dag_id: deployment.hook(feed.provider, feed.conn_id, feed.options) for feed in feeds if feed.pool == pool}
            alone = {name: _longest_window(hook) for name, hook in hooks.items() if hook.config.limit_store is None}
            hosts = deployment.hosts(pool, max(alone.values())) if alone else ()
        except MarketDataError:  # the feed's own line says it
            continue
        if wrong := apart(sorted(hosts)):
            said, _, fix = wrong.partition(". To do: ")
            yield Finding(f"rate limits of pool {pool}", f"{said} (feeds {', '.join(alone)})", fix)


def _longest_window(hook: ProviderHook) -> float:
    """Return the seconds of the account's longest window.

    0 if the quota in the connection is wrong: the feed's own line says it.
    """
    try:
        return hook.quota.longest_window
    except (KeyError, TypeError, ValueError):
        return 0.0


def _attempt(what: str, step: Any, fix: str = "correct the connection in Admin > Connections") -> Finding:
    try:
        step()
    except MarketDataError as error:
        return Finding(what, str(error), fix)
    return Finding(what, "valid")


def _environment(environ: Mapping[str, str]) -> Iterator[Finding]:
    for name in sorted(environ):
        if name.startswith("MARKET_DATA_") and name not in settings.BY_NAME:
            yield Finding(f"variable {name}", "unknown", "see market-data config for the known ones")
    try:
        calendar.extra_closures()
    except MarketDataError as error:
        yield Finding("variable MARKET_DATA_EXTRA_CLOSURES", str(error), "correct the variable")
    for setting in settings.SETTINGS:
        if environ.get(setting.name) and setting.used_by != "make":
            yield Finding(f"variable {setting.name}", settings.shown(setting, environ))
