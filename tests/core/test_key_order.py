"""Rows in the order of their key are known without sorting."""

import itertools
import random
from datetime import date, timedelta

import pyarrow as pa
import pytest

from market_data.core.key_order import is_ascending, run_starts, texts_of

KEY = ("symbol", "day")


def table(rows, at=()):
    """Return rows of symbol and day, cut into chunks at the places ``at``."""
    found = pa.table(
        {"symbol": pa.array([name for name, _ in rows], pa.string()), "day": pa.array([day for _, day in rows], pa.date32())}
    )
    edges = [0, *sorted(at), len(rows)]
    return pa.concat_tables([found.slice(begin, end - begin) for begin, end in itertools.pairwise(edges)])


def day(number):
    return date(2024, 1, 1) + timedelta(days=number)


@pytest.mark.parametrize("seed", range(40))
def test_order_and_runs_agree_with_sorted_rows(seed):
    draw = random.Random(seed)
    rows = [(draw.choice(["A", "AA", "B", "é"]), day(draw.randrange(4))) for _ in range(draw.randrange(6))]
    rows = sorted(rows) if seed % 2 else rows
    found = table(rows, [draw.randrange(len(rows) + 1) for _ in range(2)])
    assert is_ascending(found, KEY) == (rows == sorted(set(rows)))
    assert run_starts(found, KEY).tolist() == [n for n, row in enumerate(rows) if n == 0 or row != rows[n - 1]]


@pytest.mark.parametrize("row", [(None, day(1)), ("A", None)])
def test_the_order_of_a_null_is_not_known(row):
    assert not is_ascending(table([("A", day(0)), row]), KEY)
    assert run_starts(table([row]), KEY) is None


def test_the_order_of_floats_is_not_known():
    assert not is_ascending(pa.table({"price": [1.0, 2.0]}), ["price"])


def test_numbers_far_apart_are_in_order_by_their_values():
    numbers = [0, 2**62, -(2**63), -(2**62), 0]
    assert not is_ascending(pa.table({"sequence": numbers}), ["sequence"])
    assert is_ascending(pa.table({"sequence": sorted(set(numbers))}), ["sequence"])


@pytest.mark.parametrize(
    "texts",
    [
        [], [""], ["", ""], ["A"], ["A"] * 5, ["é"] * 3, ["AB", "AB", "AB"], ["AB", "BA"], ["AA", "A", "AAA"], ["A", "AA", ""],
        ["", "A"], ["A", None], ["", None], [None], ["A", "A", "B"],
    ],
    ids=str,
)  # fmt: skip
def test_the_texts_of_a_column_are_each_there_once_however_it_is_cut(texts):
    beside = pa.array(["AB", *texts, "A"], pa.string()).slice(1, len(texts))  # its first text is not at the buffer's start
    for cut in range(len(texts) + 1):
        column = pa.chunked_array([beside[:cut], beside[cut:]], pa.string())
        for kind in (column, column.dictionary_encode()):
            assert texts_of(kind) == set(texts)
        rows = pa.table({"text": column})
        if None not in texts:
            assert is_ascending(rows, ["text"]) == (texts == sorted(set(texts)))
            assert run_starts(rows, ["text"]).tolist() == [n for n, text in enumerate(texts) if n == 0 or text != texts[n - 1]]
