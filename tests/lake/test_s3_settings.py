"""The settings of the connection ``aws_default`` hold for the lake as for Airflow's own hook, or are refused by name."""

from __future__ import annotations

import json
import ssl
import threading
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ProfileNotFound
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from market_data.airflow.connections import s3_access
from market_data.core.errors import ConfigError, LakeError
from market_data.lake.clock import check_clock
from market_data.lake.conditional import check_conditional_put
from market_data.lake.s3 import S3Access
from market_data.lake.store import Lake
from sandbox.s3 import S3Server
from sandbox.s3.server import application


def connect(monkeypatch, endpoint, **extra):
    connection = {
        "conn_type": "aws",
        "login": "AKIDTEST",
        "password": "not-a-secret",
        "extra": {"endpoint_url": endpoint, "region_name": "us-east-1", **extra},
    }
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    return s3_access("aws_default")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ProfileNotFound(profile="hush"), ConfigError, r"no credentials \(ProfileNotFound\); check role and profile"),
        (ClientError({"ResponseMetadata": {"HTTPStatusCode": 403}}, "AssumeRole"), ConfigError, r"\(ClientError\); check role"),
        (
            ClientError({"ResponseMetadata": {"HTTPStatusCode": 503}}, "AssumeRole"),
            LakeError,
            "the server that hands them out failed",
        ),
        (EndpointConnectionError(endpoint_url="hush"), LakeError, r"\(EndpointConnectionError\)"),
        (ValueError("hush"), ConfigError, r"\(ValueError\); check role"),
    ],
)
def test_credentials_that_cannot_be_got_are_told_by_name_only(monkeypatch, error, kind, words):
    def fail(_):
        raise error

    monkeypatch.setattr("airflow.providers.amazon.aws.hooks.s3.S3Hook.get_session", fail)
    with pytest.raises(kind, match=words) as found:
        connect(monkeypatch, "http://127.0.0.1:9")
    assert (type(found.value), "hush" in str(found.value)) == (kind, False)


# -- certificates ------------------------------------------------------------------------------------------------------------------


