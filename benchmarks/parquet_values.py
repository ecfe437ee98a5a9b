"""Read back what a stack wrote, whatever names and types it gave the columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

NAMES: Mapping[str, tuple[str, ...]] = {
    "symbol": ("symbol",),
    "minute": ("bar_time", "timestamp", "ts_event", "t"),
    **{name: (name, name[0]) for name in ("open", "high", "low", "close", "volume")},
}
"""Column -> the names that stacks give it."""


@dataclass(frozen=True, slots=True)
class Values:
    """All rows of a folder of Parquet files.

    :param distinct: different pairs of symbol and minute.
    :param checksum: of symbol, minute, prices and volume of all rows in any order; 16 hexadecimal digits.
    """

    rows: int
    distinct: int
    checksum: str
    files: int
    bytes: int

    def same_rows(self, other: Values) -> bool:
        """Return true if both have the same rows with the same values."""
        return (self.rows, self.distinct, self.checksum) == (other.rows, other.distinct, other.checksum)


def read_values(folder: Path) -> Values:
    """Return what the Parquet files below ``folder`` hold.

    :raises ValueError: if there is none, or a column is not found.
    """
    files = sorted(folder.rglob("*.parquet"))
    if not files:
        raise ValueError(f"no Parquet file below {folder}")
    # A folder symbol=A/ holds the symbol only where the file has no such column.
    source = f"read_parquet({[str(path) for path in files]}, hive_partitioning = true, hive_types_autocast = false)"
    with duckdb.connect() as connection:
        types = {name: kind for name, kind, *_ in connection.sql(f"DESCRIBE SELECT * FROM {source}").fetchall()}
        found = {name: next((one for one in names if one in types), "") for name, names in NAMES.items()}
        if lacking := [name for name, column in found.items() if not column]:
            raise ValueError(f"{folder} lacks columns: {', '.join(lacking)}; it has {', '.join(types)}")
        moment, prices = (
            _minute(found["minute"], types),
            [_scaled(found[name], 10_000) for name in ("open", "high", "low", "close")],
        )
        values = ", ".join(["symbol", moment, *prices, _scaled(found["volume"], 1)])
        rows, distinct, total = connection.sql(
            f"SELECT count(*), count(DISTINCT (symbol, {moment})), sum(hash({values})::HUGEINT) % 18446744073709551616 FROM {source}"
        ).fetchall()[0]
    return Values(rows, distinct, f"{int(total or 0):016x}", len(files), sum(path.stat().st_size for path in files))


def _minute(column: str, types: Mapping[str, str]) -> str:
    """Return an expression for seconds since 1970: milliseconds, text or a moment become the same number."""
    if types[column] == "BIGINT":
        return f'"{column}" // 1000'
    return f'epoch("{column}"::TIMESTAMPTZ)::BIGINT'


def _scaled(column: str, factor: int) -> str:
    return f'round("{column}" * {factor})::BIGINT'
