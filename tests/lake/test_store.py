"""Conditional object operations, in S3 and in a folder."""

import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import pytest

from market_data.core.errors import ConfigError, LakeError
from market_data.lake.s3 import S3Access
from market_data.lake.store import Lake
from tests.lake.rows import add_bytes, open_lake


def test_objects_are_created_once(lake):
    assert lake.get("a/b") is None
    assert lake.put_new("a/b", b"one")
    assert not lake.put_new("a/b", b"two")
    assert lake.get("a/b").body == b"one"
    assert lake.get_range("a/b", 1, 3) == b"ne"


def test_objects_are_replaced_only_as_they_were_read(lake):
    lake.put_new("k", b"one")
    first = lake.get("k")
    assert lake.put_if("k", b"two", first.etag)
    assert not lake.put_if("k", b"three", first.etag)
    assert not lake.put_if("absent", b"x", first.etag)
    assert lake.get("k").body == b"two"
    assert lake.get("absent") is None


def test_listing_is_by_folder_in_order_with_sizes(lake):
    for key in ("a/b/2", "a/b/1", "a/bc/3", "a/b/%2E%2E%2Fx"):
        lake.put_new(key, b"x" * len(key))
    assert lake.list("a/b") == [("a/b/%2E%2E%2Fx", 14), ("a/b/1", 5), ("a/b/2", 5)]
    assert lake.list("none") == []


def test_many_are_read_in_order(lake):
    for n in range(150):
        lake.put_new(f"k/{n}", str(n).encode())
    found = list(lake.get_many([f"k/{n}" for n in (*range(149, -1, -1), 999)]))
    assert [stored and stored.body for stored in found] == [*(str(n).encode() for n in range(149, -1, -1)), None]


def test_updates_of_many_writers_all_arrive(lake):
    def add(n):
        lake.update("counter", lambda body: (body or b"") + bytes([n]))

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(add, range(12)))
    assert sorted(lake.get("counter").body) == list(range(12))


def test_updates_of_many_processes_all_arrive_in_a_folder(tmp_path):
    url = f"file://{tmp_path}/lake"
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        list(pool.map(add_bytes, [url] * 3, [0, 50, 100], [50] * 3))
    assert sorted(open_lake(url).get("counter").body) == list(range(150))


def test_an_update_that_leaves_things_writes_nothing(lake, watch):
    lake.put_new("k", b"one")
    with watch.writes() as writes:
        assert lake.update("k", lambda body: None) == 0
    assert writes == []


def test_endless_contention_is_an_error(lake, monkeypatch):
    monkeypatch.setattr("market_data.lake.store.time.sleep", lambda seconds: None)
    lake.put_new("k", b"0")
    turns = iter(range(1, 100))

    def revise(body):
        lake.put_if("k", str(next(turns)).encode(), lake.get("k").etag)
        return b"mine"

    with pytest.raises(LakeError, match="replace k: other writers"):
        lake.update("k", revise)
    assert lake.get("k").body != b"mine"


def test_each_is_bounded_lazy_and_in_order(lake):
    running, peak, lock, taken = 0, 0, threading.Lock(), 0
    gate = threading.Barrier(4, timeout=10)

    def operation(n):
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        gate.wait()
        with lock:
            running -= 1
        return n

    def items():
        nonlocal taken
        for n in range(40):
            taken += 1
            yield n

    results = lake.each(operation, items(), concurrency=4)
    assert next(results) == 0
    assert taken <= 9
    assert list(results) == list(range(1, 40))
    assert peak == 4


def test_each_stops_at_the_first_failure(lake):
    begun = []

    def operation(n):
        begun.append(n)
        if n == 3:
            raise LakeError("broken")

    with pytest.raises(LakeError, match="broken"):
        list(lake.each(operation, range(1000), concurrency=2))
    assert len(begun) < 20


def test_a_lost_reply_is_no_conflict(s3):
    lake = open_lake(f"s3://{s3.bucket}")
    s3.lose = 1
    assert lake.update("k", lambda body: b"one", new=True) == 3
    s3.lose = 1
    assert lake.update("k", lambda body: b"three") == 5
    assert lake.get("k").body == b"three"
    assert s3.lose == 0
    assert len(s3.client.list_object_versions(Bucket=s3.bucket)["Versions"]) == 2


