"""What a dataset is: its columns, key, lake folder, table."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Dataset:
    """A kind of market data.

    :param name: the field's schema name, e.g. ``ohlcv-1d``.
    :param timeframe: ``1d``, ``5m``, ``1m``.
    :param folder: the lake's folder below the raw prefix.
    :param received: columns of what a hook returns: what the provider said, normalised.
    :param schema: columns of a lake file: ``received`` plus timeframe, provider and ingest_ts.
    :param key: columns that identify a row within a provider.
    :param values: columns that a restatement can change; equal values mean no change.
    :param table: the warehouse tables are ``bronze_{table}`` and ``silver_{table}``.
    """

    name: str
    timeframe: str
    folder: str
    received: pa.Schema
    schema: pa.Schema
    key: tuple[str, ...]
    values: tuple[str, ...]
    table: str
