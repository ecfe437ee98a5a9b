"""Hook of MkDocs: what GitHub shows and the site does not.

Links to files outside the documentation become their text. Code blocks lose the words after their language, which tell our tests how to
run them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!\w+:|#)([^)#\s]+)(?:#[^)\s]*)?\)")
FENCE = re.compile(r"^( *```\w+) [^\n]+$", re.MULTILINE)


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:  # noqa: ARG001 - MkDocs' signature
    """Return the text of a page as MkDocs reads it."""
    return inside(FENCE.sub(r"\1", markdown), Path(page.file.abs_src_path), Path(config["docs_dir"]))


def inside(markdown: str, page: Path, docs: Path) -> str:
    """Return ``markdown`` with each link to a file outside ``docs`` replaced by its text.

    A link to a missing file stays, so that MkDocs reports it.
    """

    def kept(found: re.Match[str]) -> str:
        target = (page.parent / found[2]).resolve()
        outside = target.exists() and not target.is_relative_to(docs.resolve())
        return found[1] if outside else found[0]

    return LINK.sub(kept, markdown)