def test_a_missing_bucket_is_named(s3):
    lake = open_lake("s3://no-such-bucket")
    for operation in (
        lambda: lake.get("k"),
        lambda: lake.put_new("k", b""),
        lambda: lake.put_if("k", b"", "x"),
        lambda: lake.list("k"),
        lambda: lake.get_range("k", 0, 1),
    ):
        with pytest.raises(LakeError, match="k in s3://no-such-bucket: the bucket does not exist") as caught:
            operation()
        assert caught.value.__cause__ is None


def test_a_dead_server_is_an_error_without_secrets(monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW_CONN_AWS_DEFAULT",
        '{"conn_type": "aws", "login": "AKIDTEST", "password": "hush", "extra": {"endpoint_url": "http://127.0.0.1:9"}}',
    )
    lake = open_lake("s3://bucket")
    with pytest.raises(LakeError, match=r"lake create a/b in s3://bucket: GenericError: .*sending request") as caught:
        lake.put_new("a/b", b"")
    assert "hush" not in str(caught.value)
    assert "AKIDTEST" not in str(caught.value)


def test_without_airflow_the_aws_environment_is_used(s3, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "not read")
    for name, value in {
        "AWS_ENDPOINT_URL": s3.endpoint, "AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "hush", "AWS_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    lake = Lake.open(f"s3://{s3.bucket}")
    assert lake.put_new("a/b", b"x")
    assert s3.client.get_object(Bucket=s3.bucket, Key="a/b")["Body"].read() == b"x"


def test_the_endpoint_for_s3_alone_goes_first(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:8")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    for name in ("AWS_REGION", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert S3Access.from_environment() == S3Access("http://127.0.0.1:9", "eu-west-1")


def test_a_connection_without_credentials_is_named(s3_credentials_gone):
    with pytest.raises(ConfigError, match="connection 'aws_default' has no AWS credentials"):
        open_lake("s3://bucket")


@pytest.fixture
def s3_credentials_gone(monkeypatch, tmp_path):
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", '{"conn_type": "aws", "extra": {"endpoint_url": "http://127.0.0.1:9"}}')
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


def test_deleting_twice_is_fine(lake, watch):
    lake.put_new("a/b", b"x")
    lake.delete("a/b")
    lake.delete("a/b")
    assert lake.get("a/b") is None


def test_a_refusal_quotes_the_code_only(s3, monkeypatch):
    lake = open_lake(f"s3://{s3.bucket}")
    body = "403 Forbidden: <Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>AKIDTEST</AWSAccessKeyId></Error>"

    def refuse(*args, **kwargs):
        raise PermissionError(body)

    monkeypatch.setattr("obstore.get", refuse)
    with pytest.raises(LakeError) as caught:
        lake.get("k")
    assert str(caught.value) == f"lake get k in s3://{s3.bucket}: SignatureDoesNotMatch"


def test_objects_lie_below_the_prefix(s3):
    open_lake(f"s3://{s3.bucket}/pre/fix/").put_new("a/b", b"x")
    assert s3.client.get_object(Bucket=s3.bucket, Key="pre/fix/a/b")["Body"].read() == b"x"


def test_a_folder_is_made_and_holds_plain_files(tmp_path):
    root = tmp_path / "new folder" / "lake"
    lake = Lake.open(f"file://{str(root).replace(' ', '%20')}")
    lake.put_new("a/%2E%2E%2Fx", b"x")
    assert (root / "a" / "%2E%2E%2Fx").read_bytes() == b"x"


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LakeError):
        Lake.open(f"file://{tmp_path}/file/lake").put_new("k", b"")


@pytest.mark.parametrize(
    "url", ["", "lake", "/lake", "s3://", "http://x/y", "file://", "file:///", "file://host/x", "s3://id:hush@bucket", "s3://b?x=1"]
)
def test_other_addresses_are_refused(url):
    with pytest.raises(ConfigError, match="allowed: s3://") as caught:
        Lake.open(url)
    assert "hush" not in str(caught.value)