def certificate(folder):
    """Make an authority that nobody knows and a certificate of it for 127.0.0.1.

    :return: files of the authority's certificate, of the server's, and of the server's key.
    """
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root, name = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("test authority", "127.0.0.1"))

    def signed(subject, public, *extensions):
        now = datetime.now(UTC)
        found = x509.CertificateBuilder(root, subject, public, x509.random_serial_number())
        found = found.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        for extension in extensions:
            found = found.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return found.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    parts = {
        "ca.pem": signed(root, authority.public_key(), x509.BasicConstraints(ca=True, path_length=0)),
        "server.pem": signed(name, key.public_key(), x509.BasicConstraints(ca=False, path_length=None), address),
        "key.pem": secret,
    }
    for file, body in parts.items():
        (folder / file).write_bytes(body)
    return [folder / file for file in parts]


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory):
    """An S3 server with TLS; ``ca`` is the file of its certificate."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from werkzeug.serving import make_server

    authority, own, key = certificate(tmp_path_factory.mktemp("tls"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(own, key)
    server = make_server("127.0.0.1", 0, application(), threaded=True, request_handler=MotoRequestHandler, ssl_context=tls)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    server.endpoint, server.ca = f"https://127.0.0.1:{server.server_port}", authority
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def encrypted_bucket(encrypted):
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=encrypted.endpoint,
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        verify=str(encrypted.ca),
    )
    client.create_bucket(Bucket="tls")
    return encrypted


def test_a_certificate_file_of_the_connection_is_used(encrypted_bucket, monkeypatch):
    lake = Lake.open("s3://tls", connect(monkeypatch, encrypted_bucket.endpoint, verify=str(encrypted_bucket.ca)))
    assert lake.put_new("a/b", b"x")
    assert lake.get("a/b").body == b"x"
    check_clock(lake)


def test_a_certificate_file_of_the_environment_is_used(encrypted_bucket, monkeypatch):
    monkeypatch.setenv("AWS_CA_BUNDLE", str(encrypted_bucket.ca))
    assert Lake.open("s3://tls", connect(monkeypatch, encrypted_bucket.endpoint)).get("none") is None
    for name, value in (("ENDPOINT_URL", encrypted_bucket.endpoint), ("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b")):
        monkeypatch.setenv(f"AWS_{name}", value)
    assert Lake.open("s3://tls").get("none") is None


def test_without_the_file_the_certificate_is_refused(encrypted_bucket, monkeypatch):
    lake = Lake.open("s3://tls", connect(monkeypatch, encrypted_bucket.endpoint))
    monkeypatch.setattr("market_data.lake.store.TRIES", 1)
    with pytest.raises(LakeError):
        lake.get("none")


@pytest.mark.parametrize(("content", "words"), [(None, "No such file"), ("no certificate", "PEM format")])
def test_a_certificate_file_without_one_is_named(content, words, tmp_path, monkeypatch):
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content)
    with pytest.raises(ConfigError, match=f"connection 'aws_default': verify is .*ca.pem.*{words}"):
        Lake.open("s3://tls", connect(monkeypatch, "https://127.0.0.1:9", verify=str(path)))


# -- other settings ----------------------------------------------------------------------------------------------------------------


def test_the_addressing_style_decides_where_the_bucket_is(monkeypatch):
    hosts = []

    def absent(_):
        def answer(environ, start_response):
            hosts.append(environ["HTTP_HOST"].split(":")[0])
            body = b"<Error><Code>NoSuchBucket</Code></Error>"
            start_response("404 Not Found", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [body]

        return answer

    server = S3Server(wrap=absent)
    monkeypatch.setenv("http_proxy", server.endpoint)  # so that any host name reaches the server
    try:
        for style in ("auto", "path", "virtual"):
            access = connect(monkeypatch, "http://store.invalid", config_kwargs={"s3": {"addressing_style": style}})
            with pytest.raises(LakeError, match="the bucket does not exist"):
                Lake.open("s3://styles", access).get("a/b")
    finally:
        server.stop()
    assert hosts == ["store.invalid", "store.invalid", "styles.store.invalid"]


def test_time_outs_are_taken_over(monkeypatch):
    access = connect(monkeypatch, "http://127.0.0.1:9", config_kwargs={"connect_timeout": 2, "read_timeout": 7.5})
    assert access.timeouts == (2, 7.5)
    Lake.open("s3://bucket", access)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"proxies": {"https": "http://127.0.0.1:1"}}, "config_kwargs.proxies is not supported by the lake"),
        ({"s3": {"use_accelerate_endpoint": True}}, "config_kwargs.s3.use_accelerate_endpoint is not supported by the lake"),
        ({"signature_version": "s3"}, "config_kwargs.signature_version must be 's3v4'"),
        ({"connect_timeout": -1}, "config_kwargs.connect_timeout is -1; a number of seconds above 0 is needed"),
        ({"read_timeout": "60"}, "config_kwargs.read_timeout is '60'; a number of seconds above 0 is needed"),
        (["x"], "config_kwargs "),
        ({"s3": ["virtual"]}, "config_kwargs "),
        ({"s3": {"addressing_style": ["virtual"]}}, "config_kwargs"),
        ({"s3": {"addressing_style": "virtualhost"}}, "config_kwargs cannot be used: .*addressing style virtualhost is invalid"),
        ({"connect_timeout": 10**400}, "config_kwargs.connect_timeout is a number of about 401 digits"),
        ({"no_such_setting": 1}, "config_kwargs cannot be used: .*no_such_setting"),
    ],
)
def test_a_setting_that_the_lake_cannot_follow_is_refused_by_name(config, words, monkeypatch):
    with pytest.raises(ConfigError, match=f"connection 'aws_default': {words}"):
        connect(monkeypatch, "http://127.0.0.1:9", config_kwargs=config)


# -- conditional PUT ---------------------------------------------------------------------------------------------------------------


def without(*headers):
    """Return a wrapper of the server that ignores these headers, as stores do that do not know them."""

    def wrap(inner):
        def ignorant(environ, start_response):
            return inner({name: value for name, value in environ.items() if name not in headers}, start_response)

        return ignorant

    return wrap


def refusing(inner):
    """Wrap the server: it refuses a conditional PUT, as some stores do."""

    def refuses(environ, start_response):
        if environ["REQUEST_METHOD"] == "PUT" and environ.keys() & {"HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH"}:
            body = b"<Error><Code>NotImplemented</Code><Message>A header implies functionality that is absent</Message></Error>"
            start_response("501 Not Implemented", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [body]
        return inner(environ, start_response)

    return refuses


def opened(wrap):
    import boto3

    server = S3Server(wrap=wrap)
    session = boto3.Session(aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")
    session.client("s3", endpoint_url=server.endpoint).create_bucket(Bucket="lake")
    return server, Lake.open("s3://lake", S3Access(server.endpoint, session=session))


@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (without("HTTP_IF_NONE_MATCH"), "ignores the header 'If-None-Match: \\*' of a PUT"),
        (without("HTTP_IF_MATCH"), "ignores the header 'If-Match' of a PUT"),
        (refusing, "refuses a conditional PUT \\(NotImplemented\\)"),
    ],
)
def test_a_store_without_conditional_put_is_named_with_what_it_needs(wrap, words):
    server, lake = opened(wrap)
    try:
        with pytest.raises(ConfigError, match=f"{words}.*the lake needs a store with conditional PUT"):
            check_conditional_put(lake)
    finally:
        server.stop()


def test_a_store_with_conditional_put_passes_each_time():
    server, lake = opened(lambda inner: inner)
    try:
        for _ in range(3):
            check_conditional_put(lake)
        assert [key for key, _ in lake.list("metadata")] == ["metadata/conditional-put"]
    finally:
        server.stop()


def test_a_folder_needs_no_try(tmp_path):
    check_conditional_put(Lake.open(f"file://{tmp_path}"))
    assert not any(tmp_path.iterdir())
