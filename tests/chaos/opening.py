"""What a process of a campaign opens: the lake, the warehouse, the provider's hook."""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from market_data.airflow.warehouse_connections import open_with_hooks
from market_data.config.feeds import Feed
from market_data.http.limiter import Store
from market_data.http.postgres_store import PostgresServer
from market_data.http.redis_store import RedisServer
from market_data.lake.s3 import S3Access
from market_data.lake.store import Lake
from market_data.providers.base import ProviderConfig
from market_data.providers.registry import provider
from market_data.warehouse import WarehouseConnection
from market_data.warehouse.base import Warehouse
from tests.chaos.draw import Campaign
from tests.chaos.servers import KEY, Host
from tests.chaos.store_faults import S3_TIMEOUT

DEADLINES = (1.5, 30.0)
"""Seconds for a call, while the vendor fails and else."""


@dataclass
class Opening:
    """Opens what the campaign has drawn.

    :param folder: of the campaign.
    """

    campaign: Campaign
    folder: Path
    feed: Feed
    addresses: dict[str, Any]
    warehouse_connection: WarehouseConnection

    @classmethod
    def of(cls, campaign: Campaign, folder: Path, feed: Feed, host: Host, now: datetime) -> "Opening":
        """Start the campaign's servers."""
        addresses = host.begin(now, campaign.engine, campaign.limiter)
        found = addresses["warehouse"]
        if found is None:
            found = WarehouseConnection("duckdb", extra={"path": f"{folder}/warehouse.duckdb", "lock_timeout": 30})
        elif campaign.engine == "postgres":
            found = replace(found, port=host.proxy_port(), extra={**found.extra, "lock_timeout": 30})
        return cls(campaign, folder, feed, addresses, found)

    @property
    def bucket(self) -> str:
        return f"lake-{Path(self.folder).name.lower().replace('_', '-')}"

    def prepare(self) -> None:
        """Make the bucket and the tables."""
        if self.campaign.store == "s3":
            import boto3

            boto3.client("s3", endpoint_url=self.addresses["s3"], region_name="us-east-1").create_bucket(Bucket=self.bucket)
        if self.campaign.engine != "duckdb":
            with self.warehouse() as warehouse:
                warehouse.migrate()

    def lake(self) -> Lake:
        if self.campaign.store == "file":
            return Lake.open(f"file://{self.folder}/lake")
        return Lake.open(f"s3://{self.bucket}/some/prefix", S3Access(self.addresses["s3"], timeouts=(S3_TIMEOUT, S3_TIMEOUT)))

    def warehouse(self) -> Warehouse:
        return open_with_hooks(self.warehouse_connection)

    def hook(self, now: Any, *, hurried: bool, limited: bool = True) -> Any:
        """Return the hook of the feed, connected.

        :param now: returns the present moment. ``hurried``: calls have a short deadline. ``limited``: the account has its limit.
        """
        url, name = self.addresses["api"], self.feed.provider
        configs: dict[str, dict[str, str]] = {
            "polygon": {"base_url": url, "password": KEY},
            "alpaca": {"base_url": f"{url}/alpaca", "login": "sample", "password": KEY},
            "fmp": {"base_url": f"{url}/fmp", "password": KEY},
            "databento": {"base_url": f"{url}/databento", "password": f"db-{KEY}"},
            "ib": {"base_url": self.addresses["gateway"]},
        }
        calls, seconds = self.campaign.limit
        extra: dict[str, Any] = {"plan": "sample", "calls_per_minute_per_slot": 60_000}
        extra["limits"] = [{"calls": calls if limited else 10_000, "seconds": seconds}]
        extra |= {"client_id": 1} if name == "ib" else {}
        config = ProviderConfig(
            self.feed.conn_id, **configs[name], extra=extra, limit_store=self.limit_store() if limited else None
        )
        hook: Any = provider(name)(options=self.feed.options, config=config)
        hook.now = now
        hook.connect()
        for opened in (getattr(hook, "_transport", None), getattr(hook, "_link", None)):
            if opened is not None:
                opened.deadline = DEADLINES[0] if hurried else DEADLINES[1]
                opened.sleep = lambda seconds: None
        hook.sleep = lambda seconds: None
        return hook

    def limit_store(self) -> "Limits | None":
        """Return what opens the stores of the account's limit; None: files of this host."""
        return None if self.campaign.limiter == "file" else Limits(self.campaign.limiter, self.addresses["limits"])


@dataclass
class Limits:
    """The limits on a server of the campaign."""

    kind: str
    fields: Any

    def __post_init__(self) -> None:
        if self.kind == "redis":
            self.server: Any = RedisServer(self.fields, "limits")
        else:
            import psycopg

            self.server = PostgresServer(lambda: psycopg.connect(**self.fields), "limits")

    def __call__(self, account: str) -> Store:
        return self.server.store(account)  # type: ignore[no-any-return]

    def close(self) -> None:
        self.server.close()
