"""Addresses with a password in them are refused, and no message shows it."""

import pytest

from market_data.airflow import connections
from market_data.core.errors import ConfigError
from market_data.core.urls import holds_credentials, shown_url
from market_data.lake.store import Lake
from market_data.providers.base import ProviderConfig
from market_data.providers.polygon import flat_files
from market_data.providers.registry import provider as hook_class
from market_data.providers.registry import providers

SECRET = "hunter2-nobody-may-see"
URLS = [
    f"https://user:{SECRET}@api.example.com",
    f"https://{SECRET}@api.example.com/v2",
    f"https://api.example.com/?apikey={SECRET}",
    f"https://api.example.com/#{SECRET}",
    f"user:{SECRET}@api.example.com",
    f"ftp://user:{SECRET}@api.example.com:99999",
    f"https://user:{SECRET}@[api",
]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("provider", [name for name in providers() if name != "mock"])
def test_a_host_with_a_password_is_refused_and_not_shown(provider, url):
    config = ProviderConfig(f"{provider}_default", url, "login", "db-key")
    hook = hook_class(provider)(config=config)
    with pytest.raises(ConfigError, match="host holds a user name, a password or a query, which is not shown here") as caught:
        hook.validate_config()
    works, said = hook.test_connection()
    assert not works
    shown = f"{caught.value} {caught.value!r} {said} {config!r} {hook!r} {getattr(hook, '_transport', None)!r}"
    assert SECRET not in shown


@pytest.mark.parametrize("url", URLS)
def test_an_s3_endpoint_with_a_password_is_refused_and_not_shown(url):
    config = ProviderConfig("flat", "", "id", "secret", {"endpoint_url": url})
    (problem,) = flat_files.problems(config)
    assert "the S3 endpoint holds a user name, a password or a query" in problem
    assert SECRET not in problem


@pytest.mark.parametrize("url", [f"s3://key:{SECRET}@bucket", f"s3://:{SECRET}@bucket/prefix", f"file://{SECRET}@host/lake"])
def test_a_lake_with_a_password_is_refused_and_not_shown(url):
    with pytest.raises(ConfigError, match="lake is ") as caught:
        Lake.open(url)
    assert SECRET not in str(caught.value)


def test_the_endpoint_of_the_lakes_connection_is_refused_too(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", f'{{"conn_type": "aws", "extra": {{"endpoint_url": "{URLS[0]}"}}}}')
    with pytest.raises(ConfigError, match="endpoint_url holds a user name") as caught:
        connections.s3_access("aws_default")
    assert SECRET not in str(caught.value)


def test_plain_addresses_are_shown_as_host_and_port():
    assert [shown_url(url) for url in ("https://api.example.com/v2", "http://127.0.0.1:8080", "localhost:4001")] == [
        "api.example.com",
        "127.0.0.1:8080",
        "localhost:4001",
    ]
    assert not any(SECRET in shown_url(url) for url in URLS if "@" not in url or "[" not in url)
    assert not holds_credentials("https://api.example.com/v2")
