"""The journal keeps each entry once, in order, and survives foreign objects."""

from datetime import UTC, datetime, timedelta

import pytest

from market_data.core.errors import ParamError
from market_data.lake.store import Lake
from market_data.maintenance.journal import MAX_TEXT, Entry, entries, write

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path):
    return Lake.open(f"file://{tmp_path}/lake")


def entry(minutes=0, job="release", **values):
    given = {"by": "Ada", "reason": "the vendor stands by it", "what": {"cells": 2, "symbols": ["AAPL"]}, **values}
    return Entry(NOON + timedelta(minutes=minutes), job, **given)


def test_entries_come_back_oldest_first_and_by_job(lake):
    for one in (entry(2), entry(0), entry(1, job="reset"), entry(24 * 60)):
        write(lake, one)
    assert list(entries(lake)) == [entry(0), entry(1, job="reset"), entry(2), entry(24 * 60)]
    assert list(entries(lake, "release")) == [entry(0), entry(2), entry(24 * 60)]


def test_an_equal_entry_is_there_once_and_another_beside_it(lake):
    assert write(lake, entry()) == write(lake, entry())
    write(lake, entry(by="Grace"))
    assert [one.by for one in entries(lake)] == sorted(["Ada", "Grace"], key=lambda by: entry(by=by).key)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"at": 1}', b'{"at": "2026-11-20T12:00:00+00:00", "job": "release"}', b"\xff"])
def test_an_object_that_is_no_entry_is_named_and_left_out(lake, body, caplog):
    write(lake, entry())
    lake.put_new("journal/date=2026-11-20/000000.000000-release-x.json", body)
    assert list(entries(lake)) == [entry()]
    assert "000000.000000-release-x.json" in caplog.text


@pytest.mark.parametrize(("field", "text"), [("by", ""), ("by", "  "), ("reason", ""), ("reason", "x" * (MAX_TEXT + 1))])
def test_a_name_and_a_reason_are_needed(field, text):
    with pytest.raises(ParamError, match=f"{field} has {len(text)} characters"):
        entry(**{field: text})
