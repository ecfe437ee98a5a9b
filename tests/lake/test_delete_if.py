"""A conditional DELETE removes the version that was read, and no other."""

from threading import Thread

import pytest

from market_data.lake.conditional import honours_conditional_delete
from market_data.lake.store import Lake


def test_only_the_version_that_was_read_is_deleted(lake):
    lake.put_new("a/b/c", b"one")
    old = lake.get("a/b/c").etag
    lake.update("a/b/c", lambda _: b"two")
    assert lake.delete_if("a/b/c", old) is False
    assert lake.get("a/b/c").body == b"two"
    assert lake.delete_if("a/b/c", lake.get("a/b/c").etag) is True
    assert lake.get("a/b/c") is None
    assert lake.delete_if("a/b/c", old) is True  # gone is gone


def test_the_store_honours_the_condition_of_a_delete(lake):
    assert honours_conditional_delete(lake) is True


@pytest.mark.parametrize("found", [True, NotImplementedError("501")])
def test_a_store_without_conditional_deletes_is_recognised(s3, monkeypatch, found):
    lake = Lake.open(f"s3://{s3.bucket}", None)

    def delete_if(key, etag):
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(lake, "put_new", lambda key, body: True)
    monkeypatch.setattr(lake, "delete_if", delete_if)
    assert honours_conditional_delete(lake) is False


def test_folders_are_listed_without_their_objects(lake):
    for key in ("raw/x/symbol=A/1", "raw/x/symbol=BRK.B/year=2024/1", "raw/x/1"):
        lake.put_new(key, b"")
    assert lake.folders("raw/x") == ["raw/x/symbol=A", "raw/x/symbol=BRK.B"]
    assert lake.folders("none") == []


def test_empty_folders_go_while_writers_make_them_again(tmp_path):
    lake, errors = Lake.open(f"file://{tmp_path}/lake"), []

    def work(name):
        try:
            for n in range(200):
                lake.put_new(f"a/b/{name}{n}", b"x")
                lake.delete_if(f"a/b/{name}{n}", lake.get(f"a/b/{name}{n}").etag)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test fails
            errors.append(error)

    threads = [Thread(target=work, args=(name,)) for name in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert list((tmp_path / "lake").iterdir()) == []
