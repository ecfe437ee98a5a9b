"""The documentation as a site. `make lint` builds it strictly; here is what the build does not check."""

import re

import pytest
import yaml

from market_data.core import errors
from market_data.providers.fmp.errors import NotInPlan
from tests.docs.pages import DOCS, PROJECT
from tools import site_hooks


def test_sites_navigation_has_every_page():
    """A page that is missing there is found by nobody; MkDocs would only report pages in ``docs/``."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
    nav = re.findall(r"[\w/.-]+\.md", str(yaml.load((PROJECT / "mkdocs.yml").read_text(), Loader)["nav"]))
    assert sorted(nav) == sorted({site_hooks.site_path(name) for name in DOCS} | {"changelog.md"})


def test_each_picture_is_taken_by_a_test_and_shown_on_a_page():
    taken = re.findall(r'\.picture\("([\w-]+)"\)', (PROJECT / "tests/e2e/test_page_jobs.py").read_text())
    kept = sorted(path.stem for path in (PROJECT / "docs/pictures").glob("*.png"))
    shown = re.findall(r"\(\S*pictures/([\w-]+)\.png\)", "".join((PROJECT / name).read_text() for name in DOCS))
    assert sorted(taken) == kept == sorted(set(shown))


def test_each_error_links_to_a_heading():
    headings = set(re.findall(r"^### (\w+)$", (PROJECT / "docs/reference/errors.md").read_text(), re.MULTILINE))
    for name in errors.__all__:
        error = getattr(errors, name)
        assert (error.page.fget(error.__new__(error)), name in headings) == (f"docs/reference/errors.md#{name.lower()}", True)
    assert NotInPlan("x").page == "docs/reference/errors.md#entitlementerror"


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("README.md", "(docs/reference/lake.md#layout)", "(reference/lake.md#layout)"),
        ("README.md", "(docs/pictures/feeds.png)", "(pictures/feeds.png)"),
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


WRITTEN = """see:
1. One:

   ```yaml
   a: 1
   ```

2. Two,
   more
* **x**: y
  z

end
```python not-run
1. code
   stays
```"""
READ = """see:

1.  One:

    ```yaml
    a: 1
    ```

2.  Two,
    more
*   **x**: y
    z

end
```python
1. code
   stays
```"""


def test_lists_and_code_are_written_as_the_site_reads_them():
    assert "\n".join(site_hooks.with_lists(WRITTEN.splitlines())) == READ
