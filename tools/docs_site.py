"""Hook of MkDocs: links from the documentation to files of the repository become their text, since the site lacks those files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!\w+:|#)([^)#\s]+)(?:#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:  # noqa: ARG001 - MkDocs' signature
    """Return the text of a page without links that leave the documentation's folder."""
    return inside(markdown, Path(page.file.abs_src_path), Path(config["docs_dir"]))


def inside(markdown: str, page: Path, docs: Path) -> str:
    """Return ``markdown`` with each link to a file outside ``docs`` replaced by its text; a missing file stays a broken link."""

    def kept(found: re.Match[str]) -> str:
        target = (page.parent / found[2]).resolve()
        outside = target.exists() and not target.is_relative_to(docs.resolve())
        return found[1] if outside else found[0]

    return LINK.sub(kept, markdown)
