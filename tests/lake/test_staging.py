"""Staging: rows that wait to be loaded, and all that a later run needs to load them."""

from dataclasses import replace

import pytest
from pyarrow import BufferReader, concat_tables
from pyarrow.parquet import read_metadata

from market_data.lake import parquet, staging
from market_data.lake.staging import StagedInfo
from tests.lake.rows import D0, bars, weekdays
from tests.lake.test_receipts import receipt_of

SPEC = "0123456789abcdef"


def without_footer(body):
    """Return what a Parquet object has before its footer, whose size is in its last eight bytes."""
    return body[: -8 - int.from_bytes(body[-8:-4], "little")]


def stage(lake, run, symbol, rows, **others):
    info = StagedInfo(run, "b000-ab", "day", replace(receipt_of(symbol), staged="", **others))
    with staging.Rows() as staged:
        staged.add(rows)
        return staging.write(lake, "ohlcv-1d", "polygon", SPEC, info, staged), info


def test_a_staged_request_comes_back_with_its_rows_and_its_description(lake, run):
    rows = bars([("AAPL", day) for day in weekdays(D0, 5)])
    key, info = stage(lake, run, "AAPL", rows)
    assert key.startswith(f"staging/ohlcv-1d/provider=polygon/run={run.key}/{SPEC}/{info.receipt.request.id}-")
    (item,) = staging.waiting(lake, "ohlcv-1d", "polygon")
    assert (item.key, item.run_key, item.spec_hash, item.request_id) == (key, run.key, SPEC, info.receipt.request.id)
    assert staging.describe(lake, [item]) == ({key: info}, [])
    (found,) = staging.read_rows(lake, [(key, item.size)], lambda _: ())
    assert found.equals(rows)
    assert found.schema.equals(rows.schema, check_metadata=True)


def test_rows_that_are_all_of_a_lake_object_are_not_encoded_again(lake, run):
    rows = bars([("AAPL", day) for day in weekdays(D0, 5)])
    body = parquet.encode(rows)
    with staging.Rows() as staged:
        staged.add(rows, body)
        found = staged.finish({"staged": "about"})
    assert found.startswith(without_footer(body))
    assert read_metadata(BufferReader(found)).metadata == {b"staged": b"about"}
    assert parquet.decode(found, "key").replace_schema_metadata().equals(rows)


def test_a_second_table_is_staged_behind_a_whole_lake_object(lake, run):
    first, second = (bars([(symbol, day) for day in weekdays(D0, 5)]) for symbol in ("AAPL", "MSFT"))
    with staging.Rows() as staged:
        staged.add(first, parquet.encode(first))
        staged.add(second, parquet.encode(second))
        found = staged.finish({"staged": "about"})
    assert parquet.decode(found, "key").replace_schema_metadata().equals(concat_tables([first, second]).combine_chunks())


def test_rows_of_nothing_cannot_be_staged():
    with staging.Rows() as staged, pytest.raises(ValueError, match="no table was added"):
        staged.finish({})


def test_a_request_without_rows_is_staged_too(lake, run):
    key, _ = stage(lake, run, "GONE", bars([]))
    (found,) = staging.read_rows(lake, [(key, 1)], lambda _: ())
    assert (len(found), found.schema) == (0, bars([]).schema)


def test_another_version_of_a_request_has_a_key_of_its_own(lake, run):
    first, _ = stage(lake, run, "AAPL", bars([("AAPL", D0)]))
    second, _ = stage(lake, run, "AAPL", bars([("AAPL", D0)], close=10.5))
    assert first != second
    staging.delete(lake, [first, "staging/never/was"])
    assert [item.key for item in staging.waiting(lake, "ohlcv-1d", "polygon")] == [second]


def test_only_the_datasets_and_providers_own_objects_are_listed(lake, run):
    key, _ = stage(lake, run, "AAPL", bars([("AAPL", D0)]))
    folder = key.rpartition("/")[0]
    lake.put_new(f"{folder}/_SUCCESS", b"")
    lake.put_new(key.replace("polygon", "polygon2"), b"")
    assert [item.key for item in staging.waiting(lake, "ohlcv-1d", "polygon")] == [key]


def test_an_unreadable_object_is_named_and_the_others_are_described(lake, run):
    key, info = stage(lake, run, "AAPL", bars([("AAPL", D0)]))
    broken = key.replace(info.receipt.request.id, 16 * "f")
    lake.put_new(broken, b"no Parquet, and long enough to have a tail")
    empty = key.replace(info.receipt.request.id, 16 * "e")
    lake.put_new(empty, b"")
    infos, messages = staging.describe(lake, staging.waiting(lake, "ohlcv-1d", "polygon"))
    assert infos == {key: info}
    assert [message.partition(": ")[0] for message in messages] == [empty, broken]


def test_an_object_that_was_deleted_meanwhile_is_left_out(lake, run):
    key, _ = stage(lake, run, "AAPL", bars([("AAPL", D0)]))
    items = staging.waiting(lake, "ohlcv-1d", "polygon")
    lake.delete(key)
    assert staging.describe(lake, items) == ({}, [])
    rows = list(staging.read_rows(lake, [(key, 1)], lambda gone: [bars([("FROM", D0)])] if gone == key else []))
    assert rows[0]["symbol"].to_pylist() == ["FROM"]


def test_reading_ahead_is_bounded_by_size(lake, run, monkeypatch):
    keys = [stage(lake, run, f"S{n}", bars([("AAPL", D0)]))[0] for n in range(40)]
    sizes = dict(lake.list("staging"))
    monkeypatch.setattr(staging, "READ_AHEAD", 4 * max(sizes.values()))
    taken = []
    get = lake.get
    monkeypatch.setattr(lake, "get", lambda key: taken.append(key) or get(key))
    stream = staging.read_rows(lake, [(key, sizes[key]) for key in keys], lambda _: ())
    next(stream)
    assert len(taken) <= 5
    assert len(list(stream)) == 39
