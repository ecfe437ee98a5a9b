import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from sandbox.s3.folder import Folder
from sandbox.stack.processes import free_port

PROJECT = Path(__file__).resolve().parents[2]
KEYS = ["raw/equities_ohlcv/provider=polygon/symbol=BRK.B/d.parquet", "a b/ü+,@%2F.txt", "up/../../escape", "x//y"]


class Process:
    """The server as the stack runs it."""

    def __init__(self, folder):
        port = free_port()
        argv = [sys.executable, "-m", "sandbox.s3", "--port", str(port), "--folder", str(folder)]
        self.process = subprocess.Popen(argv, cwd=PROJECT, env=os.environ, stderr=subprocess.DEVNULL)
        endpoint = f"http://127.0.0.1:{port}"
        config = Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"})
        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
        self.client = boto3.client("s3", endpoint_url=endpoint, config=config, **keys)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("the server does not start")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def start(tmp_path):
    servers = []

    def begin():
        servers.append(Process(tmp_path / "s3"))
        return servers[-1]

    yield begin
    for server in servers:
        server.kill()


def bodies(client):
    listed = client.list_objects_v2(Bucket="lake").get("Contents", [])
    return {item["Key"]: client.get_object(Bucket="lake", Key=item["Key"])["Body"].read() for item in listed}


def test_a_killed_server_keeps_its_objects(start, tmp_path):
    first = start()
    first.client.create_bucket(Bucket="lake")
    for number, key in enumerate(KEYS):
        first.client.put_object(Bucket="lake", Key=key, Body=b"v%d" % number)
    first.client.put_object(Bucket="lake", Key="gone", Body=b"1")
    first.client.put_object(Bucket="lake", Key="gone too", Body=b"1")
    first.client.put_object(Bucket="lake", Key=KEYS[0], Body=b"replaced")
    first.client.delete_object(Bucket="lake", Key="gone")
    first.client.delete_objects(Bucket="lake", Delete={"Objects": [{"Key": "gone too"}]})
    upload = first.client.create_multipart_upload(Bucket="lake", Key="big")["UploadId"]
    part = first.client.upload_part(Bucket="lake", Key="big", UploadId=upload, PartNumber=1, Body=b"b" * 6_000_000)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    first.client.complete_multipart_upload(Bucket="lake", Key="big", UploadId=upload, MultipartUpload=parts)
    before, head = bodies(first.client), first.client.head_object(Bucket="lake", Key=KEYS[0])
    assert len(before) == len(KEYS) + 1
    first.kill()

    second = start()
    assert bodies(second.client) == before
    again = second.client.head_object(Bucket="lake", Key=KEYS[0])
    assert (again["ETag"], again["LastModified"]) == (head["ETag"], head["LastModified"])
    with pytest.raises(ClientError, match="PreconditionFailed"):
        second.client.put_object(Bucket="lake", Key=KEYS[0], Body=b"x", IfNoneMatch="*")
    assert {path.name for path in tmp_path.iterdir()} == {"s3"}  # no key left its bucket's folder
    assert {path.name for path in (tmp_path / "s3").iterdir()} == {"lake"}


def test_an_interrupted_write_is_ignored(tmp_path):
    folder = Folder(tmp_path)
    folder.add_bucket("lake")
    folder.write("lake", "a/b", b"1")
    (tmp_path / "lake" / "a" / "b%draft").write_bytes(b"half")
    assert [key for key, _, _ in folder.objects("lake")] == ["a/b"]
