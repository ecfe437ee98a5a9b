"""Every provider types a refusal, whatever bytes its body holds."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.core.capabilities import Quota, Window
from market_data.core.errors import ProviderError
from market_data.http.client import LONGEST_WORDS, Response, plain
from market_data.providers._template import client as template
from market_data.providers.alpaca import client as alpaca
from market_data.providers.databento import errors as databento
from market_data.providers.fmp import errors as fmp
from market_data.providers.polygon import client as polygon
from market_data.providers.responses import LARGEST_ERROR
from tests.providers.bodies import bodies

SECRET = "db-a-key-nobody-may-see"
QUOTA = Quota(60, (Window(60, 60),))
NOW = datetime(2026, 11, 20, tzinfo=UTC)
WHERE = {"provider": "vendor", "request": "a request"}
TRANSPORT = SimpleNamespace(provider="vendor", plain=lambda text: plain(text, [SECRET]))

CLASSIFY = {
    "polygon": lambda response: polygon.classify(response, WHERE, TRANSPORT.plain, "conn", QUOTA),
    "alpaca": lambda response: alpaca.classify(response, "a request", TRANSPORT, "conn", QUOTA),
    "fmp": lambda response: fmp.classify(response, WHERE, TRANSPORT.plain, "conn", QUOTA, NOW),
    "databento": lambda response: databento.classify(response, "a request", TRANSPORT, "conn", QUOTA, NOW),
    "template": lambda response: template.classify(response, "a request", TRANSPORT, "conn", QUOTA),
}
GOOD = [
    b'{"status":"ERROR","request_id":"abc","error":"Unknown API Key","message":"no"}',
    b'{"message":"code=400, message=invalid symbol: BRK-B"}',
    b'{"Error Message":"Limit Reach . Please upgrade"}',
    b'{"detail":{"case":"data_end_after_available_end","message":"up to 2026-11-19T00:00:00Z",'
    b'"payload":{"available_end":"2026-13-41T00:00:00"}}}',
    b"<html><body>Bad gateway</body></html>",
]
STATUSES = st.sampled_from([400, 401, 402, 403, 404, 408, 422, 429, 500, 503])


@pytest.mark.parametrize("provider", CLASSIFY)
@given(status=STATUSES, body=bodies(GOOD))
def test_any_body_of_a_refusal_becomes_a_typed_error(provider, status, body):
    error = CLASSIFY[provider](Response(status, {}, body))
    assert isinstance(error, ProviderError)
    assert len(str(error)) < 3 * LONGEST_WORDS


@pytest.mark.parametrize("provider", CLASSIFY)
@pytest.mark.parametrize(
    "body",
    [b'{"error":"\xff","message":"\xff","detail":"\xff"}', b"[" * 100_000, b'{"x":' * 50_000, b"\xef\xbb\xbf{", b"null"],
    ids=str,
)
def test_a_damaged_refusal_has_the_error_of_its_status(provider, body):
    assert CLASSIFY[provider](Response(500, {}, body)).said


@pytest.mark.parametrize("provider", CLASSIFY)
def test_a_refusal_behind_a_byte_order_mark_is_read(provider):
    for body in GOOD[:3]:
        plainly, marked = (CLASSIFY[provider](Response(400, {}, start + body)) for start in (b"", b"\xef\xbb\xbf"))
        assert plainly.said.lstrip("\ufeff") == marked.said.lstrip("\ufeff")


@pytest.mark.parametrize("provider", CLASSIFY)
def test_a_refusal_of_any_size_is_read_to_a_limit_and_shows_no_secret(provider):
    body = b"x " * (LARGEST_ERROR // 2 - 8) + f" {SECRET}".encode() * 3
    assert SECRET not in str(CLASSIFY[provider](Response(500, {}, body * 20)))
