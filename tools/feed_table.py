"""Write the README's table of feeds from ``include/feeds.yaml``; with ``--check`` only compare it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT / "plugins"))

from market_data.config.feeds import Feed, load_feeds  # noqa: E402 - the path is set above

README = PROJECT / "README.md"
TABLE = re.compile(r"(<!-- feeds: [^\n]*-->\n).*?(<!-- /feeds -->)", re.DOTALL)


def table(feeds: list[Feed]) -> str:
    """Return the table as Markdown, one row per DAG in the order of ``feeds``."""
    head = "| DAG | provider | dataset | universe | runs after, New York |\n|---|---|---|---|---|\n"
    rows = [f"| `{f.dag_id}` | {f.provider} | `{f.dataset}` | `{f.universe}` | {f.schedule or 'by hand'} |\n" for f in feeds]
    return head + "".join(rows)


def written(text: str) -> str:
    """Return the README ``text`` with the table of the present feeds."""
    return TABLE.sub(lambda found: found[1] + table(list(load_feeds())) + found[2], text)


def main(arguments: list[str]) -> int:
    """Write the table, or report that it differs; return the exit status."""
    text = README.read_text(encoding="utf-8")
    if written(text) == text:
        return 0
    if "--check" in arguments:
        sys.stderr.write("README.md: the table of feeds differs from include/feeds.yaml; run tools/feed_table.py\n")
        return 1
    README.write_text(written(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
