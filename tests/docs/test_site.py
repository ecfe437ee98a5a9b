"""The documentation as a site. `make lint` builds it strictly; here is what the build does not check."""

import re

import pytest
import yaml

from tests.docs.pages import DOCS, PROJECT
from tools import site_hooks


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
