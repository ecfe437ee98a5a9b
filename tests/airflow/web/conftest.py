"""A browser over the ``site`` of a module of tests."""

import pytest

from tests.airflow.web.site import browser_of


@pytest.fixture(scope="module")
def open_page(site):
    with browser_of(site) as open_page:
        yield open_page
