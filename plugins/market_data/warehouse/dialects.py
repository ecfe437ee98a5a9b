"""The differences between engines' SQL. Each engine's own dialect is in its module."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from market_data.warehouse.schema import Type


@dataclass(frozen=True)
class Dialect:
    """Hold what differs between engines.

    :param types: the engine's name of each type; ``{}`` is a string's length.
    :param table_exists: a query with one bind, the table's name in lower case, that counts 1 or 0.
    :param mark: the engine's mark for the n-th bind, from 1.
    :param stage: the text before and after a staging table's definition; empty where statements read Arrow rows themselves.
    :param stage_is_migrated: the staging table is made once, by a migration, and not by each session.
    :param replaces_views: a view can be replaced by one with other columns, which keeps the privileges granted on it; elsewhere it is
        dropped and made anew.
    :param view_pins_columns: no column that a view reads can be changed; the view is dropped first and made anew.
    :param double: the engine's name of the 64-bit floating point type, in views.
    :param widen: makes a column longer; empty where the engine takes strings of any length.
    :param recheck: the statements that replace a table's check, without reading its rows again where that can be; of ``table``,
        ``check``, ``columns``, and ``create``, which creates the table anew as ``{table}_new``.
    :param keys_in_memory: a load holds the index of a primary key in memory and writes it again, so tables of rows have none: their
        only writer compares its rows with those that are there.
    :param updates_in_memory: an update holds all columns of the rows around each updated one in memory, and the commit writes their row
        groups again. So a load inserts the newer rows of silver and deletes those that they replace.
    :param lock: keeps other writers from a table until the transaction ends, while all may read it; empty where
        only one writes at a time. Without it, a writer would compare with rows from before another's commit, and an older version of a
        bar could replace a newer one.
    :param position: the position of ``part`` in ``text``, from 1; 0 if it is not in it. Case matters.
    """

    types: dict[Type, str]
    table_exists: str
    mark: Callable[[int], str]
    stage: tuple[str, str] = ("", "")
    stage_is_migrated: bool = False
    replaces_views: bool = False
    view_pins_columns: bool = False
    double: str = "DOUBLE PRECISION"
    widen: str = ""
    recheck: tuple[str, ...] = ()
    keys_in_memory: bool = False
    updates_in_memory: bool = False
    lock: str = ""
    position: str = "STRPOS({text}, {part})"


INFORMATION_SCHEMA = (
    "SELECT COUNT(*) AS tables FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = ?"
)
"""``table_exists`` of the engines that have the standard's information schema."""


def bound(sql: str, dialect: Dialect) -> str:
    """Replace each ``?`` outside of quotes and comments by the engine's bind mark."""
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        if match[0] != "?":
            return match[0]
        count += 1
        return dialect.mark(count)

    return re.sub(r"--[^\n]*|/\*.*?\*/|'[^']*'|\"[^\"]*\"|\?", replace, sql, flags=re.DOTALL)
