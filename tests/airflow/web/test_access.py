"""A request that changes something comes from Airflow's own pages, also behind a proxy that rewrites Host."""

import pytest
from fastapi import HTTPException
from starlette.requests import Request

from market_data.airflow.web.access import own_site

OWN, EVIL = "https://airflow.example", "https://evil.example"
COOKIE = {"cookie": "_token=x"}
OUTSIDE = {"host": "airflow.example"}
INSIDE = {"host": "airflow-api:8080"}
"""What a proxy may make of it."""


def status(base_url="", kind="application/json", **headers):
    """Return the status that a POST with these headers gets."""
    given = {"content-type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in given.items() if value is not None]}
    try:
        own_site(Request(scope))
    except HTTPException as error:
        return error.status_code
    return 200


@pytest.fixture(params=["", f"{OWN}/desk", "HTTPS://Airflow.example:443"])
def base_url(request, monkeypatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", request.param)
    return request.param


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"origin": OWN, **OUTSIDE}, 200),
        ({"sec_fetch_site": "same-origin", "origin": OWN, **INSIDE}, 200),
        ({"sec_fetch_site": "same-origin", **INSIDE}, 200),
        ({"sec_fetch_site": "same-site", "origin": "https://other.example", **OUTSIDE}, 403),
        ({"sec_fetch_site": "cross-site", "origin": EVIL, **OUTSIDE}, 403),
        ({"sec_fetch_site": "cross-site", "origin": OWN, **OUTSIDE}, 403),
        ({"sec_fetch_site": "none", **OUTSIDE}, 403),
        ({"sec_fetch_site": "", "origin": OWN, **OUTSIDE}, 403),
        ({"origin": EVIL, **OUTSIDE}, 403),
        ({"origin": EVIL, **INSIDE}, 403),
        ({"origin": "null", **OUTSIDE}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "", **OUTSIDE}, 403),
        ({"origin": "https://airflow.example:99999", **OUTSIDE}, 403),
        ({"origin": "https://[x", "host": "[x"}, 403),
        ({"origin": "", "host": ""}, 403),
        ({"origin": "https://airflow.example.evil.example", **OUTSIDE}, 403),
        (OUTSIDE, 403),  # a cookie, and nothing says where the request comes from
        ({**OUTSIDE, "cookie": None}, 200),  # a program with a token
        ({**OUTSIDE, "cookie": None, "origin": EVIL}, 403),
        ({"origin": OWN, "kind": "text/plain", **OUTSIDE}, 415),  # a form can send it
        ({"sec_fetch_site": "same-origin", "kind": "application/x-www-form-urlencoded", **OUTSIDE}, 415),
    ],
)
def test_only_requests_of_own_pages_and_of_programs_pass(base_url, headers, expected):
    assert status(**{**COOKIE, **headers}) == expected


def test_the_origin_may_be_that_of_base_url_where_a_proxy_rewrites_the_host(base_url):
    assert status(**COOKIE, origin=OWN, **INSIDE) == (200 if base_url else 403)
    for other in ("http://airflow.example", f"{OWN}:8443"):
        assert status(**COOKIE, origin=other, **INSIDE) == 403
