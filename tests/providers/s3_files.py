"""The S3 server of the stack over real HTTP, with sample flat files, and what can go wrong on the way."""

import json
import logging
import threading
from contextlib import contextmanager
from http import HTTPStatus

import boto3
import requests

from sandbox.s3 import S3Server
from sandbox.vendors import flat_files

KEY_ID, SECRET = "AKIDTEST", "a-secret-nobody-may-see"
CONN_ID = "polygon_files"


class S3Files:
    """A server with an empty bucket ``flatfiles``.

    :param endpoint: its URL.
    :param reads: paths that were read, in order, refused ones too.
    """

    def __init__(self):
        self.reads, self._faults, self._lock = [], [], threading.Lock()

    def fault(self, status, code="", *, times=1, share=None):
        """The next answers (None: all) are errors of S3, or with ``share`` that much of the body after all of the headers."""
        self._faults += [(status, code, share)] * (times or 100)

    def forget(self):
        self.reads.clear()
        self._faults.clear()

    def put(self, key, body, **more):
        self.client.put_object(Bucket=flat_files.BUCKET, Key=key, Body=body, **more)

    def connection(self, *, key_id=KEY_ID, secret=SECRET, endpoint=None):
        """The Airflow connection, as an environment variable has it."""
        extra = {"endpoint_url": endpoint or self.endpoint}
        return json.dumps({"conn_type": "aws", "login": key_id, "password": secret, "extra": extra})

    @contextmanager
    def checking_keys(self):
        """Inside, only the key that it gives is let in, and its signatures are verified."""
        iam = boto3.client("iam", **self._access)
        iam.create_user(UserName="reader")
        allow = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
        iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=json.dumps(allow))
        key = iam.create_access_key(UserName="reader")["AccessKey"]
        requests.post(f"{self.endpoint}/moto-api/reset-auth", data=b"0", timeout=5).raise_for_status()
        try:
            yield key["AccessKeyId"], key["SecretAccessKey"]
        finally:
            requests.post(f"{self.endpoint}/moto-api/reset-auth", data=b"inf", timeout=5).raise_for_status()

    @property
    def _access(self):
        return {
            "endpoint_url": self.endpoint,
            "region_name": "us-east-1",
            "aws_access_key_id": "a",
            "aws_secret_access_key": "b",
        }

    @classmethod
    @contextmanager
    def running(cls):
        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        files = cls()
        server = S3Server(wrap=files._wrapped)
        files.endpoint = server.endpoint
        files.client = boto3.client("s3", **files._access)
        files.client.create_bucket(Bucket=flat_files.BUCKET)
        try:
            yield files
        finally:
            server.stop()

    def _wrapped(self, application):
        def answer(environ, start_response):
            path = environ["PATH_INFO"]
            if environ["REQUEST_METHOD"] != "GET" or not path.startswith(f"/{flat_files.BUCKET}"):
                return application(environ, start_response)
            with self._lock:
                self.reads.append(path)
                status, code, share = self._faults.pop(0) if self._faults else (200, "", 1.0)
            if status == 200:
                body = b"".join(application(environ, start_response))
                return [body[: int(len(body) * share)]]
            body = f"<Error><Code>{code}</Code><Message>about {code}</Message></Error>".encode() if code else b""
            start_response(f"{status} {HTTPStatus(status).phrase}", [("Content-Length", str(len(body)))])
            return [body]

        return answer
