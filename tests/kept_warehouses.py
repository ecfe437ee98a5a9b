"""A stand-in for DuckDB's sessions that opens each file once in a test; it serves tests about runs.

A run opens its warehouse six times, which takes longer than its statements. The warehouse's own tests open it each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import duckdb

from market_data.warehouse.duckdb import CONFIG, DuckDBWarehouse

Session = Callable[..., AbstractContextManager[None]]


class KeptWarehouses:
    """The files that stay open until `close`.

    :param session: opens a file that no test has written yet.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._kept: dict[Path, tuple[int, duckdb.DuckDBPyConnection]] = {}

    def close(self) -> None:
        for path in [*self._kept]:
            self._kept.pop(path)[1].close()

    @contextmanager
    def session(self, warehouse: DuckDBWarehouse, *, write: bool) -> Iterator[None]:
        """Run the statements inside on a connection of their own, as temporary tables demand."""
        path = warehouse.path
        if path in self._kept and (not path.exists() or path.stat().st_ino != self._kept[path][0]):
            self._kept.pop(path)[1].close()  # the test has replaced the file
        if path not in self._kept:
            if not write:
                with self._session(warehouse, write=False):
                    yield
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = duckdb.connect(path, config={**CONFIG})
            self._kept[path] = path.stat().st_ino, connection
        warehouse._open = self._kept[path][1].cursor()
        try:
            yield
        finally:
            warehouse._open.close()
            warehouse._open = None
