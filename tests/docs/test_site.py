"""The documentation as a site. `make lint` builds it strictly; here is what the build does not check."""

import re

import pytest
import yaml

from market_data.core import errors
from tests.docs.pages import DOCS, PROJECT
from tools import site_hooks

PARENTS = {"MarketDataError", "ProviderError", "RetriableError", "TerminalError", "PerCellError", "DataError"}
"""Errors that are never raised as such."""


def test_every_error_has_an_anchor_and_its_advice():
    page = DOCS["docs/reference/errors.md"]
    found = dict(re.findall(r"^### (\w+)\n\n(.*?)\n\n(?=#)", page, re.MULTILINE | re.DOTALL))
    assert set(found) == set(errors.__all__) - PARENTS
    for name, text in found.items():
        plain = " ".join(text.replace("`", "").split()).lower()
        assert getattr(getattr(errors, name), "to_do", "").lower() in plain, name


def test_sites_navigation_has_every_page():
    """A page that is missing there is found by nobody; MkDocs would only report pages in ``docs/``."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
    nav = re.findall(r"[\w/.-]+\.md", str(yaml.load((PROJECT / "mkdocs.yml").read_text(), Loader)["nav"]))
    assert sorted(nav) == sorted({site_hooks.site_path(name) for name in DOCS} | {"changelog.md"})


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("README.md", "(docs/reference/lake.md#layout)", "(reference/lake.md#layout)"),
        ("README.md", "(docs/run.png)", "(run.png)"),
        ("docs/tasks/upgrade.md", "(../../CHANGELOG.md)", "(../changelog.md)"),
        ("docs/reference/providers.md", "(../../README.md#feeds)", "(../index.md#feeds)"),
        ("docs/reference/providers.md", "(../../include/feeds.yaml)", "(../files/include/feeds.yaml.md)"),
        ("docs/reference/databricks.md", "(../../include/sql/databricks)", "(../files/include/sql/databricks/index.md)"),
        ("docs/reference/lake.md", "(https://example.com/a.md)", "(https://example.com/a.md)"),
        ("docs/reference/lake.md", "(#layout)", "(#layout)"),
        ("docs/reference/lake.md", "(not-there.md)", "(not-there.md)"),
    ],
)
def test_links_of_the_site(page, link, expected):
    assert site_hooks.with_links(page, f"[x]{link}") == f"[x]{expected}"


def test_lists_are_indented_as_markdown_of_the_site_needs_it():
    text = "see:\n1. One:\n\n   ```yaml\n   a: 1\n   ```\n\n2. Two,\n   more\n* **x**: y\n  z\n\nend\n```python not-run\n1. code\n   stays\n```"
    assert "\n".join(site_hooks.with_lists(text.splitlines())) == (
        "see:\n\n1.  One:\n\n    ```yaml\n    a: 1\n    ```\n\n2.  Two,\n    more\n*   **x**: y\n    z\n\nend\n```python\n1. code\n   stays\n```"
    )
