"""To be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from market_data.warehouse import WarehouseConnection


@contextmanager
def empty_database(folder: Path) -> Iterator[WarehouseConnection]:
    pytest.skip("not there yet")
    yield WarehouseConnection("postgres")
