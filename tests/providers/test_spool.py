"""Rows that wait in a file, and their groups of symbols."""

import pyarrow as pa
import pytest

from market_data.providers import spool
from market_data.providers.spool import IN_MEMORY, Spool, groups_of, in_memory, nothing_to_release, taken

SCHEMA = pa.schema([pa.field("symbol", pa.string()), pa.field("value", pa.int64())])


def page(start, count, symbols=("C", "A", "B")):
    return pa.table({"symbol": [symbols[n % len(symbols)] for n in range(count)], "value": range(start, start + count)}, SCHEMA)


def filled(pages, most=IN_MEMORY):
    kept = Spool(SCHEMA, most)
    for start in range(0, pages * 10, 10):
        kept.add(page(start, 10))
    return kept, kept.table()


def test_few_rows_stay_in_memory_as_they_came():
    kept, table = filled(3)
    assert kept.release is nothing_to_release
    assert table["value"].to_pylist() == list(range(30))


def test_many_rows_are_in_a_file_each_page_by_symbol():
    kept, table = filled(4, 15)
    assert kept.release is not nothing_to_release
    assert [chunk.to_pylist() for chunk in table["symbol"].chunks] == [sorted(page(0, 10)["symbol"].to_pylist())] * 4
    wanted = sorted(zip(pa.concat_tables([page(n, 10) for n in range(0, 40, 10)]).to_pylist()), key=str)
    kept.release()
    assert sorted(zip(table.to_pylist()), key=str) == wanted
    assert Spool(SCHEMA).table().equals(SCHEMA.empty_table())


@pytest.mark.parametrize("most", [1, 14, 27, 1000])
def test_groups_share_no_symbol_and_lose_no_row(most):
    _, table = filled(4, 15)
    parts = [taken(table, pieces) for pieces in groups_of(table, "symbol", most)]
    names = [set(part["symbol"].to_pylist()) for part in parts]
    assert sum(map(len, names)) == len(set().union(*names)) == 3
    assert sorted(value for part in parts for value in part["value"].to_pylist()) == list(range(40))
    for part in parts:  # the order of a symbol's rows is that in which they came
        for name in set(part["symbol"].to_pylist()):
            values = [row["value"] for row in part.to_pylist() if row["symbol"] == name]
            assert values == sorted(values)
    assert len(parts) == {1: 3, 14: 3, 27: 2, 1000: 1}[most]


def test_rows_that_are_not_by_symbol_make_no_groups():
    assert groups_of(page(0, 10), "symbol", 5) is None


def test_groups_of_few_symbols_are_put_together_symbol_by_symbol(monkeypatch):
    _, table = filled(4, 15)
    (pieces,) = groups_of(table, "symbol", 1000)
    names = taken(table, pieces)["symbol"].to_pylist()
    assert names == sorted(names)
    monkeypatch.setattr(spool, "MOST_PIECES", 11)
    (pieces,) = groups_of(table, "symbol", 1000)
    assert len(pieces) == 4  # one for each page


def test_rows_are_copied_column_by_column_each_released_at_once():
    released = []
    rows = pa.concat_tables([page(0, 4), page(4, 4)])
    found = in_memory(rows, lambda: released.append(None))
    assert found.equals(rows)
    assert [column.num_chunks for column in found.columns] == [1, 1]
    assert len(released) == 2
